"""Compression without training: what comes out is an attached network that answers as the float one did."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import codeq
from codeq.compress import compress
from codeq.errors import AttachError, CalibrationError, CompressError
from codeq.quantizer.attach import quantized_weights
from codeq.quantizer.signal import NetworkSignal
from codeq.training.budget import Budget
from export import export_onnx

pytestmark = pytest.mark.slow("networks are traced and walked through")

DECIBELS = 25.0


class Net(nn.Module):
    """Has a layer of every kind, a weight that two layers share, and channels that differ a hundredfold."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.norm2 = nn.BatchNorm2d(12)
        self.up = nn.ConvTranspose2d(12, 8, 2, stride=2)
        self.linear = nn.Linear(8, 40)
        self.attention = nn.MultiheadAttention(40, 2, batch_first=True)
        self.one, self.two = nn.Linear(40, 40), nn.Linear(40, 40)
        self.two.weight = self.one.weight
        self.head = nn.Linear(120, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm2(self.depthwise(self.norm(self.conv(x)).relu())).relu()
        x = self.linear(self.up(x).relu().flatten(2).transpose(1, 2)).relu()
        x = x + self.attention(x, x, x, need_weights=False)[0]
        result: Tensor = self.head(self.two(self.one(x).relu()).relu()[:, :3].flatten(1))
        return result


def inputs(count: int, seed: int) -> Tensor:
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def float_network() -> nn.Module:
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        model.conv.weight.mul_(torch.logspace(-1, 1, 12).reshape(-1, 1, 1, 1))
        model.norm.weight.uniform_(-2, 2)
        for _ in range(20):
            model.train()(torch.randn(64, 3, 6, 6))  # statistics as training leaves them
    return model.eval()


def signal(model: nn.Module, other: nn.Module) -> float:
    """Signal to noise of the outputs on inputs that neither has seen, their mean left out."""
    x = inputs(128, 9)
    with torch.no_grad():
        wanted, found = model(x), other.eval()(x)
    return float(10 * torch.log10(wanted.var(0).sum() / (wanted - found).square().mean(0).sum()))


def test_other_classes_are_counted_against_the_float_network(rng: torch.Generator) -> None:
    """Two bits and four fifths zeros: by the report and by hand, and a checkpoint keeps it for the export."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        float_network = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 5)).eval()
    model, x = copy.deepcopy(float_network), torch.randn(128, 8, generator=rng)
    report = compress(model, x, bits=2, zeros=0.8, keep=False)
    with torch.no_grad():
        changed = int((float_network(x[-16:]).argmax(1) != model.eval()(x[-16:]).argmax(1)).sum())
    assert changed > 0
    assert report.held_inputs == 16
    assert (report.classes.changed, report.classes.places) == (changed, 16)
    assert f"argmax differs on {changed} of 16" in " ".join(str(report).split())
    kept = NetworkSignal.from_metrics(report.metrics() | {"test_accuracy": 1.0})
    assert kept is not None
    assert kept.classes == report.classes
    assert f"argmax differs on {changed} of 16" in kept.text


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_eight_bits_lose_next_to_nothing(granularity: str, float_network: nn.Module) -> None:
    model = copy.deepcopy(float_network)
    report = compress(model, inputs(64, 1), granularity=granularity)
    assert signal(float_network, model) > DECIBELS - 10  # the mean left out, which is most of it
    assert report.method == "rounding"
    assert min(report.output_decibels) > DECIBELS
    assert report.warnings == ()
    assert (report.inputs, report.held_inputs) == (56, 8)
    assert {weight.bits for weight in report.weights} == {8}
    assert len(report.weights) == 8  # the shared one counts once


def test_corrections_keep_more_at_eight_bits_too(float_network: nn.Module) -> None:
    corrected, plain = copy.deepcopy(float_network), copy.deepcopy(float_network)
    kept = compress(corrected, inputs(64, 1), granularity="tensor").output_decibels[0]
    assert kept > compress(plain, inputs(64, 1), granularity="tensor", correct=False).output_decibels[0] + 0.5


def test_the_codes_are_the_weights_that_the_network_computes_with(float_network: nn.Module) -> None:
    model = copy.deepcopy(float_network)
    compress(model, inputs(64, 1), bits=4)
    assert not model.training
    for name, encoding in codeq.encode(model).items():
        layer, _, tensor = name.rpartition(".")
        value = getattr(model.get_submodule(layer), tensor)
        assert torch.equal(value, encoding.codes.float() * encoding.along_axis(encoding.scale))
    assert all(bool(weight.quantizer.frozen) for weight in quantized_weights(model))


@pytest.mark.full
@pytest.mark.parametrize("bits", [2, 4])
def test_second_order_rounding_and_corrections_are_worth_it(bits: int, float_network: nn.Module) -> None:
    found = {}
    settings: dict[str, dict[str, Any]] = {
        "plain": {"method": "rounding", "correct": False},
        "corrected": {"method": "rounding", "correct": True},
        "obq": {},
    }
    for name, setting in settings.items():
        model = copy.deepcopy(float_network)
        compress(model, inputs(96, 1), bits=bits, **setting)
        found[name] = signal(float_network, model)
    assert found["plain"] + 10 < found["corrected"], found
    assert found["corrected"] + 1 < found["obq"], found
    assert found["obq"] > found["plain"] + 2, found


def test_what_reads_few_values_keeps_eight_bits(float_network: nn.Module) -> None:
    model = copy.deepcopy(float_network)
    report = compress(model, inputs(32, 1), bits=4, overrides={"up": {"bits": 4}})
    bits = {weight.name: weight.bits for weight in report.weights}
    assert bits["conv.weight"] == bits["depthwise.weight"] == bits["linear.weight"] == 8
    assert bits["up.weight"] == bits["one.weight"] == bits["head.weight"] == 4
    text = str(report)
    assert "8 bits, as it reads an input of the network: conv.weight" in text
    assert "8 bits, as its outputs read 9 values each: depthwise.weight" in text
    everything = compress(copy.deepcopy(float_network), inputs(32, 1), bits=4, keep=False)
    assert {weight.bits for weight in everything.weights} == {4}


def test_two_runs_give_the_same_codes(float_network: nn.Module) -> None:
    first, second = copy.deepcopy(float_network), copy.deepcopy(float_network)
    for model in (first, second):
        compress(model, inputs(32, 1), bits=4)
    for one, other in zip(codeq.encode(first).values(), codeq.encode(second).values(), strict=True):
        assert torch.equal(one.codes, other.codes)
        assert torch.equal(one.scale, other.scale)


def test_zeros_are_as_many_as_wanted_where_layers_are_not_kept(float_network: nn.Module) -> None:
    model = copy.deepcopy(float_network)
    report = compress(model, inputs(64, 1), bits=8, zeros=0.5)
    assert report.method == "exact_obs"
    for weight in report.weights:
        assert weight.bits == 8
        assert weight.reason or weight.sparsity == pytest.approx(0.5, abs=0.02), weight.name
    assert sum(not weight.reason for weight in report.weights) == 5
    with pytest.raises(CompressError, match=r"zeros must be at least 0 and below 1, found 1\.5"):
        compress(copy.deepcopy(float_network), inputs(8, 1), zeros=1.5)


def test_seven_bits_saturate_nowhere(float_network: nn.Module, tmp_path: Path) -> None:
    """Depthwise, first and shared layers too, whatever a session is opened with."""
    model = copy.deepcopy(float_network)
    report = compress(model, inputs(64, 1), bits=7)
    assert (report.method, {weight.bits for weight in report.weights}) == ("rounding", {7})
    assert report.output_decibels[0] > DECIBELS
    assert max(int(encoding.codes.abs().max()) for encoding in codeq.encode(model).values()) <= 63
    x = inputs(8, 2)
    details = export_onnx(model, (x[:2],), tmp_path / "net.onnx", activations="int8", calibration=x).details
    assert details.safe_without_vnni
    assert compress(copy.deepcopy(float_network), inputs(64, 1), bits=7, method="obq").method == "obq"


@pytest.mark.full
def test_the_file_holds_what_was_chosen(float_network: nn.Module, tmp_path: Path) -> None:
    model = copy.deepcopy(float_network)
    x = inputs(64, 1)
    compress(model, x, bits=4)
    report = export_onnx(model, (x[:2],), tmp_path / "net.onnx", activations="int8", calibration=x, check_inputs=(x,))
    assert report.verdict.ok


def uneven(norm: type[nn.Module]) -> nn.Module:
    """Make a network whose channels differ a thousandfold in what makes them, and in what reads them where norms do
    not make up for it."""
    torch.manual_seed(0)
    norms = [norm(16), norm(16)]
    layers = [nn.Conv2d(3, 16, 3), norms[0], nn.ReLU(), nn.Conv2d(16, 16, 1), norms[1], nn.ReLU(), nn.Conv2d(16, 4, 3)]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for index, reader in ((0, 3), (3, 6)):
            spread = torch.logspace(-1.5, 1.5, 16)[torch.randperm(16)]
            model[index].weight.mul_(spread.reshape(-1, 1, 1, 1))
            model[index].bias.mul_(spread)
            if norm is nn.Identity:
                model[reader].weight.div_(spread.reshape(1, -1, 1, 1))
        for _ in range(100):  # until small variances are learned too
            model.train()(inputs(32, 2))
    return model.eval()


@pytest.mark.parametrize(
    ("norm", "way", "done"),
    [
        (nn.BatchNorm2d, None, "rows of 2 layers brought to one range"),
        (nn.Identity, "weights", "channels of 2 pairs scaled by weights"),
    ],
    ids=["rows", "weights"],
)
def test_equalisation_is_worth_it_where_a_weight_has_one_range(
    norm: type[nn.Module], way: str | None, done: str
) -> None:
    float_network = uneven(norm)
    found = {}
    for equalise in ("none", way):
        model = copy.deepcopy(float_network)
        report = compress(model, inputs(64, 1), granularity="tensor", equalise=equalise)
        found[equalise] = signal(float_network, model)
        assert (report.equalisation is None) == (equalise == "none")
    assert found[way] > found["none"] + 10, found
    assert report.equalisation is not None
    assert report.equalisation.output_decibels == (200.0,)
    text = " ".join(str(report).split())
    assert done in text
    assert "answers bit for bit as before" in text
    assert report.to_dict()["equalisation"]["by"] == (way or "rows")


def test_rows_are_levelled_only_where_equalisation_is_asked_for() -> None:
    """Each option does what it says: absorbing alone scales nothing."""
    found = {}
    for absorb in (False, True):
        model = uneven(nn.BatchNorm2d)
        report = compress(model, inputs(64, 1), granularity="tensor", equalise="none", absorb=absorb)
        found[absorb] = model.state_dict()
    assert report.equalisation is not None
    assert (report.equalisation.levelled, report.equalisation.channels, report.equalisation.absorbed) == (0, 0, 0)
    assert all(torch.equal(found[True][name], tensor) for name, tensor in found[False].items())


def test_equalised_weights_are_those_that_codes_are_chosen_for(float_network: nn.Module) -> None:
    model = copy.deepcopy(float_network)
    report = compress(model, inputs(64, 1), equalise="activations", exclude="head")
    assert report.output_decibels[0] > DECIBELS
    assert not torch.equal(model.get_parameter("norm.weight"), float_network.get_parameter("norm.weight"))


@pytest.mark.parametrize("change", [{"bits": None, "budget": Budget("size", 50)}, {"exclude": "nothing"}])
def test_what_was_equalised_comes_back_where_compression_fails(
    change: dict[str, Any], float_network: nn.Module
) -> None:
    model = copy.deepcopy(float_network)
    with pytest.raises((CompressError, AttachError)):
        compress(model, inputs(16, 1), equalise="weights", absorb=True, **change)
    assert not list(quantized_weights(model))
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in float_network.state_dict().items())


class Recurrent(nn.Module):
    """Uses one weight in every step, and one that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(16, 8)
        self.flipped = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0])
        for index in range(3):
            h = self.step(torch.cat([x[:, index], h], 1)).tanh()
        return F.linear(h, self.flipped.weight.flip(0))


