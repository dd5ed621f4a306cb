"""This comparison feeds the integer reference what a runtime computed, layer by layer, and counts where it would have
computed something else.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from codeq.graph.nodes import is_constant
from export.parity.codes import Count, Substitute
from export.parity.outputs import largest_difference
from export.program.program import ReferenceProgram
from export.program.run import batches
from export.reference.machine import IntegerReference
from export.runner import Runner, run_batches

REFERENCE_BATCH_SIZE = 12
"""A multiple of the batch sizes of the contract."""


@dataclass
class FedComparison:
    """Runs a file that shows its codes, and the reference on them.

    Settings and batch sizes mostly give the same codes; the reference then has the same to say, and is not run again.

    Attributes:
        reference: By the runtime's rules.
        names: Of the quantized tensors, in the order in which they come behind the outputs.
    """

    reference: IntegerReference
    names: Sequence[str]
    answers: dict[tuple[int, bytes], tuple[dict[str, Count], list[np.ndarray]]] = field(default_factory=dict)

    def run(
        self, runner: Runner, inputs: tuple[Tensor, ...], size: int, chunk: int, counts: dict[str, Count]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Add what was found in one setting at one batch size to `counts`.

        Args:
            runner: The file, opened to look at `names`.
            inputs: A whole number of batches.
            size: Inputs that the file is fed at a time.
            chunk: Inputs that are judged at a time, a multiple of `size` where the codes of batches can be joined.
            counts: By the tensor's name.

        Returns:
            The file's outputs for all inputs, and the reference's that was fed the same codes.
        """
        found_outputs: list[list[np.ndarray]] = []
        fed_outputs: list[list[np.ndarray]] = []
        for index, part in enumerate(batches(inputs, chunk)):
            found = run_batches(runner, part, size)
            outputs, codes = found[: len(found) - len(self.names)], found[len(found) - len(self.names) :]
            digest = hashlib.blake2b()
            for values in codes:
                digest.update(values.tobytes())
            key = (index, digest.digest())
            if key not in self.answers:
                answer: dict[str, Count] = {}
                substitute = Substitute(dict(zip(self.names, codes, strict=True)), answer)
                fed = self.reference.outputs(*part, on_codes=substitute)
                self.answers[key] = answer, [values.numpy() for values in fed]
            answer, fed_values = self.answers[key]
            for name, count in answer.items():
                counts.setdefault(name, Count()).add(count)
            found_outputs.append(outputs)
            fed_outputs.append(fed_values)
        joined = ([np.concatenate(parts) for parts in zip(*rows, strict=True)] for rows in (found_outputs, fed_outputs))
        outputs, fed_values = joined
        return outputs, fed_values


def fed_errors(fed: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> list[float]:
    """Give the largest difference of each output from that of the reference that was fed the same codes."""
    return [largest_difference(ours, theirs) for ours, theirs in zip(fed, found, strict=True)]


def batch_comes_first(program: ReferenceProgram) -> bool:
    """Say whether the quantized tensors of several batches can be put together along their first axis."""
    nodes = list(program.exported.graph.nodes)
    batch = next(str(n.meta["val"].shape[0]) for n in nodes if n.op == "placeholder" and not is_constant(n))
    values = [node.meta["val"] for node in nodes if node.target is torch.ops.codeq.quantize.default]
    return all(value.ndim > 0 and str(value.shape[0]) == batch for value in values)
