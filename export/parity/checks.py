"""These records say what was checked, one per weight, output, quantized tensor and layer; a verdict is made of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightCheck:
    """Describes one weight, with the BatchNorm that was folded into it. `reason` is empty where it equals PyTorch's."""

    name: str
    batch_norm: str | None
    ok: bool
    reason: str = ""


@dataclass(frozen=True)
class OutputCheck:
    """Describes one output in one setting of the runtime at one batch size, over all inputs.

    Attributes:
        output: Its name.
        setting: How the runtime computed it: an optimization level, a set of kernels.
        batch_size: Inputs at a time.
        max_abs_error: The largest difference from what is expected, in output units.
        tolerance: Its limit; where codes were fed (`fed_error`), the limit of that.
        cosine_similarity: Shown because others show it: it cannot see a wrong scale.
        argmax_differences: Counts places (axis 1) where the best two expected values are further apart than the bound.
        ok: Whether the contract holds here.
        reason: Why it does not; empty where it does.
        decides: False for a setting that is reported and vetoes nothing.
        differing: Elements that are not the integer reference's bit for bit; None where floats are compared.
        fed_error: The largest difference from the integer reference that was fed the runtime's own codes.
    """

    output: str
    setting: str
    batch_size: int
    max_abs_error: float
    tolerance: float
    cosine_similarity: float
    argmax_differences: int
    ok: bool
    reason: str = ""
    decides: bool = True
    differing: int | None = None
    fed_error: float | None = None

    @classmethod
    def failed(cls, output: str, setting: str, batch_size: int, reason: str, *, decides: bool = True) -> "OutputCheck":
        """Say that an output could not be compared, and why."""
        return cls(output, setting, batch_size, float("inf"), 0.0, 0.0, 0, ok=False, reason=reason, decides=decides)


@dataclass(frozen=True)
class CodesCheck:
    """Describes one quantized tensor in one setting, over all inputs and batch sizes.

    Attributes:
        name: That of the layer that makes it, or of the network's input.
        setting: As in `OutputCheck`.
        kernel: The runtime's operator that made it; "float" where that computed on floats.
        exact: Whether the reference follows that kernel bit for bit: then no code may differ.
        elements, differing: Counts of codes.
        max_step: The largest difference, in codes.
        tie_distance: The largest distance of a value that was rounded to another code from the middle between two, in
            steps.
        ok: Whether the contract holds here.
        decides: As in `OutputCheck`.
    """

    name: str
    setting: str
    kernel: str
    exact: bool
    elements: int
    differing: int
    max_step: int
    tie_distance: float
    ok: bool
    decides: bool = True


@dataclass(frozen=True)
class LayerKernel:
    """Says what one layer became in a runtime. `reason` says why it computes in float; empty for an integer kernel."""

    name: str
    operator: str
    kernel: str
    reason: str = ""

    @property
    def is_integer(self) -> bool:
        """Say whether it computes in integers."""
        return not self.reason


@dataclass(frozen=True)
class ReportedComparison:
    """Another way of computing the same network, against the integer reference. It decides nothing.

    `argmax_differences` counts inputs, those of the output with most.
    """

    name: str
    max_abs_error: float
    argmax_differences: int
