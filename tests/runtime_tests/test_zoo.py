"""Every network of the registry, in every mode and storage, held to the parity contract; and the command."""

import functools
import json
import math
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import codeq
import models
from export.errors import DeclinedError, ExportError
from export.program.prepare import ACTIVATIONS
from runtime_tests import zoo
from runtime_tests.runners import installed
from runtime_tests.zoo import STORAGES, ZEROS, bench_network, export_zoo_file, export_zoo_tflite, zoo_network

KINDS = (*STORAGES, "litert") if installed("litert") else STORAGES
FILES = 2 * len(KINDS)
INPUTS = 6
"""Held inputs, a whole number of each of the contract's batches; calibration takes the same."""
CONVOLUTIONAL = {"QLinearConv", "QLinearGlobalAveragePool", "QGemm"}
RESIDUAL = CONVOLUTIONAL | {"QLinearAdd"}
SMALL: dict[str, tuple[dict[str, Any], set[str]]] = {
    "resnet8": ({"input_size": 8}, RESIDUAL),
    "resnet18": ({"input_size": 32, "num_classes": 10, "width": 0.25}, RESIDUAL),
    "resnet20": ({"input_size": 8}, RESIDUAL),
    "resnet50": ({"input_size": 32, "num_classes": 10, "width": 0.25}, RESIDUAL),
    "mobilenet_v1": ({"input_size": 33}, CONVOLUTIONAL),
    "mobilenet_v2": ({"input_size": 32, "width": 0.35, "num_classes": 10}, RESIDUAL),
    "tiny_vit": ({"input_size": 8, "depth": 2}, {"float", "QLinearConv", "QGemm", "QLinearAdd"}),
    "ds_cnn": ({}, {"QLinearConv", "QLinearAveragePool", "QGemm"}),
    "fcn_1d": ({"length": 32}, CONVOLUTIONAL),
    "gru": ({}, {"float", "QGemm"}),
    "autoencoder": ({}, {"QGemm"}),
}
"""Arguments that make a network quick to run, and the kernels that its layers become with int8 activations."""


@functools.lru_cache(maxsize=1)
def small(name: str) -> tuple[nn.Module, Tensor]:
    model, inputs = zoo_network(name, SMALL[name][0])
    return model, inputs[:INPUTS]


def test_the_matrix_is_the_whole_registry() -> None:
    assert set(SMALL) == set(models.MODELS)


SHOWN = {
    ("resnet8", "int8", "packed"),
    ("resnet8", "float32", "auto"),
    ("mobilenet_v1", "int8", "auto"),
    ("tiny_vit", "int8", "auto"),
    ("gru", "float32", "auto"),
    ("resnet8", "int8"),
    ("gru", "float32"),
}
"""Files of the tier `test`; the others are in `full`."""


def matrix(*axes: Iterable[str]) -> list[Any]:
    return [pytest.param(*row, marks=[] if row in SHOWN else pytest.mark.full) for row in product(*axes)]


@pytest.mark.parametrize(("name", "activations", "storage"), matrix(SMALL, ACTIVATIONS, STORAGES))
def test_the_contract_holds(name: str, activations: Any, storage: Any, tmp_path: Path) -> None:
    model, inputs = small(name)
    path = tmp_path / "net.onnx"
    file = export_zoo_file(name, model, inputs, path, activations, storage)
    assert file.failure == ""
    assert file.skipped_folds == {}
    assert file.size_bytes == path.stat().st_size
    assert set(file.kernels) == (SMALL[name][1] if activations == "int8" else set())
    assert file.integer_layers + file.float_layers == len(file.kernels)


@pytest.mark.skipif(not installed("litert"), reason="LiteRT is an extra: pip install 'codeq[tflite]'")
@pytest.mark.parametrize(("name", "activations"), matrix(SMALL, ACTIVATIONS))
def test_the_contract_of_litert_holds(name: str, activations: Any, tmp_path: Path) -> None:
    model, inputs = small(name)
    path = tmp_path / "net.tflite"
    file = export_zoo_tflite(name, model, inputs, path, activations)
    assert (file.failure, file.refused) == ("", "")
    assert file.size_bytes == path.stat().st_size
    # A recurrent layer stays float, and so does a last layer, whose output is: that is all of this one.
    assert bool(file.kernels) == (activations == "int8" and name != "gru")


