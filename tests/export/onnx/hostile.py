"""Files that no export writes: each is made from a file of ours, and must end in one line."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from export.metadata import KEY


@dataclass(frozen=True)
class Hostile:
    """A change to a packed file of one linear layer, and words of the line that it must end in."""

    change: Callable[[onnx.ModelProto], None]
    message: str


def metadata_of(model: onnx.ModelProto) -> dict:  # type: ignore[type-arg]
    return json.loads(next(entry.value for entry in model.metadata_props if entry.key == KEY))


def set_metadata(model: onnx.ModelProto, text: str) -> None:
    next(entry for entry in model.metadata_props if entry.key == KEY).value = text


def change_metadata(**values: object) -> Callable[[onnx.ModelProto], None]:
    return lambda model: set_metadata(model, json.dumps(metadata_of(model) | values))


def change_weight(**values: object) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        content = metadata_of(model)
        content["weights"][0] |= values
        set_metadata(model, json.dumps(content))

    return change


def codes_from(*nodes: onnx.NodeProto) -> Callable[[onnx.ModelProto], None]:
    """The codes of the weight are computed by other nodes."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        kept = [node for node in graph.node if "0.weight_quantized" not in node.output]
        del graph.node[:]
        graph.node.extend([*nodes, *kept])
        held = [tensor for tensor in graph.initializer if tensor.name != "0.weight_quantized"]
        del graph.initializer[:], graph.sparse_initializer[:]
        graph.initializer.extend(held)

    return change


def _tensor(shape: list[int]) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["@shape"], value_ints=shape)


def _expand(shape: list[int]) -> tuple[onnx.NodeProto, ...]:
    zero = helper.make_node("Constant", [], ["@zero"], value=helper.make_tensor("", TensorProto.INT8, [1], [0]))
    return zero, _tensor(shape), helper.make_node("Expand", ["@zero", "@shape"], ["0.weight_quantized"])


def _of_shape(shape: list[int]) -> tuple[onnx.NodeProto, ...]:
    fill = helper.make_tensor("", TensorProto.INT8, [1], [0])
    return _tensor(shape), helper.make_node("ConstantOfShape", ["@shape"], ["0.weight_quantized"], value=fill)


def _products() -> tuple[onnx.NodeProto, ...]:
    nodes = [_tensor([3000, 3000]), helper.make_node("ConstantOfShape", ["@shape"], ["@0"])]
    nodes += [helper.make_node("MatMul", [f"@{n}", f"@{n}"], [f"@{n + 1}"]) for n in range(400)]
    return *nodes, helper.make_node("Cast", ["@400"], ["0.weight_quantized"], to=TensorProto.INT8)


def _function(model: onnx.ModelProto, name: str, nodes: list[onnx.NodeProto]) -> None:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("codeq.storage", 1)]
    model.functions.append(helper.make_function("codeq.storage", name, ["x"], ["y"], nodes, opsets))


def _call(name: str, given: str, result: str) -> onnx.NodeProto:
    return helper.make_node(name, [given], [result], domain="codeq.storage")


def _doubling(model: onnx.ModelProto) -> None:
    _function(model, "f0", [helper.make_node("Neg", ["x"], ["y"])])
    for level in range(22):
        _function(model, f"f{level + 1}", [_call(f"f{level}", "x", "z"), _call(f"f{level}", "z", "y")])
    codes_from(*_expand([3, 4])[:2], _call("f22", "@zero", "0.weight_quantized"))(model)
    _add_domain(model)


def _calling_itself(model: onnx.ModelProto) -> None:
    _function(model, "f", [_call("g", "x", "y")])
    _function(model, "g", [_call("f", "x", "y")])
    codes_from(*_expand([3, 4])[:1], _call("f", "@zero", "0.weight_quantized"))(model)
    _add_domain(model)


def _add_domain(model: onnx.ModelProto) -> None:
    if not any(entry.domain == "codeq.storage" for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid("codeq.storage", 1))


def _loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.INT8, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.INT8, None),
        ],
    )
    codes_from(
        *_expand([3, 4])[:1],
        helper.make_node("Constant", [], ["@many"], value_int=10**12),
        helper.make_node("Loop", ["@many", "", "@zero"], ["0.weight_quantized"], body=body),
    )(model)


def _sparse(shape: list[int]) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        codes_from()(model)
        values = helper.make_tensor("0.weight_quantized", TensorProto.INT8, [1], [1])
        indices = helper.make_tensor("", TensorProto.INT64, [1], [0])
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, shape))

    return change


def _indices(*places: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        _sparse([3, 4])(model)
        sparse = model.graph.sparse_initializer[0]
        sparse.values.CopyFrom(helper.make_tensor("0.weight_quantized", TensorProto.INT8, [len(places)], [1, 1]))
        sparse.indices.CopyFrom(helper.make_tensor("", TensorProto.INT64, [len(places)], places))

    return change


def external(location: str, offset: str = "0", length: str = "12") -> Callable[[onnx.ModelProto], None]:
    """The codes are in a file beside the model."""

    def change(model: onnx.ModelProto) -> None:
        codes_from()(model)
        tensor = TensorProto(name="0.weight_quantized", data_type=TensorProto.INT8, dims=[3, 4])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=value)
        model.graph.initializer.append(tensor)

    return change


