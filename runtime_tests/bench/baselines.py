"""This module makes the files that others make of a network: torch's bare ONNX exporter, and onnxruntime's own
post-training quantization.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from codeq.toolkit.quiet import quiet_torch


def export_bare(model: nn.Module, inputs: Tensor, path: Path) -> None:
    """Write a network with torch's own exporter, with an open batch size, and nothing else."""
    with quiet_torch():
        torch.onnx.export(
            model,
            (inputs[:2],),
            str(path),
            dynamo=True,
            input_names=["input"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            external_data=False,
            verbose=False,
        )


def quantize_static(source: Path, target: Path, inputs: Tensor) -> None:
    """Quantize a file of `export_bare` as onnxruntime's documentation recommends for x86 with VNNI.

    QDQ, uint8 activations, int8 weights per channel, min-max ranges, after onnxruntime's own preparation.

    Args:
        source: The float file.
        target: To be written.
        inputs: To calibrate with.
    """
    prepared = target.with_suffix(".prepared.onnx")
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it warns in a root logger of all that it does not know
    try:
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(target),
            _SingleInputs(inputs),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )
    finally:
        root.setLevel(level)
    prepared.unlink()


class _SingleInputs(quantization.CalibrationDataReader):
    """Hands onnxruntime one input at a time."""

    def __init__(self, inputs: Tensor) -> None:
        self.rows = iter(inputs.split(1))

    def get_next(self) -> dict[str, np.ndarray] | None:
        row = next(self.rows, None)
        return None if row is None else {"input": row.numpy()}
