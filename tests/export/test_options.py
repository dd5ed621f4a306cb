"""What exports can be asked for: one definition serves the command lines and the functions."""

import argparse
import dataclasses
from typing import Any

import pytest

from codeq.toolkit.options import add_options, option_fields
from export.errors import ExportError
from export.onnx.options import OnnxRequest
from export.options import ExportRequest, Quantization, default_calibration, default_check
from export.tflite.options import TfliteRequest

pytestmark = pytest.mark.quick


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser, Quantization, suppress=True)
    return parser.parse_args(words)


@pytest.mark.parametrize(("word", "meaning"), [("float", "float32"), ("float32", "float32"), ("int8", "int8")])
def test_words_for_activations(word: str, meaning: str) -> None:
    assert parse("--activations", word).activations == meaning
    assert Quantization(activations=word).activations == meaning  # type: ignore[arg-type]


def test_another_word_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--activations", "float16")
    assert "float16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        (OnnxRequest, {"storage": "zip"}, "storage 'zip', expected one of auto, dense, sparse, packed, smallest"),
        (OnnxRequest, {"target": "tpu"}, "target 'tpu', expected one of onnxruntime, portable"),
        (OnnxRequest, {"opset": 0}, "opset 0, expected a number of at least 1"),
        (OnnxRequest, {"storage": "sparse", "target": "portable"}, "takes no sparse_initializer"),
        (OnnxRequest, {"opset": 21, "target": "portable"}, "opens files up to opset 18, found --opset 21"),
        (TfliteRequest, {"layout": "chwn"}, "layout 'chwn', expected one of nchw, nhwc"),
        (TfliteRequest, {"io": "int8"}, "use --activations int8, or --io float"),
        (TfliteRequest, {"backend": "litert-torch", "int4": True}, "found --int4; leave one of the two out"),
        (ExportRequest, {"quantization": Quantization(ranges="max")}, "ranges 'max', expected one of mse"),  # type: ignore[arg-type]
        (ExportRequest, {"quantization": Quantization(activations="int4")}, "activations 'int4', expected one of"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_option_is_refused_in_one_line(kind: type[ExportRequest], values: dict[str, Any], text: str) -> None:
    with pytest.raises(ExportError, match=text) as raised:
        kind(**values).check()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", [OnnxRequest, TfliteRequest])
def test_defaults_hold(kind: type[ExportRequest]) -> None:
    kind().check()


def test_hybrid_is_for_float_activations() -> None:
    with pytest.raises(ExportError, match="use --activations float32, or leave --hybrid out"):
        TfliteRequest(hybrid=True, quantization=Quantization(activations="int8")).check()


@pytest.mark.parametrize("kind", [Quantization, OnnxRequest, TfliteRequest])
def test_every_flag_says_what_it_is_for(kind: type) -> None:
    assert option_fields(kind)
    for name, (item, about) in option_fields(kind).items():
        assert len(about.help) > 20, name
        assert not about.choices or item.default in about.choices


def test_a_request_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        OnnxRequest().force = True  # type: ignore[misc]


def test_large_inputs_are_checked_with_fewer() -> None:
    assert default_check(8 * 8) == 64
    assert default_check(3 * 224 * 224) == 3
    assert default_calibration(3 * 64 * 64) == 170
    assert default_calibration(3 * 4096 * 4096) == 1
