"""Make parameter groups for any optimizer, with one meaning of lambda under all of them.

The paper's loss has lambda_dz * sum(theta_dz^2) + lambda_bit * sum(theta_bit^2), and its curves are those of
SGD(lr, momentum 0.9, weight_decay=lambda) on theta: with no task gradient theta falls by the factor
1 - lr * lambda / (1 - 0.9) per step. That is what lambda and `theta_lr` mean here, whatever the optimizer:

- SGD with momentum mu: weight_decay = lambda * (1 - mu) / (1 - 0.9), and lr likewise, so that the step is the same.
- AdamW and its kin divide by the gradient's magnitude, which would let noise move theta. With eps far above any
  gradient, their update lr * m / (sqrt(v) + eps) is SGD with momentum at the rate lr / eps; decay is decoupled, hence
  lr = theta_lr * eps / (1 - 0.9) and weight_decay = lambda / eps.
"""

from typing import Any

import torch
from torch import nn

from codeq.quantizer.attach import quantized_weights

REFERENCE_MOMENTUM = 0.9
ADAM_EPS = 10.0
"""Far above the gradients of theta (order 0.01 to 1), so that Adam's division is by a constant."""


def param_groups(
    model: nn.Module,
    optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
    *,
    lr: float,
    weight_decay: float = 0.0,
    momentum: float = REFERENCE_MOMENTUM,
    theta_lr: float = 1e-3,
    lambda_dz: float = 0.01,
    lambda_bit: float = 0.01,
) -> list[dict[str, Any]]:
    """Split the parameters of an attached network by kind, each with its own learning rate and decay.

    Args:
        model: A network, attached or not.
        optimizer: The class that will receive the groups: SGD, AdamW, or Adam and NAdam, which get
            `decoupled_weight_decay=True` for theta.
        lr: Learning rate of the weights.
        weight_decay: Decay of weights of two or more dimensions; biases and norms get none.
        momentum: SGD's, for all groups. Other optimizers ignore it.
        theta_lr: Learning rate of theta in the paper's terms (SGD, momentum 0.9).
        lambda_dz: Pull on the dead zones: larger means more zeros.
        lambda_bit: Pull on learned bit widths: larger means fewer bits.

    Returns:
        Groups with the key "kind" ("weights", "no_decay", "theta_dz", "theta_bit"), empty ones left out.

    Raises:
        ValueError: An optimizer whose weight decay passes through a normalised gradient, so that lambda would mean
            nothing there (RMSprop, Adagrad, ...), or an argument out of range.

    Examples:
        >>> from models import resnet8
        >>> import codeq
        >>> model = resnet8()
        >>> report = codeq.attach(model)
        >>> groups = codeq.param_groups(model, torch.optim.AdamW, lr=1e-3, lambda_dz=0.02)
        >>> optimizer = torch.optim.AdamW(groups)
    """
    values = {"lr": lr, "weight_decay": weight_decay, "theta_lr": theta_lr}
    values |= {"lambda_dz": lambda_dz, "lambda_bit": lambda_bit}
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"{name} must be 0 or more, found {value!r}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), found {momentum!r}")

    # A shared weight has one quantizer; dict keeps each parameter once and in order.
    quantizers = dict.fromkeys(weight.quantizer for weight in quantized_weights(model))
    theta_dz = [quantizer.theta_dz for quantizer in quantizers]
    theta_bit = [quantizer.theta_bit for quantizer in quantizers if quantizer.theta_bit is not None]
    thetas = {id(parameter) for parameter in (*theta_dz, *theta_bit)}
    others = [parameter for parameter in model.parameters() if id(parameter) not in thetas]

    common: dict[str, Any] = {"lr": lr}
    if issubclass(optimizer, torch.optim.SGD):
        common["momentum"] = momentum
    groups = [
        {"kind": "weights", "params": [p for p in others if p.ndim >= 2], "weight_decay": weight_decay} | common,
        {"kind": "no_decay", "params": [p for p in others if p.ndim < 2], "weight_decay": 0.0} | common,
        {"kind": "theta_dz", "params": theta_dz} | _theta_options(optimizer, theta_lr, lambda_dz, momentum),
        {"kind": "theta_bit", "params": theta_bit} | _theta_options(optimizer, theta_lr, lambda_bit, momentum),
    ]
    return [group for group in groups if group["params"]]


def _theta_options(
    optimizer: type[torch.optim.Optimizer], theta_lr: float, strength: float, momentum: float
) -> dict[str, Any]:
    if issubclass(optimizer, torch.optim.SGD):
        rate = theta_lr * (1 - momentum) / (1 - REFERENCE_MOMENTUM)
        return {"lr": rate, "weight_decay": strength, "momentum": momentum}
    if not issubclass(optimizer, torch.optim.Adam | torch.optim.NAdam):  # AdamW is a subclass of Adam
        raise ValueError(
            f"lambda has no meaning under {optimizer.__name__}, whose weight decay is part of a normalised gradient; "
            "use SGD, AdamW, Adam or NAdam, or give the theta parameters an SGD optimizer of their own"
        )
    options: dict[str, Any] = {
        "lr": theta_lr * ADAM_EPS / (1 - REFERENCE_MOMENTUM),
        "weight_decay": strength / ADAM_EPS,
        "eps": ADAM_EPS,
    }
    if not issubclass(optimizer, torch.optim.AdamW):
        options["decoupled_weight_decay"] = True
    return options
