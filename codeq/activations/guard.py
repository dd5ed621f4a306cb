"""Keep tensors float that 8 bits cannot hold: calibration knows their range, and what rounding them makes of a reader.

    scores + (1 - mask) * -10000 -> softmax     one grid for -10000 and for scores between -5 and 5: steps of 40

What reads such a tensor, and what makes it, stays float too, with the reason.
"""

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from codeq.activations.calibrate import BATCH_SIZE, choose_grids, observe
from codeq.activations.encoding import ActivationEncoding
from codeq.activations.methods import Method
from codeq.activations.moves import is_move
from codeq.activations.noise import measure_noise
from codeq.activations.plan import ActivationPlan
from codeq.graph.nodes import is_tensor, layer_names

USELESS_DB = 15.0
"""Below it more than a sixth of what an operator computes is noise. Rounding leaves 37 dB and more of every operator of
the networks in models/ (fresh weights, random inputs); where one extreme value shares a grid with others, 0 to 7."""
MEASURED_INPUTS = 4
"""The guard looks at so many of the calibration inputs: what is a third off is so with any of them."""

Replan = Callable[[Mapping[str, str]], ActivationPlan]
"""Makes the plan of a network, some tensors left float: their names, with the reason."""


def calibrate_guarded(
    exported: ExportedProgram,
    replan: Replan,
    inputs: tuple[Tensor, ...],
    method: Method = "mse",
    *,
    tensors: Mapping[str, Tensor] | None = None,
    batch_size: int = BATCH_SIZE,
) -> tuple[ActivationPlan, dict[str, ActivationEncoding]]:
    """Plan what is quantized and choose its grids, and leave float what 8 bits cannot hold.

    Args:
        exported: The network, activations in float.
        replan: Makes its plan.
        inputs, method, tensors, batch_size: As for `calibrate`.

    Raises:
        CalibrationError: No inputs; NaN somewhere; or an input that no grid can hold.
    """
    too_wide: dict[str, str] = {}
    while True:
        plan = replan(too_wide)
        observers = observe(exported, plan, inputs, tensors=tensors, batch_size=batch_size)
        found = {}
        for node, name in plan.tensors.items():
            unfit = observers[plan.grids[name]].unfit
            if unfit and node.op != "placeholder":  # such an input is a fault, which choose_grids names
                found[name] = f"{name} has {unfit}, which no 8 bits hold"
        if found:
            too_wide |= found
            continue
        encodings = choose_grids(plan, observers, method)
        found = useless_grids(exported, plan, encodings, inputs, tensors=tensors, batch_size=batch_size)
        if found.keys() <= too_wide.keys():
            return plan, encodings
        too_wide |= found


def useless_grids(
    exported: ExportedProgram,
    plan: ActivationPlan,
    encodings: Mapping[str, ActivationEncoding],
    inputs: tuple[Tensor, ...],
    *,
    tensors: Mapping[str, Tensor] | None = None,
    batch_size: int = BATCH_SIZE,
) -> dict[str, str]:
    """Find the tensors whose grids leave too little of what an operator computes from them, with the reason.

    Args:
        exported, plan, encodings, inputs, tensors, batch_size: As for `measure_noise`.
    """
    names = layer_names(exported.graph)
    few = tuple(tensor[: max(MEASURED_INPUTS, batch_size)] for tensor in inputs)
    found: dict[str, str] = {}

    def measure(only: set[str] | None = None) -> dict[Node, float]:
        powers = measure_noise(exported, plan, encodings, few, tensors=tensors, batch_size=batch_size, only=only)
        return {node: power.decibels for node, power in powers.items() if power.signal}

    for node, decibels in measure().items():
        if decibels >= USELESS_DB:
            continue
        read = sorted({plan.tensors[source] for source in _sources(node, plan)})
        alone = {name: measure({name}).get(node, decibels) for name in read} if len(read) > 1 else {read[0]: decibels}
        worst = min(alone.values())
        for name, left in alone.items():
            if left < USELESS_DB or left == worst:
                found.setdefault(name, f"8 bits of {name} leave {names[node]} {left:.1f} dB of signal to noise")
    return found


def _sources(node: Node, plan: ActivationPlan) -> set[Node]:
    """Find the quantized values that a node reads, moved or not."""
    found: set[Node] = set()
    for operand in filter(is_tensor, node.all_input_nodes):
        if operand in plan.tensors:
            found.add(operand)
        elif is_move(operand):
            found |= _sources(operand, plan)
    return found
