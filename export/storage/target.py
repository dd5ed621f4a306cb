"""What a runtime can take of a stored file: profiles of `--target`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One runtime.

    Attributes:
        name, description: As on the command line.
        functions: Whether it folds decoders that are functions of the file; else they are written out node by node.
        sparse_initializers: Whether it reads them.
        max_opset: The newest opset it opens; None leaves it to the export.
    """

    name: str
    description: str
    functions: bool
    sparse_initializers: bool
    max_opset: int | None = None


TARGETS = {
    target.name: target for target in (Target("onnxruntime", "onnxruntime", functions=True, sparse_initializers=True),)
}
