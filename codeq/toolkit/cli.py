"""This module holds what commands have in common: flags, help with an example, one-line errors, exit codes, progress.

A command module imports nothing heavy at its top. Its `main` parses first and imports what computes afterwards, so that
`--help`, a typo and `--version` are answered at once:

    def main(argv: list[str] | None = None) -> int:
        arguments = build_parser().parse_args(argv)
        with cli.loading():  # here, so that the parser answers without torch
            from export.onnx.export import export_onnx

Every parser of `build_parser` has `--version`, `-q/--quiet`, `-v/--verbose` and `--debug`, and acts on them itself;
`add_common` adds `--json`, `--force` and `--threads`, `add_model_option` adds `--model` and `--model-args`.

Exit codes: 0 done, 1 a check failed, 2 bad usage or bad input (what a device has no room for is that too), 3 a bug of
ours, whose traceback `--debug` shows; as shells have them, 130 interrupted and 141 the reader of the output has left.
Results go to stdout, everything else to stderr; neither carries control characters, whatever a file holds.
"""

import argparse
import json
import logging
import os
import re
import signal
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from codeq.errors import CodeqError, OutputError, first_line
from codeq.toolkit.allocator import keep_freed_memory
from codeq.toolkit.files import check_writable, replace_atomically
from codeq.toolkit.interrupt import PACKAGES
from codeq.toolkit.plain_stream import StreamError, drop_rest, plain_streams, raw
from codeq.toolkit.report_version import FORMAT_VERSION
from codeq.toolkit.startup import ROOT, end_on_interrupt, raise_on_interrupt, start_command
from codeq.toolkit.suggest import did_you_mean
from codeq.toolkit.text import printable
from codeq.toolkit.user_modules import import_named, user_modules
from codeq.version import __version__

if TYPE_CHECKING:
    from torch import nn

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_BUG = 3
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
QUIET_SECONDS = 10
LONGEST_ERROR = 2000
"""Characters of an error's line: a list of choices may be long, what a file makes up may be endless."""
EXAMPLE_ARGUMENTS = '{"num_classes": 10}'
VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
MODEL_ARGS_HELP = f"keyword arguments of that function, a JSON object: {EXAMPLE_ARGUMENTS}"


# Before the imports of a command that follow this one, which would fail beside a file that hides a package of ours.
start_command()

_program: str | None = None
_is_running = False
_debug = False


def program_name(module: str) -> str:
    """Say how a command was started, to be copied: "python -m export.onnx", or "codeq export onnx"."""
    return _program or f"python -m {module}"


@contextmanager
def started_as(program: str) -> Iterator[None]:
    """Let help and messages of a command say that it was started as, e.g., `codeq train`."""
    global _program
    before, _program = _program, program
    try:
        yield
    finally:
        _program = before


class _Parser(argparse.ArgumentParser):
    """This parser writes errors of one line, suggests the word that was meant, and acts on `-q` and `-v`."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: error: {message} (see --help)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        self._refuse_unknown_flags(words)
        found, rest = super().parse_known_args(words, namespace)
        global _debug
        _debug = found.debug
        set_verbosity(quiet=found.quiet, verbose=found.verbose)
        return found, rest

    def _refuse_unknown_flags(self, words: Sequence[str]) -> None:
        """Name misspelt flags before argparse complains of what is missing or superfluous because of them."""
        for word in words[: words.index("--")] if "--" in words else words:
            flag = word.partition("=")[0]
            if flag.startswith("--") and " " not in word and flag not in self._option_string_actions:
                known = [
                    name for name, action in self._option_string_actions.items() if action.help != argparse.SUPPRESS
                ]
                self.error(f"unrecognized arguments: {flag}{did_you_mean(flag, known)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            hint = did_you_mean(str(value), choices)
            message = f"invalid choice: {value!r} (choose from {', '.join(choices)}){hint}"
            raise argparse.ArgumentError(action, message)


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help shows defaults behind each option, and the example as commands to copy."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if not text.startswith("example:"):
            return super()._fill_text(text, width, indent)
        return "\n".join(fold_command(line, width) for line in text.splitlines())

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # A default of None is not worth a word; the help text says what happens then.
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def fold_command(line: str, width: int) -> str:
    """Break a long command into lines that a shell takes as one, and no flag from its value."""
    glued = re.sub(r"( --?\w\S*) (?!-)", "\\1\0", line)
    lines = textwrap.wrap(glued, width - 2, subsequent_indent="      ", break_long_words=False, break_on_hyphens=False)
    return " \\\n".join(lines).replace("\0", " ")


class _Version(argparse.Action):
    """`--version`: print ours and those of the libraries that compute, without importing them."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from codeq.toolkit.versions import describe_versions  # here: reading package metadata takes a moment

        print(describe_versions())
        parser.exit()