@pytest.mark.skipif(not installed("litert"), reason="LiteRT is an extra: pip install 'codeq[tflite]'")
@pytest.mark.parametrize("error", [DeclinedError, ExportError])
def test_an_export_that_declines_is_no_failure(
    error: type[ExportError], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that LiteRT cannot run is."""

    def stop(*arguments: Any, **options: Any) -> None:
        raise error("rnn: why")

    monkeypatch.setattr(zoo, "export_tflite", stop)
    model, inputs = small("autoencoder")
    file = export_zoo_tflite("autoencoder", model, inputs, tmp_path / "net.tflite", "int8")
    declined = error is DeclinedError
    assert (file.refused, file.failure) == (("rnn: why", "") if declined else ("", "rnn: why"))
    report = zoo.ZooReport((file,), ())
    assert report.ok == declined
    assert ("refused by the export: 1" in str(report)) == declined
    assert "autoencoder, int8, litert: rnn: why" in str(report)


@pytest.mark.parametrize("name", ["resnet8", "mobilenet_v2", "tiny_vit"])
def test_a_network_is_as_training_leaves_it(name: str) -> None:
    model, inputs = small(name)
    cost = codeq.summary(model, tuple(inputs.shape[1:]))
    assert cost.sparsity == pytest.approx(ZEROS, abs=0.01)
    assert {layer.weight_bits for layer in cost.layers} == {4}
    with torch.no_grad():
        outputs = model(inputs)
    assert 1e-3 < float(outputs.std()) < 1e3
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        assert norm.momentum == 0.1
        assert norm.running_mean is not None
        assert norm.weight[0] < 0 < norm.weight.max()
        assert float(norm.running_mean.abs().max()) > 0


def test_a_transformers_tokens_are_of_one_size() -> None:
    model, _ = small("tiny_vit")
    parameters = dict(model.named_parameters())
    for name in ("cls_token", "pos_embed"):
        assert parameters[name].detach().std().item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.slow("every kind of file of a network")
def test_a_file_that_does_not_hold_is_a_row_and_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    network = zoo.zoo_network

    def without_variance(name: str, arguments: Any = None) -> tuple[nn.Module, Tensor]:
        model, inputs = network(name, {"in_features": 16})
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.get_buffer("running_var").fill_(math.nan)
        return model, inputs

    monkeypatch.setattr(zoo, "zoo_network", without_variance)
    assert zoo.main(["--networks", "autoencoder", "--bench", "--json", str(tmp_path / "zoo.json")]) == 1
    text = capsys.readouterr().out
    values = json.loads((tmp_path / "zoo.json").read_text())
    refused = sum(bool(file["refused"]) for file in values["files"])
    assert f"parity holds for 0 of {FILES - refused} files" in text
    assert text.count("FAILED") == FILES - refused >= 6
    assert values["ok"] is False
    assert values["bench"] == []
    assert all((file["failure"] or file["refused"]) and file["size_bytes"] is None for file in values["files"])


@pytest.mark.slow("every kind of file of a network")
def test_the_command(run_command: Any, tmp_path: Path) -> None:
    done = run_command(
        "runtime_tests.zoo", "--networks", "autoencoder", "autoencoder", "--bench", "--rounds", 2, "--json", "zoo.json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert f"parity holds for {FILES} of {FILES} files" in done.stdout
    assert [line.split()[:3] for line in lines[2 : 2 + FILES]] == [
        ["autoencoder", mode, storage] for mode in ("weight-only", "int8") for storage in KINDS
    ]
    values = json.loads((tmp_path / "zoo.json").read_text())
    assert [file["failure"] for file in values["files"]] == [""] * FILES
    (timed,) = values["bench"]
    assert timed["rounds"] == 2
    assert timed["quantize_static"]["path"] == "autoencoder-quantize_static.onnx"
    ratios = timed["of_quantize_static"]
    assert ratios["int8"]["bytes"] == timed["int8"]["size_bytes"] / timed["quantize_static"]["size_bytes"]
    # A quarter of the weights' bytes by four bits, a third of that again by their zeros.
    assert ratios["packed"]["bytes"] < 0.6 < ratios["int8"]["bytes"]
    ratio = timed["int8"]["latency_ms"] / timed["quantize_static"]["latency_ms"]
    assert lines[FILES + 6].split()[-3:] == [
        f"{x:.2f}" for x in (ratio, ratios["int8"]["bytes"], ratios["packed"]["bytes"])
    ]
    done = run_command("runtime_tests.zoo", "--networks", "nothing", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_networks_beyond_mlperf_tiny_are_timed_without_quantize_static(tmp_path: Path) -> None:
    model, inputs = small("gru")
    for activations, storage in zoo.TIMED:
        path = tmp_path / f"gru-{zoo.MODES[activations]}-{storage}.onnx"
        export_zoo_file("gru", model, inputs, path, activations, storage)
    timed = bench_network("gru", model, inputs, tmp_path, rounds=1)
    assert timed.quantize_static is None
    assert timed.to_dict()["of_quantize_static"] == {"int8": None, "packed": None}
    report = zoo.ZooReport((), (timed,))
    assert max(map(len, str(report).splitlines())) <= 100
