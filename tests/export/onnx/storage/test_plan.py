"""The planner: the smallest of all, by formulas that hold for the real bytes."""

import dataclasses

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from export.onnx.storage.bits import SHARED
from export.onnx.storage.kinds import Storage
from export.onnx.storage.part import call_nodes, make_tensors, message_bytes, part_nodes
from export.onnx.storage.plan import plan_storage, storage_candidates
from export.onnx.storage.target import TARGETS
from export.onnx.storage.weight import CodedWeight
from export.onnx.storage.write import store_weights

SHARES = np.array([0.3155, 0.1838, 0.1364, 0.0994, 0.0729, 0.0504, 0.1415])
ONNXRUNTIME = TARGETS["onnxruntime"]
PORTABLE = TARGETS["portable"]


def draw(shape: tuple[int, ...], zeros: float, rng: np.random.Generator) -> CodedWeight:
    level = 1 + rng.choice(7, shape, p=SHARES / SHARES.sum())
    codes = (3 * level + 37) * rng.choice([-1, 1], shape) * (rng.random(shape) >= zeros)
    return CodedWeight(codes.astype(np.int8))


def empty_model() -> onnx.ModelProto:
    graph = helper.make_graph([], "g", [], [])
    return helper.make_model(graph, ir_version=7, opset_imports=[helper.make_opsetid("", 13)])


@pytest.mark.parametrize("target", [ONNXRUNTIME, PORTABLE], ids=lambda target: target.name)
@pytest.mark.parametrize("storage", ["packed", "smallest", "auto", "dense", "sparse"])
def test_the_plans_bytes_are_the_files(storage: Storage, target: object, rng: np.random.Generator) -> None:
    weights = {
        f"w{index}": draw(shape, zeros, rng)
        for index, (shape, zeros) in enumerate(
            [((64, 64, 3, 3), 0.9), ((64, 64, 3, 3), 0.5), ((200, 300), 0.8), ((5, 3), 0.5), ((40, 40), 1.0)]
        )
    }
    plan = plan_storage(weights, storage, target, 13)  # type: ignore[arg-type]
    before = empty_model()
    dense = [name for name in weights if not plan.moves(name)]
    for name in dense:
        before.graph.initializer.append(onnx.numpy_helper.from_array(weights[name].codes, name))
    after = onnx.ModelProto()
    after.CopyFrom(before)
    store_weights(after, weights, plan)
    # The graph itself is a message whose length may take one byte more; the domain is imported once.
    grown = after.ByteSize() - before.ByteSize() + message_bytes(before.graph.initializer)
    assert 0 <= grown - plan.size_bytes <= 25
    assert all(
        plan.choices[name].size_bytes <= message_bytes([onnx.numpy_helper.from_array(weights[name].codes, name)])
        for name in weights
        if storage not in ("sparse", "dense")
    )


def test_the_smallest_is_taken(rng: np.random.Generator) -> None:
    weight = draw((512, 512, 3, 3), 0.9, rng)
    candidates = storage_candidates(weight, "w", "smallest", ONNXRUNTIME, 13, "0")
    plan = plan_storage({"w": weight}, "smallest", ONNXRUNTIME, 13)
    assert plan.choices["w"].size_bytes == min(candidate.size_bytes for candidate in candidates)
    assert len(candidates) > 50
    assert plan.choices["w"].reason.startswith("next: ")


@pytest.mark.parametrize(
    ("zeros", "packed", "smallest"),
    [
        (0.0, 1.15, 1.12),
        (0.5, 1.08, 1.03),
        (0.8, 1.12, 1.05),
        (0.9, 1.11, 1.04),
        (0.95, 1.12, 1.04),
        (0.99, 1.2, 1.12),
    ],
)
def test_files_come_near_the_entropy_bound(
    zeros: float, packed: float, smallest: float, rng: np.random.Generator
) -> None:
    weight = draw((512, 256, 3, 3), zeros, rng)
    for_packed = plan_storage({"w": weight}, "packed", ONNXRUNTIME, 13)
    for_smallest = plan_storage({"w": weight}, "smallest", ONNXRUNTIME, 13)
    # Without the functions, which a file holds once.
    assert for_packed.choices["w"].size_bytes < packed * weight.entropy_bytes
    assert for_smallest.choices["w"].size_bytes < smallest * weight.entropy_bytes
    assert for_smallest.size_bytes <= for_packed.size_bytes
    assert for_packed.transient_bytes <= for_smallest.transient_bytes


