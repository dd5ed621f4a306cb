"""`python -m export.onnx ckpt.pt` turns a checkpoint into an ONNX file."""

from codeq.toolkit import cli
from export.command import run_export
from export.onnx.backend import ONNX


def main(argv: list[str] | None = None) -> int:
    """Run `python -m export.onnx`; see `--help`."""
    return run_export(ONNX, argv)


if __name__ == "__main__":
    cli.run(main)
