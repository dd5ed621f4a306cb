"""A report of adoption says what the codes of every weight were found to be, and what stayed float."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from codeq.activations.encoding import ActivationEncoding
from codeq.quantizer.attach import QuantizedWeight
from codeq.toolkit.table import fold_line, format_bytes, format_count, render_table


@dataclass(frozen=True)
class AdoptedWeight:
    """Describes one weight.

    Attributes:
        name, shape: The weight's.
        bits: Of a level, with its sign.
        grid: "integer" or "paper".
        granularity: "tensor" or "channel": what has a scale of its own.
        steps_off: Largest distance of a value from the network's own, in steps; 0 where all are equal bit for bit.
        sparsity: Share of zeros.
        entropy_bytes: Shannon bound of its codes.
    """

    name: str
    shape: tuple[int, ...]
    bits: int
    grid: str
    granularity: str
    steps_off: float
    sparsity: float
    entropy_bytes: float

    @classmethod
    def of(cls, weight: QuantizedWeight, steps_off: float) -> "AdoptedWeight":
        """Describe an attached weight."""
        quantizer = weight.quantizer
        encoding = quantizer.encode(weight.original)
        return cls(
            weight.name,
            tuple(weight.original.shape),
            encoding.bit_width,
            quantizer.grid,
            quantizer.granularity,
            steps_off,
            encoding.sparsity,
            encoding.entropy_bits() / 8,
        )


@dataclass(frozen=True)
class AdoptReport:
    """Holds what became of a network that others have quantized. `print(report)` shows a table.

    Attributes:
        source: "published", or "recovered" from values.
        weights: Those with a quantizer, in the network's order.
        float_weights: Names of matrices and kernels that stayed float, with the reason.
        baked: Names of tensors whose computed value is a float parameter now.
        activations: Grid of every quantized activation that the other tool left, by name, for `codeq.save`; None where
            there are none, or not enough of them.
        notes: What was left out of activations, one line each.
    """

    source: str
    weights: tuple[AdoptedWeight, ...]
    float_weights: Mapping[str, str] = field(default_factory=dict)
    baked: tuple[str, ...] = ()
    activations: Mapping[str, ActivationEncoding] | None = None
    notes: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Tell whether every quantized weight is what it was, bit for bit."""
        return all(weight.steps_off == 0 for weight in self.weights)

    @property
    def entropy_bytes(self) -> float:
        """Add up the Shannon bounds of the codes, in bytes."""
        return sum(weight.entropy_bytes for weight in self.weights)

    def to_dict(self) -> dict[str, Any]:
        """Give everything to machines, with plain types."""
        return asdict(self) | {"entropy_bytes": self.entropy_bytes, "exact": self.exact}

    def __str__(self) -> str:
        rows = [
            (
                weight.name,
                "x".join(map(str, weight.shape)),
                str(weight.bits),
                f"{weight.sparsity:.1%}",
                f"{weight.grid}, per {weight.granularity}",
                format_bytes(weight.entropy_bytes),
                "equal" if weight.steps_off == 0 else f"{weight.steps_off:.2g} steps off",
            )
            for weight in self.weights
        ]
        header = ("weight", "shape", "bits", "zeros", "grid", "bound", "values")
        lines = [render_table(header, rows, ("total", "", "", "", "", format_bytes(self.entropy_bytes), ""))]
        if self.exact:
            lines.append(fold_line(f"values    {format_count(len(self.weights), 'weight')} bit for bit: ok", 10))
        else:
            worst = max(self.weights, key=lambda weight: weight.steps_off)
            text = f"values    snapped: up to {worst.steps_off:.2g} steps off, in {worst.name}"
            lines.append(fold_line(text, 10))
        if self.float_weights:
            lines.append(fold_line(f"float     {', '.join(self.float_weights)}", 10))
        if self.baked:
            lines.append(fold_line(f"baked in  {', '.join(self.baked)}", 10))
        if self.activations is not None:
            lines.append(f"scales    of {format_count(len(self.activations), 'activation')} taken over")
        lines += [fold_line(f"note      {note}", 10) for note in self.notes]
        return "\n".join(lines)
