"""A report of compression says what was done to every weight, and what is left of the network's outputs."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from codeq.activations.encoding import ActivationEncoding
from codeq.channels.kernel_times import Latency
from codeq.channels.price import LATENCY_MARGIN, MARGIN
from codeq.channels.shrink import ShrinkReport
from codeq.compress.advice import Advice
from codeq.quantizer.choices import MAX_BITS
from codeq.quantizer.classes import Classes
from codeq.quantizer.grid import WeightEncoding
from codeq.quantizer.power import GOOD_DB, LIMIT_DB, Power
from codeq.quantizer.signal import NetworkSignal
from codeq.toolkit.table import fold_line, format_bytes, format_count, render_table
from codeq.training.budget import Budget, Kind

FAIR_DB = 25.0
"""What 8 bits should leave of an output; below it, the report says where most is lost."""
FEW = 16
"""Below so many inputs the report warns: ranges and corrections of a handful hold for that handful."""
START_DB = 50.0
"""What the codes of one layer leave of it at 8 bits, at best (EfficientNet-Lite0: 34 to 54 dB)."""


@dataclass(frozen=True)
class CompressedWeight:
    """Describes one weight.

    Attributes:
        name, shape: The weight's.
        bits: Of its codes; of the index into its table, where there is one.
        method: How they were chosen.
        reason: Why it has more bits than were asked for; empty where it has not.
        sparsity: Share of zeros.
        entropy_bytes: Shannon bound of its codes.
        decibels: Signal to noise of the layer's result, with all that came before it compressed too; None where no
            layer reads the weight as it is.
        alone_decibels: Likewise with nothing before it compressed: what its own codes leave.
        read_by: The operator that reads it, where that is no layer.
        note: What the method says of it.
    """

    name: str
    shape: tuple[int, ...]
    bits: int
    method: str
    reason: str
    sparsity: float = 0.0
    entropy_bytes: float = 0.0
    decibels: float | None = None
    alone_decibels: float | None = None
    read_by: str = ""
    note: str = ""

    def finished(
        self, encoding: WeightEncoding, power: Power | None, alone: Power | None, read_by: str
    ) -> "CompressedWeight":
        """Add what is known once all is done."""
        return replace(
            self,
            sparsity=encoding.sparsity,
            entropy_bytes=encoding.entropy_bits() / 8,
            decibels=None if power is None else power.decibels,
            alone_decibels=None if alone is None else alone.decibels,
            read_by=read_by,
        )


@dataclass(frozen=True)
class FrontierPoint:
    """Says what a budget would leave: what it asks for, and the signal to noise of the outputs predicted for it."""

    target: float
    decibels: float


@dataclass(frozen=True)
class BudgetOutcome:
    """Says where compression ended, next to its budget; all in the terms of `codeq.training.budget.Budget`."""

    kind: Kind
    target: float
    reached: float
    margin: float

    @property
    def met(self) -> bool:
        """Say whether the network costs no more than the budget and its margin."""
        over = self.target - self.reached if self.kind == "sparsity" else self.reached - self.target
        return over <= self.margin

    def to_dict(self) -> dict[str, Any]:
        """Give it to machines, with plain types."""
        return asdict(self) | {"met": self.met}


@dataclass(frozen=True)
class ChannelsOutcome:
    """Says what went with the channels that died: the share of multiply-adds or latency that was to be left, the report
    of `shrink`, and what the file will take where latency was asked for."""

    target: float
    shrunk: ShrinkReport
    latency: Latency | None = None

    @property
    def what(self) -> str:
        """Name what was to be left."""
        return "multiply-adds" if self.latency is None else "latency"

    @property
    def reached(self) -> float:
        """Give what is left of it."""
        return self.shrunk.left if self.latency is None else self.latency.share

    @property
    def met(self) -> bool:
        """Say whether no more is left than was asked for, within the margins of price.py."""
        return self.reached <= self.target * (1 + (MARGIN if self.latency is None else LATENCY_MARGIN))

    def to_dict(self) -> dict[str, Any]:
        """Give it to machines, with plain types."""
        latency = None if self.latency is None else asdict(self.latency)
        return {
            "kind": "macs" if latency is None else "latency",
            "target": self.target,
            "reached": self.reached,
            "met": self.met,
            "latency": latency,
            "shrunk": self.shrunk.to_dict(),
        }


@dataclass(frozen=True)
class Distilled:
    """Says what distillation did.

    Attributes:
        epochs: That were run.
        best_epoch: Whose weights were kept, from 1; 0 is the network as it came.
        decibels_before, decibels_after: Signal to noise of all outputs together on held inputs.
    """

    epochs: int
    best_epoch: int
    decibels_before: float
    decibels_after: float

    def __str__(self) -> str:
        kept = f"epoch {self.best_epoch} of {self.epochs} is kept" if self.best_epoch else "no epoch was better"
        digits = 1 if self.decibels_after - self.decibels_before >= 0.05 or not self.best_epoch else 2
        return f"distilled from {self.decibels_before:.{digits}f} to {self.decibels_after:.{digits}f} dB: {kept}"


@dataclass(frozen=True)
class Equalisation:
    """Says what was done to the float network before codes were chosen.

    Attributes:
        by: As asked for, or chosen: "none" where biases alone were absorbed.
        pairs: Places whose channels layers alone read.
        channels: How many of their channels were scaled.
        largest_factor: The furthest from 1, or what it is 1 over.
        levelled: Layers in front of BatchNorms whose rows were brought to one range.
        absorbed: Channels whose high bias was absorbed.
        output_decibels: Signal to noise of every output of the float network against what it was, over the held
            inputs; 200 where not a bit has changed.
    """

    by: str
    pairs: int
    channels: int
    largest_factor: float
    levelled: int
    absorbed: int
    output_decibels: tuple[float, ...]

    def __str__(self) -> str:
        done = []
        if self.channels:
            scaled = f"{format_count(self.channels, 'channel')} of {format_count(self.pairs, 'pair')} scaled"
            done.append(f"{scaled} by {self.by}, up to {self.largest_factor:,.0f} times")
        if self.levelled:
            done.append(f"rows of {format_count(self.levelled, 'layer')} brought to one range")
        if self.absorbed:
            done.append(f"high biases of {format_count(self.absorbed, 'channel')} absorbed")
        kept = min(self.output_decibels, default=LIMIT_DB)
        left = "answers bit for bit as before" if kept == LIMIT_DB else f"keeps {kept:.1f} dB of its outputs"
        return f"{'; '.join(done) or 'nothing to scale'}; the float network {left}"


@dataclass(frozen=True)
class CompressReport:
    """Holds what compression did. `print(report)` shows a table.

    Attributes:
        method, bits, granularity: As asked for, or chosen.
        inputs: Calibration inputs that codes were chosen with.
        held_inputs: Further ones, that the outputs are judged on.
        weights: In the order in which the network reads them.
        output_decibels: Signal to noise of every output against the float network, over the held inputs.
        classes: How often all outputs together choose another class than the float network.
        equalisation: What was done to the float network first; None where nothing was asked for.
        budget: Where it ended next to its budget; None without one.
        frontier: What other budgets of the kind would leave, as predicted from single weights; empty without a budget.
        distilled: What distillation did; None without it.
        activations: The grid of every quantized activation, by name; None where they are float.
        channels: What went with the channels that died; None where none was to.
        advice: What the float weights alone say; its sentence is printed, its table is in `report.advice`.
    """

    method: str
    bits: int | None
    granularity: str
    inputs: int
    held_inputs: int
    weights: tuple[CompressedWeight, ...]
    output_decibels: tuple[float, ...]
    classes: Classes = field(default_factory=Classes)
    equalisation: Equalisation | None = None
    budget: BudgetOutcome | None = None
    frontier: tuple[FrontierPoint, ...] = ()
    distilled: Distilled | None = None
    activations: Mapping[str, ActivationEncoding] | None = None
    channels: ChannelsOutcome | None = None
    advice: Advice | None = None

    @property
    def measured_decibels(self) -> float:
        """Return the signal to noise of all outputs as the frontier has it: their noises over their signals added."""
        return Power(1.0, sum(10 ** (-decibels / 10) for decibels in self.output_decibels)).decibels

    @property
    def entropy_bytes(self) -> float:
        """Add up the Shannon bounds of the codes, in bytes."""
        return sum(weight.entropy_bytes for weight in self.weights)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say what is lost, one line each; none where nothing is."""
        missed = []
        if self.budget is not None and not self.budget.met:
            budget = Budget(self.budget.kind, self.budget.target)
            missed = [f"the budget was missed: {budget} asked for, {budget.format(self.budget.reached)} reached"]
        if self.channels is not None and not self.channels.met:
            asked, left = self.channels.target, self.channels.reached
            missed.append(f"of the {self.channels.what} {asked:.1%} was to be left, and {left:.1%} is")
        if self.inputs + self.held_inputs < FEW:
            few = format_count(self.inputs + self.held_inputs, "input")
            missed.append(f"calibration is {few}, and what fits them may fit no other; take some dozens")
        return (*missed, *self._poor_outputs())

    @property
    def largest_loss(self) -> str:
        """Say at which layer signal to noise drops most, and the way out; empty where every output keeps `FAIR_DB`."""
        rows = [weight for weight in self.weights if weight.decibels is not None]
        if not rows or min(self.output_decibels, default=FAIR_DB) >= FAIR_DB:
            return ""
        before = [START_DB, *(weight.decibels or 0.0 for weight in rows)]
        number = max(range(len(rows)), key=lambda i: before[i] - before[i + 1])
        worst, alone = rows[number], rows[number].alone_decibels
        assert worst.decibels is not None
        text = f"most is lost at {worst.name}: {worst.decibels:.1f} dB of its layer's result are left"
        if alone is None or alone <= worst.decibels + 3:  # half of the noise or more is its own
            ways = ["more bits"] if worst.bits < MAX_BITS else []
            ways += ["a larger budget"] if self.budget is not None else []
            more = ", or ".join([*ways, "exclude it"])
            return f"{text}, by its own codes; {more}"
        return (
            f"{text}, {alone:.1f} dB by its own codes; it amplifies what is lost before it: "
            "exclude the layers before it, or take more bits for them"
        )

    def _poor_outputs(self) -> Iterator[str]:
        more_bits = any(weight.bits < MAX_BITS for weight in self.weights)
        way_out = "take more bits or more inputs" if more_bits else "take more inputs, or leave layers float by exclude"
        yield from (
            f"output {number} keeps {decibels:.1f} dB of the float network's signal; {way_out}"
            for number, decibels in enumerate(self.output_decibels)
            if decibels < GOOD_DB
        )
        if self.classes.is_loud and min(self.output_decibels, default=0.0) >= GOOD_DB:
            yield f"{self.classes} held inputs; {way_out}"

    @property
    def signal(self) -> NetworkSignal:
        """Say what is left of the float network, as an export tells it."""
        results = {weight.name: weight.decibels for weight in self.weights if weight.decibels is not None}
        return NetworkSignal(self.held_inputs, results, self.output_decibels, self.classes)

    def metrics(self) -> dict[str, float]:
        """Give what a checkpoint keeps, so that an export can say it again: the float weights are gone by then."""
        return self.signal.to_metrics()

    def to_dict(self) -> dict[str, Any]:
        """Give everything to machines, with plain types."""
        budget = None if self.budget is None else self.budget.to_dict()
        advice = None if self.advice is None else self.advice.to_dict()
        channels = None if self.channels is None else self.channels.to_dict()
        found: dict[str, Any] = {
            "channels": channels,
            "entropy_bytes": self.entropy_bytes,
            "largest_loss": self.largest_loss,
        }
        return asdict(self) | found | {"budget": budget, "warnings": list(self.warnings), "advice": advice}

    def __str__(self) -> str:
        rows = [
            (
                weight.name,
                "x".join(map(str, weight.shape)),
                str(weight.bits),
                f"{weight.sparsity:.1%}",
                weight.method,
                format_bytes(weight.entropy_bytes),
                "" if weight.decibels is None else f"{weight.decibels:.1f} dB",
            )
            for weight in self.weights
        ]
        total = ("total", "", "", "", "", format_bytes(self.entropy_bytes), "")
        lines = [render_table(("weight", "shape", "bits", "zeros", "method", "bound", "result"), rows, total)]
        lines += self._kept()
        lines += [
            fold_line(f"{weight.name}: read by {weight.read_by}, rounded by itself", 2)
            for weight in self.weights
            if weight.read_by
        ]
        lines += [fold_line(f"{weight.name}: {weight.note}", 2) for weight in self.weights if weight.note]
        signal = ", ".join(f"{decibels:.1f} dB" for decibels in self.output_decibels)
        counts = f"{format_count(self.inputs, 'input')}; judged on {format_count(self.held_inputs, 'other')}"
        classes = f", {self.classes}" if self.classes.places else ""
        text = f"outputs keep {signal} of the float network's signal, after {counts}{classes}"
        lines.append(fold_line(text, 2))
        if self.equalisation is not None:
            lines.append(fold_line(f"equalised: {self.equalisation}", 2))
        lines += [fold_line(self.largest_loss, 2)] if self.largest_loss else []
        if self.distilled is not None:
            lines.append(fold_line(str(self.distilled), 2))
        if self.activations is not None:
            lines.append(f"activations are 8-bit: {format_count(len(self.activations), 'tensor')}, scales stored")
        if self.advice is not None:
            whole = all(weight.bits == MAX_BITS for weight in self.weights) and self.budget is None
            done = () if whole else [weight.name for weight in self.weights if weight.bits == MAX_BITS]
            sentence = self.advice.sentence_beyond(done)
            lines.append(fold_line(f"{'for fewer bits' if whole else 'advice'}: {sentence}", 2))
        if self.channels is not None:
            lines.append(fold_line(f"channels: {self.channels.shrunk.line}", 2))
            if self.channels.latency is not None:
                lines.append(fold_line(f"latency: {self.channels.latency}", 2))
        lines += self._budget()
        lines += [fold_line(f"WARNING  {text}", 9) for text in self.warnings]
        return "\n".join(lines)

    def _budget(self) -> list[str]:
        if self.budget is None:
            return []
        budget = Budget(self.budget.kind, self.budget.target)
        lines = [f"budget {budget}: {budget.format(self.budget.reached)} reached"]
        rows = [(budget.format(point.target), f"{point.decibels:.1f} dB") for point in self.frontier]
        if rows:
            lines += ["", "what others would leave, as predicted from single weights:"]
            lines.append(render_table(("budget", "outputs keep"), rows))
            measured = f"{self.measured_decibels:.1f} dB measured at {budget.format(self.budget.reached)}"
            lines.append(fold_line(f"{measured}; predictions order budgets, and are low where zeros are many", 2))
        return lines

    def _kept(self) -> list[str]:
        reasons: dict[str, list[str]] = {}
        for weight in self.weights:
            if weight.reason:
                reasons.setdefault(weight.reason, []).append(weight.name)
        return [fold_line(f"8 bits, as {reason}: {', '.join(names)}", 2) for reason, names in reasons.items()]
