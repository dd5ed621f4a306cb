"""Read the names of a network's classes, one a line, and hold them to what the network answers."""

from pathlib import Path

from torch import nn

from codeq.errors import CompressError
from codeq.graph.inputs import Inputs, slice_inputs, split_inputs
from codeq.quantizer.outputs import float_outputs

MOST_BYTES = 2**24


def read_labels(path: Path, model: nn.Module, inputs: Inputs) -> tuple[str, ...]:
    """Read the names, in the order of the outputs.

    Args:
        path: UTF-8 text; empty lines at the end are left out.
        model: A float network.
        inputs: Of which one is tried.

    Raises:
        CompressError: It cannot be read, a line is empty or not printable, or the network has another number of
            classes.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise CompressError(f"{path}: takes more than {MOST_BYTES:,} bytes, expected a name on each line")
        names = path.read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise CompressError(f"{path}: cannot be read ({reason}), expected a name on each line") from error
    names = [name.strip() for name in names]
    wrong = next((number for number, name in enumerate(names, 1) if not name or not name.isprintable()), None)
    if not names or wrong is not None:
        raise CompressError(f"{path}, line {wrong or 1}: has no name, expected that of a class")
    outputs = float_outputs(model, *split_inputs(model, slice_inputs(inputs, slice(1))))
    shapes = [tuple(output.shape[1:]) for output in outputs.values()]
    if (len(names),) not in shapes:
        found = ", ".join(map(str, shapes))
        raise CompressError(f"{path}: names {len(names)} classes, and {type(model).__name__} answers {found}")
    return tuple(names)
