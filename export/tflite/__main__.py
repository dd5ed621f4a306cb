"""`python -m export.tflite ckpt.pt` turns a checkpoint into a .tflite file."""

from codeq.toolkit import cli
from export.command import run_export
from export.tflite.backend import TFLITE


def main(argv: list[str] | None = None) -> int:
    """Run `python -m export.tflite`; see `--help`."""
    return run_export(TFLITE, argv)


if __name__ == "__main__":
    cli.run(main)
