"""export_onnx on live modules: what is in the file, in every mode, and what is refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

import codeq
import models
from codeq.quantizer.attach import quantized_weights
from codeq.toolkit.table import format_bytes
from export import ExportError, ParityError, Report, export_onnx, load_session
from export.inspect import inspect_file
from export.metadata import KEY
from tests.cases import Net


def set_theta(model: nn.Module, theta: float) -> None:
    with torch.no_grad():
        for weight in quantized_weights(model):
            weight.quantizer.theta_dz.fill_(theta)


def exported(
    model: nn.Module, inputs: tuple[Tensor, ...], path: Path, **options: Any
) -> tuple[Report, onnx.ModelProto]:
    report = export_onnx(model.eval(), inputs, path, **options)
    return report, onnx.load(path)


def resnet8(checkpoint: Path) -> tuple[nn.Module, Tensor]:
    loaded = codeq.load(checkpoint)
    assert loaded.held_inputs is not None
    return loaded.model, loaded.held_inputs


def test_weights_are_int8_codes_behind_one_dequantize_each(checkpoint_path: Path, tmp_path: Path) -> None:
    model, x = resnet8(checkpoint_path)
    report, proto = exported(model, (x,), tmp_path / "net.onnx")
    dequantize = [node for node in proto.graph.node if node.op_type == "DequantizeLinear"]
    assert [node.input[0] for node in dequantize] == [f"{name}_quantized" for name in codeq.encode(model)]
    assert [node.output[0] for node in dequantize] == list(codeq.encode(model))
    assert {node.op_type for node in proto.graph.node} == {
        "DequantizeLinear",
        "Conv",
        "Relu",
        "Add",
        "GlobalAveragePool",
        "Reshape",
        "Gemm",
    }
    # No float weight is left beside the codes: the largest float tensor is a bias or a scale.
    assert max(np.prod(t.dims) for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT) <= 64
    assert all(tensor.HasField("raw_data") for tensor in proto.graph.initializer)
    assert not proto.graph.value_info
    assert not any(node.doc_string or node.metadata_props for node in proto.graph.node)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert report.folded_batch_norms == 7
    assert report.details.opset == proto.opset_import[0].version == 13
    assert report.details.oldest_onnxruntime == "1.6"
    assert report.size_bytes == (tmp_path / "net.onnx").stat().st_size
    assert report.verdict.ok


@pytest.mark.full
def test_sparse_initializers_are_where_they_pay(checkpoint_path: Path, tmp_path: Path) -> None:
    model, x = resnet8(checkpoint_path)
    sizes = {}
    for storage in ("auto", "dense", "sparse"):
        report, proto = exported(model, (x,), tmp_path / f"{storage}.onnx", storage=storage)
        sparse = {tensor.values.name for tensor in proto.graph.sparse_initializer}
        assert sparse == {f"{w.name}_quantized" for w in report.weights if w.storage == "sparse_initializer"}
        sizes[storage] = {weight.name: weight.size_bytes for weight in report.weights}
        if storage == "auto":
            for weight in report.weights:
                zeros = 1 - 1 / 9
                if abs(weight.sparsity - zeros) > 0.05:
                    assert (weight.storage == "sparse_initializer") == (weight.sparsity > zeros)
            assert 0 < len(sparse) < 10
    for name, size in sizes["auto"].items():
        assert size == min(sizes["dense"][name], sizes["sparse"][name])
    outputs = [load_session(tmp_path / f"{s}.onnx").run(None, {"input": x.numpy()})[0] for s in sizes]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])


@pytest.mark.full
def test_dense_file_passes_the_full_checker(checkpoint_path: Path, tmp_path: Path) -> None:
    model, x = resnet8(checkpoint_path)
    exported(model, (x,), tmp_path / "net.onnx", storage="dense")
    onnx.checker.check_model(tmp_path / "net.onnx", full_check=True)


@pytest.mark.slow("two exports")
def test_two_exports_are_byte_identical(checkpoint_path: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        model, x = resnet8(checkpoint_path)
        export_onnx(model, (x,), tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("bits", [2, *(pytest.param(bits, marks=pytest.mark.full) for bits in (4, 8))])
def test_the_papers_grid_exports_exactly(make_checkpoint: Callable[..., Path], bits: int, tmp_path: Path) -> None:
    model, x = resnet8(make_checkpoint(grid="paper", bits=bits, theta=0.9))
    report, proto = exported(model, (x,), tmp_path / "net.onnx")
    assert {weight.lowering for weight in report.weights} == {"DequantizeLinear + shift * Sign"}
    assert "DequantizeLinear + shift * Sign, exact" in str(report)
    assert sum(node.op_type == "Sign" for node in proto.graph.node) == 10
    assert all(check.ok for check in report.verdict.weights)
    # The codes are the level indices themselves.
    codes = next(t for t in proto.graph.initializer if t.name == "fc.weight_quantized")
    assert np.abs(onnx.numpy_helper.to_array(codes)).max() == 2 ** (bits - 1) - 1


@pytest.mark.parametrize("opset", [14, pytest.param(18, marks=pytest.mark.full), 21])
@pytest.mark.full
def test_an_asked_for_opset_is_written(checkpoint_path: Path, opset: int, tmp_path: Path) -> None:
    model, x = resnet8(checkpoint_path)
    report, proto = exported(model, (x,), tmp_path / "net.onnx", opset=opset)
    assert report.details.opset == proto.opset_import[0].version == opset
    assert report.verdict.ok


@pytest.mark.parametrize(
    ("opset", "message"),
    [(11, "opset 11 lacks DequantizeLinear, which needs opset 13; use --opset 13"), (99, "opset 99 is newer than")],
)
def test_opsets_that_cannot_be_written(checkpoint_path: Path, opset: int, message: str, tmp_path: Path) -> None:
    model, x = resnet8(checkpoint_path)
    with pytest.raises(ExportError, match=message):
        export_onnx(model, (x,), tmp_path / "net.onnx", opset=opset)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
@pytest.mark.parametrize(
    "storage", ["auto", *(pytest.param(storage, marks=pytest.mark.full) for storage in ("dense", "sparse"))]
)
def test_external_data(checkpoint_path: Path, storage: Any, tmp_path: Path) -> None:
    model, x = resnet8(checkpoint_path)
    path = tmp_path / "net.onnx"
    report = export_onnx(model, (x,), path, storage=storage, external_data_threshold=1000)
    # All large tensors are sparse, hence in the model itself, when that is asked for.
    data = [] if storage == "sparse" else ["net.onnx.data"]
    assert report.details.external_data == (data[0] if data else None)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.onnx", *data]
    assert report.verdict.ok
    proto = onnx.load(path, load_external_data=False)
    locations = {entry.value for t in proto.graph.initializer for entry in t.external_data if entry.key == "location"}
    assert locations == set(data)
    inline = tmp_path / "inline.onnx"
    export_onnx(model, (x,), inline, storage=storage)
    outputs = [load_session(file).run(None, {"input": x.numpy()})[0] for file in (path, inline)]
    np.testing.assert_array_equal(*outputs)
    # The bytes of sparse weights are not in the data file a second time.
    assert abs(report.size_bytes - inline.stat().st_size) < 3000
    export_onnx(model, (x,), path, storage=storage, external_data_threshold=1000, force=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["inline.onnx", "net.onnx", *data]


def test_a_float_network_exports_too(tmp_path: Path) -> None:
    report, _ = exported(models.resnet8(), (torch.randn(2, 3, 32, 32),), tmp_path / "net.onnx")
    assert report.weights == ()
    assert report.verdict.ok
    assert "0 of 0" not in str(report)


@pytest.mark.parametrize("activations", ["float32", "int8"])
@pytest.mark.parametrize("shape", [(4, 16), (4, 5, 16), (4, 3, 5, 16)], ids=["2d", "3d", "4d"])
def test_a_float_linear_beside_quantized_ones(shape: tuple[int, ...], activations: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5))
    codeq.attach(model, exclude=["2"])
    report, _ = exported(model, (torch.randn(shape),), tmp_path / "net.onnx", activations=activations)
    assert report.verdict.ok, report.verdict
    assert [weight.name for weight in report.weights] == ["0.weight", "4.weight"]


@pytest.mark.parametrize("activations", ["float32", "int8"])
@pytest.mark.full
def test_channels_last_weights_are_stored_in_the_files_order(activations: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    codeq.attach(model, exclude=["2"])
    x = torch.randn(2, 3, 9, 9)
    exported(model, (x,), tmp_path / "plain.onnx", activations=activations)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    report, proto = exported(model, (x,), tmp_path / "net.onnx", activations=activations)
    assert report.verdict.ok, report.verdict
    plain = onnx.load(tmp_path / "plain.onnx").graph.initializer
    weights = [tensor.name for tensor in plain if len(tensor.dims) == 4]
    assert weights == ["2.weight", "0.weight_quantized", "4.weight_quantized"]
    values = [{t.name: onnx.numpy_helper.to_array(t) for t in tensors} for tensors in (plain, proto.graph.initializer)]
    for name in weights:
        np.testing.assert_array_equal(values[0][name], values[1][name])


def test_the_report_counts_what_is_in_the_file(checkpoint_path: Path, tmp_path: Path) -> None:
    model, x = resnet8(checkpoint_path)
    report = export_onnx(model, (x,), tmp_path / "net.onnx", keep_dead_channels=True)
    encodings = codeq.encode(model)
    plain = codeq.detach(model)
    assert report.float32_bytes == 4 * sum(t.numel() for t in plain.state_dict().values() if t.is_floating_point())
    for weight in report.weights:
        encoding = encodings[weight.name]
        # Folding flips channels' signs, which leaves zeros, and nearly the entropy.
        assert weight.sparsity == encoding.sparsity
        assert weight.bit_width == 4
        assert weight.shape == tuple(encoding.codes.shape)
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["compression_ratio"] == pytest.approx(report.float32_bytes / report.size_bytes)
    assert values["parity"]["ok"] is True
    text = str(report)
    assert "onnxruntime 1.6 is the oldest that should load it" in text
    assert max(map(len, text.splitlines())) <= 100 + len(str(tmp_path))


@pytest.mark.slow("two exports")
def test_metadata_says_where_the_file_comes_from(checkpoint_path: Path, tmp_path: Path) -> None:
    model, x = resnet8(checkpoint_path)
    _, proto = exported(model, (x,), tmp_path / "net.onnx", checkpoint_sha256="ab" * 32, preprocessing={"mean": [0.5]})
    content = json.loads(next(entry.value for entry in proto.metadata_props if entry.key == KEY))
    assert content["checkpoint_sha256"] == "ab" * 32
    assert content["preprocessing"] == {"mean": [0.5]}
    assert content["session_options"] == {"session.disable_quant_qdq": "1"}
    assert set(content["versions"]) == {"codeq", "torch", "onnx", "onnxscript", "onnxruntime"}
    assert content["weights"][0]["batch_norm"] == "bn1"


def test_sessions_are_opened_with_the_options_in_the_file(checkpoint_path: Path, tmp_path: Path) -> None:
    model, x = resnet8(checkpoint_path)
    export_onnx(model, (x,), tmp_path / "net.onnx")

    def option(exact: bool) -> str:
        session = load_session(tmp_path / "net.onnx", exact=exact, threads=1)
        return str(session.get_session_options().get_session_config_entry("session.disable_quant_qdq"))

    assert option(exact=True) == "1"
    with pytest.raises(RuntimeError, match="does not have configuration with key"):
        option(exact=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: codeq.enable(m, False), "its quantizer is switched off; call codeq.enable"),
        (lambda m: m.conv1.parametrizations.weight.original.data.fill_(float("inf")), r"conv1\.weight: .*infinite"),
    ],
)
def test_networks_that_cannot_be_exported(change: Callable[[nn.Module], None], message: str, tmp_path: Path) -> None:
    model = models.resnet8(in_channels=1, input_size=8).eval()
    codeq.attach(model)
    change(model)
    with pytest.raises(ExportError, match=message):
        export_onnx(model, (torch.zeros(2, 1, 8, 8),), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Sorting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(self.fc(x))


@pytest.mark.parametrize(
    ("model", "message"),
    [(Branching(), "torch.export cannot trace Branching: "), (Sorting(), "cannot lower the network: .*bessel_j0")],
)
def test_untraceable_and_unlowerable_networks_say_why_in_a_line(model: nn.Module, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        export_onnx(model, (torch.randn(2, 4),), tmp_path / "net.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_hold_is_not_published(
    checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A lowering that forgets the scale of one weight, behind the parity check's back.
    import export.program.prepare as module

    fold = module.fold_batch_norm

    def careless(program: Any) -> int:
        count = fold(program)
        name = next(name for name in program.exported.state_dict if name.endswith("fc.parametrizations.weight.0.scale"))
        program.exported.state_dict[name] = program.exported.state_dict[name] * 2
        return count

    monkeypatch.setattr(module, "fold_batch_norm", careless)
    model, x = resnet8(checkpoint_path)
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ParityError, match=r"fc\.weight: .* values differ") as caught:
        export_onnx(model, (x,), path, force=True)
    assert not caught.value.verdict.ok
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


def test_overwriting_needs_force(checkpoint_path: Path, tmp_path: Path) -> None:
    model, x = resnet8(checkpoint_path)
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    with pytest.raises(codeq.OutputError, match="exists; use --force"):
        export_onnx(model, (x,), path)
    assert path.read_bytes() == b"old"
    export_onnx(model, (x,), path, force=True)
    assert path.read_bytes() != b"old"


@pytest.mark.full
def test_a_stale_data_file_goes_and_a_foreign_one_stays(checkpoint_path: Path, tmp_path: Path) -> None:
    model, x = resnet8(checkpoint_path)
    path, data = tmp_path / "net.onnx", tmp_path / "net.onnx.data"
    data.write_bytes(b"somebody's")
    with pytest.raises(codeq.OutputError, match=r"net\.onnx\.data exists; use --force"):
        export_onnx(model, (x,), path, external_data_threshold=1000, storage="dense")
    export_onnx(model, (x,), path)
    assert data.read_bytes() == b"somebody's"
    export_onnx(model, (x,), path, external_data_threshold=1000, storage="dense", force=True)
    assert data.stat().st_size > 1000
    export_onnx(model, (x,), path, force=True)
    assert not data.exists()


class FixedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).reshape(4, 2, 2)


def test_a_fixed_batch_is_checked_at_its_own_size(tmp_path: Path) -> None:
    model = FixedBatch()
    codeq.attach(model)
    report = export_onnx(
        model, (torch.randn(4, 4),), tmp_path / "net.onnx", dynamic_batch=False, check_inputs=(torch.randn(10, 4),)
    )
    assert {check.batch_size for check in report.verdict.outputs} == {4}
    assert report.verdict.ok


class Centred(nn.Module):
    def __init__(self, answer: str) -> None:
        super().__init__()
        self.fc, self.answer = nn.Linear(4, 4), answer

    def forward(self, x: Tensor) -> Any:
        y = self.fc(x)
        return {"centred": y - y.mean(0), "sum": y.sum(0), "number": (y, 3)}[self.answer]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("centred", "output 0 of Centred depends on the batch: alone, an input gives another answer"),
        ("sum", r"output 0 of Centred has shape \(4,\) for a batch of .*; its first dimension must be the batch"),
        ("number", "output 1 of Centred is 3, expected a tensor"),
    ],
)
def test_outputs_that_no_file_can_compute(answer: str, message: str, tmp_path: Path) -> None:
    model = Centred(answer).eval()
    codeq.attach(model)
    with pytest.raises(ExportError, match=message):
        export_onnx(model, (torch.randn(3, 4),), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_float64_network_is_refused_in_a_line(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    codeq.attach(model)
    with pytest.raises(ExportError, match=r"is torch\.float64, expected torch\.float32; call model\.float\(\)"):
        export_onnx(model.double(), (torch.randn(3, 4).double(),), tmp_path / "net.onnx")


@pytest.mark.full
def test_debug_info_is_shipped_only_where_asked(checkpoint_path: Path, tmp_path: Path) -> None:
    model, x = resnet8(checkpoint_path)
    _, lean = exported(model, (x,), tmp_path / "lean.onnx")
    _, full = exported(model, (x,), tmp_path / "full.onnx", debug_info=True)
    assert not any(node.doc_string or node.metadata_props for node in lean.graph.node)
    assert any("stack_trace" in entry.key for node in full.graph.node for entry in node.metadata_props)
    assert full.ByteSize() > 1.5 * lean.ByteSize()


@pytest.mark.full
def test_the_report_says_what_packed_would_save(checkpoint_path: Path, tmp_path: Path) -> None:
    model, x = resnet8(checkpoint_path)
    report, _ = exported(model, (x,), tmp_path / "auto.onnx")
    packed, proto = exported(model, (x,), tmp_path / "packed.onnx", storage="packed")
    assert report.details.packed_bytes == pytest.approx(packed.size_bytes, abs=60)
    assert "with packed" in str(report)
    assert "with packed" not in str(packed)
    assert packed.details.storage == "packed"
    assert packed.details.ir_version == proto.ir_version == 8
    assert packed.details.oldest_onnxruntime == "1.17"
    assert packed.details.decoder_bytes > 0
    assert packed.details.transient_bytes > 0
    assert packed.details.overhead_bytes + sum(weight.size_bytes for weight in packed.weights) == packed.size_bytes


class Left(nn.Module):
    """Every kind of weight that stays float, beside one that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.gru = nn.GRU(6, 8, batch_first=True, bidirectional=True)
        self.left = nn.Linear(16, 16)
        self.fc = nn.Linear(16, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.gru(self.embedding(tokens))
        return self.fc(self.left(states[:, -1]))


@pytest.mark.slow("a recurrent layer")
@pytest.mark.parametrize("grid", ["integer", "paper"])
@pytest.mark.parametrize("storage", [pytest.param("dense", marks=pytest.mark.full), "packed"])
@pytest.mark.full
def test_weights_that_stayed_float_have_their_own_line(grid: str, storage: Any, tmp_path: Path) -> None:
    model = Left()
    codeq.attach(model, exclude=["left", "gru"], grid=grid)
    report, proto = exported(model, (torch.randint(20, (3, 5)),), tmp_path / "net.onnx", storage=storage)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    # ONNX has the directions of a recurrent layer in front, and its biases (2, 6 * 8), which are none of its weights.
    matrices = sorted([(20, 6), (2, 24, 6), (2, 24, 8), (16, 16)])
    assert sorted(shapes[name] for name in report.details.float_weights) == matrices
    values = 4 * sum(math.prod(shape) for shape in matrices)
    assert values < report.details.float_weight_bytes < values + 200
    assert f"float weights         {format_bytes(report.details.float_weight_bytes)} in 4 tensors" in str(report)
    assert report.to_dict()["details"]["float_weight_bytes"] == report.details.float_weight_bytes
    stored = sum(weight.size_bytes for weight in report.weights)
    assert report.details.overhead_bytes + report.details.float_weight_bytes + stored == report.size_bytes
    inspection = inspect_file(tmp_path / "net.onnx")
    assert inspection.float_weights == report.details.float_weights
    over = inspection.overhead
    assert over.decoders + over.scales_and_biases + over.graph + over.metadata == report.details.overhead_bytes
    assert f"float     {format_bytes(report.details.float_weight_bytes)} in 4 weights that stayed float" in str(
        inspection
    )


@pytest.mark.parametrize("grid", ["integer", "paper"])
def test_a_file_without_float_weights_has_no_such_line(grid: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    codeq.attach(model, grid=grid)
    report, proto = exported(model, (torch.randn(2, 3, 6, 6),), tmp_path / "net.onnx")
    # On the paper's grid there is a shift per channel, (8, 1, 1, 1): it belongs to the codes.
    assert any(len(tensor.dims) == 4 and tensor.data_type == 1 for tensor in proto.graph.initializer) == (
        grid == "paper"
    )
    assert report.details.float_weights == {}
    assert "\nfloat weights" not in str(report)


def test_what_a_target_cannot_take_is_refused(checkpoint_path: Path, tmp_path: Path) -> None:
    model, x = resnet8(checkpoint_path)
    with pytest.raises(ExportError, match="--target portable opens files up to opset 18, found --opset 21"):
        export_onnx(model, (x,), tmp_path / "net.onnx", target="portable", opset=21)
    with pytest.raises(ExportError, match="target 'cpu', expected one of onnxruntime, portable"):
        export_onnx(model, (x,), tmp_path / "net.onnx", target="cpu")
    with pytest.raises(ExportError, match="--target portable takes no sparse_initializer"):
        export_onnx(model, (x,), tmp_path / "net.onnx", target="portable", storage="sparse")


@pytest.mark.skipif(ort.__version__.startswith("1.22"), reason="onnxruntime 1.22 does not open opset 23")
def test_native_int4_at_opset_23(tmp_path: Path) -> None:
    model = nn.Linear(200, 200)
    codeq.attach(model, grid="paper")
    report, proto = exported(model, (torch.randn(2, 200),), tmp_path / "net.onnx", storage="packed", opset=23)
    assert report.weights[0].storage == "INT4 dense"
    assert {tensor.data_type for tensor in proto.graph.initializer} >= {onnx.TensorProto.INT4}
    assert report.weights[0].size_bytes < 20_300


def test_a_name_that_a_decoder_needs(tmp_path: Path) -> None:
    model = Net(lambda m, x: m.fc(x) * m.get_buffer("0/levels"), fc=nn.Linear(100, 100))
    model.register_buffer("0/levels", torch.ones(100))
    codeq.attach(model)
    set_theta(model, 0.5)
    with pytest.raises(ExportError, match="value '0/levels' has the name of a decoder's"):
        export_onnx(model, (torch.randn(2, 100),), tmp_path / "net.onnx", storage="packed")
