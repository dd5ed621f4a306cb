"""What weights alone advise: figures of the paper and of arithmetic by hand, and the sentence that follows."""

import math

import pytest
import torch
from torch import nn

from codeq.compress.advice import BITS, MEASURED, Advice, AdvisedBits, AdvisedWeight, advise, measure_weight
from codeq.errors import AttachError, CompressError
from codeq.quantizer.attach import attach, quantized_weights


def test_a_gaussian_has_the_figures_of_the_paper(rng: torch.Generator) -> None:
    kurtosis, at = measure_weight(torch.randn(1000, 1000, generator=rng), granularity="tensor")
    four = at[BITS.index(4)]
    assert kurtosis == pytest.approx(3, abs=0.05)
    # 19.1 dB and 5.6 dB in arXiv:2307.02973, figure 2; its 4 bits have 16 levels, ours 15: 18.9 dB.
    assert four.quantized_decibels == pytest.approx(19.1, abs=0.3)
    assert four.pruned_decibels == pytest.approx(5.6, abs=0.05)
    # Small weights are spread evenly: pruning those below t is a noise of 2 t^3 / (3 sqrt(2 pi)).
    border = (3 * 10 ** (-four.quantized_decibels / 10) * math.sqrt(math.pi / 2)) ** (1 / 3)
    assert four.equal_zeros == pytest.approx(math.erf(border / math.sqrt(2)), abs=0.02)


def test_by_hand() -> None:
    weight = torch.tensor([[1.0, -1.0, 0.25, 0.0], [4.0, 4.0, 1.0, 0.0]])
    kurtosis, at = measure_weight(weight)
    eight, four, three, two = at
    # 2 bits: levels -1, 0, 1 and -4, 0, 4; what is lost are 0.25 and 1.
    assert two.free_zeros == 4 / 8
    assert two.quantized_decibels == pytest.approx(10 * math.log10(35.0625 / 1.0625))
    # 7 of 8 are pruned, then 6 by both 4 bits and 3, whose shares are rounded down, and 4.
    kept = [16, 32, 32, 34]
    lost = [10 * math.log10(35.0625 / (35.0625 - total)) for total in kept]
    assert [row.pruned_decibels for row in (two, three, four, eight)] == pytest.approx(lost)
    assert three.equal_zeros == 3 / 8  # 0, 0 and 0.25
    mean = 9.25 / 8
    deviations = [float(value) - mean for value in weight.flatten()]
    second, fourth = (sum(value**power for value in deviations) / 8 for power in (2, 4))
    assert kurtosis == pytest.approx(fourth / second**2)


def test_ranges_are_those_of_the_granularity_and_axis() -> None:
    weight = torch.tensor([[1.0, 100.0], [-1.0, 100.0], [1.0, -100.0]])
    down, across = (measure_weight(weight.T if axis == 0 else weight, axis=axis)[1] for axis in (0, 1))
    assert [row.quantized_decibels for row in down] == [row.quantized_decibels for row in across]
    assert across[-1].free_zeros == 0
    assert measure_weight(weight, axis=0)[1][-1].free_zeros == 0.5
    assert measure_weight(weight, granularity="tensor", axis=1)[1][-1].free_zeros == 0.5