def build_parser(module: str, description: str, example: str) -> argparse.ArgumentParser:
    """Build a parser for `python -m module` whose errors are one line and whose help ends with an example."""
    program = program_name(module)
    parser = _Parser(
        prog=program,
        description=description,
        epilog=f"example:\n  {example.replace(f'python -m {module}', program)}",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="show versions and exit")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, no notes on stderr")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="say what is done; -vv says more")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a bug in this program")
    return parser


def add_common(
    parser: argparse._ActionsContainer,
    *,
    json: str | None = None,
    force: str | None = None,
    threads: str | None = None,
) -> None:
    """Add the flags that mean the same in every command; each is left out where its text is None.

    Args:
        parser: Of `build_parser`, or a group in it.
        json: What `--json` writes, e.g. "the report".
        force: What `--force` overwrites, e.g. "existing outputs".
        threads: What `--threads` limits, e.g. "CPU threads (default: torch's choice)"; act on it with `set_threads`.
    """
    if threads is not None:
        parser.add_argument("--threads", type=integer(1, 1024), metavar="N", help=threads)
    if json is not None:
        parser.add_argument("--json", type=Path, metavar="FILE", help=f"write {json}; - is stdout")
    if force is not None:
        parser.add_argument("--force", action="store_true", help=f"overwrite {force}")


def set_verbosity(*, quiet: bool = False, verbose: int = 0) -> None:
    """Set how much is logged: `quiet` errors alone and no progress, `verbose` our own steps, twice their details.

    Both unset leave the levels as they are.
    """
    if quiet:
        logging.getLogger().setLevel(logging.ERROR)
    if verbose:
        level = logging.INFO if verbose == 1 else logging.DEBUG
        for package in (*PACKAGES, "__main__"):
            logging.getLogger(package).setLevel(level)


def is_quiet() -> bool:
    """Say whether progress is not shown: `-q` was given, or another rank shows it."""
    return logging.getLogger().level >= logging.ERROR


def set_threads(count: int | None) -> None:
    """Let torch compute on so many CPU threads; None leaves the choice to torch."""
    if count is not None:
        import torch  # here, so that commands about files run without it

        torch.set_num_threads(count)


def integer(low: int, high: int = 2**63 - 1) -> Callable[[str], int]:
    """Make an argparse type: an integer from `low` to `high`."""

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


def number(
    low: float, high: float = float("inf"), *, above: bool = False, below: bool = False
) -> Callable[[str], float]:
    """Make an argparse type: a finite number of at least `low` (or above it), at most `high` (or below it)."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        is_large = value > low if above else value >= low
        if not is_large or not (value < high if below else value <= high) or value == float("inf"):
            limit = f"above {low:g}" if above else f"of at least {low:g}"
            upper = f" and {'below' if below else 'at most'} {high:g}" if high < float("inf") else ""
            raise argparse.ArgumentTypeError(f"expected a number {limit}{upper}, found {text!r}")
        return value

    return parse


def numbers(text: str) -> list[float]:
    """Read numbers with commas between them; an argparse type."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between them, found {text!r}") from error