def test_weights_that_are_used_otherwise_are_rounded_and_named() -> None:
    torch.manual_seed(0)
    float_model = Recurrent()
    model = copy.deepcopy(float_model)
    report = compress(model, torch.randn(40, 3, 8))
    assert [weight.read_by for weight in report.weights] == ["", "aten.flip.default"]
    assert "flipped.weight: read by aten.flip.default, rounded by itself" in str(report)
    assert min(report.output_decibels) > DECIBELS


def test_what_takes_several_inputs_by_name() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 5), nn.Linear(4, 5)

        def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
            return {"sum": self.one(a) + self.two(b), "first": a[:, 0]}

    torch.manual_seed(0)
    report = compress(Two(), {"b": torch.randn(40, 4), "a": torch.randn(40, 6)})
    assert len(report.output_decibels) == 2
    assert report.output_decibels[1] == 200  # nothing is lost of what is passed on


@pytest.mark.parametrize(
    ("change", "calibration", "error", "message"),
    [
        (
            {"method": "magic"},
            inputs(8, 1),
            CompressError,
            "method must be one of rounding, obq, .*, sqs, found 'magic'",
        ),
        (
            {"equalise": "magic"},
            inputs(8, 1),
            CompressError,
            "equalise must be one of none, rows, weights, activations, found 'magic'",
        ),
        ({"exclude": "nothing"}, inputs(8, 1), AttachError, "nothing"),
        ({}, inputs(8, 1) * float("nan"), CalibrationError, "NaN"),
        ({}, inputs(0, 1), CalibrationError, "input"),
    ],
)
def test_bad_input_is_one_line_and_leaves_the_network(
    change: dict[str, Any], calibration: Tensor, error: type[Exception], message: str, float_network: nn.Module
) -> None:
    model = copy.deepcopy(float_network)
    with pytest.raises(error, match=message) as caught:
        compress(model, calibration, **change)
    assert "\n" not in str(caught.value)
    assert not list(quantized_weights(model))


