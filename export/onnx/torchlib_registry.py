"""torch.onnx parses its library of operators once per process, not once per export.

Every `torch.onnx.export(dynamo=True)` makes a registry of the operators that it can lower
(`ONNXRegistry.from_torchlib`), and for that reads, tokenizes and parses the source of the same 497 functions of
onnxscript's torchlib again: 0.4 CPU-seconds, half of the export of a small network. `parse_once` remembers the two
results that cost this time, per function, for the process:

    TracedOnnxFunction.function_ir        the function's source, parsed
    op_signature_from_function            its parameters and their types

Both depend on the function alone. The registry itself is still made anew for every export, by torch: what is in it
depends on the libraries that are imported by then (torchvision's operators), and `custom_translation_table` writes
into it. So no lowering of ours is seen by another export, and the user's own exports find torch as it was.

The two names are private. Where torch or onnxscript renames one, exports take their former time and say so at the
level debug; tests/export/onnx/test_torchlib_registry.py fails then.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

logger = logging.getLogger(__name__)


class Hook(NamedTuple):
    """Describes an attribute that is replaced while we export: its owner, its name, and what belongs there."""

    owner: Any
    name: str
    original: Any


_lock = threading.Lock()
_exports_running = 0
_installed: tuple[Hook, ...] = ()
_remembered: dict[str, WeakKeyDictionary[Any, dict[Any, Any]]] = {}
"""It maps hook and function to results by the other arguments. Those that live as long as an export are forgotten."""


def find_hooks() -> tuple[Hook, ...]:
    """Find the two private functions.

    Raises:
        ImportError, AttributeError, TypeError: This torch or onnxscript has them elsewhere, or in another form.
    """
    from onnxscript._internal.values import TracedOnnxFunction
    from torch.onnx._internal.exporter import _schemas

    parse = vars(TracedOnnxFunction).get("function_ir")
    if not isinstance(parse, property):
        raise TypeError("onnxscript's TracedOnnxFunction has no property 'function_ir'")
    return (
        Hook(TracedOnnxFunction, "function_ir", parse),
        Hook(_schemas, "op_signature_from_function", _schemas.op_signature_from_function),
    )


@contextmanager
def parse_once() -> Iterator[None]:
    """Let torch.onnx remember its parsed functions inside; outside, torch is untouched.

    Other threads that export meanwhile share the memory, which changes nothing but their time; the last one out
    restores torch.
    """
    global _exports_running
    with _lock:
        if not _exports_running:
            _install()
        _exports_running += 1
    try:
        yield
    finally:
        with _lock:
            _exports_running -= 1
            if not _exports_running:
                _restore()


def _install() -> None:
    global _installed
    try:
        _installed = find_hooks()
    except (ImportError, AttributeError, TypeError) as error:
        logger.debug("torch.onnx parses torchlib for this export again, which costs half a second: %s", error)
        return
    for owner, name, original in _installed:
        known = _remembered.setdefault(name, WeakKeyDictionary())
        is_property = isinstance(original, property)
        replacement = property(_remember(original.fget, known)) if is_property else _remember(original, known)
        setattr(owner, name, replacement)


def _restore() -> None:
    global _installed
    for owner, name, original in _installed:
        setattr(owner, name, original)
    _installed = ()


def _remember(compute: Callable[..., Any], known: WeakKeyDictionary[Any, dict[Any, Any]]) -> Callable[..., Any]:
    """Make a function that computes each result once: `known[function][other arguments]`."""

    def look_up(function: Any, *arguments: Any, **options: Any) -> Any:
        results = known.setdefault(function, {})
        key = (arguments, *sorted(options.items()))
        if key not in results:
            results[key] = compute(function, *arguments, **options)
        return results[key]

    return look_up
