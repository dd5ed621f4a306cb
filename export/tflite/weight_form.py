"""How each weight lies in a file: in the smallest form that is asked for and that LiteRT reads exactly."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from export.tflite.graph import Form
from export.tflite.nibbles import fits
from export.tflite.sparse import compress

Sparse = Literal["auto", "off"]
SPARSE: tuple[Sparse, ...] = ("auto", "off")
DENSIFY_BYTES = 512
"""Of the operator, its result and the tables that say which axis is compressed; measured, rounded up."""


@dataclass(frozen=True)
class WeightForms:
    """What may be used: `sparse` where smaller, `int4` for codes of four bits; `hybrid` computes on dense codes."""

    sparse: Sparse = "auto"
    int4: bool = False
    hybrid: bool = False

    def choose(self, codes: np.ndarray) -> Form:
        """The form of one weight."""
        sizes: dict[Form, int] = {"dense": codes.nbytes}
        if self.int4 and fits(codes):
            sizes["int4"] = (codes.size + 1) // 2
        if self.sparse == "auto" and not self.hybrid:
            sizes["csr"] = compress(codes).nbytes + DENSIFY_BYTES
        return min(sizes, key=lambda form: sizes[form])