def test_weights_that_are_not_finite_are_named(float_network: nn.Module) -> None:
    model = copy.deepcopy(float_network)
    with torch.no_grad():
        model.get_parameter("head.bias")[1] = float("inf")
    with pytest.raises(CompressError, match=r"^head\.bias has NaN or infinite entries"):
        compress(model, inputs(8, 1))


def test_the_report_says_where_most_is_lost_and_why() -> None:
    """The second layer cancels nearly all that it reads, so that little noise before it is much behind it."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(*sizes, bias=False) for sizes in ((16, 32), (32, 32), (32, 8))))
    first, second = model[0].weight, model[1].weight
    with torch.no_grad():
        first[16:] = first[:16] + 0.003 * torch.randn(16, 16)
        second[:, 16:] = -second[:, :16]
    report = compress(model, torch.randn(32, 16))
    assert report.output_decibels[0] < 25
    assert report.largest_loss.startswith("most is lost at 1.weight: ")
    assert "it amplifies what is lost before it: exclude the layers before it" in report.largest_loss
    assert report.largest_loss in " ".join(str(report).split())
    assert report.to_dict()["largest_loss"] == report.largest_loss
    fine = compress(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)), torch.randn(32, 16))
    assert fine.largest_loss == ""


def test_codes_that_are_too_coarse_are_named_themselves() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)]
    report = compress(nn.Sequential(*layers), torch.randn(64, 64), bits=8, overrides={"2": {"bits": 2}})
    assert report.largest_loss.startswith("most is lost at 2.weight: ")
    assert report.largest_loss.endswith(" by its own codes; more bits, or exclude it")


def test_a_report_warns_where_little_is_left() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)]
    report = compress(nn.Sequential(*layers), torch.randn(32, 16), bits=2, keep=False, method="rounding")
    assert report.output_decibels[0] < 15
    assert "WARNING  output 0 keeps" in str(report)
    assert report.to_dict()["warnings"] == list(report.warnings)


@pytest.mark.parametrize(
    ("budget", "bits"),
    [(Budget("sparsity", 0.6), 8), (Budget("bops", 0.06), None), (Budget("size", 3_000), None)],
    ids=["zeros", "bops", "bytes"],
)
def test_a_budget_is_met(float_network: nn.Module, budget: Budget, bits: int | None) -> None:
    model = copy.deepcopy(float_network)
    report = compress(model, inputs(64, 1), bits=bits, budget=budget)
    reached = budget.of(codeq.summary(model, (3, 6, 6)))
    assert abs(reached - budget.target) <= budget.margin
    assert report.budget is not None
    assert report.budget.met
    assert report.budget.reached == pytest.approx(reached, rel=1e-6)
    assert len(report.frontier) > 3
    assert len({weight.sparsity for weight in report.weights}) > 3
    if bits is None:
        assert len({weight.bits for weight in report.weights}) > 1


def test_a_budget_costs_less_than_the_same_zeros_everywhere(float_network: nn.Module) -> None:
    alike, divided = copy.deepcopy(float_network), copy.deepcopy(float_network)
    every = compress(alike, inputs(64, 1), zeros=0.6, keep=False)
    zeros = codeq.summary(alike, (3, 6, 6)).sparsity
    report = compress(divided, inputs(64, 1), budget=Budget("sparsity", zeros), keep=False)
    assert codeq.summary(divided, (3, 6, 6)).sparsity >= zeros - 0.01
    assert report.output_decibels[0] > every.output_decibels[0] + 1


def test_a_budget_out_of_reach_leaves_the_network_as_it_was(float_network: nn.Module) -> None:
    model = copy.deepcopy(float_network)
    with pytest.raises(CompressError, match=r"50 B is out of reach: the least that can be done here is .*"):
        compress(model, inputs(64, 1), budget=Budget("size", 50))
    assert not list(quantized_weights(model))
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in float_network.state_dict().items())


class Tokens(nn.Module):
    """Takes token ids and a step, which a pair gives as it does inputs and labels; and labels, as in training."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.fc, self.head = nn.Embedding(20, 16), nn.Linear(16, 12), nn.Linear(12, 4)

    def forward(self, ids: Tensor, step: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.head(self.fc(self.embedding(ids).mean(1)).relu() * (1 + step[:, None]))
        return {"logits": logits} if labels is None else {"logits": logits, "loss": F.cross_entropy(logits, labels)}


def test_several_inputs_in_every_form(rng: torch.Generator) -> None:
    ids, step = torch.randint(20, (32, 5), generator=rng), torch.randint(3, (32,), generator=rng)
    mappings = [{"step": step[n : n + 8], "labels": step[n : n + 8], "ids": ids[n : n + 8]} for n in range(0, 32, 8)]
    pairs = [(ids[n : n + 8], step[n : n + 8]) for n in range(0, 32, 8)]
    codes = []
    torch.manual_seed(0)
    model = Tokens()
    for given in (pairs, mappings, {"ids": ids, "step": step, "labels": step}):
        compressed = copy.deepcopy(model)
        report = compress(compressed, given, bits=4, keep=False)
        assert len(report.output_decibels) == 1
        codes.append(torch.cat([encoding.codes.flatten() for encoding in codeq.encode(compressed).values()]))
    assert torch.equal(codes[0], codes[1])
    assert torch.equal(codes[0], codes[2])


def test_a_budget_of_bit_operations_with_several_inputs(rng: torch.Generator) -> None:
    ids, step = torch.randint(20, (32, 5), generator=rng), torch.randint(3, (32,), generator=rng)
    model = Tokens()
    report = compress(model, (ids, step), budget=Budget("bops", 0.08), keep=False)
    assert report.budget is not None
    assert report.budget.met
    found = codeq.summary(model, inputs=(ids, step)).relative_bops
    assert report.budget.reached == pytest.approx(found)
