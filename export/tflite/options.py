"""What a .tflite file can be asked to be, and which wishes contradict each other."""

from typing import Literal

from export.errors import ExportError
from export.onnx.verify import BATCH_SIZES
from export.tflite.weights.form import SPARSE

Layout = Literal["nchw", "nhwc"]
LAYOUTS: tuple[Layout, ...] = ("nchw", "nhwc")
Io = Literal["float", "int8"]
IOS: tuple[Io, ...] = ("float", "int8")
Backend = Literal["writer", "litert-torch"]
WRITER: Backend = "writer"
BACKENDS: tuple[Backend, ...] = (WRITER, "litert-torch")


def batch_sizes(backend: str) -> tuple[int, ...]:
    """At which a file is checked: what litert-torch converted has a batch of 1."""
    return BATCH_SIZES if backend == WRITER else (1,)


def check_options(
    *, backend: str, layout: str, io: str, sparse: str, int4: bool, hybrid: bool, activations: str
) -> None:
    """Refuse what is no option, and what cannot be had together.

    Raises:
        ExportError: Naming the option, what was found, and the way out.
    """
    choices: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("backend", backend, BACKENDS),
        ("layout", layout, LAYOUTS),
        ("io", io, IOS),
        ("sparse", sparse, SPARSE),
    )
    for name, value, known in choices:
        if value not in known:
            raise ExportError(f"{name} {value!r}, expected one of {', '.join(known)}")
    if backend != WRITER:
        asked = {
            "--activations int8": activations == "int8",
            "--layout nhwc": layout == "nhwc",
            "--int4": int4,
            "--hybrid": hybrid,
        }
        found = [option for option, given in asked.items() if given]
        if found:
            raise ExportError(
                f"--backend litert-torch: its files have float32 activations, PyTorch's axes and int8 codes, found "
                f"{', '.join(found)}; leave one of the two out"
            )
    if io == "int8" and activations != "int8":
        raise ExportError(
            "--io int8: inputs and outputs are codes only where activations are, found --activations float32; "
            "use --activations int8, or --io float"
        )
    if hybrid and activations == "int8":
        raise ExportError(
            "--hybrid: LiteRT quantizes float activations itself, found --activations int8, whose layers compute on "
            "codes already; use --activations float32, or leave --hybrid out"
        )
