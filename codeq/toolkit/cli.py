"""What our commands have in common: help with defaults and an example, one-line errors, exit codes, progress.

Exit codes: 0 done, 1 a check failed, 2 bad usage or bad input; as shells have them, 130 interrupted
and 141 the reader of the output has left.
Results go to stdout, everything else to stderr.
"""

import argparse
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from codeq.errors import CodeqError, OutputError, first_line
from codeq.toolkit.files import check_writable, replace_atomically

if TYPE_CHECKING:
    from torch import nn

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
QUIET_SECONDS = 10
EXAMPLE_ARGUMENTS = '{"num_classes": 10}'
VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
MODEL_ARGS_HELP = f"keyword arguments of that function, a JSON object: {EXAMPLE_ARGUMENTS}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: error: {message} (see --help)\n")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Defaults behind each option, the example as written."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example:") else super()._fill_text(text, width, indent)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # A default of None is not worth a word; the help text says what happens then.
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def build_parser(module: str, description: str, example: str) -> argparse.ArgumentParser:
    """A parser for `python -m module` whose errors are one line and whose help ends with an example."""
    return _Parser(
        prog=f"python -m {module}",
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )


def integer(low: int, high: int = 2**63 - 1) -> Callable[[str], int]:
    """An argparse type: an integer from `low` to `high`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            limit = f"from {low} to {high}" if high < 2**63 - 1 else f"of at least {low}"
            raise argparse.ArgumentTypeError(f"expected an integer {limit}, found {text!r}")
        return value

    return parse


def number(low: float, high: float = float("inf"), *, above: bool = False) -> Callable[[str], float]:
    """An argparse type: a finite number of at least `low` (above it with `above`), at most `high`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not (value > low if above else value >= low) or value > high or value == float("inf"):
            limit = f"above {low:g}" if above else f"of at least {low:g}"
            upper = f" and at most {high:g}" if high < float("inf") else ""
            raise argparse.ArgumentTypeError(f"expected a number {limit}{upper}, found {text!r}")
        return value

    return parse


def json_object(text: str) -> dict[str, Any]:
    """An argparse type: a JSON object, such as keyword arguments."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected a JSON object such as '{EXAMPLE_ARGUMENTS}', found {text!r}")
    return value


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """`--model` and `--model-args`, for `import_factory`: how a command names a network that the registry has not."""
    parser.add_argument(
        "--model", metavar="MODULE:FACTORY", help="build the network by this function (default: by the registry)"
    )
    parser.add_argument("--model-args", metavar="JSON", type=json_object, help=MODEL_ARGS_HELP)


def import_factory(spec: str | None, arguments: Mapping[str, Any] | None = None) -> Callable[[], "nn.Module"] | None:
    """The network factory that a user names as `package.module:function`, with its arguments; None for None.

    Only a command line may name code like this, never a file.

    Raises:
        CodeqError: It cannot be imported or called with these arguments, or does not return a torch.nn.Module.
    """
    if spec is None:
        if arguments is not None:
            raise CodeqError("--model-args goes with --model package.module:factory, which was not given")
        return None
    from torch import nn  # here, so that commands about files run without it

    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise CodeqError(f"--model {spec}: expected package.module:factory")
    sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(import_module(module_name), name)
    except SystemExit as error:
        raise CodeqError(
            f"--model {spec}: cannot be imported (it exits with {error.code}); "
            'put what it runs as a program under `if __name__ == "__main__":`'
        ) from error
    except Exception as error:  # the user's module may raise anything; its first line says what to mend
        raise CodeqError(f"--model {spec}: cannot be imported ({first_line(error)})") from error
    finally:
        sys.path.pop(0)
    keywords = dict(arguments or {})
    _check_call(spec, factory, keywords)

    def build() -> "nn.Module":
        try:
            model = factory(**keywords)
        except (Exception, SystemExit) as error:  # as above
            raise CodeqError(f"--model {spec}: raised {type(error).__name__} ({first_line(error)})") from error
        if not isinstance(model, nn.Module):
            raise CodeqError(f"--model {spec}: returned a {type(model).__name__}, expected a torch.nn.Module")
        return model

    return build


def _check_call(spec: str, factory: Any, keywords: Mapping[str, Any]) -> None:
    """Raise CodeqError unless a factory takes these arguments."""
    if not callable(factory):
        raise CodeqError(f"--model {spec}: is a {type(factory).__name__}, expected a function or a class")
    try:
        signature(factory).bind(**keywords)
    except TypeError as error:
        called = f"with --model-args '{json.dumps(keywords)}'" if keywords else "without arguments"
        taken = ", ".join(signature(factory).parameters) or "none"
        raise CodeqError(
            f"--model {spec}: cannot be called {called} ({first_line(error)}); it takes {taken}: "
            f"give them as --model-args '{_example_arguments(factory)}'"
        ) from error
    except ValueError:
        pass  # written in C, without a signature: the call itself will tell


def _example_arguments(factory: Any) -> str:
    """What --model-args may look like: the arguments without a default, or else the first."""
    parameters = [item for item in signature(factory).parameters.values() if item.kind not in VARIADIC]
    names = [item.name for item in parameters if item.default is item.empty] or [item.name for item in parameters[:1]]
    return "{" + ", ".join(f'"{name}": ...' for name in names) + "}"


def run(main: Callable[[list[str] | None], int]) -> NoReturn:
    """Call a command's `main` and exit with its status; bad input becomes one line and exit code 2."""
    # An exit, not a death: temporary files are removed on the way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        status = main(None)
        sys.stdout.flush()
    except CodeqError as error:
        # Under torchrun every process may have its own reason.
        where = f"rank {os.environ['RANK']}: " if "RANK" in os.environ else ""
        print(f"{where}error: {error}", file=sys.stderr)
        status = EXIT_USAGE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has left (`... | head`): nothing to report, and nothing to flush.
        sys.stderr.close()
        status = EXIT_PIPE
    sys.exit(status)


