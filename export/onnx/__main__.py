"""`python -m export.onnx ckpt.pt`: a checkpoint becomes an ONNX file."""

import argparse
import shlex
import sys

from codeq.toolkit import cli
from export.command import build_parser, run_export
from export.onnx.export import DEFAULT_TARGET, SUFFIX, export_onnx
from export.onnx.storage.plan import STORAGES
from export.onnx.storage.target import TARGETS
from export.parity.report import Report


def _build_parser() -> argparse.ArgumentParser:
    parser = build_parser("export.onnx", "an ONNX file", SUFFIX, "stock onnxruntime")
    parser.add_argument(
        "--storage",
        choices=STORAGES,
        default="auto",
        help="dense: int8; sparse: sparse_initializer; auto: the smaller of these; packed: near the Shannon bound, "
        "decoded by onnxruntime as it creates a session; smallest: a few percent less, slower to load",
    )
    targets = "; ".join(f"{target.name}: {target.description}" for target in TARGETS.values())
    parser.add_argument("--target", choices=list(TARGETS), default=DEFAULT_TARGET, help=targets)
    parser.add_argument(
        "--debug-info", action="store_true", help="keep the exporter's documentation strings and source locations"
    )
    parser.add_argument("--opset", type=cli.integer(1), help="opset to write (default: the lowest the network needs)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """`python -m export.onnx`; see `--help`."""
    arguments = _build_parser().parse_args(argv)
    names = ("storage", "target", "debug_info", "opset")
    packed = _packed_command(sys.argv[1:] if argv is None else argv)

    def suggest(report: Report) -> str:
        return f"to copy               {packed}" if report.suggests_packed else ""

    return run_export(arguments, SUFFIX, export_onnx, {name: getattr(arguments, name) for name in names}, suggest)


def _packed_command(argv: list[str]) -> str:
    """The same command with `--storage packed`, to copy."""
    kept = [text for text in argv if not text.startswith("--storage=") and text != "--force"]
    while "--storage" in kept:
        place = kept.index("--storage")
        del kept[place : place + 2]
    return shlex.join(["python", "-m", "export.onnx", *kept, "--storage", "packed", "--force"])


if __name__ == "__main__":
    cli.run(main)
