"""Let BatchNorm train on the statistics of the whole batch, of which every rank holds a part.

    n     = sum of n_r,    mean = sum of n_r mean_r / n                         r over ranks
    M2    = sum of M2_r + n_r (mean_r - mean)^2                                 squared deviations from the mean
    y     = weight * xhat + bias,    xhat = (x - mean) / sqrt(M2 / n + eps)
    dL/dx = weight / sqrt(M2 / n + eps) * (g - sum(g) / n - xhat * sum(g xhat) / n),    g = dL/dy, sums over all ranks

Running statistics move towards mean and M2 / (n - 1), as in torch. The merge is Chan, Golub and LeVeque 1979
("Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", eq. 2.1): exact where a sum of squares
would cancel. Backward: Ioffe and Szegedy 2015, arXiv:1502.03167, section 3.

torch.nn.SyncBatchNorm computes the same for GPUs only: its forward raises for CPU tensors in torch 2.13
("SyncBatchNorm expected input tensor to be on GPU or XPU ...", torch/nn/modules/batchnorm.py).
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from codeq.errors import RanksError
from codeq.training.distributed import total


def merge_moments(counts: Tensor, means: Tensor, squares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Merge the moments of parts to those of the whole.

    Args:
        counts: Elements per part, `(parts, 1)`, float64.
        means: Their mean per channel, `(parts, C)`, float64.
        squares: Their sum of squared deviations from that mean, `(parts, C)`, float64.

    Returns:
        (count, mean, squares) of shapes `(1,)`, `(C,)`, `(C,)`.
    """
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count
    return count, mean, (squares + counts * (means - mean).square()).sum(0)


def gather_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the moments of `x` over all ranks per channel, bit for bit the same on every rank.

    Args:
        x: Float, `(N, C, ...)`; N may differ between ranks and is at least 1.

    Returns:
        (count, mean, squares) as of `merge_moments`, without gradient.
    """
    local = x.detach().to(_precision(x))
    variance, mean = torch.var_mean(local, _reduced_axes(x), correction=0)
    # float64: counts of images times pixels leave the integers of float32 at 2^24.
    count = torch.full((1,), x.numel() // x.shape[1], dtype=torch.float64, device=x.device)
    sent = torch.cat([count, mean.double(), variance.double() * count])
    received = [torch.empty_like(sent) for _ in range(dist.get_world_size())]
    dist.all_gather(received, sent)
    counts, means, squares = torch.stack(received).split([1, x.shape[1], x.shape[1]], dim=1)
    return merge_moments(counts, means, squares)


class _Normalize(torch.autograd.Function):
    """Maps x, weight, bias to y.

    The gradient of x counts the losses of all ranks, that of weight and bias this rank's alone.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        count: Tensor,
        mean: Tensor,
        variance: Tensor,
        eps: float,
    ) -> Tensor:
        precision = _precision(x)
        ctx.save_for_backward(
            x, weight, count.to(precision), mean.to(precision), (variance + eps).rsqrt().to(precision)
        )
        statistics = precision if weight is None else weight.dtype
        return F.batch_norm(x, mean.to(statistics), variance.to(statistics), weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, count, mean, inverse_std = ctx.saved_tensors
        shape, axes = [1, -1] + [1] * (x.ndim - 2), _reduced_axes(x)
        g = gradient.to(mean.dtype)
        xhat = (x.to(mean.dtype) - mean.view(shape)) * inverse_std.view(shape)
        sums = torch.stack([g.sum(axes), (g * xhat).sum(axes)])
        # DistributedDataParallel takes the mean of these over the ranks, as it does for any parameter.
        grad_weight = sums[1].to(weight.dtype) if ctx.needs_input_grad[1] else None
        grad_bias = sums[0].to(mean.dtype if weight is None else weight.dtype) if ctx.needs_input_grad[2] else None
        grad_x = None
        if ctx.needs_input_grad[0]:
            mean_g, mean_gx = total(sums) / count
            factor = inverse_std if weight is None else inverse_std * weight
            grad_x = (g - mean_g.view(shape) - xhat * mean_gx.view(shape)) * factor.view(shape)
            grad_x = grad_x.to(x.dtype)
        return grad_x, grad_weight, grad_bias, None, None, None, None


class _Synchronized(_BatchNorm):
    """Puts a forward pass over all ranks before that of torch, for the classes below."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `(N, C, ...)`; in training every rank must call it, each with at least one input."""
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        self._check_input_dim(input)
        count, mean, squares = gather_moments(input)
        if self.track_running_stats:
            self._track(mean, squares / (count - 1))
        output: Tensor = _Normalize.apply(input, self.weight, self.bias, count, mean, squares / count, self.eps)
        return output

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        # torch's spelling of a cumulative average is None.
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        for running, value in ((self.running_mean, mean), (self.running_var, variance)):
            running.mul_(1 - momentum).add_(value.to(running.dtype), alpha=momentum)


class SynchronizedBatchNorm1d(_Synchronized, nn.BatchNorm1d):
    """Computes `nn.BatchNorm1d` over all ranks."""


class SynchronizedBatchNorm2d(_Synchronized, nn.BatchNorm2d):
    """Computes `nn.BatchNorm2d` over all ranks."""


class SynchronizedBatchNorm3d(_Synchronized, nn.BatchNorm3d):
    """Computes `nn.BatchNorm3d` over all ranks."""


SYNCHRONIZED: Mapping[type[nn.Module], type[_Synchronized]] = {
    nn.BatchNorm1d: SynchronizedBatchNorm1d,
    nn.BatchNorm2d: SynchronizedBatchNorm2d,
    nn.BatchNorm3d: SynchronizedBatchNorm3d,
}


def synchronize_batch_norm(model: nn.Module) -> None:
    """Let every BatchNorm of a network use the whole batch in training, in place; without other ranks do nothing.

    Parameters, buffers, their names, hooks and modes stay, and so does eval mode: only the class changes. A layer so
    changed is an ordinary BatchNorm again wherever there is no process group. nn.SyncBatchNorm stays as it is.

    Args:
        model: Any network, attached or not.

    Raises:
        RanksError: A BatchNorm of another class, whose own forward pass would be lost. Nothing is changed then.
    """
    if not dist.is_initialized():
        return
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    done = (_Synchronized, nn.SyncBatchNorm)
    norms = {name: norm for name, norm in norms.items() if not isinstance(norm, done)}
    for name, norm in norms.items():
        if type(norm) not in SYNCHRONIZED:
            expected = ", ".join(kind.__name__ for kind in SYNCHRONIZED)
            raise RanksError(
                f"{name or type(model).__name__}: cannot synchronize {type(norm).__name__} over ranks, "
                f"expected {expected}; use one of these, or train in one process"
            )
    for norm in norms.values():
        norm.__class__ = SYNCHRONIZED[type(norm)]


def _precision(x: Tensor) -> torch.dtype:
    """Return the dtype in which sums are formed: float32 for half precision, else that of `x`."""
    return torch.promote_types(x.dtype, torch.float32)


def _reduced_axes(x: Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]
