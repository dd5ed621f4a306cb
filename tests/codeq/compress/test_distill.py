"""Test that distillation brings a compressed network nearer to the float one, and keeps what compression chose."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from codeq.compress import compress
from codeq.compress.distill import distill
from codeq.errors import CompressError
from codeq.quantizer.attach import encode, quantized_weights
from codeq.training.budget import Budget


class Net(nn.Module):
    """Has two outputs of different shapes, a BatchNorm, a buffer that it counts in, and an argument that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 24, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(24)
        self.body = nn.Conv2d(24, 24, 3, padding=1)
        self.mask, self.head = nn.Conv2d(24, 2, 1), nn.Linear(24, 5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.body(self.norm(self.conv(x)).relu()).relu()
        return {"mask": self.mask(y), "logits": self.head(y.mean((2, 3)))}


def images(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 4, 4, generator=generator)
    return nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear")


@pytest.fixture(scope="module")
def network() -> Net:
    torch.manual_seed(0)
    model = Net()
    for _ in range(20):  # statistics
        model(images(32))
    return model.eval()


def decibels(model: nn.Module, other: nn.Module, key: str) -> float:
    with torch.no_grad():
        wanted, found = other.eval()(images(64, 9))[key], model.eval()(images(64, 9))[key]
    return float(10 * torch.log10(wanted.square().mean() / (wanted - found).square().mean()))


def test_unseen_inputs_gain_and_zeros_stay(network: Net) -> None:
    before, after = copy.deepcopy(network), copy.deepcopy(network)
    options: dict[str, Any] = {"bits": 3, "zeros": 0.5, "keep": False, "method": "rounding"}
    plain = compress(before, images(96), **options)
    after.train()
    report = compress(after, images(96), **options, distill=10, distill_inputs=images(400, 5))
    assert after.training
    assert all(parameter.grad is None for parameter in after.parameters())
    assert [row.sparsity for row in plain.weights] <= [row.sparsity for row in report.weights]
    for name, encoding in encode(before).items():
        assert bool((encode(after)[name].codes[encoding.codes == 0] == 0).all())
        assert torch.equal(encode(after)[name].scale, encoding.scale)
    gains = [decibels(after, network, key) - decibels(before, network, key) for key in ("mask", "logits")]
    assert min(gains) > 2
    assert report.distilled is not None
    assert report.distilled.best_epoch > 0
    assert "distilled from" in str(report)
    # Layers are measured in the network as it is now.
    assert report.weights[0].decibels != plain.weights[0].decibels


def test_what_is_not_better_is_not_kept(network: Net) -> None:
    model = copy.deepcopy(network)
    compress(model, images(40), bits=4)
    state = copy.deepcopy(model.state_dict())
    # Judged on the very inputs whose outputs are right already: no epoch can be better than the student itself.
    found = distill(model, copy.deepcopy(model), (images(8, 3),), (), held=(images(8),), epochs=1)
    assert found.best_epoch == 0
    assert found.decibels_after == found.decibels_before
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_scales_of_activations_train_too(network: Net) -> None:
    models = [copy.deepcopy(network) for _ in range(2)]
    reports = [
        compress(model, images(64), bits=4, activations="int8", distill=epochs)
        for model, epochs in zip(models, (0, 3), strict=True)
    ]
    chosen, trained = (report.activations for report in reports)
    assert chosen is not None
    assert trained is not None
    assert chosen.keys() == trained.keys()
    assert any(chosen[name].scale != trained[name].scale for name in chosen)
    found = reports[1].distilled
    assert found is not None
    assert found.best_epoch > 0
    assert found.decibels_after == pytest.approx(sum(reports[1].output_decibels) / 2, abs=1e-4)


def test_further_inputs_and_a_budget(network: Net) -> None:
    model = copy.deepcopy(network)
    budget = Budget("size", 1500.0)
    report = compress(model, images(48), budget=budget, distill=2, distill_inputs=[images(16, 1), images(16, 2)])
    assert report.budget is not None
    assert report.budget.met
    fixed = 4 * sum(p.numel() for p in network.parameters() if p.ndim < 2)
    total = sum(encoding.entropy_bits() / 8 for encoding in encode(model).values())
    assert report.budget.reached == pytest.approx(total, abs=fixed + 1)


def test_layers_that_are_not_called_by_themselves() -> None:
    class Used(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.layer.weight)

    torch.manual_seed(0)
    report = compress(Used(), torch.randn(40, 8), bits=3, distill=1)
    assert report.distilled is not None
    assert report.distilled.epochs == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distill": -1}, "distill must be a number of epochs, found -1"),
        ({"distill": 1, "method": "sqs", "bits": 4}, "distillation would lose what sqs chooses from"),
        ({"activations": "int4"}, "activations must be float or int8, found 'int4'"),
        (
            {"distill": 1, "distill_inputs": torch.zeros(4, 3, 6, 6)},
            r"inputs to distil on are float32 \(3, 6, 6\), the calib",
        ),
        ({"distill": 1.5}, "distill must be a number of epochs, found 1.5"),
        ({"distill": 1, "distill_inputs": torch.zeros(4, 3, 8, 8, dtype=torch.int64)}, r"on are int64 \(3, 8, 8\)"),
    ],
)
def test_bad_input_is_one_line(network: Net, options: dict[str, Any], message: str) -> None:
    model = copy.deepcopy(network)
    with pytest.raises(CompressError, match=message):
        compress(model, images(20), **options)
    assert not list(quantized_weights(model))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_trains_wherever_it_is_called(network: Net, mode: Callable[[], Any]) -> None:
    expected, model = copy.deepcopy(network), copy.deepcopy(network)
    compress(expected, images(40), bits=4, distill=1)
    with mode():
        compress(model, images(40), bits=4, distill=1)
    for one, other in zip(expected.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


class Masked(nn.Module):
    """Attention with a float mask, 0 or -inf: a mean of two of them would leave rows with nothing to look at."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.first(x)
        shares = (x @ x.transpose(1, 2) + mask[:, None]).softmax(-1)
        return self.last(shares @ x)


def test_masks_are_not_mixed() -> None:
    torch.manual_seed(0)
    model = Masked()
    mask = torch.zeros(40, 6)
    mask[::2, :3] = mask[1::2, 3:] = -torch.inf
    seen: list[Tensor] = []
    before = model.forward

    def forward(x: Tensor, mask: Tensor) -> Tensor:
        seen.append(mask.detach())
        return before(x, mask)

    report = compress(model, {"x": torch.randn(40, 6, 8), "mask": mask}, bits=4)
    teacher = Masked()
    teacher.forward = forward  # type: ignore[method-assign]
    inputs = (torch.randn(40, 6, 8), mask)
    distilled = distill(model, teacher, inputs, ("x", "mask"), held=inputs, epochs=1)
    assert report.output_decibels[0] > 10
    assert distilled.epochs == 1
    assert all(bool(((part == 0) | part.isneginf()).all()) for part in seen)
    ones = (torch.randn(40, 6, 8), torch.ones(40, 6))  # of zeros and ones neither, however many
    distill(model, teacher, ones, ("x", "mask"), held=ones, epochs=1)
    assert all(bool((part == 1).all()) for part in seen[-3:])


def test_a_teacher_without_an_answer_ends_it(network: Net) -> None:
    model = copy.deepcopy(network)
    compress(model, images(40), bits=4)
    broken = images(40)
    broken[:] = torch.inf
    with pytest.raises(CompressError, match="the float network answers NaN or infinite"):
        distill(model, network, (broken,), (), held=(images(8),), epochs=1)


def test_a_failure_leaves_the_float_network(network: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> Callable[[], None]:
        raise KeyboardInterrupt

    monkeypatch.setattr("codeq.compress.network.distill_network", fail)
    model = copy.deepcopy(network)
    with pytest.raises(KeyboardInterrupt):
        compress(model, images(40), bits=4, distill=1)
    assert not list(quantized_weights(model))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in model.state_dict().items())
