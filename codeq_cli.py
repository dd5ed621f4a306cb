"""`codeq` runs every command of ours, also in a folder whose own files have the names of our packages.

    codeq train --data digits --bits 4 -o ckpt.pt
    codeq export onnx ckpt.pt

It stands above all packages, and its name is no word that a project would give a module of its own. `python -m
codeq_cli` is the same where nothing is installed. A command is one line of TRAINING or FILES, or a backend of
`export.backend.BACKENDS`; what runs it is imported when it is chosen.

Ctrl-C ends it with one line and status 130 from the first line below on. Before that, in Python's own start, it shows
Python's traceback, and nobody can change that.
"""

import os
import sys


def _end_on_interrupt(kind: type[BaseException], error: BaseException, trace: "Any") -> None:
    """Let a KeyboardInterrupt that nobody catches end the process: codeq/toolkit/interrupt.py is out of reach yet."""
    if issubclass(kind, KeyboardInterrupt):
        os.write(2, b"interrupted\n")
        os._exit(130)
    sys.__excepthook__(kind, error, trace)


sys.excepthook = _end_on_interrupt

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parent
PACKAGES = ("codeq", "export", "models", "runtime_tests")

TRAINING: Mapping[str, tuple[str, str]] = {
    "train": ("codeq.train", "train a network with learnable dead zones"),
    "compress": ("codeq.compress.__main__", "compress a trained network without training"),
    "advise": ("codeq.advise", "say what to quantize and what to prune, from weights alone"),
    "adopt": ("codeq.adopt.__main__", "take over a network that was quantized elsewhere"),
    "pareto": ("codeq.pareto", "compare training runs: a table and pictures"),
}
FILES: Mapping[str, tuple[str, str]] = {
    "inspect": ("export.inspect", "show what is in an exported file, without PyTorch"),
    "materialize": ("export.materialize", "decode the weights of an exported file to dense codes"),
    "parity": ("runtime_tests.parity", "check that a file computes what its checkpoint does"),
    "probe-file": ("runtime_tests.probe_file", "write what proves a file on another device"),
    "runtimes": ("runtime_tests.runtimes", "compare what several runtimes make of exported files"),
    "bench": ("runtime_tests.bench.__main__", "measure latency, memory and size of files side by side"),
    "kernel-times": ("runtime_tests.kernel_times", "measure what layers take with fewer channels, for --latency"),
}
"""Command to its module and what help says of it; between the two stands an export for each backend."""
FLAGS = ("--help", "--version")
"""What may stand in the place of a command."""
FLAGS_OF_COMMANDS = ("--quiet", "--verbose", "--json", "--force", "--threads", "-q", "-v")


@dataclass(frozen=True)
class Command:
    """A command has a line in help, and a function that imports what runs it and gives it: words to exit status."""

    text: str
    load: Callable[[], Callable[[list[str]], int]]


def all_commands() -> dict[str, Command]:
    """Give every command by its words; one of two words is one of a group."""
    from export.backend import BACKENDS, get_backend  # here, behind `_import_own_packages`

    def module(name: str) -> Callable[[list[str]], int]:
        main: Callable[[list[str]], int] = import_module(name).main
        return main

    def export(name: str) -> Callable[[list[str]], int]:
        from export.command import run_export

        return partial(run_export, get_backend(name))

    def listed(commands: Mapping[str, tuple[str, str]]) -> dict[str, Command]:
        return {name: Command(text, partial(module, place)) for name, (place, text) in commands.items()}

    backends = {name: get_backend(name) for name in BACKENDS}
    exports = {
        f"export {name}": Command(f"write a checkpoint as {backend.file} for {backend.runtime}", partial(export, name))
        for name, backend in backends.items()
    }
    return {**listed(TRAINING), **exports, **listed(FILES)}


def main(argv: list[str] | None = None) -> int:
    """Run one command; its words come first, its arguments follow. See `codeq --help`."""
    from codeq.toolkit import cli  # here, behind `_import_own_packages`

    commands = all_commands()
    words = list(sys.argv[1:] if argv is None else argv)
    chosen: list[str] = []
    while " ".join(chosen) not in commands:
        known = _next_words(commands, chosen)
        program = " ".join(["codeq", *chosen])
        word = words.pop(0) if words else ""
        if word in ("-h", "--help"):
            print(_overview(commands, program))
            return 0
        if word == "--version":
            from codeq.toolkit.versions import describe_versions

            print(describe_versions())
            return 0
        if word not in known:
            print(f"{program}: error: {_complaint(commands, word, known)} (see --help)", file=sys.stderr)
            return cli.EXIT_USAGE
        chosen.append(word)
    command = " ".join(chosen)
    with cli.loading():
        run_command = commands[command].load()
    with cli.started_as(f"codeq {command}"):
        return run_command(words)


def _complaint(commands: Iterable[str], word: str, known: Sequence[str]) -> str:
    """Say what is wrong with the word in a command's place, and what it may have been meant to be."""
    from codeq.toolkit.suggest import did_you_mean  # here, behind `_import_own_packages`

    if word.startswith("-"):
        flag = word.partition("=")[0]
        behind = {name: f"{name} behind a command" for name in FLAGS_OF_COMMANDS}
        return f"unrecognized arguments: {flag}{did_you_mean(flag, [*FLAGS, *behind], behind)}"
    expected = f"expected a command ({', '.join(known)})"
    if not word:
        return f"{expected}, found none"
    # The second word of a command is a word to be meant too: `codeq onnx` is short of `export`.
    meant = {**{name.split()[-1]: name for name in commands}, **{name: name for name in [*known, *FLAGS]}}
    return f"{expected}, found {word!r}{did_you_mean(word, meant, meant)}"


def _next_words(commands: Iterable[str], chosen: Sequence[str]) -> list[str]:
    """List the words that may follow those of a command that is not yet complete."""
    names = [name.split() for name in commands]
    return list(dict.fromkeys(name[len(chosen)] for name in names if name[: len(chosen)] == list(chosen)))


def _overview(commands: Mapping[str, Command], program: str) -> str:
    """List the commands, or those of a group, with a line each."""
    group = program.removeprefix("codeq").strip()
    shown = {name: command.text for name, command in commands.items() if name.startswith(group)}
    width = max(map(len, shown))
    return "\n".join(
        [
            f"usage: {program} [-h] [--version] COMMAND ...",
            "",
            "Train networks with learnable dead zones, and run them on devices as trained.",
            "",
            "commands:",
            *(f"  {name:{width}}  {text}" for name, text in shown.items()),
            "",
            f"`codeq {next(iter(shown))} --help` shows the options of a command.",
        ]
    )


def _import_own_packages() -> None:
    """Import our packages, which import nothing heavy, from beside this file; then put the user's folder last.

    What is imported once, Python does not look for again: from here on no file of the user's can take the place of a
    package of ours, and `--model module:factory` still finds the user's modules.
    """
    folder = os.getcwd()
    if Path(folder) != ROOT:
        sys.path[:] = [path for path in sys.path if path not in ("", folder)]
    sys.path.insert(0, str(ROOT))
    for package in PACKAGES:
        import_module(package)
    sys.path.pop(0)
    if folder not in sys.path:
        sys.path.append(folder)


def run() -> NoReturn:
    """Run the `codeq` command and exit with its status."""
    _import_own_packages()
    from codeq.toolkit import cli  # here, behind the line above

    cli.run(main)


if __name__ == "__main__":
    run()
