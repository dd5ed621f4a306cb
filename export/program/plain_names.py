"""Give a program's tensors names that torch can put into the code it generates, for a while.

conv-1.weight, layer1.0.weight      as they are: torch quotes the first
class.weight, ".weight              tensor_0, tensor_1: a keyword, and what ends a quotation
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from keyword import iskeyword

from torch import Tensor
from torch.export import ExportedProgram


@contextmanager
def plain_names(exported: ExportedProgram) -> Iterator[Mapping[str, str]]:
    """Rename what has to be; the own names come back afterwards, after an error as well.

    Yields:
        The plain name of each tensor that has one, by its own.
    """
    targets = [spec.target for spec in exported.graph_signature.input_specs if spec.target is not None]
    renamed = {name: f"tensor_{number}" for number, name in enumerate(targets) if not _is_plain(name)}
    _rename(exported, renamed)
    try:
        yield renamed
    finally:
        _rename(exported, {plain: name for name, plain in renamed.items()})


def _is_plain(name: str) -> bool:
    """Whether torch can write it: as an attribute, or between quotes that it does not escape."""
    return name.isprintable() and not {'"', "\\"} & {*name} and not any(map(iskeyword, name.split(".")))


def _rename(exported: ExportedProgram, names: Mapping[str, str]) -> None:
    for spec in exported.graph_signature.input_specs:
        if spec.target is not None:
            spec.target = names.get(spec.target, spec.target)
    stored: tuple[dict[str, Tensor], ...] = (exported.state_dict, exported.constants)
    for tensors in stored:
        entries = {names.get(name, name): tensor for name, tensor in tensors.items()}
        tensors.clear()
        tensors.update(entries)
