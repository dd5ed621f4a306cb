"""`python -m export.inspect` and `python -m export.materialize`: what files hold, their dense twins, and damage."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import codeq
from codeq.quantizer.attach import quantized_weights
from export import ExportError, check_parity, export_onnx, load_session
from export.inspect import inspect_file
from export.onnx.materialize import materialize
from export.onnx.storage.decoder import DOMAIN
from export.onnx.storage.kinds import STORAGES, Storage
from export.onnx.storage.target import TARGETS
from tests.cases import Net


@pytest.fixture(scope="module")
def checkpoint(checkpoint_path: Path) -> codeq.Checkpoint:
    return codeq.load(checkpoint_path)


@pytest.fixture(scope="module")
def files(checkpoint: codeq.Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a file of a storage once."""
    folder = tmp_path_factory.mktemp("files")

    def make(storage: Storage, activations: str = "float32", target: str = "onnxruntime") -> Path:
        path = folder / f"{storage}-{activations}-{target}.onnx"
        if not path.exists():
            export_onnx(
                checkpoint.model,
                (checkpoint.held_inputs[:2],),  # type: ignore[index]
                path,
                storage=storage,
                target=target,
                activations=activations,  # type: ignore[arg-type]
                calibration=checkpoint.held_inputs,
                check_inputs=(checkpoint.held_inputs,),  # type: ignore[arg-type]
            )
        return path

    return make


SHOWN = [("packed", "onnxruntime", "int8")]
MATRIX = [
    pytest.param(
        storage, target, activations, marks=[] if (storage, target, activations) in SHOWN else pytest.mark.full
    )
    for storage in STORAGES
    for target in TARGETS
    for activations in ("float32", "int8")
    if (storage, target) != ("sparse", "portable")
]


@pytest.mark.slow("exports, and checks the file and its dense twin")
@pytest.mark.parametrize(("storage", "target", "activations"), MATRIX)
def test_every_storage_holds_the_whole_contract_and_its_dense_twin_too(
    storage: Storage, target: str, activations: str, files: Any, checkpoint: codeq.Checkpoint, tmp_path: Path
) -> None:
    path = files(storage, activations, target)
    inputs = checkpoint.held_inputs
    assert inputs is not None
    verdict = check_parity(path, checkpoint.model, inputs)
    assert verdict.ok, verdict.first_failure
    model = onnx.load(path)
    if target == "portable":
        assert not model.functions
        assert not model.graph.sparse_initializer
        assert {node.domain for node in model.graph.node} == {""}

    dense = tmp_path / "dense.onnx"
    written = materialize(path, dense)
    assert written.size_bytes == dense.stat().st_size
    twin = onnx.load(dense)
    assert not twin.functions
    assert not twin.graph.sparse_initializer
    assert [entry.domain for entry in twin.opset_import] == [""]
    assert not any(node.domain == DOMAIN for node in twin.graph.node)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in twin.graph.initializer}
    reference = onnx.load(files("dense", activations))
    expected = {tensor.name: numpy_helper.to_array(tensor) for tensor in reference.graph.initializer}
    assert stored.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(stored[name], values)
    feed = {"input": inputs.numpy()}
    found = load_session(dense).run(None, feed)[0]
    np.testing.assert_array_equal(found, load_session(path).run(None, feed)[0])


@pytest.mark.parametrize(
    "storage",
    [
        pytest.param(storage, marks=pytest.mark.slow("two exports") if storage == "packed" else pytest.mark.full)
        for storage in STORAGES
    ],
)
def test_the_inspection_agrees_with_the_export(storage: Storage, files: Any, checkpoint: codeq.Checkpoint) -> None:
    path = files(storage)
    inspection = inspect_file(path)
    assert inspection.size_bytes == path.stat().st_size
    report = export_onnx(
        checkpoint.model,
        (checkpoint.held_inputs[:2],),  # type: ignore[index]
        path.with_name("again.onnx"),
        storage=storage,
        force=True,
    )
    assert path.with_name("again.onnx").stat().st_size == path.stat().st_size
    for weight, reported in zip(inspection.weights, report.weights, strict=True):
        assert (weight.name, weight.shape, weight.bit_width) == (reported.name, reported.shape, reported.bit_width)
        assert (weight.storage, weight.size_bytes) == (reported.storage, reported.size_bytes)
        assert weight.reason == reported.storage_reason
        assert weight.entropy_bytes == pytest.approx(reported.entropy_bytes)
        assert weight.sparsity == pytest.approx(reported.sparsity)
    over = inspection.overhead
    total = over.decoders + over.scales_and_biases + over.graph + over.metadata
    assert total + sum(weight.size_bytes for weight in inspection.weights) == inspection.size_bytes
    assert total == report.details.overhead_bytes
    assert over.decoders == report.details.decoder_bytes
    assert min(over.scales_and_biases, over.graph, over.metadata) > 0
    assert report.details.packed_bytes == pytest.approx(files("packed").stat().st_size, abs=60)


