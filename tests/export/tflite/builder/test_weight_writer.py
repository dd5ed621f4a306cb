"""Weights are stored once, in the order that is asked for, as codes or as floats made of them."""

from typing import Any

import numpy as np
import pytest
from torch import nn

from export.tflite.builder.graph_writer import GraphWriter
from export.tflite.builder.program_reader import ProgramReader
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.weight_writer import WeightWriter, is_plain, is_read_by_layers
from export.tflite.weights.form import FLOATS, Reader, WeightForms
from export.tflite.weights.layout import StoredLayout

PLAIN = StoredLayout((5, 3, 2, 2), (0, 1, 2, 3), (5, 3, 2, 2))
CHANNELS_LAST = StoredLayout((5, 3, 2, 2), (0, 2, 3, 1), (5, 2, 2, 3))


def weights(program: Any, grid: str = "integer") -> tuple[WeightWriter, GraphWriter, Any, Any]:
    reader, writer = ProgramReader(program(nn.Sequential(nn.Conv2d(3, 5, 2)), (3, 4, 4), grid=grid)), GraphWriter()
    conv = next(node for node in reader.program.exported.graph.nodes if "conv2d" in str(node.target))
    codes = reader.weight_record(conv.args[1]).encoding.codes.numpy()
    return WeightWriter(reader, writer, WeightForms(sparse="off")), writer, conv.args[1], codes


def test_codes_in_an_order(program: Any) -> None:
    written, writer, weight, codes = weights(program)
    number = written.add(weight, CHANNELS_LAST, Reader("CONV_2D"))
    tensor = writer.tensor(number)
    assert tensor.name == "0.weight_quantized"
    assert np.array_equal(tensor.data, codes.transpose(0, 2, 3, 1))  # type: ignore[arg-type]
    assert not writer.graph.operators
    assert written.layouts == {"0.weight": CHANNELS_LAST}
    assert written.stored["0.weight"].reader == Reader("CONV_2D")


def test_floats_are_computed_once(program: Any) -> None:
    written, writer, weight, _ = weights(program)
    first = written.add(weight, CHANNELS_LAST)
    assert written.add(weight, CHANNELS_LAST, FLOATS) == first
    assert [operator.code for operator in writer.graph.operators] == ["DEQUANTIZE"]
    assert writer.tensor(first).name == "0.weight"


def test_the_paper_s_grid_adds_its_shift(program: Any) -> None:
    written, writer, weight, _ = weights(program, grid="paper")
    written.add(weight, PLAIN)
    assert [operator.code for operator in writer.graph.operators] == ["DEQUANTIZE", "SIGN", "MUL", "ADD"]
    assert not is_plain(weight)
    assert str(written.stored["0.weight"].reader) == "DEQUANTIZE for others"


def test_two_orders_are_refused(program: Any) -> None:
    written, _, weight, _ = weights(program)
    written.add(weight, PLAIN)
    with pytest.raises(CannotLower, match=r"0\.weight is used by two layers that want it in different orders"):
        written.add(weight, CHANNELS_LAST)


def test_one_scale_is_repeated_for_channels(program: Any) -> None:
    written, writer, weight, _ = weights(program)
    grid = writer.tensor(written.add(weight, PLAIN, Reader("CONV_2D", hybrid=True), 0)).quantization
    assert grid is not None
    assert (grid.scale.shape, len(set(grid.scale.tolist())), grid.axis) == ((5,), 1, 0)


def test_who_reads_it(program: Any) -> None:
    _, _, weight, _ = weights(program)
    assert is_plain(weight)
    assert is_read_by_layers(weight)