def _many_weights(model: onnx.ModelProto) -> None:
    content = metadata_of(model)
    (weight,) = content["weights"]
    content["weights"] = [weight | {"name": f"{number}.weight"} for number in range(100_000)]
    set_metadata(model, json.dumps(content))


def _opset(version: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        next(entry for entry in model.opset_import if entry.domain == "").version = version

    return change


def _no_outputs(model: onnx.ModelProto) -> None:
    del model.graph.output[:]


def _many_nodes(model: onnx.ModelProto) -> None:
    model.graph.node.extend(onnx.NodeProto() for _ in range(600_000))


def _named(text: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        old = model.graph.input[0].name
        model.graph.input[0].name = text
        for node in model.graph.node:
            node.input[:] = [text if name == old else name for name in node.input]

    return change


def _short_scale(model: onnx.ModelProto) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT)
    tensor.raw_data = tensor.raw_data[:-1]


def _doc(model: onnx.ModelProto) -> None:
    model.doc_string = "x" * 10_000_000


def _deep(model: onnx.ModelProto) -> None:
    set_metadata(model, "[" * 5000 + "]" * 5000)


def _surrogate(model: onnx.ModelProto) -> None:
    set_metadata(model, json.dumps(metadata_of(model)).replace('"0.weight"', '"0.\\ud800"'))


FALSE_OK = "0.weight\x1b[2J\x1b[Hcodes     of 9 weights decoded, hashes as written: ok"
HOSTILE = {
    "ConstantOfShape of 10^9": Hostile(codes_from(*_of_shape([10**9])), "may ask for"),
    "codes of 3 * 10^9": Hostile(codes_from(*_expand([3 * 10**9])), "may ask for"),
    "a shape that is negative": Hostile(codes_from(*_of_shape([-5])), "it has the shape"),
    "sparse of 2^31": Hostile(_sparse([2**31]), "has the shape"),
    "sparse of 2^30": Hostile(_sparse([2**30]), "may ask for"),
    "sparse indices outside": Hostile(_indices(0, 12), "do not ascend"),
    "sparse indices below": Hostile(_indices(-1, 3), "do not ascend"),
    "400 products": Hostile(codes_from(*_products()), "may ask for"),
    "functions that double": Hostile(_doubling, "is more than"),
    "functions that call themselves": Hostile(_calling_itself, "call themselves"),
    "a loop": Hostile(_loop, "has a Loop"),
    "random codes": Hostile(
        codes_from(helper.make_node("RandomNormal", [], ["0.weight_quantized"], shape=[10**9])), "may ask for"
    ),
    "100,000 weights": Hostile(_many_weights, "which no network needs"),
    "600,000 nodes": Hostile(_many_nodes, "has more than 500000 fields"),
    "JSON that is deep": Hostile(_deep, "too deep"),
    "JSON that is a list": Hostile(lambda model: set_metadata(model, "[1]"), "is damaged"),
    "NUL in a location": Hostile(external("a\0b"), "control characters"),
    "a location outside": Hostile(external("../data"), "expected a file beside the model"),
    "an absolute location": Hostile(external("/etc/passwd"), "expected a file beside the model"),
    "the model as its data": Hostile(external("net.onnx"), "in the model itself"),
    "an offset of many digits": Hostile(external("data", "9" * 900), "at offset"),
    "a negative offset": Hostile(external("data", "-8"), "at offset"),
    "opset 30": Hostile(_opset(30), "is of opset 30, expected 13 to 25"),
    "opset 1": Hostile(_opset(1), "is of opset 1"),
    "no outputs": Hostile(_no_outputs, "has no outputs"),
    "a surrogate": Hostile(_surrogate, "holds control characters"),
    "a weight that clears the screen": Hostile(change_weight(name=FALSE_OK), "holds control characters"),
    "versions of numbers": Hostile(change_metadata(versions={"codeq": [1]}), "are no text"),
    "a state of 10^12": Hostile(
        change_metadata(state=[{"input": "a", "output": "b", "dtype": "float32", "shape": [10**12], "initial": 0}]),
        "has the shape",
    ),
    "a state of objects": Hostile(
        change_metadata(state=[{"input": "a", "output": "b", "dtype": "O", "shape": [1], "initial": 0}]), "is 'O'"
    ),
    "a name that turns the text": Hostile(_named("in\u202eput"), "control characters"),
    "a name of 10^6": Hostile(_named("a" * 10**6), "expected 1000 at most"),
    "a doc string of 10^7": Hostile(_doc, "expected 100000 at most"),
    "a tensor that is short": Hostile(_short_scale, "and holds others"),
}
