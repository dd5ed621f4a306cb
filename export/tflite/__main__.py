"""`python -m export.tflite ckpt.pt`: a checkpoint becomes a .tflite file."""

import argparse
import sys
from pathlib import Path

from codeq import checkpoint, cli
from codeq.files import check_writable
from export.activation_options import activation_options, add_activation_options, add_check_option, default_check
from export.errors import ExportError, ParityError
from export.tflite.export import export_tflite
from export.tflite.options import BACKENDS, IOS, LAYOUTS
from export.tflite.runtime import installed_version
from export.tflite.weight_form import SPARSE


def _build_parser() -> argparse.ArgumentParser:
    parser = cli.build_parser(
        "export.tflite",
        "Write a checkpoint as a .tflite file that LiteRT runs exactly as trained. "
        "Exit status: 0 written, 1 parity does not hold (nothing written), 2 bad input.",
        "python -m export.tflite ckpt.pt -o model.tflite",
    )
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of codeq.train or codeq.save")
    parser.add_argument("-o", "--output", type=Path, help="file to write (default: the checkpoint's name with .tflite)")
    add_activation_options(parser)
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
        default="writer",
        help="litert-torch: let that package convert the float network, for operators that the writer lacks, and put "
        "the codes in by exact match (pip install 'codeq[tflite-torch]', 2 GB)",
    )
    add_check_option(parser)
    cli.add_model_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report; - is stdout")
    parser.add_argument("--force", action="store_true", help="overwrite existing outputs")
    return parser


def main(argv: list[str] | None = None) -> int:
    """`python -m export.tflite`; see `--help`."""
    arguments = _build_parser().parse_args(argv)
    installed_version()
    output = arguments.output or arguments.checkpoint.with_suffix(".tflite")
    if output.resolve() == arguments.checkpoint.resolve():
        raise ExportError(f"{output}: is the checkpoint itself; name another output with -o")
    check_writable(output, force=arguments.force)
    cli.check_json(arguments.json, arguments.checkpoint, output, force=arguments.force)
    loaded = checkpoint.load(arguments.checkpoint, cli.import_factory(arguments.model, arguments.model_args))
    inputs, note = loaded.inputs_to_check(arguments.check or default_check(loaded.input_shape))
    quantization = activation_options(arguments, loaded)
    try:
        with cli.spinner(f"exporting {arguments.checkpoint}"):
            report = export_tflite(
                loaded.model,
                (inputs[:2],),
                output,
                layout=arguments.layout,
                io=arguments.io,
                sparse=arguments.sparse,
                int4=arguments.int4,
                hybrid=arguments.hybrid,
                backend=arguments.backend,
                force=arguments.force,
                check_inputs=(inputs,),
                preprocessing=loaded.preprocessing,
                checkpoint_sha256=loaded.sha256,
                **quantization,
            )
    except ParityError as error:
        print(error.verdict)
        print(f"{output}: not written, {error}", file=sys.stderr)
        return cli.EXIT_FAILED
    values = report.to_dict()
    if note:
        values["notes"].append(note)
        print(f"note: {note}", file=sys.stderr)
    if str(arguments.json) != "-":
        print(report)
    cli.write_json(arguments.json, values)
    return 0


if __name__ == "__main__":
    cli.run(main)
