"""Measure what an epoch gave: loss, accuracy, zeros, bits and costs, of the network and of each of its layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from codeq.cost import FLOAT_BITS, CostSummary, summary
from codeq.quantizer.attach import quantized_weights
from codeq.training.budget_controller import BudgetController
from codeq.training.recipe import TrainConfig


@dataclass(frozen=True)
class EpochResult:
    """Holds what an epoch gave.

    Attributes:
        epoch: From 0.
        loss: Mean training loss.
        test_accuracy, sparsity: In [0, 1].
        bits: Mean bits per quantized weight.
        relative_bops: As in `CostSummary`, in [0, 1].
        entropy_bytes: Shannon bound of the codes.
        lambda_dz: As it was at the end; the controller's with a budget, 0 once grids are frozen.
        zeros_range, bits_range: The least and the most of any layer.
        macs: Multiply-adds that are left without the channels that do not live, in [0, 1].
        latency: Likewise of what the int8 file takes, where kernels were timed.
    """

    epoch: int
    loss: float
    test_accuracy: float
    sparsity: float
    bits: float
    relative_bops: float
    entropy_bytes: float
    lambda_dz: float
    zeros_range: tuple[float, float]
    bits_range: tuple[int, int]
    macs: float = 1.0
    latency: float = 1.0

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> "EpochResult":
        """Rebuild a result from what `dataclasses.asdict` made of it and a file may have turned into lists.

        Raises:
            KeyError, TypeError: The row has not all fields, or others.
        """
        pairs = {name: tuple(row[name]) for name in ("zeros_range", "bits_range")}
        return cls(**(row | pairs))

    def __str__(self) -> str:
        zeros, bits = self.zeros_range, self.bits_range
        widths = f"bits {self.bits:.2f}" + (f" ({bits[0]} to {bits[1]})" if bits[0] != bits[1] else "")
        left = f"  multiply-adds {self.macs:.1%}" if self.macs < 1 else ""
        left += f"  latency {self.latency:.1%}" if self.latency < 1 else ""
        return (
            f"loss {self.loss:.4f}  accuracy {self.test_accuracy:.2%}  "
            f"zeros {self.sparsity:.1%} ({zeros[0]:.0%} to {zeros[1]:.0%})  {widths}{left}"
        )


def measure_epoch(
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    epoch: int,
    loss: float,
    test_accuracy: float,
    lambda_dz: float,
    macs: float = 1.0,
    latency: float = 1.0,
) -> tuple[EpochResult, list[dict[str, Any]]]:
    """Take the measures of a network at the end of an epoch.

    Args:
        model: The network, attached or a float twin.
        input_shape: Shape of one input without its batch dimension.
        epoch, loss, test_accuracy, lambda_dz, macs, latency: As in `EpochResult`.

    Returns:
        The result, and the `layers` of the epoch's record (run_log.py): one entry per quantized weight.
    """
    cost = summary(model, input_shape)
    thetas = {weight.name: weight.quantizer for weight in quantized_weights(model)}
    quantized = [layer for layer in cost.layers if layer.name in thetas]
    layers = [
        {
            "name": layer.name,
            "bits": layer.weight_bits,
            "sparsity": layer.sparsity,
            "theta_dz": thetas[layer.name].theta_dz.item(),
            "theta_bit": None if (theta := thetas[layer.name].theta_bit) is None else theta.item(),
        }
        for layer in quantized
    ]
    numel = sum(layer.numel for layer in quantized)
    zeros = [layer.sparsity for layer in quantized] or [0.0]
    bits = [layer.weight_bits for layer in quantized] or [FLOAT_BITS]
    result = EpochResult(
        epoch=epoch,
        loss=loss,
        test_accuracy=test_accuracy,
        sparsity=sum(layer.numel - layer.nnz for layer in quantized) / numel if numel else 0.0,
        bits=sum(layer.weight_bits * layer.numel for layer in quantized) / numel if numel else FLOAT_BITS,
        relative_bops=cost.relative_bops,
        entropy_bytes=cost.entropy_bytes,
        lambda_dz=lambda_dz,
        zeros_range=(min(zeros), max(zeros)),
        bits_range=(min(bits), max(bits)),
        macs=macs,
        latency=latency,
    )
    return result, layers


def current_lambdas(config: TrainConfig, model: nn.Module, controller: BudgetController | None) -> tuple[float, float]:
    """Return the pulls on dead zones and on bits as they are now, (lambda_dz, lambda_bit); 0 once grids are frozen.

    Args:
        config: The run.
        model: Its network.
        controller: What steers the pulls towards the run's budget; None where lambda is fixed.
    """
    if config.is_float or any(bool(weight.quantizer.frozen) for weight in quantized_weights(model)):
        return 0.0, 0.0
    lambda_dz = (config.lambda_dz or 0.0) if controller is None else controller.strength
    if config.bits is not None:
        return lambda_dz, 0.0
    steered = 0.0 if controller is None else controller.strength * controller.bit_ratio
    return lambda_dz, steered + config.acting_lambda_bit  # one of them is 0


def is_best(history: Sequence[EpochResult], first: int) -> bool:
    """Tell whether the last epoch is more accurate than all before it from `first` on; there must be one."""
    accuracies = [result.test_accuracy for result in history[first:]]
    return accuracies[-1] > max(accuracies[:-1], default=-1.0)


def final_metrics(test_accuracy: float, cost: CostSummary) -> dict[str, float]:
    """Collect the metrics that the checkpoint of a finished run holds."""
    return {
        "test_accuracy": test_accuracy,
        "sparsity": cost.sparsity,
        "mean_bits": cost.mean_bits,
        "relative_bops": cost.relative_bops,
        "entropy_bytes": cost.entropy_bytes,
    }
