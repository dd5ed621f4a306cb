"""XNNPACK multiplies 1 x 1 convolutions by their non-zeros alone, on Arm and in WebAssembly, where a graph qualifies.

It does so for a whole part of a graph of floats, channels first inside, from a first convolution to a mean over all
places (XNNPACK, src/subgraph.c; measured: 3.4x at 90 % zeros on mobilenet_v2). The conditions, read there and tried:

    first    a convolution 3 x 3 of 3 channels, stride 2, one zero around the image, written as PAD and VALID
    inside   convolutions 1 x 1 of stride 1; depthwise ones 3 x 3 or 5 x 5 with half the window around, stride 2 written
             as PAD and VALID; sums and products of images; functions of one number; means; bilinear resizing
    last     a mean over height and width
    weights  more than two thirds of those of 1 x 1 convolutions are zeros, and one weight comes out of a DENSIFY

Where windows of stride 2 are padded behind alone, as Keras pads images of even size, image and kernels are mirrored,
rows and columns (mirror.py): zeros then stand in front, and the padding can be put around.

A graph that begins so and has ONE operator inside that does not qualify computes wrong numbers there, without an error,
and x86 with AVX, which never does this, cannot show it. So it is all or nothing: a graph that qualifies gets its
paddings, any other that begins so gets dense weights, which nothing asks to be multiplied sparsely.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from export.tflite.file.graph import SAME, VALID, Graph, Operator, Tensor
from export.tflite.passes.mirror import mirror

NEEDED_ZEROS = 2 / 3
IMAGES = frozenset({"ADD", "MUL", "SUB"})
FUNCTIONS = frozenset(
    {"RELU", "RELU6", "HARD_SWISH", "LOGISTIC", "TANH", "ABS", "NEG", "SQUARE", "ELU", "LEAKY_RELU", "CEIL", "FLOOR"}
)
WINDOWS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})


@dataclass(frozen=True)
class SparseInference:
    """Says whether XNNPACK multiplies a file's 1 x 1 convolutions sparsely, on processors where it does.

    Attributes:
        engages: It does.
        reason: Why not, or where.
        hazard: The graph begins as one that qualifies, and does not: its weights have to be dense.
        mirrored: Names of the stored kernels whose rows and columns were put from behind.
    """

    engages: bool
    reason: str
    hazard: bool = False
    mirrored: tuple[str, ...] = ()


def plan_sparse_inference(graph: Graph, *, wanted: bool = True) -> SparseInference:
    """Decide on a finished graph, and give it the paddings that are asked for, in place.

    Args:
        graph: Of floats; with its weights in the form in which they are written.
        wanted: Change paddings where all else qualifies.
    """
    parts = _Parts(graph)
    reason = parts.why_not()
    if not reason and not parts.has_densify:
        reason = "no weight leaves its zeros out"
    if not reason and not wanted and parts.missing_pads():
        reason = "it is switched off"
    if reason:
        return SparseInference(False, reason, hazard=parts.has_densify and parts.begins())
    for number in parts.missing_pads():
        parts.pad_whole(number)
    mirrored = parts.mirror() if parts.is_behind else ()
    where = f"on Arm and in WebAssembly; {parts.zeros:.0%} zeros in 1x1 weights"
    how = "; mirrored, since zeros stand behind" if mirrored else ""
    return SparseInference(True, f"{where}; x86 with AVX multiplies them like any other{how}", mirrored=mirrored)


def store_dense(graph: Graph) -> None:
    """Store all weights with their zeros, in place, so that nothing asks a runtime to multiply them sparsely."""
    source = {op.outputs[0]: op.inputs[0] for op in graph.operators if op.code == "DENSIFY"}
    for number in source.values():
        graph.tensors[number] = replace(graph.tensors[number], form="dense")
    graph.operators[:] = [
        replace(operator, inputs=tuple(source.get(number, number) for number in operator.inputs))
        for operator in graph.operators
        if operator.code != "DENSIFY"
    ]


class _Parts:
    """Reads a graph as XNNPACK would."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.maker = {number: operator for operator in graph.operators for number in operator.outputs}
        self.readers: dict[int, list[Operator]] = {}
        for operator in graph.operators:
            for number in operator.inputs:
                self.readers.setdefault(number, []).append(operator)
        self.constant: set[int] = {number for number, tensor in enumerate(graph.tensors) if tensor.data is not None}
        for operator in graph.operators:
            if self.constant.issuperset(operator.inputs):
                self.constant.update(operator.outputs)
        self.has_densify = any(operator.code == "DENSIFY" for operator in graph.operators)
        steps = [operator for operator in graph.operators if not self.constant.issuperset(operator.outputs)]
        means = [place for place, operator in enumerate(steps) if operator.code == "MEAN"]
        first = next((place for place, operator in enumerate(steps) if operator.code in WINDOWS), None)
        self.first = None if first is None else steps[first]
        begin = first
        if begin is not None and begin > 0 and steps[begin - 1].code == "PAD":
            begin -= 1
        self.before = steps[:begin]
        self.inside = steps[begin : means[-1] + 1] if means and begin is not None and means[-1] > begin else []
        self.zeros = self._zeros()
        self.is_behind = self._is_behind()

    def begins(self) -> bool:
        """Say whether the graph begins, as it is, like one that qualifies, and has a mean later."""
        if self.first is None or not self.inside or self._first_not():
            return False
        return self._pad_of(self.first) == ((1, 1), (1, 1))

    def why_not(self) -> str:
        """Say which condition does not hold; empty where all do, paddings of stride 2 aside."""
        if self.first is None or not self.inside:
            return "there is no mean over all places behind a convolution"
        if any(operator.code != "TRANSPOSE" for operator in self.before):
            return f"{self.before[0].code} comes before the first convolution"
        reason = self._first_not() or self._window_not(self.first)
        if reason:
            return reason
        made = {number for operator in self.inside[:-1] for number in operator.outputs}
        for name, number in self.graph.outputs.items():
            if number in made:
                return f"output {name} is computed before the last mean"
        for operator in self.graph.operators:
            if operator not in self.inside and not made.isdisjoint(operator.inputs):
                return f"{self._name(operator)} reads what is computed before the last mean"
        for operator in self.inside:
            if operator is not self.first and operator.code != "PAD":
                reason = self._operator_not(operator)
                if reason:
                    return reason
            if operator.code == "PAD" and not self._is_padding(operator):
                return f"{self._name(operator)} pads for something else than a convolution"
        if self.is_behind:
            reason = self._mirror_not()
            if reason:
                return reason
        if self.zeros <= NEEDED_ZEROS:
            return f"1x1 weights have {self.zeros:.0%} zeros, more than {NEEDED_ZEROS:.0%} needed"
        return ""

    def missing_pads(self) -> list[int]:
        """Give the places of the windows of stride 2 that are not padded in the form that is asked for."""
        found = []
        for place, operator in enumerate(self.graph.operators):
            if operator.code in WINDOWS and operator.options["strideH"] == 2 and operator in self.inside:
                half = self._kernel(operator)[0] // 2
                if self._pad_of(operator) != ((half, half), (half, half)) or operator.options["padding"] == SAME:
                    found.append(place)
        return found[::-1]  # from behind, so that places hold while operators are put in

    def pad_whole(self, place: int) -> None:
        """Put half the window around an image, as PAD and VALID; what is computed stays."""
        operator = self.graph.operators[place]
        half = self._kernel(operator)[0] // 2
        pad = self.maker.get(operator.inputs[0])
        source = operator.inputs[0] if pad is None or pad.code != "PAD" else pad.inputs[0]
        image = self.graph.tensors[source]
        n, height, width, channels = image.shape
        amounts = np.array([[0, 0], [half, half], [half, half], [0, 0]], np.int32)
        name = self.graph.tensors[operator.outputs[0]].name
        numbers = self.graph.add_tensor(Tensor(f"{name}/around", amounts.shape, amounts.dtype, amounts))
        shape = (n, height + 2 * half, width + 2 * half, channels)
        padded = self.graph.add_tensor(replace(image, name=f"{name}/padded", shape=shape, data=None))
        written = Operator("PAD", 1, (source, numbers), (padded,), {})
        inputs = (padded, *operator.inputs[1:])
        self.graph.operators[place] = replace(operator, inputs=inputs, options={**operator.options, "padding": VALID})
        if pad is not None and pad.code == "PAD":
            self.graph.operators[self.graph.operators.index(pad)] = written
        else:
            self.graph.operators.insert(place, written)

    def mirror(self) -> tuple[str, ...]:
        """Turn the image and all windows from behind; the names of the stored kernels."""
        assert self.first is not None
        return mirror(self.graph, self._image(self.first), sorted(self._kernels()))

    def _kernels(self) -> set[int]:
        """Find the stored kernels of more than one place."""
        return {self._stored(operator.inputs[1]) for operator in self.inside if self._is_wide(operator)}

    def _stored(self, number: int) -> int:
        """Find the tensor that holds what a constant is decoded from."""
        while number in self.constant and self.graph.tensors[number].data is None:
            number = self.maker[number].inputs[0]
        return number

    def _image(self, operator: Operator) -> int:
        """Find the image that a window reads, in front of its padding."""
        number = operator.inputs[0]
        pad = self.maker.get(number)
        return pad.inputs[0] if pad is not None and pad.code == "PAD" else number

    def _is_wide(self, operator: Operator) -> bool:
        return operator.code in WINDOWS and self._kernel(operator) != (1, 1)

    def _is_behind(self) -> bool:
        """Say whether zeros stand behind, on both axes, of some window of stride 2, and not before."""
        return any(
            operator.code in WINDOWS
            and operator.options["strideH"] == 2
            and any(before < self._kernel(operator)[0] // 2 for before, _ in self._pad_of(operator))
            for operator in self.inside
        )

    def _mirror_not(self) -> str:
        """Say what stands in the way of turning everything from behind."""
        resized = next((operator for operator in self.inside if operator.code == "RESIZE_BILINEAR"), None)
        if resized is not None:
            return f"the padding of a window is on one side, and {self._name(resized)} is resized"
        assert self.first is not None
        if sum(self._image(self.first) in operator.inputs for operator in self.graph.operators) > 1:
            return "the padding of a window is on one side, and two operators read the image"
        turned = self._kernels()
        for operator in self.graph.operators:
            if not self._is_wide(operator) or operator not in self.inside:
                shared = {self._stored(number) for number in operator.inputs if number in self.constant} & turned
                if shared and not self.constant.issuperset(operator.outputs):
                    return f"the padding of a window is on one side, and {self._name(operator)} shares a kernel"
        return ""

    def _zeros(self) -> float:
        numbers = [self._stored(op.inputs[1]) for op in self.inside if op.code == "CONV_2D" and op is not self.first]
        known = [data for number in numbers if (data := self.graph.tensors[number].data) is not None]
        count = sum(weight.size for weight in known)
        return sum(int((weight == 0).sum()) for weight in known) / count if count else 0.0

    def _kernel(self, operator: Operator) -> tuple[int, int]:
        shape = self.graph.tensors[operator.inputs[1]].shape
        return shape[1], shape[2]

    def _pad_of(self, operator: Operator) -> tuple[tuple[int, int], tuple[int, int]]:
        """Say how many zeros stand before and after height and width."""
        pad = self.maker.get(operator.inputs[0])
        if operator.options["padding"] == VALID:
            amounts = self.graph.tensors[pad.inputs[1]].data if pad is not None and pad.code == "PAD" else None
            if amounts is None:
                return (0, 0), (0, 0)
            return _pair(amounts[1]), _pair(amounts[2])
        sizes = self.graph.tensors[operator.inputs[0]].shape[1:3]
        pads = []
        for size, width, step in zip(
            sizes, self._kernel(operator), (operator.options["strideH"], operator.options["strideW"]), strict=True
        ):
            total = max(0, (-(-size // int(step)) - 1) * int(step) + width - size)
            pads.append((total // 2, total - total // 2))
        return pads[0], pads[1]

    def _first_not(self) -> str:
        assert self.first is not None
        name = self._name(self.first)
        shape = self.graph.tensors[self.first.inputs[1]].shape
        if self.first.code != "CONV_2D" or shape[1:] != (3, 3, 3):
            return f"{name}, the first convolution, is not 3 x 3 of 3 channels"
        if (self.first.options["strideH"], self.first.options["strideW"]) != (2, 2):
            return f"{name}, the first convolution, has not stride 2"
        return ""

    def _window_not(self, operator: Operator) -> str:
        options, half = operator.options, self._kernel(operator)[0] // 2
        if (options["dilationHFactor"], options["dilationWFactor"]) != (1, 1):
            return f"{self._name(operator)} is dilated"
        pads = self._pad_of(operator)
        if options["strideH"] == 1 and pads != ((half, half), (half, half)):
            return f"{self._name(operator)} has not {half} zeros on every side"
        if options["strideH"] != 2:
            return ""
        sizes, made = (self.graph.tensors[number].shape[1:3] for number in (self._image(operator), operator.outputs[0]))
        for size, out, (before, _) in zip(sizes, made, pads, strict=True):
            behind = 2 * (out - 1) + self._kernel(operator)[0] - size - before  # as far as a window reads
            if out != -(-size // 2) or (behind if self.is_behind else before) != half:
                side = "behind, as that of other windows" if self.is_behind else "around"
                return f"{self._name(operator)} has not {half} zeros {side}"
        return ""

    def _operator_not(self, operator: Operator) -> str:
        name, code = self._name(operator), operator.code
        if code == "CONV_2D":
            weight = self.graph.tensors[operator.inputs[1]].shape
            image = self.graph.tensors[operator.inputs[0]].shape
            if weight[1:3] != (1, 1) or operator.options["strideH"] != 1 or operator.options["strideW"] != 1:
                return f"{name} is a convolution of {weight[1]} x {weight[2]}, stride {operator.options['strideH']}"
            return f"{name} has groups" if weight[3] != image[3] else ""
        if code == "DEPTHWISE_CONV_2D":
            kernel, options = self._kernel(operator), operator.options
            if kernel not in ((3, 3), (5, 5)) or options["depthMultiplier"] != 1:
                return f"{name} is a depthwise convolution of {kernel[0]} x {kernel[1]}"
            if options["strideH"] != options["strideW"] or options["strideH"] not in (1, 2):
                return f"{name} has stride {options['strideH']} x {options['strideW']}"
            return self._window_not(operator)
        if code in IMAGES:
            operands = [self.graph.tensors[number] for number in operator.inputs]
            plain = self.constant.isdisjoint(operator.inputs) and all(len(operand.shape) == 4 for operand in operands)
            return "" if plain else f"{name} has a constant operand"
        if code == "MEAN":
            axes = self.graph.tensors[operator.inputs[1]].data
            over = sorted(np.asarray(axes).reshape(-1).tolist()) if axes is not None else []
            return "" if over == [1, 2] else f"{name} is no mean over height and width"
        if code in FUNCTIONS or code == "RESIZE_BILINEAR":
            return ""
        return f"{name} is {code}"

    def _is_padding(self, operator: Operator) -> bool:
        readers = self.readers.get(operator.outputs[0], [])
        return len(readers) == 1 and readers[0].code in WINDOWS and readers[0].inputs[0] == operator.outputs[0]

    def _name(self, operator: Operator) -> str:
        number = operator.inputs[1] if operator.code in WINDOWS else operator.outputs[0]
        return self.graph.tensors[number].name.removesuffix(".weight")


def _pair(amounts: Sequence[int]) -> tuple[int, int]:
    before, after = amounts
    return int(before), int(after)
