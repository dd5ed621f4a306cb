"""Networks as others quantize them: the published operator by its equations, torch.ao's QAT, an LSQ of one's own."""

import warnings

import torch
import torch.ao.quantization as ao
from torch import Tensor, nn
from torch.ao.quantization.quantize_fx import prepare_qat_fx
from torch.nn.utils import parametrize

MAX_BITS, MIN_BITS = 8.0, 2.0


class Published(nn.Module):
    """The operator of arXiv:2512.12981, by its equations, with the names that its authors save it under."""

    def __init__(self, bits: int | None, logit_dz: float = 3.0, logit_bit: float = 3.0) -> None:
        super().__init__()
        self.logit_dz = nn.Parameter(torch.tensor(logit_dz))
        self.logit_bit = nn.Parameter(torch.tensor(logit_bit))
        self.register_buffer("fixed_bit", torch.tensor(float(bits or 4)))
        self.register_buffer("max_bits", torch.tensor(MAX_BITS))
        self.register_buffer("min_bits", torch.tensor(MIN_BITS))
        self.register_buffer("learnable_bit", torch.tensor(float(bits is None)))
        self.register_buffer("learnable_deadzone", torch.tensor(1.0))
        self.bits = bits

    def forward(self, w: Tensor) -> Tensor:
        magnitude = w.detach().abs()
        r = _quantile(magnitude.flatten(), 0.99)
        learned = (torch.tanh(self.logit_bit).abs() * (MAX_BITS - MIN_BITS) + MIN_BITS).round()
        b = learned if self.bits is None else torch.tensor(float(self.bits))
        d = 2 * r * (1 - torch.tanh(self.logit_dz).abs())
        q = 2 ** (b - 1) - 1
        s = (r - d / 2) / (q - 0.5) + 1e-8
        shift = d / 2 - s / 2
        k = (w.sign() * torch.relu(magnitude - shift) / s).round().clamp(-q, q)
        return s * k + shift * k.sign()


def _quantile(values: Tensor, q: float) -> Tensor:
    """Interpolate between two order statistics; torch.quantile rounds the position to float32 first."""
    position = q * (len(values) - 1)
    low = int(position)
    ordered = values.sort().values
    if position == low:
        return ordered[low]
    return ordered[low].lerp(ordered[low + 1], torch.tensor(position - low))


class _Parametrization(nn.Module):
    def __init__(self, quantizer: nn.Module) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, w: Tensor) -> Tensor:
        return self.quantizer(w)  # type: ignore[no-any-return]


def publish(model: nn.Module, *quantizers: Published) -> nn.Module:
    """Attach to everything with a weight, as the published helper does; the quantizers in turn."""
    modules = [module for module in model.modules() if isinstance(getattr(module, "weight", None), nn.Parameter)]
    for index, module in enumerate(modules):
        parametrization = _Parametrization(quantizers[index % len(quantizers)])
        parametrize.register_parametrization(module, "weight", parametrization)
    return model


class LearnedStep(nn.Module):
    """LSQ as a parametrization: arXiv:1902.08153, eq. 1 and 2."""

    def __init__(self, step: Tensor, bits: int) -> None:
        super().__init__()
        self.step = nn.Parameter(step)
        self.quant_max = 2 ** (bits - 1) - 1

    def forward(self, w: Tensor) -> Tensor:
        scaled = (w / self.step).clamp(-self.quant_max, self.quant_max)
        return (scaled + (scaled.round() - scaled).detach()) * self.step


@torch.no_grad()
def descend(model: nn.Module, rate: float) -> None:
    """One step of gradient descent; torch.optim takes a second to import."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter -= rate * parameter.grad
            parameter.grad = None


class ForAo(nn.Module):
    """A network that torch.ao can prepare: a fused convolution, a residual sum, a pool and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = ao.QuantStub(), ao.DeQuantStub()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.sum = nn.quantized.FloatFunctional()
        self.pool, self.fc = nn.MaxPool2d(2), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.conv(self.quant(x))))
        x = self.sum.add(x, self.bn2(self.conv2(x)))
        result: Tensor = self.dequant(self.fc(torch.flatten(self.pool(x), 1)))
        return result


def qconfig(*, per_channel: bool, quant_min: int = -127, quant_max: int = 127, activation_max: int = 255) -> ao.QConfig:
    kind = ao.MovingAveragePerChannelMinMaxObserver if per_channel else ao.MovingAverageMinMaxObserver
    scheme = torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric
    weight = {"observer": kind, "quant_min": quant_min, "quant_max": quant_max, "dtype": torch.qint8, "qscheme": scheme}
    activation = {"observer": ao.MovingAverageMinMaxObserver, "quant_min": 0, "quant_max": activation_max}
    fake = ao.FusedMovingAvgObsFakeQuantize if per_channel else ao.FakeQuantize
    return ao.QConfig(ao.FakeQuantize.with_args(dtype=torch.quint8, **activation), fake.with_args(**weight))


def prepare_with_ao(config: ao.QConfig, *, fused: bool = True) -> nn.Module:
    model: nn.Module = ForAo().train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # "will be removed in 2.10"
        if fused:
            model = ao.fuse_modules_qat(model, [["conv", "bn", "relu"], ["conv2", "bn2"]])
        model.qconfig = config  # type: ignore[assignment]
        return ao.prepare_qat(model)  # type: ignore[no-any-return]


def train_with_ao(config: ao.QConfig, *, fused: bool = True, steps: int = 8) -> nn.Module:
    """QAT for a few steps; in eval mode, observers off."""
    torch.manual_seed(0)
    return _train(prepare_with_ao(config, fused=fused), steps)


def train_with_ao_fx(config: ao.QConfig) -> nn.Module:
    """Likewise, prepared by torch.fx."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        mapping = ao.QConfigMapping().set_global(config)
        return _train(prepare_qat_fx(ForAo().train(), mapping, (torch.randn(2, 3, 8, 8),)), 8)


def _train(prepared: nn.Module, steps: int) -> nn.Module:
    for _ in range(steps):
        loss = nn.functional.cross_entropy(prepared(torch.randn(16, 3, 8, 8)), torch.randint(0, 10, (16,)))
        loss.backward()
        descend(prepared, 0.05)
    return prepared.eval().apply(ao.disable_observer)
