"""This runtime is OpenVINO, which reads ONNX files: it gives a second opinion on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from export.backend import StoredFile, get_backend
from runtime_tests.runners.runtime import Computed

if TYPE_CHECKING:
    from torch import Tensor

    from codeq.activations.encoding import ActivationEncoding
    from export.program.program import ReferenceProgram
    from export.reference.machine import IntegerReference
    from export.runner import Runner


class OpenVinoRuntime:
    """See `Runtime`."""

    name = "openvino"
    title = "OpenVINO"
    package = "openvino"
    unseen = True

    def __init__(self) -> None:
        self.backend = get_backend("onnx")

    def open_runner(self, path: Path, *, threads: int | None = None, look_at: Sequence[str] = ()) -> "Runner":
        from runtime_tests.runners.openvino_runner import OpenVinoRunner

        return OpenVinoRunner(path, threads, look_at)

    def computed(self, stored: StoredFile, runner: "Runner", program: "ReferenceProgram") -> Computed:
        from runtime_tests.runners.openvino_reference import fused_convolutions
        from runtime_tests.runners.openvino_runner import OpenVinoRunner

        assert program.activations is not None
        assert isinstance(runner, OpenVinoRunner)
        names = program.activations.encodings
        primitives = runner.primitives()
        fused = fused_convolutions(primitives, names)
        kernels = {name: kind for kind, nodes in primitives for name in names if name in nodes}
        return Computed({n: f"{kind} with Add" if n in fused else kind for n, kind in kernels.items()}, fused)

    def is_exact(self, kernel: str) -> bool:
        return kernel != "float"

    def outputs_by_rule(
        self,
        reference: "IntegerReference",
        inputs: "tuple[Tensor, ...]",
        grids: Mapping[str, "ActivationEncoding"],
        fused: frozenset[str],
    ) -> "tuple[Tensor, ...]":
        from runtime_tests.runners.openvino_reference import openvino_outputs

        return openvino_outputs(reference, inputs, grids, fused)