def json_object(text: str) -> dict[str, Any]:
    """Read a JSON object, such as keyword arguments; an argparse type."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected a JSON object such as '{EXAMPLE_ARGUMENTS}', found {text!r}")
    return value


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """Add `--model`, `--model-args` and `--trust-factory`, for a network that the registry has not."""
    parser.add_argument(
        "--model", metavar="MODULE:FACTORY", help="build the network by this function (default: by the registry)"
    )
    parser.add_argument("--model-args", metavar="JSON", type=json_object, help=MODEL_ARGS_HELP)
    parser.add_argument(
        "--trust-factory",
        action="store_true",
        help="build it by the function that the checkpoint names: runs that code, so only for files of your own",
    )


def import_factory(spec: str | None, arguments: Mapping[str, Any] | None = None) -> Callable[[], "nn.Module"] | None:
    """Import the network factory that a user names as `package.module:function`, with its arguments; None for None.

    A name of the registry gives a factory that builds that network.

    Only a command line may name code like this, never a file.

    Raises:
        CodeqError: It cannot be imported or called with these arguments, or does not return a torch.nn.Module.
    """
    if spec is None:
        if arguments is not None:
            raise CodeqError("--model-args goes with --model package.module:factory, which was not given")
        return None
    from torch import nn  # here, so that commands about files run without it

    if ":" not in spec:
        return lambda: build_model(spec, arguments)[0]
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise CodeqError(f"--model {spec}: expected package.module:factory, or a name of the registry")
    factory = import_named(f"--model {spec}", spec)
    keywords = dict(arguments or {})
    _check_call(spec, factory, keywords)

    def build() -> "nn.Module":
        try:
            with user_modules():
                model = factory(**keywords)
        except (Exception, SystemExit) as error:  # as above
            raise CodeqError(f"--model {spec}: raised {type(error).__name__} ({first_line(error)})") from error
        if not isinstance(model, nn.Module):
            raise CodeqError(f"--model {spec}: returned a {type(model).__name__}, expected a torch.nn.Module")
        return model

    return build


def add_network(parser: argparse.ArgumentParser, init: str) -> None:
    """Add the flags that name a network and its weights: --model, --model-args and --init.

    Args:
        parser: The command's.
        init: What the file of --init holds, for the help.
    """
    from models.names import NAMES

    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help=f"one of {', '.join(NAMES)}, or MODULE:FACTORY of your own",
    )
    parser.add_argument("--model-args", metavar="JSON", type=json_object, help=MODEL_ARGS_HELP)
    parser.add_argument("--init", type=Path, metavar="FILE", help=f"{init} (default: as built)")


def build_model(spec: str, arguments: Mapping[str, Any] | None) -> tuple["nn.Module", dict[str, Any]]:
    """Build a network of the registry, or by a function that a user names as `package.module:function`.

    Returns:
        The network, and how it was built: arguments of `codeq.save`.

    Raises:
        CodeqError: It cannot be built; as for `import_factory`.
    """
    import models  # here, as torch is in import_factory

    keywords = dict(arguments or {})
    if ":" in spec:
        factory = import_factory(spec, arguments)
        assert factory is not None
        return factory(), {"factory": spec, "arguments": keywords}
    try:
        return models.create(spec, **keywords), {"name": spec, "arguments": keywords}
    except (ValueError, TypeError) as error:
        text = str(error).replace("expected one of", "expected package.module:factory or one of")
        raise CodeqError(f"--model {spec}: {text}") from error


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
    """Show what --model-args may look like: the arguments without a default, or else the first."""
    parameters = [item for item in signature(factory).parameters.values() if item.kind not in VARIADIC]
    names = [item.name for item in parameters if item.default is item.empty] or [item.name for item in parameters[:1]]
    return "{" + ", ".join(f'"{name}": ...' for name in names) + "}"


@contextmanager
def loading() -> Iterator[None]:
    """Hold what a command imports after parsing; there, Ctrl-C ends the process at once, as nothing has begun.

    Only in a process that `run` was called in: anybody else's Ctrl-C stays as it is.
    """
    if not _is_running:
        yield
        return
    end_on_interrupt()
    try:
        yield
    finally:
        raise_on_interrupt()


def run(main: Callable[[list[str] | None], int]) -> NoReturn:
    """Call a command's `main` and exit with its status; bad input becomes one line and exit code 2."""
    global _is_running
    _is_running = True
    raise_on_interrupt()
    # An exit, not a death: temporary files are removed on the way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    keep_freed_memory()
    with plain_streams():
        status = _status_of(main)
    sys.exit(status)


