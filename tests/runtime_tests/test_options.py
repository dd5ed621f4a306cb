"""What the shared arguments offer is what the export takes and the registry has."""

import argparse

import pytest

import models
from export.onnx.storage.kinds import STORAGES
from export.options import ACTIVATIONS
from runtime_tests import options, scaling, storage


def test_the_choices_are_those_of_the_export() -> None:
    for name in STORAGES:
        assert storage.build_parser().parse_args(["--storage", name]).storage == [name]
        assert scaling.build_parser().parse_args(["--storage", name]).storage == name
    for name in ACTIVATIONS:
        assert storage.build_parser().parse_args(["--activations", name]).activations == name


def test_a_network_is_of_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    required, optional = argparse.ArgumentParser(), argparse.ArgumentParser()
    options.add_network(required)
    options.add_network(optional, default="resnet18")
    for name in models.MODELS:
        assert required.parse_args([name]).network == name
    assert optional.parse_args([]).network == "resnet18"
    for arguments in ([], ["nothing"]):
        with pytest.raises(SystemExit):
            required.parse_args(arguments)
    assert "invalid choice: 'nothing'" in capsys.readouterr().err


def test_timing_options_have_bounds() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    options.add_timing_options(parser, seconds=3.0)
    values = parser.parse_args([])
    assert (values.threads, values.seconds) == (1, 3.0)
    alone = argparse.ArgumentParser()
    options.add_threads(alone)
    assert alone.parse_args([]).threads == 1
    for arguments in (["--threads", "0"], ["--seconds", "-1"]):
        with pytest.raises(argparse.ArgumentError, match="expected"):
            parser.parse_args(arguments)
