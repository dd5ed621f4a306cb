"""`python -m runtime_tests.probe_file ckpt.pt int8.onnx -o probe.onnx` writes what proves a file on another device.

here    python -m runtime_tests.probe_file ckpt.pt int8.onnx -o probe.onnx       # and probe.npz, probe.py
there   python3 probe.py probe.npz probe-results.npz probe.onnx                  # NumPy and onnxruntime alone
here    python -m runtime_tests.parity ckpt.pt int8.onnx --device-results probe-results.npz
"""

import argparse
import sys
from pathlib import Path

from codeq.data.names import SOURCES
from codeq.toolkit import cli
from runtime_tests.devices.names import KINDS

COUNT = 32


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "runtime_tests.probe_file",
        "Write what proves a file on another device: a copy that shows all its codes, inputs, and a script that runs "
        "them there with NumPy and the runtime alone. Its results are judged by runtime_tests.parity. "
        "Exit status: 0 written, 2 bad input.",
        "python -m runtime_tests.probe_file ckpt.pt int8.onnx -o probe.onnx",
    )
    parser.add_argument("checkpoint", type=Path, help="the checkpoint that the file was made from")
    parser.add_argument("file", type=Path, help="a file of export.onnx or export.tflite")
    parser.add_argument(
        "-o", "--output", type=Path, help="the copy; NAME.npz and NAME.py go beside it (default: probe and the suffix)"
    )
    parser.add_argument(
        "--data", help=f"take inputs from the test set of {SOURCES} (default: the inputs held in the checkpoint)"
    )
    parser.add_argument("--count", type=cli.integer(1), default=COUNT, metavar="N", help="inputs to send")
    parser.add_argument(
        "--expect",
        choices=KINDS,
        metavar="KIND",
        help=f"write the codes too that a kind of processor is to compute ({', '.join(KINDS)}), so that the device "
        "says by itself whether its own are equal",
    )
    cli.add_model_option(parser)
    cli.add_common(parser, json="what was written", force="existing files")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m runtime_tests.probe_file`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    cli.check_json(arguments.json, arguments.checkpoint, arguments.file, force=arguments.force)
    with cli.loading():  # here, so that the parser answers without the libraries
        from codeq import checkpoint
        from codeq.graph.autocast import autocast_off
        from codeq.trusted_factory import factory_of
        from export.backend import backend_of
        from export.stored_network import stored_network
        from runtime_tests.agreement.parity import take_checked
        from runtime_tests.devices.kit import write_kit

    backend = backend_of(arguments.file)
    backend.require()
    stored = backend.read(arguments.file)
    loaded = checkpoint.load(arguments.checkpoint, factory_of(arguments))
    taken = take_checked(loaded, arguments.data, arguments.count)
    for note in taken.notes:
        print(f"note: {note}", file=sys.stderr)
    with autocast_off():
        report = write_kit(
            backend,
            stored,
            stored_network(stored, loaded.model, taken.inputs),
            taken.inputs,
            arguments.output or Path(f"probe{backend.suffix}"),
            checkpoint=arguments.checkpoint,
            data=arguments.data,
            expect=arguments.expect,
            force=arguments.force,
        )
    cli.show_report(report, arguments.json)
    return 0


if __name__ == "__main__":
    cli.run(main)
