"""Call a function of the user's, `package.module:function`, that returns or yields batches."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from codeq.data.collect import is_one_batch, iterate
from codeq.errors import CalibrationError, first_line
from codeq.toolkit.user_modules import import_named, user_modules

FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)


def names_function(text: str) -> bool:
    """Say whether a text has the form `package.module:function`."""
    return FUNCTION.fullmatch(text) is not None


def user_batches(spec: str) -> Any:
    """Import a function and call it; its code, also where it yields, runs as a program in the user's folder would.

    Args:
        spec: `package.module:function`, of a command line.

    Returns:
        What `collect_calibration` takes.

    Raises:
        CodeqError: It cannot be imported.
        CalibrationError: It is no function, or raised an error: then, or later where it yields batches.
    """
    module_name, _, name = spec.partition(":")
    if module_name.endswith(".py"):
        raise CalibrationError(f"{spec}: names a file, expected a module: {module_name.removesuffix('.py')}:{name}")
    function = import_named(spec, spec)
    if not callable(function):
        raise CalibrationError(f"{spec}: is a {type(function).__name__}, expected a function that gives batches")
    found = _run(spec, function)
    return found if is_one_batch(found) else _steps(spec, _run(spec, lambda: iterate(found, f"{spec}()")))


def _steps(spec: str, iterator: Iterator[Any]) -> Iterator[Any]:
    end = object()
    while (batch := _run(spec, lambda: next(iterator, end))) is not end:
        yield batch


def _run(spec: str, function: Callable[[], Any]) -> Any:
    try:
        with user_modules():
            return function()
    except CalibrationError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything; its first line says what to mend
        raise CalibrationError(f"{spec}: raised {type(error).__name__} ({first_line(error)})") from error