def test_of_a_large_weight_some_channels_say_the_same(rng: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(512, 512, generator=rng)
    assert weight.numel() == 4 * MEASURED
    _, some = measure_weight(weight)
    monkeypatch.setattr("codeq.compress.advice.MEASURED", weight.numel())
    _, all_of_it = measure_weight(weight)
    for few, whole in zip(some, all_of_it, strict=True):
        assert few.quantized_decibels == pytest.approx(whole.quantized_decibels, abs=0.2)
        assert few.quantized_decibels != whole.quantized_decibels
        assert few.equal_zeros == pytest.approx(whole.equal_zeros, abs=0.01)


def row(name: str, quantized: float, pruned: float = 6.0, values_read: int = 64) -> AdvisedWeight:
    at = tuple(AdvisedBits(bits, quantized, pruned, 0.1, 0.3) for bits in BITS)
    return AdvisedWeight(name, (4, values_read), values_read, 3.0, at)


MOST = tuple(row(f"layers.{number}.weight", 18.5) for number in range(5))


@pytest.mark.parametrize(
    ("weights", "said", "unsaid"),
    [
        (
            MOST,
            ["quantize every weight rather than prune", "gives 10% by itself", "beyond 30%"],
            ["at 8 bits", "other"],
        ),
        (
            (*MOST, row("stem.weight", 20.0, values_read=27)),
            ["leave stem at 8 bits (each output reads fewer than 32 values)", "every other weight rather"],
            ["dB less"],
        ),
        (
            (*MOST, row("head.weight", 15.4), row("tail.weight", 15.6)),
            ["leave head at 8 bits (4 bits leave 3 dB less than of most weights, or worse)"],
            ["tail"],
        ),
        (
            (*MOST, row("head.weight", 17.0, pruned=17.5)),
            ["prune head rather than quantize", "quantize the others rather than prune"],
            ["at 8 bits"],
        ),
        ((row("stem.weight", 20.0, values_read=9),), ["leave stem at 8 bits"], ["zeros", "prune"]),
        ((), ["no weight to compress"], ["leave"]),
    ],
    ids=["alike", "few values", "noisy", "pruned", "nothing left", "none"],
)
def test_the_sentence(weights: tuple[AdvisedWeight, ...], said: list[str], unsaid: list[str]) -> None:
    sentence = Advice("channel", weights).sentence
    assert [text for text in said if text not in sentence] == []
    assert [text for text in unsaid if text in sentence] == []


def test_zeros_are_those_of_the_weights_that_they_are_advised_for() -> None:
    many = AdvisedWeight("many.weight", (30, 100), 100, 3.0, tuple(AdvisedBits(b, 18.0, 6.0, 0.2, 0.4) for b in BITS))
    few = AdvisedWeight("few.weight", (30, 9), 9, 3.0, tuple(AdvisedBits(b, 18.0, 6.0, 0.9, 0.9) for b in BITS))
    one = AdvisedWeight("one.weight", (10, 100), 100, 3.0, tuple(AdvisedBits(b, 18.0, 6.0, 0.6, 0.8) for b in BITS))
    advice = Advice("channel", (many, few, one))
    assert (advice.free_zeros, advice.equal_zeros) == pytest.approx((0.3, 0.5))
    assert advice.to_dict()["free_zeros"] == advice.free_zeros


class Shared(nn.Module):
    """Has a depthwise convolution, a transposed one in groups, a weight of two layers, and a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.up = nn.ConvTranspose2d(8, 6, 2, groups=2)
        self.one, self.two = nn.Linear(40, 40), nn.Linear(40, 40)
        self.two.weight = self.one.weight
        self.memory = nn.GRU(4, 4)


def test_weights_of_a_network() -> None:
    torch.manual_seed(0)
    network = Shared()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    advice = advise(network)
    assert {weight.name: weight.values_read for weight in advice.weights} == {
        "depthwise.weight": 9,
        "up.weight": 16,
        "one.weight": 40,
    }
    assert advice.few_inputs == ("depthwise.weight", "up.weight")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert [weight.name for weight in advise(network, exclude=("up", "memory")).weights] == [
        "depthwise.weight",
        "one.weight",
    ]
    attach(network, granularity="channel")
    assert advise(network) == advice
    assert len(list(quantized_weights(network))) == 4


def test_what_is_refused() -> None:
    network = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(CompressError, match="granularity must be tensor or channel, found 'group'"):
        advise(network, granularity="group")
    with pytest.raises(AttachError, match="'nothing' matches nothing"):
        advise(network, exclude="nothing")
    with pytest.raises(AttachError, match="ReLU has no layer to quantize"):
        advise(nn.ReLU())
    network[0].weight.data[0, 0] = math.nan
    with pytest.raises(CompressError, match=r"0\.weight has NaN or infinite entries"):
        advise(network)


def test_zeros_alone_are_exact() -> None:
    network = nn.Sequential(nn.Linear(40, 4))
    nn.init.zeros_(network[0].weight)
    advice = advise(network)
    assert "exact/exact" in str(advice)
    assert advice.weights[0].kurtosis == 0
