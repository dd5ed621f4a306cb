"""Bring calibration inputs to the arguments of a network: which it takes, by which names, and which are labels.

forward(input_ids, attention_mask=None, labels=None), (ids, mask)  ->  {"input_ids": ids, "attention_mask": mask}
"""

from collections.abc import Mapping

from torch import Tensor, nn

from codeq.data.collect import LABELS
from codeq.errors import CalibrationError
from codeq.graph.inputs import Inputs, argument_names, needed_names


def data_arguments(model: nn.Module) -> list[str]:
    """List the arguments of a network that can be inputs: all but `LABELS` that it can be called without."""
    needed = needed_names(model)
    return [name for name in argument_names(model) if name in needed or name not in LABELS]


def known_arity(model: nn.Module) -> int | None:
    """Say how many inputs a network takes, for `collect_calibration`; None where all but one may be left out.

    A pair of which the second is integers may then be inputs and labels.
    """
    needed = len(needed_names(model))
    return needed if needed > 1 or len(data_arguments(model)) == 1 else None


def image_channels(model: nn.Module) -> int | None:
    """Say whether a network takes images of one channel or of three, by its first convolution; None if of neither."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return first.in_channels if first is not None and first.in_channels in (1, 3) else None


def name_inputs(model: nn.Module, inputs: Inputs, source: str) -> Tensor | dict[str, Tensor]:
    """Give inputs the names of the network's arguments.

    Args:
        model: Its `forward` has the names.
        inputs: As `collect_calibration` returns them.
        source: Where they are from, for messages.

    Returns:
        Several by name, in the order of the network's arguments and without labels; one that is the first argument as
        a tensor.

    Raises:
        CalibrationError: A name that the network does not have, an argument that it needs and is not given, or several
            tensors by position for arguments without names.
    """
    network, arguments, needed = type(model).__name__, argument_names(model), needed_names(model)
    takes = ", ".join(arguments) or "arguments without names"
    given: dict[str, Tensor]
    if isinstance(inputs, Mapping):
        unknown = next((name for name in inputs if name not in arguments and name not in LABELS), None)
        if unknown is not None:
            raise CalibrationError(f"{source}: gives {unknown!r}, which {network} does not take, expected {takes}")
        taken = data_arguments(model)
        given = {name: inputs[name] for name in taken if name in inputs}
    else:
        tensors = (inputs,) if isinstance(inputs, Tensor) else inputs
        if not arguments and len(tensors) == 1:
            return tensors[0]
        if len(tensors) > len(arguments):
            raise CalibrationError(
                f"{source}: gives {len(tensors)} inputs in a batch, and {network} takes {takes}; "
                "name the arguments of its forward, or of a module around it"
            )
        given = dict(zip(arguments, tensors, strict=False))
    missing = [name for name in needed if name not in given]
    if missing:
        raise CalibrationError(
            f"{source}: lacks {', '.join(missing)}, which {network} needs; give an .npz file of arrays "
            f"{', '.join(needed)}, or a function that gives mappings of them"
        )
    if list(given) == arguments[:1]:
        return given[arguments[0]]
    return given