def test_clustered_zeros_prefer_two_levels(rng: np.random.Generator) -> None:
    codes = draw((4096, 16), 0.3, rng).codes * (rng.random((4096, 1)) < 0.15)
    plan = plan_storage({"w": CodedWeight(codes.astype(np.int8))}, "smallest", ONNXRUNTIME, 13)
    assert plan.choices["w"].codec.startswith("two-level 16")


def test_a_weight_that_is_too_small_stays_dense(rng: np.random.Generator) -> None:
    plan = plan_storage({"w": draw((4, 3), 0.5, rng)}, "packed", ONNXRUNTIME, 13)
    assert plan.choices["w"].codec == "dense"
    assert plan.functions == ()
    assert plan.once_bytes == 0


def test_a_decoder_must_earn_its_bytes(rng: np.random.Generator) -> None:
    # Alone, a weight of this size cannot pay for the functions; together they can.
    weights = {f"w{index}": draw((24, 24), 0.85, rng) for index in range(30)}
    alone = plan_storage({"w0": weights["w0"]}, "packed", ONNXRUNTIME, 13)
    together = plan_storage(weights, "packed", ONNXRUNTIME, 13)
    assert alone.choices["w0"].codec == "dense"
    assert together.choices["w0"].codec != "dense"
    assert together.size_bytes < 30 * alone.size_bytes


def test_a_pruned_layer_is_one_node(rng: np.random.Generator) -> None:
    plan = plan_storage({"w": draw((256, 256), 1.0, rng)}, "packed", PORTABLE, 13)
    assert plan.choices["w"].codec == "constant"
    assert plan.size_bytes < 300


def test_targets_exclude_what_a_runtime_cannot_take(rng: np.random.Generator) -> None:
    weight = draw((100, 1000), 0.999, rng)
    assert plan_storage({"w": weight}, "auto", ONNXRUNTIME, 13).choices["w"].codec == "sparse_initializer"
    assert plan_storage({"w": weight}, "auto", PORTABLE, 13).choices["w"].codec == "dense"
    plan = plan_storage({"w": weight}, "packed", PORTABLE, 13)
    assert plan.functions == ()
    assert plan.moves("w")


def test_operators_that_a_runtime_lacks_are_not_used(rng: np.random.Generator) -> None:
    weight = draw((256, 256), 0.9, rng)
    lacking = dataclasses.replace(PORTABLE, excluded_operators=frozenset({"ScatterElements"}))
    plan = plan_storage({"w": weight}, "smallest", lacking, 13)
    assert plan.choices["w"].codec.startswith(("two-level", "bitmask"))
    nothing = dataclasses.replace(PORTABLE, excluded_operators=frozenset({"Gather"}))
    assert plan_storage({"w": weight}, "smallest", nothing, 13).choices["w"].codec == "dense"


@pytest.mark.slow("it runs every decoder")
@pytest.mark.parametrize("zeros", [*(pytest.param(zeros, marks=pytest.mark.full) for zeros in (0.3, 0.8)), 0.97])
@pytest.mark.full
def test_transient_bytes_are_what_the_decoder_computes(zeros: float, rng: np.random.Generator) -> None:
    weight = draw((256, 80, 3, 3), zeros, rng)
    for candidate in storage_candidates(weight, "w", "smallest", PORTABLE, 13, "0"):
        part = candidate.part
        assert part is not None
        if not part.calls:
            continue
        nodes = [node for call in SHARED.values() for node in call_nodes(call, "", "", functions=False)]
        shared = {name for node in nodes for name in node.output}
        nodes += part_nodes(part, "0", "w", functions=False)
        names = sorted({name for node in nodes for name in node.output} - shared - {"w"})
        outputs = [helper.make_empty_tensor_value_info(name) for name in names]
        graph = helper.make_graph(nodes, "g", [], outputs, make_tensors(part, weight, "0", "w"))
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        tables = (256, 16)  # what the look-ups read is small, and not counted
        computed = sum(
            values.nbytes for values in session.run(None, {}) if values.shape[:1] not in [(n,) for n in tables]
        )
        assert computed == pytest.approx(part.transient_bytes, rel=0.01, abs=1000), candidate.codec


def test_codes_must_be_int8() -> None:
    with pytest.raises(ValueError, match="codes have dtype float64, expected int8"):
        CodedWeight(np.zeros(3))


def test_entropy_bytes() -> None:
    assert CodedWeight(np.zeros(800, np.int8)).entropy_bytes == 0
    assert CodedWeight(np.array([1, -1] * 400, np.int8)).entropy_bytes == 100
    assert CodedWeight(np.zeros((0, 3), np.int8)).entropy_bytes == 0
