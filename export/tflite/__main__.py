"""`python -m export.tflite ckpt.pt`: a checkpoint becomes a .tflite file."""

import argparse

from codeq.toolkit import cli
from codeq.toolkit.extras import install_hint
from export.command import build_parser, run_export
from export.tflite.export import export_tflite
from export.tflite.options import BACKENDS, IOS, LAYOUTS, WRITER
from export.tflite.runtime import installed_version
from export.tflite.weights.form import SPARSE

SUFFIX = ".tflite"


def _build_parser() -> argparse.ArgumentParser:
    parser = build_parser("export.tflite", "a .tflite file", SUFFIX, "LiteRT")
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="nchw",
        help="order of the axes of inputs and outputs: nchw as PyTorch's, nhwc saves a transpose of images",
    )
    parser.add_argument(
        "--io",
        choices=IOS,
        default="float",
        help="int8: inputs and outputs are codes, on the tensors' grids; with --activations int8. What is not computed "
        "on codes, such as a last linear layer's result, stays float",
    )
    parser.add_argument(
        "--hybrid",
        action="store_true",
        help="fast and approximate: LiteRT quantizes float activations itself, anew for each input. Weights are exact, "
        "outputs are not held to 1e-5; the report says how far off they are. With --activations float",
    )
    parser.add_argument(
        "--sparse",
        choices=SPARSE,
        default="auto",
        help="auto: leave a weight's zeros out where that is smaller, as fast and exact; opening the file takes longer",
    )
    parser.add_argument(
        "--int4",
        action="store_true",
        help="two codes a byte where a weight's codes are within -8 to 7 (train with --bits 4 --grid-limit 7). For "
        "size: convolutions run several times slower on x86. With --activations int8 for linear layers only",
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default=WRITER,
        help="litert-torch: let that package convert the float network, for operators that the writer lacks, and put "
        f"the codes in by exact match ({install_hint('tflite-torch')}, 2 GB)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """`python -m export.tflite`; see `--help`."""
    arguments = _build_parser().parse_args(argv)
    installed_version()
    names = ("layout", "io", "sparse", "int4", "hybrid", "backend")
    return run_export(arguments, SUFFIX, export_tflite, {name: getattr(arguments, name) for name in names})


if __name__ == "__main__":
    cli.run(main)
