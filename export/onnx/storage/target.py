"""A target says what a runtime can take of a stored file: these are the profiles of `--target`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Describes one kind of runtime.

    Attributes:
        name, description: As on the command line.
        functions: Whether it folds decoders that are functions of the file; else they are written out node by node.
        sparse_initializers: Whether it reads them.
        max_opset: The newest opset it opens; None leaves it to the export.
        excluded_operators: Of ONNX, that it does not fold: no decoder uses them.
    """

    name: str
    description: str
    functions: bool
    sparse_initializers: bool
    max_opset: int | None = None
    excluded_operators: frozenset[str] = frozenset()


TARGETS = {
    target.name: target
    for target in (
        Target("onnxruntime", "onnxruntime 1.17 and later", functions=True, sparse_initializers=True),
        Target(
            "portable",
            "onnxruntime 1.15 and later, OpenVINO: plain operators, no functions, no sparse_initializer",
            functions=False,
            sparse_initializers=False,
            max_opset=18,
        ),
    )
}
