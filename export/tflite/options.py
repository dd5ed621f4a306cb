"""This module defines what a .tflite file can be asked to be, and which wishes contradict each other. It imports no
LiteRT.
"""

from dataclasses import dataclass
from typing import Literal

from codeq.toolkit.options import option
from export.errors import ExportError
from export.options import ExportRequest

Layout = Literal["nchw", "nhwc"]
LAYOUTS: tuple[Layout, ...] = ("nchw", "nhwc")
Io = Literal["float", "int8"]
IOS: tuple[Io, ...] = ("float", "int8")
Sparse = Literal["auto", "off"]
SPARSE: tuple[Sparse, ...] = ("auto", "off")
Target = Literal["litert", "tflm", "ethos-u"]
TARGETS: tuple[Target, ...] = ("litert", "tflm", "ethos-u")
ETHOS_U: Target = "ethos-u"
MICRO: tuple[Target, ...] = ("tflm", ETHOS_U)
"""What runs in TFLite Micro."""
Writer = Literal["writer", "litert-torch"]
WRITER: Writer = "writer"
WRITERS: tuple[Writer, ...] = (WRITER, "litert-torch")


@dataclass(frozen=True, kw_only=True)
class TfliteRequest(ExportRequest):
    """Says what `export_tflite` can be asked for.

    Attributes:
        layout: "nchw": axes of inputs and outputs as PyTorch's; "nhwc": channels last, (N, H, W, C).
        io: "float", or "int8": inputs and outputs are codes, on the grid of the tensor. What the network does not
            quantize, such as the result of its last linear layer, stays float32. For int8 activations.
        hybrid: Layers of floats read the codes of their weights: fast, and approximate. For float32 activations.
        sparse: "auto": zeros of a weight are left out where that is smaller; LiteRT puts them back when it opens the
            file. "off": never.
        sparse_inference: "auto": where the whole graph qualifies, write it so that XNNPACK multiplies 1 x 1
            convolutions by their non-zeros alone, on Arm and in WebAssembly. "off": never. For float32 activations.
        int4: Weights whose codes are within -8 to 7 take two codes a byte where LiteRT reads that exactly. For size: on
            x86 convolutions are several times slower.
        batch: The one batch size that the file's shapes say; None says that it is open. LiteRT resizes either kind, and
            LiteRT.js and compilers for accelerators take the first alone.
        target: "litert", or "tflm": what TFLite Micro runs on microcontrollers. Inputs, outputs and every layer are
            codes, weights dense, operators those that it has. "ethos-u": the same file, and the report says what Arm's
            compiler makes of it. For int8 activations.
        c_array: Beside the file, its bytes as C++ source with what registers its operators. For microcontrollers.
        backend: "writer": this package's lowerings. "litert-torch": that converter, for what they lack; its files have
            float32 activations, dense codes and a batch of 1 that stays.
    """

    layout: Layout = option(
        "nchw",
        "order of the axes of inputs and outputs: nchw as PyTorch's, nhwc saves a transpose of images",
        choices=LAYOUTS,
    )
    io: Io = option(
        "float",
        "int8: inputs and outputs are codes, on the tensors' grids; with --activations int8. What is not computed on "
        "codes, such as a last linear layer's result, stays float",
        choices=IOS,
    )
    hybrid: bool = option(
        False,
        "fast and approximate: LiteRT quantizes float activations itself, anew for each input. Weights are exact, "
        "outputs are not held to 1e-5; the report says how far off they are. With --activations float",
    )
    sparse: Sparse = option(
        "auto",
        "auto: leave a weight's zeros out where that is smaller, as fast and exact; opening the file takes longer",
        choices=SPARSE,
    )
    sparse_inference: Sparse = option(
        "auto",
        "auto: where the whole network qualifies and most weights of 1x1 convolutions are zeros, XNNPACK skips them on "
        "Arm and in WebAssembly. With --activations float",
        choices=SPARSE,
    )
    int4: bool = option(
        False,
        "two codes a byte where a weight's codes are within -8 to 7 (train with --bits 4 --grid-limit 7). For size: "
        "convolutions run several times slower on x86. With --activations int8 for linear layers only",
    )
    batch: int | None = option(
        None,
        "write shapes of one batch size, for readers that take no open one, such as LiteRT.js",
        shown="open",
        metavar="N",
        low=1,
        high=4096,
    )
    target: Target = option(
        "litert",
        "tflm: for TFLite Micro on microcontrollers. Inputs, outputs and all layers are codes, weights dense; what it "
        "cannot run is refused. ethos-u: the same, and what Arm's NPU makes of it. With --activations int8",
        choices=TARGETS,
    )
    c_array: bool = option(
        False, "with --target tflm or ethos-u: also write NAME.h and NAME.cc, the file as an array ready to compile"
    )
    backend: Writer = option(
        WRITER,
        "litert-torch: let that package convert the float network, for operators that the writer lacks, and put the "
        "codes in by exact match (pip install '.[tflite-torch]' in a clone, 2 GB)",
        choices=WRITERS,
    )

    @property
    def is_micro(self) -> bool:
        """Say whether TFLite Micro is to run the file."""
        return self.target in MICRO

    @property
    def codes_io(self) -> bool:
        """Say whether inputs and outputs are codes."""
        return self.io == "int8" or self.is_micro

    @property
    def form(self) -> Sparse:
        """Say whether zeros may be left out."""
        return "off" if self.is_micro else self.sparse

    @property
    def open_batch(self) -> bool:
        return self.backend == WRITER

    @property
    def quantize_outputs(self) -> bool:
        return self.is_micro

    @property
    def batch_size(self) -> int | None:
        return None if self.open_batch else 1

    def check(self) -> None:
        super().check()
        activations = self.quantization.activations
        if self.backend != WRITER:
            asked = {
                "--activations int8": activations == "int8",
                "--layout nhwc": self.layout == "nhwc",
                "--int4": self.int4,
                "--hybrid": self.hybrid,
                f"--target {self.target}": self.is_micro,
                "--batch": self.batch is not None,
            }
            found = [flag for flag, given in asked.items() if given]
            if found:
                raise ExportError(
                    f"--backend litert-torch: its files have float32 activations, PyTorch's axes and int8 codes, found "
                    f"{', '.join(found)}; leave one of the two out"
                )
        if self.is_micro and activations != "int8":
            raise ExportError(
                f"--target {self.target}: a microcontroller's kernels compute on codes, found --activations float32; "
                "use --activations int8"
            )
        if self.c_array and not self.is_micro:
            raise ExportError("--c-array is for microcontrollers; add --target tflm, or leave it out")
        if self.is_micro and self.int4:
            raise ExportError(f"--target {self.target}: its kernels read a code a byte, found --int4; leave it out")
        if self.io == "int8" and activations != "int8":
            raise ExportError(
                "--io int8: inputs and outputs are codes only where activations are, found --activations float32; "
                "use --activations int8, or --io float"
            )
        if self.hybrid and activations == "int8":
            raise ExportError(
                "--hybrid: LiteRT quantizes float activations itself, found --activations int8, whose layers compute "
                "on codes already; use --activations float32, or leave --hybrid out"
            )