@pytest.mark.full
def test_a_packed_file_is_much_smaller(files: Any) -> None:
    sizes = {storage: files(storage).stat().st_size for storage in STORAGES}
    assert sizes["smallest"] <= sizes["packed"] < 0.5 * sizes["auto"]
    assert sizes["auto"] <= min(sizes["dense"], sizes["sparse"])


@pytest.mark.full
def test_two_packed_exports_are_byte_identical(checkpoint: codeq.Checkpoint, files: Any, tmp_path: Path) -> None:
    inputs = checkpoint.held_inputs
    assert inputs is not None
    export_onnx(checkpoint.model, (inputs[:2],), tmp_path / "b.onnx", storage="packed", check_inputs=(inputs,))
    assert (tmp_path / "b.onnx").read_bytes() == files("packed").read_bytes()


def test_shared_and_unused_weights(tmp_path: Path) -> None:
    first, second, unused = (torch.nn.Linear(120, 120) for _ in range(3))
    second.weight = first.weight
    twin = torch.nn.Linear(120, 120)

    model = Net(lambda m, x: m.twin(m.second(m.first(x))), first=first, second=second, twin=twin, unused=unused)
    codeq.attach(model)
    for weight in quantized_weights(model):
        torch.nn.init.constant_(weight.quantizer.theta_dz, 0.5)
    with torch.no_grad():
        model.twin.parametrizations.weight.original.copy_(model.first.parametrizations.weight.original)  # type: ignore
    report = export_onnx(model, (torch.randn(2, 120),), tmp_path / "net.onnx", storage="packed")
    inspection = inspect_file(tmp_path / "net.onnx")
    assert inspection.unused == ("unused.weight",)
    shared = {weight.name: weight.shared_with for weight in inspection.weights}
    assert list(shared.values()).count(None) == 1
    assert sum(weight.size_bytes for weight in inspection.weights) == sum(w.size_bytes for w in report.weights)
    # Codes that are shared or unused are no part of the file's information.
    assert report.entropy_bytes == pytest.approx(inspection.entropy_bytes)
    assert report.entropy_bytes < report.size_bytes
    assert materialize(tmp_path / "net.onnx", tmp_path / "dense.onnx").weights == 1


