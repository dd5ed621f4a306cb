"""Every network of the registry, in every mode and storage, held to the parity contract."""

import hashlib
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import models
from export.errors import DeclinedError, ExportError
from export.options import ACTIVATIONS
from runtime_tests.matrix import zoo_file
from runtime_tests.matrix.report import ZooReport
from runtime_tests.matrix.zoo_file import all_kinds, export_zoo_file
from tests.runtime_tests.matrix.small import SMALL, small

KINDS = {kind.variant: kind for kind in all_kinds()}
NEEDS_LITERT = pytest.mark.skipif("litert" not in KINDS, reason="LiteRT is an extra")
STORAGES = [name for name, kind in KINDS.items() if kind.backend.name == "onnx"]
SHOWN = {
    ("resnet8", "float32", "auto"),
    ("tiny_vit", "int8", "auto"),
    ("resnet8", "int8"),
}
"""Files of the tier `test`; the others are in `full`."""


def matrix(*axes: Iterable[str]) -> list[Any]:
    return [pytest.param(*row, marks=[] if row in SHOWN else pytest.mark.full) for row in product(*axes)]


def test_the_matrix_is_the_whole_registry() -> None:
    assert set(SMALL) == set(models.MODELS)


@pytest.mark.slow("every check of a network's file")
@pytest.mark.parametrize(("name", "activations", "storage"), matrix(SMALL, ACTIVATIONS, STORAGES))
def test_the_contract_holds(name: str, activations: Any, storage: Any, tmp_path: Path) -> None:
    model, inputs = small(name)
    file = export_zoo_file(name, model, inputs, tmp_path, activations, KINDS[storage])
    (path,) = tmp_path.iterdir()
    assert file.failure == ""
    assert file.skipped_folds == {}
    assert file.size_bytes == path.stat().st_size
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(file.kernels) == (SMALL[name][1] if activations == "int8" else set())
    assert file.integer_layers + file.float_layers == len(file.kernels)


@pytest.mark.slow("every check of a network's file")
@NEEDS_LITERT
@pytest.mark.parametrize(("name", "activations"), matrix(SMALL, ACTIVATIONS))
def test_the_contract_of_litert_holds(name: str, activations: Any, tmp_path: Path) -> None:
    model, inputs = small(name)
    file = export_zoo_file(name, model, inputs, tmp_path, activations, KINDS["litert"])
    (path,) = tmp_path.iterdir()
    assert (file.failure, file.refused) == ("", "")
    assert file.size_bytes == path.stat().st_size
    # A recurrent layer stays float, and so does a last layer, whose output is: that is all of this one.
    assert bool(file.integer_layers) == (activations == "int8" and name != "gru")


@NEEDS_LITERT
@pytest.mark.parametrize("error", [DeclinedError, ExportError])
def test_an_export_that_declines_is_no_failure(
    error: type[ExportError], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that LiteRT cannot run is."""

    def stop(*arguments: Any, **options: Any) -> None:
        raise error("rnn: why")

    monkeypatch.setattr(zoo_file, "publish", stop)
    model, inputs = small("autoencoder")
    file = export_zoo_file("autoencoder", model, inputs, tmp_path, "int8", KINDS["litert"])
    declined = error is DeclinedError
    assert (file.refused, file.failure) == (("rnn: why", "") if declined else ("", "rnn: why"))
    report = ZooReport((file,), ())
    assert report.ok == declined
    assert ("refused by the export: 1" in str(report)) == declined
    assert "autoencoder, int8, litert: rnn: why" in str(report)