def _status_of(main: Callable[[list[str] | None], int]) -> int:
    """Call a command, and turn whatever it raises into a line on stderr and an exit status."""
    # Under torchrun every process may have its own reason.
    where = f"rank {os.environ['RANK']}: " if "RANK" in os.environ else ""
    try:
        status = main(None)
        sys.stdout.flush()
        return status
    except CodeqError as error:
        message, status = str(error), EXIT_USAGE
        if isinstance(error, StreamError):
            drop_rest(sys.stdout)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has left (`... | head`): nothing to report, and nothing to flush.
        drop_rest(sys.stdout)
        return EXIT_PIPE
    except MemoryError:
        message, status = "this machine has not enough memory for that", EXIT_USAGE
    except Exception as error:
        if _debug:
            traceback.print_exc()
        message, status = _describe_bug(error), EXIT_BUG
    with suppress(StreamError, BrokenPipeError):  # stderr may be what is full
        print(f"{where}error: {printable(message, LONGEST_ERROR)}", file=sys.stderr)
    return status


def _describe_bug(error: Exception) -> str:
    """Say what was raised and where in our code, and what helps us."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(ROOT)]
    ours = [frame for frame in frames if Path(frame.filename).relative_to(ROOT).parts[0] in PACKAGES] or frames
    place = f" at {Path(ours[-1].filename).relative_to(ROOT)}:{ours[-1].lineno}" if ours else ""
    what_next = "please report this command with its traceback, which --debug shows"
    if _debug:
        what_next = "please report this command with this traceback"
    return f"this is a bug in codeq {__version__}: {type(error).__name__}{place} ({first_line(error)}); {what_next}"


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
    """Write a report for machines, with the version of its keys; `-` is stdout, None nothing.

    Raises:
        OutputError: The file cannot be written.
    """
    if path is None:
        return
    text = json.dumps({"format_version": FORMAT_VERSION} | value, indent=2, allow_nan=False) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
    elif path.exists() and not path.is_file():
        path.write_text(text)  # a pipe or a device, which a rename would replace
    else:
        with replace_atomically(path) as temporary:
            temporary.write_text(text)


class Reportable(Protocol):
    """A report is what a command has to say: text for people, plain types for machines."""

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
    if is_quiet() or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # here, as in progress_bar: nothing else needs it

    with Console(file=raw(sys.stderr)).status(description):
        yield


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Show a bar on stderr; yields `update(completed, detail)`. Where stderr is no terminal, at most ten lines.

    Work shorter than ten seconds leaves no line behind, and `-q` shows nothing.
    """
    if is_quiet():
        yield lambda completed, detail: None
    elif sys.stderr.isatty():
        with _drawn_bar(description, total) as update:
            yield update
    else:
        due = time.monotonic() + QUIET_SECONDS
        tenths_shown = 0

        def log(completed: int, detail: str) -> None:
            nonlocal tenths_shown
            if completed * 10 // total > tenths_shown and time.monotonic() >= due:
                tenths_shown = completed * 10 // total
                print(f"{description} {completed / total:.0%}  {detail}", file=sys.stderr, flush=True)

        yield log


@contextmanager
def _drawn_bar(description: str, total: int) -> Iterator[Callable[[int, str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=Console(file=raw(sys.stderr))) as progress:
        task = progress.add_task(description, total=total, detail="")

        def update(completed: int, detail: str) -> None:
            progress.update(task, completed=completed, detail=detail)

        yield update