def test_external_data(tmp_path: Path, rng: torch.Generator) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 300))
    codeq.attach(model, exclude="2")
    x = torch.randn(3, 64, generator=rng)
    path = tmp_path / "net.onnx"
    report = export_onnx(model, (x,), path, storage="packed", external_data_threshold=1000)
    assert report.details.external_data == "net.onnx.data"
    assert inspect_file(path).size_bytes == report.size_bytes
    written = materialize(path, tmp_path / "dense.onnx", external_data_threshold=1000)
    assert (tmp_path / "dense.onnx.data").exists()
    assert written.size_bytes > report.size_bytes
    np.testing.assert_array_equal(
        load_session(path).run(None, {"input": x.numpy()})[0],
        load_session(tmp_path / "dense.onnx").run(None, {"input": x.numpy()})[0],
    )
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(ExportError, match="external data cannot be read"):
        materialize(path, tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()


@pytest.mark.slow("a new process without torch")
def test_the_commands_need_no_pytorch(files: Any, tmp_path: Path) -> None:
    path = files("packed")
    for module, arguments in (
        ("export.inspect", [str(path), "--json", "-"]),
        ("export.materialize", [str(path), "-o", str(tmp_path / "dense.onnx")]),
    ):
        program = (
            "import sys, runpy\nsys.modules['torch'] = None\n"
            f"sys.argv = ['{module}', *{arguments!r}]\nrunpy.run_module('{module}', run_name='__main__')"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        if module == "export.inspect":
            assert json.loads(done.stdout)["codes"] == "verified"


def test_what_inspect_prints(run_command: Any, files: Any, tmp_path: Path) -> None:
    done = run_command("export.inspect", files("packed"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100
    for text in ("entropy bound", "next: ", "hashes as written: ok", "shared decoders", "total"):
        assert text in done.stdout


def test_damaged_codes_are_refused(run_command: Any, files: Any, tmp_path: Path) -> None:
    model = onnx.load(files("packed"))
    payload = next(tensor for tensor in model.graph.initializer if "/levels" in tensor.name)
    payload.raw_data = bytes([payload.raw_data[0] ^ 1]) + payload.raw_data[1:]
    (tmp_path / "damaged.onnx").write_bytes(model.SerializeToString())
    for command in (["export.inspect", "damaged.onnx"], ["export.materialize", "damaged.onnx"]):
        done = run_command(*command, cwd=tmp_path)
        assert done.returncode == 2
        assert "are not those it was written with" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["damaged.onnx"]


def test_foreign_and_corrupt_files(run_command: Any, files: Any, tmp_path: Path) -> None:
    whole = files("packed").read_bytes()
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    foreign = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    (tmp_path / "foreign.onnx").write_bytes(foreign.SerializeToString())
    lost = onnx.load_from_string(whole)
    del lost.graph.node[:]
    (tmp_path / "lost.onnx").write_bytes(lost.SerializeToString())
    broken = onnx.load_from_string(whole)
    del broken.functions[:]
    (tmp_path / "broken.onnx").write_bytes(broken.SerializeToString())
    before = sorted(tmp_path.iterdir())
    for name in (*(file.name for file in before), "missing.onnx"):
        for module in ("export.inspect", "export.materialize"):
            done = run_command(module, name, cwd=tmp_path)
            assert done.returncode == 2, (name, done.stderr)
            assert done.stderr.startswith(f"error: {name}: "), done.stderr
            assert len(done.stderr.splitlines()) == 1, done.stderr
            assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.full
def test_random_damage_never_shows_a_traceback(files: Any, tmp_path: Path) -> None:
    whole = files("packed").read_bytes()
    generator = np.random.default_rng(0)
    outcomes = set()
    for _ in range(40):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole), int(generator.integers(1, 4))):
            damaged[place] ^= 1 << int(generator.integers(8))
        path = tmp_path / "damaged.onnx"
        path.write_bytes(damaged)
        try:
            inspect_file(path)
        except ExportError as error:
            outcomes.add("\n" in str(error))
        else:
            outcomes.add("intact")
    assert outcomes == {"intact", False}


def test_materialize_does_not_replace_its_source(files: Any, tmp_path: Path) -> None:
    path = files("packed")
    with pytest.raises(ExportError, match="is the file itself"):
        materialize(path, path, force=True)


def test_materialize_spares_the_external_data_of_its_source(tmp_path: Path, rng: torch.Generator) -> None:
    model = torch.nn.Linear(64, 300)
    codeq.attach(model)
    path = tmp_path / "net.onnx"
    x = torch.randn(3, 64, generator=rng)
    export_onnx(model, (x,), path, storage="dense", external_data_threshold=1000)
    data = (tmp_path / "net.onnx.data").read_bytes()
    (tmp_path / "net").symlink_to(tmp_path / "net.onnx.data")
    for target in ("net.onnx.data", "net"):
        with pytest.raises(ExportError, match="is the file itself, or its data"):
            materialize(path, tmp_path / target, force=True)
    assert (tmp_path / "net.onnx.data").read_bytes() == data
    # A dense file without external data takes the place of one with it.
    other = tmp_path / "other.onnx"
    materialize(path, other, external_data_threshold=1000)
    assert (tmp_path / "other.onnx.data").exists()
    materialize(path, other, force=True)
    assert not (tmp_path / "other.onnx.data").exists()


def edit_metadata(model: onnx.ModelProto, **changes: Any) -> None:
    (entry,) = model.metadata_props
    entry.value = json.dumps(json.loads(entry.value) | changes)


def drop_opset(model: onnx.ModelProto) -> None:
    kept = [entry for entry in model.opset_import if entry.domain]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def close_a_circle(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "DequantizeLinear")
    node.op_type = "Neg"
    node.input[0] = node.output[0]
    del node.input[1:]


def ask_for_too_much(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "gaps")
    for attribute in node.attribute:
        if attribute.name in ("shape", "numel"):
            attribute.ints[:] = [2**33]


@pytest.mark.parametrize(
    "damage",
    [
        drop_opset,
        close_a_circle,
        ask_for_too_much,
        lambda model: edit_metadata(model, versions=[]),
        lambda model: edit_metadata(model, weights=[]),
        lambda model: edit_metadata(model, weights=[1]),
    ],
    ids=["opset", "circle", "too-much", "versions", "no-weights", "weights"],
)
def test_damage_is_one_line(damage: Callable[[onnx.ModelProto], None], files: Any, tmp_path: Path) -> None:
    model = onnx.load(files("packed"))
    damage(model)
    path = tmp_path / "damaged.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=r"damaged\.onnx: ") as found:
        inspect_file(path)
    assert "\n" not in str(found.value)
    with pytest.raises(ExportError, match=r"damaged\.onnx: "):
        materialize(path, tmp_path / "dense.onnx")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.full
def test_reasons_agree_beyond_ten_weights(tmp_path: Path, rng: torch.Generator) -> None:
    model = torch.nn.Sequential(*(torch.nn.Linear(60, 60) for _ in range(13)))
    codeq.attach(model)
    for weight in quantized_weights(model):
        torch.nn.init.constant_(weight.quantizer.theta_dz, 0.5)
    report = export_onnx(model, (torch.randn(2, 60, generator=rng),), tmp_path / "net.onnx", storage="smallest")
    for weight, reported in zip(inspect_file(tmp_path / "net.onnx").weights, report.weights, strict=True):
        assert weight.reason == reported.storage_reason
        assert weight.storage == reported.storage


def test_a_file_without_quantized_weights(tmp_path: Path) -> None:
    export_onnx(torch.nn.Linear(3, 4), (torch.randn(2, 3),), tmp_path / "net.onnx", storage="packed")
    text = str(inspect_file(tmp_path / "net.onnx"))
    assert "entropy bound" not in text
    assert materialize(tmp_path / "net.onnx", tmp_path / "dense.onnx").weights == 0
