"""Activation quantizers in training: their grid and gradients; training and export mean the same tensors."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import codeq
import models
from codeq.activations.encoding import QUANT_MAX, ActivationEncoding
from codeq.activations.learned_step import ActivationQuantizer, QuantizedActivations
from codeq.errors import AttachError, TraceError
from export import export_onnx


def quantizer(scale: float, zero_point: int) -> ActivationQuantizer:
    module = ActivationQuantizer()
    module.start_at(ActivationEncoding(scale, zero_point))
    return module


@pytest.mark.parametrize(("scale", "zero_point"), [(0.0625, 0), (0.0625, 100), (0.5, 255)])
def test_the_forward_pass_gives_the_values_of_the_grid(scale: float, zero_point: int, rng: torch.Generator) -> None:
    module = quantizer(scale, zero_point)
    encoding = module.encoding()
    assert encoding == ActivationEncoding(scale, zero_point)
    x = torch.randn(10_000, generator=rng) * 10
    expected = (encoding.quantize(x).float() - zero_point) * scale
    assert torch.equal(module(x).detach(), expected)


def test_the_gradient_of_the_step_is_lsqs(rng: torch.Generator) -> None:
    # arXiv:1902.08153, equation 3: rint(v) - v inside, the clip outside; scaled by 1 / sqrt(numel * quant_max).
    x = (torch.randn(999, generator=rng) * 6).requires_grad_()
    upstream = torch.randn(999, generator=rng)
    module = quantizer(0.03125, 120)
    module(x).backward(upstream)
    v = x.detach() / 0.03125
    codes = v.round() + 120
    inside = (codes >= 0) & (codes <= QUANT_MAX)
    slope = torch.where(inside, v.round() - v, codes.clamp(0, QUANT_MAX) - 120)
    expected = (upstream * slope).sum() / (999 * QUANT_MAX) ** 0.5
    # The parameter is log2(scale): d scale / d parameter = scale ln 2.
    assert module.log2_scale.grad is not None
    torch.testing.assert_close(
        module.log2_scale.grad, (expected * 0.03125 * torch.log(torch.tensor(2.0))).reshape(1), rtol=1e-4, atol=1e-6
    )
    assert x.grad is not None
    assert torch.equal(x.grad, torch.where(inside, upstream, torch.zeros(())))


@pytest.mark.parametrize(("zero_point", "moves"), [(0, False), (255, False), (100, True)])
def test_a_zero_point_at_an_end_stays_there(zero_point: int, moves: bool, rng: torch.Generator) -> None:
    module = quantizer(0.0625, zero_point)
    module(torch.randn(999, generator=rng) * 20).sum().backward()
    assert (module.zero_fraction.grad is not None) == moves


class Net(nn.Module):
    """Everything whose mode matters: BatchNorm, dropout, a frozen and a shared layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.again = nn.Conv2d(4, 4, 1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        x = self.again(self.again(x)) + x
        return self.fc(self.drop(x.mean((2, 3))))


def attached(model: nn.Module) -> nn.Module:
    codeq.attach(model, bits=4)
    return model


def test_before_calibration_it_computes_what_the_network_does(rng: torch.Generator) -> None:
    x = torch.randn(6, 1, 8, 8, generator=rng)
    for training in (True, False):
        torch.manual_seed(0)
        plain = attached(Net()).train(training)
        torch.manual_seed(0)
        quantized = QuantizedActivations(attached(Net()), (x[:2],)).train(training)
        torch.manual_seed(1)
        expected = plain(x)
        torch.manual_seed(1)
        torch.testing.assert_close(quantized(x), expected)
        expected.sum().backward()
        quantized(x).sum().backward()
        for name, buffer in plain.named_buffers():
            if training and "running" in name:
                assert not torch.equal(buffer, attached(Net()).get_buffer(name))
        assert quantized.network.conv.parametrizations.weight.original.grad is not None  # type: ignore[union-attr]


def test_statistics_move_in_training_and_only_there(rng: torch.Generator) -> None:
    x = torch.randn(6, 1, 8, 8, generator=rng)
    quantized = QuantizedActivations(attached(Net()), (x[:2],))
    quantized.calibrate((x,))
    norm = quantized.network.norm
    assert isinstance(norm, nn.BatchNorm2d)
    before = norm.running_mean.clone()  # type: ignore[union-attr]
    quantized.eval()(x)
    assert torch.equal(norm.running_mean, before)  # type: ignore[arg-type]
    quantized.train()(x)
    assert not torch.equal(norm.running_mean, before)  # type: ignore[arg-type]
    assert int(norm.num_batches_tracked) == 1  # type: ignore[arg-type]


SMALL = {
    "resnet18": {"input_size": 32},
    "resnet50": {"input_size": 32},
    "mobilenet_v2": {"input_size": 32},
    "tiny_vit": {"depth": 2},
}


@pytest.mark.slow("it calibrates and exports")
@pytest.mark.parametrize(
    "name",
    [n if n == "resnet8" else pytest.param(n, marks=pytest.mark.full) for n in models.MODELS],
)
def test_training_and_export_name_the_same_tensors(name: str, tmp_path: Path, rng: torch.Generator) -> None:
    model = attached(models.create(name, **SMALL.get(name, {})))
    x = torch.randn(4, *model.input_shape, generator=rng)  # type: ignore[misc]
    quantized = QuantizedActivations(model, (x[:2],))
    quantized.calibrate((x,))
    codeq.freeze(model)
    grids = quantized.eval().encodings()
    report = export_onnx(
        model, (x[:2],), tmp_path / "net.onnx", check_inputs=(x,), activations="int8", activation_encodings=grids
    )
    assert {check.name for check in report.verdict.codes} == set(grids)
    # Fake quantization in training is off the integers by the rounding of biases and of folded scales alone.
    fake = next(item for item in report.verdict.reported if item.name.startswith("fake"))
    with torch.no_grad():
        outputs = quantized(x)
    assert fake.max_abs_error < 0.05 * float(outputs.abs().max())


def test_learning_the_steps_lowers_the_loss(rng: torch.Generator) -> None:
    model = attached(Net())
    x = torch.randn(64, 1, 8, 8, generator=rng)
    quantized = QuantizedActivations(model, (x[:2],)).eval()
    quantized.calibrate((x,), "min-max")
    with torch.no_grad():
        for module in quantized.quantizers.values():
            module.log2_scale += 3  # type: ignore[operator]  # an eighth of the levels
    optimizer = torch.optim.Adam(quantized.quantizers.parameters(), lr=0.05)
    with torch.no_grad():
        reference = model(x)
    losses = []
    for _ in range(40):
        loss = F.mse_loss(quantized(x), reference)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_networks_that_cannot_compute_in_integers_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(AttachError, match="no layer of Sequential can compute in integers"):
        QuantizedActivations(model, (torch.rand(2, 4),))
    codeq.attach(model, bits=4, grid="paper")
    with pytest.raises(AttachError, match="no layer of Sequential can compute in integers"):
        QuantizedActivations(model, (torch.rand(2, 4),))


def test_a_network_is_trained_as_it_is_called(tmp_path: Path) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.fc = nn.Embedding(9, 8), nn.Linear(8, 3)

        def forward(self, ids: Tensor, mask: Tensor | None = None) -> dict[str, Tensor | None]:
            x = self.embedding(ids)
            return {"logits": self.fc((x if mask is None else x * mask.unsqueeze(-1)).mean(1)), "loss": None}

    model = Encoder()
    codeq.attach(model)
    inputs = {"mask": torch.ones(6, 4), "ids": torch.randint(9, (6, 4))}
    quantized = codeq.QuantizedActivations(model, inputs)
    quantized.calibrate(inputs)
    quantized(**inputs).sum().backward()
    assert model.fc.bias.grad is not None
    encodings = quantized.encodings()
    report = export_onnx(
        model.eval(), inputs, tmp_path / "net.onnx", activations="int8", activation_encodings=encodings
    )
    assert report.verdict.ok


class Detector(nn.Module):
    """Writes boxes in place, counts its calls, and has a branch and a list of features that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 1)
        self.aux = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x.sub_(0.5)
        y = self.conv(x).relu_()
        _, boxes = self.aux(y), self.head(y)
        boxes[:, :2] = boxes[:, :2].sigmoid() * 8
        boxes[:, -1] += 1
        return boxes


def test_what_nothing_reads_is_not_quantized_and_writes_train(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Detector()
    codeq.attach(model)
    x = torch.rand(4, 3, 8, 8)
    given = x.clone()
    quantized = QuantizedActivations(model, (x[:2],))
    expected = model.eval()(x.clone())
    torch.testing.assert_close(quantized(x), expected)  # not calibrated yet
    quantized.calibrate((x,))
    quantized(x).sum().backward()
    assert torch.equal(x, given)
    assert model.conv.parametrizations.weight.original.grad is not None  # type: ignore[union-attr]
    assert not [name for name in quantized.encodings() if name.startswith("aux")]
    codeq.freeze(model)
    report = export_onnx(
        model, (x,), tmp_path / "net.onnx", activations="int8", activation_encodings=quantized.encodings()
    )
    assert report.verdict.ok
    assert {kernel.name: kernel.kernel for kernel in report.kernels if kernel.name in ("conv", "head")} == {
        "conv": "QLinearConv",
        "head": "QLinearConv",
    }


def test_state_cannot_be_trained_and_is_named() -> None:
    class Smooths(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x) + self.last
            self.last.copy_(y[:1].detach())
            return y

    model = Smooths(3, 3)
    model.register_buffer("last", torch.zeros(1, 3))
    codeq.attach(model)
    with pytest.raises(TraceError, match="the buffer 'last' is state"):
        QuantizedActivations(model, (torch.rand(2, 3),))


class Casts(nn.Module):
    def __init__(self, change: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 3)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        if not self.change:
            return self.fc(F.relu(self.norm(self.conv(x))).flatten(1))
        y = F.relu(self.norm(self.conv(x.float()).to(x.dtype)).contiguous()).clone().detach()
        return self.fc(F.relu(y.type_as(x)).cpu().view(x.shape[0], -1))


def test_casts_that_change_nothing_hide_no_layer_in_training_nor_in_its_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 1, 8, 8)
    names = {}
    for change in (False, True):
        model = Casts(change)
        codeq.attach(model, bits=4)
        quantized = QuantizedActivations(model, x[:2])
        quantized.calibrate(x)
        quantized(x).sum().backward()
        names[change] = list(quantized.encodings())
        codeq.freeze(model)
        report = export_onnx(
            model.eval(),
            (x,),
            tmp_path / f"{change}.onnx",
            activation_encodings=quantized.encodings(),
            activations="int8",
        )
        assert [kernel.kernel for kernel in report.kernels][:1] == ["QLinearConv"]
    assert names[True][:2] == names[False] == ["input", "conv"]


def test_a_tensor_that_8_bits_cannot_hold_is_logged_and_can_be_left_out(caplog: pytest.LogCaptureFixture) -> None:
    class Extreme(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = F.pad(self.one(x), (2, 2, 2, 2))
            return self.two(y * torch.rsqrt(y.square().mean(1, keepdim=True) + 1e-6))

    torch.manual_seed(0)
    model = Extreme()
    codeq.attach(model, bits=4)
    x = torch.randn(8, 3, 6, 6)
    QuantizedActivations(model, x[:2]).calibrate(x)
    assert "8 bits of rsqrt leave mul " in caplog.text
    assert "leave the layers that make and read rsqrt out (exclude)" in caplog.text
    caplog.clear()
    left_out = QuantizedActivations(model, x[:2], exclude=["mul"])
    left_out.calibrate(x)
    assert "8 bits of" not in caplog.text
    assert list(left_out.encodings()) == ["input", "one", "mul", "two"]