def check_json(path: Path | None, *others: Path, force: bool) -> None:
    """Say before the work starts whether `--json` may write there.

    Args:
        path: As for `write_json`.
        others: Inputs and outputs of the command, which it must not replace.
        force: Overwrite an older report.

    Raises:
        OutputError: It would replace another file of this command, exists, or cannot be written.
    """
    if path is None or str(path) == "-":
        return
    if any(path.resolve() == other.resolve() for other in others):
        raise OutputError(f"--json {path}: is a file that this command reads or writes; name another one")
    if not path.exists() or path.is_file() or path.is_dir():
        check_writable(path, force=force)


def write_json(path: Path | None, value: dict[str, Any]) -> None:
    """Write a report for machines; `-` is stdout, None nothing.

    Raises:
        OutputError: The file cannot be written.
    """
    if path is None:
        return
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
    elif path.exists() and not path.is_file():
        path.write_text(text)  # a pipe or a device, which a rename would replace
    else:
        with replace_atomically(path) as temporary:
            temporary.write_text(text)


class Reportable(Protocol):
    """What a command has to say: text for people, plain types for machines."""

    def to_dict(self) -> dict[str, Any]: ...


def show_report(report: Reportable, path: Path | None) -> None:
    """Print a report, and write it for machines where `--json` asks for it; with `-`, that alone goes to stdout.

    Raises:
        OutputError: The file cannot be written.
    """
    if str(path) != "-":
        print(report)
    write_json(path, report.to_dict())


@contextmanager
def spinner(description: str) -> Iterator[None]:
    """Show on stderr that work goes on, where somebody is there to see it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(description):
        yield


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """A bar on stderr; yields `update(completed, detail)`. Where stderr is no terminal, at most ten lines.

    Work shorter than ten seconds leaves no line behind.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        due = time.monotonic() + QUIET_SECONDS
        tenths_shown = 0

        def log(completed: int, detail: str) -> None:
            nonlocal tenths_shown
            if completed * 10 // total > tenths_shown and time.monotonic() >= due:
                tenths_shown = completed * 10 // total
                print(f"{description} {completed / total:.0%}  {detail}", file=sys.stderr, flush=True)

        yield log
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=total, detail="")

        def update(completed: int, detail: str) -> None:
            progress.update(task, completed=completed, detail=detail)

        yield update
