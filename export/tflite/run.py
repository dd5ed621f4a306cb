"""LiteRT's interpreter opens a .tflite file: with XNNPACK, as it does by default, or with its own kernels."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from codeq.toolkit.quiet import quiet_native
from export.tflite.runtime import interpreter

XNNPACK, BUILTIN = "xnnpack", "builtin"
"""Sets of kernels."""


def open_interpreter(file: bytes | Path, kernels: str = XNNPACK, threads: int = 1) -> Any:
    """LiteRT's interpreter of a file, its tensors not allocated; a path is mapped into memory.

    Raises:
        ExportError: LiteRT is not installed.
        ValueError: It refuses the file.
    """
    module = interpreter()
    kind = module.OpResolverType
    resolver = kind.AUTO if kernels == XNNPACK else kind.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return module.Interpreter(
            model_path=str(file) if isinstance(file, Path) else None,
            model_content=None if isinstance(file, Path) else file,
            num_threads=threads,
            experimental_op_resolver_type=resolver,
        )


def allocate(session: Any) -> None:
    """Allocate an interpreter's tensors for the shapes of its inputs, without LiteRT's note of the delegate."""
    with quiet_native("INFO:"):
        session.allocate_tensors()


def batch_axis(signature: np.ndarray) -> int:
    """Return the first open axis, as the file's tensor has it: final states of recurrent layers have it second."""
    return int(np.argmax(signature < 0)) if len(signature) else 0
