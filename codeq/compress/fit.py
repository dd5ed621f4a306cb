"""Hold a network and its calibration inputs to each other, before anything is changed."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codeq.errors import AttachError, CalibrationError, CodeqError, CompressError, TraceError, first_line
from codeq.quantizer.attach import quantized_weights
from codeq.quantizer.outputs import float_outputs

PIXELS = "; pixels go in as float32, divided and normalised as in training"


def check_network(model: nn.Module) -> None:
    """Refuse what is no float network with trained weights.

    Raises:
        CompressError: No module, or a tensor that is not finite.
        AttachError: It has quantizers already.
    """
    if not isinstance(model, nn.Module):
        raise CompressError(f"compress takes a torch.nn.Module, found a {type(model).__name__}")
    attached = next((weight.name for weight in quantized_weights(model)), None)
    if attached is not None:
        raise AttachError(f"{attached} has a quantizer already; compress the float network, before codeq.attach")
    broken = next((name for name, tensor in model.state_dict().items() if not bool(tensor.isfinite().all())), None)
    if broken is not None:
        raise CompressError(f"{broken} has NaN or infinite entries; load the network's trained weights first")


def answer(
    network: nn.Module, batches: Sequence[tuple[Tensor, ...]], names: tuple[str, ...], *, first: int = 0
) -> list[dict[str, Tensor]]:
    """Compute the float outputs of a network for every batch, or say why it cannot be done.

    Args:
        network: As trained.
        batches, names: Calibration inputs, and by which names the network takes them.
        first: Number of the first of these inputs among all, for the message.

    Raises:
        TraceError: The network raises an error on them, or has no output that is a tensor.
        CalibrationError: An output is NaN or infinite.
    """
    found = []
    for batch in batches:
        try:
            outputs = float_outputs(network, batch, names)
        except CodeqError:
            raise
        except Exception as error:  # the network is the user's, and may raise anything
            named = zip(names or [""] * len(batch), batch, strict=True)
            given = ", ".join(f"{name} {_describe(tensor)}".lstrip() for name, tensor in named)
            last = first + len(batch[0]) - 1
            numbers = f"input {first}" if last == first else f"inputs {first} to {last}"
            raise TraceError(
                f"{type(network).__name__} cannot be called with calibration {numbers}, {given} like all of them: "
                f"{type(error).__name__} ({first_line(error)}); give them in the shape and dtype that its forward takes"
                f"{PIXELS if batch[0].dtype == torch.uint8 else ''}"
            ) from error
        for name, value in outputs.items():
            bad = ~value.isfinite().flatten(1).all(1) if value.ndim > 1 else ~value.isfinite()
            if bool(bad.any()):
                number = first + int(bad.nonzero()[0]) if value.ndim and len(bad) == len(batch[0]) else first
                raise CalibrationError(
                    f"{type(network).__name__}: {name} is NaN or infinite for calibration input {number}, in the float "
                    "network already; load its trained weights, and give inputs normalised as in training"
                )
        found.append(outputs)
        first += len(batch[0])
    return found


def _describe(tensor: Tensor) -> str:
    rest = "".join(f", {size}" for size in tensor.shape[1:])
    return f"{str(tensor.dtype).removeprefix('torch.')} (N{rest})"
