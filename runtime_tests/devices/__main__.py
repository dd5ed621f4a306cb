"""`python -m runtime_tests.devices arm` runs files on other processors, emulated here, and judges what comes back.

Every network is exported with int8 activations for onnxruntime and for LiteRT; its probe (`runtime_tests.probe_file`)
runs on each processor of the target in that processor's own runtime, and all codes are held to its rule.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codeq.toolkit import cli
from export.backend import BACKENDS
from runtime_tests.devices.names import DEFAULT_NETWORKS, MCU_NETWORKS, NETWORKS, SPARSE, STRESS, TARGETS


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "runtime_tests.devices",
        "Run int8 files on other processors, emulated here, and in browsers, and hold every code to the rule of "
        "the processor. "
        "Exit status: 0 all hold, 1 one does not, 2 bad input, or no emulator.",
        "python -m runtime_tests.devices arm --networks ds_cnn resnet8",
    )
    parser.add_argument(
        "target",
        choices=TARGETS,
        help="arm: Cortex-A53, A72, A76 and one with i8mm; x86: levels below this processor's; mcu: TFLite Micro; "
        "browser: WebAssembly in Node and Chromium",
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=NETWORKS,
        metavar="NAME",
        help=f"of the registry, {STRESS}: codes to both ends of 8 bits, or {' and '.join(SPARSE)}: networks of floats "
        f"whose zeros LiteRT skips (default: {', '.join(DEFAULT_NETWORKS)})",
    )
    parser.add_argument(
        "--backends",
        nargs="+",
        choices=list(BACKENDS),
        metavar="NAME",
        help=f"of the files (default: {', '.join(BACKENDS)})",
    )
    parser.add_argument("--processors", nargs="+", metavar="NAME", help="some of the target's (default: all)")
    parser.add_argument("--patient", action="store_true", help="run networks too that take minutes in an emulator")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(".devices"),
        help="where emulators and packages are kept, 250 to 600 MB each for arm, x86 and browser",
    )
    cli.add_common(parser, json="the table", force="an existing table", threads="CPU threads of PyTorch")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m runtime_tests.devices`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    cli.check_json(arguments.json, force=arguments.force)
    with cli.loading():  # here, so that the parser answers without the libraries
        from codeq.quantizer import fused
        from runtime_tests.devices import arm, browser, mcu, x86
        from runtime_tests.devices.packages import make_folder
        from runtime_tests.devices.processor import MissingError
        from runtime_tests.devices.run import run_devices

    cli.set_threads(arguments.threads)
    fused.set_compile(False)  # many networks, a few passes each: compiling for all their sizes would not pay
    modules: dict[str, Any] = {"arm": arm, "x86": x86, "mcu": mcu, "browser": browser}
    options = {"mcu": mcu.OPTIONS, "browser": browser.OPTIONS}
    is_mcu = arguments.target == "mcu"
    backends = arguments.backends or ([mcu.BACKEND] if is_mcu else list(BACKENDS))
    if is_mcu and backends != [mcu.BACKEND]:
        raise MissingError(f"--backends {' '.join(backends)}: TFLite Micro reads {mcu.BACKEND} files alone")
    module = modules[arguments.target]
    _check_processors(arguments, module.NAMES)
    with cli.spinner(f"setting up {arguments.target} in {arguments.folder}"):
        make_folder(arguments.folder)
        processors = module.prepare(arguments.folder)
    known = [processor.name for processor in processors]
    wanted = arguments.processors or known
    _check_processors(arguments, known)
    networks = arguments.networks or (MCU_NETWORKS if is_mcu else DEFAULT_NETWORKS)
    chosen = [processor for processor in processors if processor.name in wanted]
    for processor in chosen:
        processor.begin()
    with cli.progress_bar(arguments.target, 1000) as update:
        report = run_devices(
            arguments.target,
            chosen,
            list(dict.fromkeys(networks)),
            list(dict.fromkeys(backends)),
            options=options.get(arguments.target, {}),
            patient=arguments.patient,
            on_progress=lambda share, detail: update(int(1000 * share), detail),
        )
    cli.show_report(report, arguments.json)
    return 0 if report.ok else cli.EXIT_FAILED


def _check_processors(arguments: argparse.Namespace, known: Sequence[str]) -> None:
    unknown = next((name for name in arguments.processors or () if name not in known), None)
    if unknown is not None:
        from runtime_tests.devices.processor import MissingError  # here, behind the parser

        raise MissingError(f"--processors {unknown}: {arguments.target} has {', '.join(known)}")


if __name__ == "__main__":
    cli.run(main)
