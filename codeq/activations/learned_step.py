"""Train activation quantizers in the training loop: the step of every activation is learned with the weights.

    y = scale * (clip(rint(x / scale) + zero_point, 0, 255) - zero_point)

The gradient of scale is LSQ's (Esser et al. 2020, arXiv:1902.08153, eq. 3 and 5), that of the zero point LSQ+'s
(Bhalgat et al. 2020, arXiv:2004.09576), as torch's own operator computes them; x gets the gradient of y inside the
range, none outside. The parameters are log2(scale) and zero_point / 255, so that one learning rate suits every tensor
under Adam (Jain et al. 2020, arXiv:1903.08066, on thresholds in the logarithmic domain). A zero point that starts at an
end of its range, as behind a relu, stays there.
"""

import copy
import logging
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.fx import Node

from codeq.activations.calibrate import calibrate
from codeq.activations.encoding import QUANT_MAX, ActivationEncoding
from codeq.activations.guard import useless_grids
from codeq.activations.methods import Method
from codeq.activations.plan import ActivationPlan, plan_activations
from codeq.data.collect import CalibrationInputs, collect_calibration
from codeq.errors import AttachError
from codeq.graph.canonical import canonicalize, merge_equal, refuse_writes
from codeq.graph.inputs import Inputs, split_inputs
from codeq.graph.nodes import GraphRunner, state_name
from codeq.graph.operators import CLAMPS
from codeq.graph.trace import trace
from codeq.quantizer.attach import detach, quantized_weights

logger = logging.getLogger(__name__)

aten = torch.ops.aten

DROPOUTS = {aten.dropout.default: torch.dropout, aten.feature_dropout.default: torch.feature_dropout}


class ActivationQuantizer(nn.Module):
    """Fake-quantizes one tensor, or several that share a grid, to uint8."""

    def __init__(self, max_scale: float = float("inf")) -> None:
        """Start at a scale of 1.

        Args:
            max_scale: Largest scale. It keeps the range within the limits of a clamp such as relu6, whose work
                saturation then does.
        """
        super().__init__()
        self.max_scale = max_scale
        self.log2_scale = nn.Parameter(torch.zeros(1))
        self.zero_fraction = nn.Parameter(torch.zeros(1))

    @torch.no_grad()
    def start_at(self, encoding: ActivationEncoding) -> None:
        """Take the grid that calibration chose."""
        self.log2_scale.fill_(encoding.scale).log2_()
        self.zero_fraction.fill_(encoding.zero_point / QUANT_MAX)

    def forward(self, x: Tensor) -> Tensor:
        """Round float32 values of any shape to the grid: at most QUANT_MAX + 1 different ones are left."""
        zero_point = self.zero_fraction * QUANT_MAX
        if bool(self._at_end()):
            zero_point = zero_point.detach()
        # LSQ's factor counts the elements of the whole batch, of which other ranks may hold parts.
        ranks = dist.get_world_size() if dist.is_initialized() else 1
        factor = (x.numel() * ranks * QUANT_MAX) ** -0.5
        quantized: Tensor = torch._fake_quantize_learnable_per_tensor_affine(
            x, self.log2_scale.exp2().clamp(max=self.max_scale), zero_point, 0, QUANT_MAX, factor
        )
        return quantized

    def encoding(self) -> ActivationEncoding:
        """Return the grid as it is now."""
        zero_point = round(float(self.zero_fraction.detach()) * QUANT_MAX)
        scale = self.log2_scale.detach().exp2().clamp(max=self.max_scale)
        return ActivationEncoding(float(scale), min(QUANT_MAX, max(0, zero_point)))

    def _at_end(self) -> Tensor:
        return (self.zero_fraction == 0) | (self.zero_fraction == 1)


class QuantizedActivations(nn.Module):
    """Wraps a network and fake-quantizes its activations where integer kernels will have them.

    The network's own modules hold all weights, statistics and modes: train it, freeze it and encode it as before.
    Buffers that `forward` writes itself and that no output reads, such as a counter, stay as they are. Until
    `calibrate` is called activations stay float.

    Args:
        network: Attached, on integer grids.
        example_inputs: One small batch: a tensor, a tuple in the order of the network's arguments, or a mapping of
            argument names to tensors. It is called in the same form.
        exclude: Layers that stay float: names, globs, `re:` expressions or types such as `Linear`. An export must leave
            them out too (`activations_except`).

    Raises:
        TraceError: torch.export refuses the network, it computes in half precision, or one call leaves state for the
            next.
        AttachError: No layer of it can compute in integers.

    Examples:
        quantized = QuantizedActivations(model, (images[:2],))
        quantized.calibrate((images,))
        loss = F.cross_entropy(quantized(images), labels)  # optimize model and quantized.quantizers
        codeq.save("net.pt", model, input_shape=(3, 32, 32), activations=quantized.encodings())
    """

    def __init__(self, network: nn.Module, example_inputs: Inputs, *, exclude: Iterable[str] = ()) -> None:
        super().__init__()
        tensors, self._names = split_inputs(network, example_inputs)
        self._arity = len(tensors)
        self.network = network
        grids = {weight.name: weight.quantizer.grid for weight in quantized_weights(network)}
        plain = detach(copy.deepcopy(network)).eval()
        with torch.no_grad():
            self._exported = trace(plain, tensors, self._names)
        canonicalize(self._exported)
        merge_equal(self._exported)
        refuse_writes(self._exported)

        def refuse_weight(node: Node) -> str:
            grid = grids.get(state_name(self._exported, node) or "")
            return "" if grid == "integer" else "its weight is not quantized on an integer grid"

        self.plan: ActivationPlan = plan_activations(
            self._exported, refuse_weight, exclude=exclude, absorb_batch_norm=True
        )
        if not self.plan.layers:
            raise AttachError(f"no layer of {type(network).__name__} can compute in integers; attach it first")
        limits = {
            name: CLAMPS[node.target](node)[1] / QUANT_MAX
            for node, name in self.plan.tensors.items()
            if node.target in CLAMPS
        }
        self.quantizers = nn.ModuleDict(
            {_key(grid): ActivationQuantizer(limits.get(grid, float("inf"))) for grid in self.plan.grids.values()}
        )
        self.register_buffer("calibrated", torch.tensor(False))
        self.quantizers.to(tensors[0].device)
        self._exported.state_dict.clear()  # the live tensors are the network's

    def calibrate(self, inputs: CalibrationInputs, method: Method = "mse") -> None:
        """Start every grid from what inputs give. A tensor that 8 bits cannot hold is logged as a warning.

        Args:
            inputs: In the form of the example, or a DataLoader or another iterable of batches in that form; its labels
                are left out.
            method: As for `codeq.activations.calibrate.calibrate`.

        Raises:
            CalibrationError: No inputs, or a tensor without a usable range.
        """
        training = self.network.training
        self.network.eval()
        given, _ = split_inputs(self.network, collect_calibration(inputs, arity=self._arity))
        tensors = self._tensors()
        encodings = calibrate(self._exported, self.plan, given, method, tensors=tensors)
        for name, reason in useless_grids(self._exported, self.plan, encodings, given, tensors=tensors).items():
            logger.warning("%s; leave the layers that make and read %s out (exclude)", reason, name)
        self.network.train(training)
        for name, grid in self.plan.grids.items():
            self.quantizers[_key(grid)].start_at(encodings[name])  # type: ignore[operator]
        self.calibrated.fill_(True)  # type: ignore[operator]

    def encodings(self) -> dict[str, ActivationEncoding]:
        """Return the grid of every quantized tensor, by name: what `codeq.save` stores."""
        return {
            name: self.quantizers[_key(grid)].encoding()  # type: ignore[operator]
            for name, grid in self.plan.grids.items()
        }

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        """Compute what the network returns, called as the example was.

        Returns:
            The output; several as a flat tuple, None left out.
        """
        given = tuple(named[name] for name in self._names) if self._names else inputs
        outputs = _TrainingRunner(self).compute(given, self._tensors())
        return outputs[0] if len(outputs) == 1 else outputs

    def _tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers as they are now, quantized weights quantized."""
        quantized = {weight.name: weight for weight in quantized_weights(self.network)}
        tensors: dict[str, Tensor] = dict(self._exported.constants)
        parameters: dict[str, Tensor] = dict(self.network.named_parameters(remove_duplicate=False))
        parameters |= dict(self.network.named_buffers(remove_duplicate=False))
        for spec in self._exported.graph_signature.input_specs:
            name = spec.target
            if name is None or name in tensors:
                continue
            if name in quantized:
                tensors[name] = getattr(quantized[name].module, quantized[name].tensor_name)
            else:
                tensors[name] = parameters[name]
        return tensors


class _TrainingRunner(GraphRunner):
    """Runs BatchNorm and dropout in the network's mode, and quantizes where the plan says."""

    def __init__(self, owner: QuantizedActivations) -> None:
        super().__init__(owner._exported)
        self.owner = owner
        self.quantize = bool(owner.calibrated)

    def compute_node(self, n: Node) -> Any:
        value = self._value(n)
        name = self.owner.plan.tensors.get(n) if self.quantize else None
        return value if name is None else self.owner.quantizers[_key(self.owner.plan.grids[name])](value)

    def _value(self, node: Node) -> Any:
        x = self.env[node.args[0]] if node.args and isinstance(node.args[0], Node) else None
        if node.target is aten.batch_norm.default and isinstance(node.args[3], Node):
            path = (state_name(self.owner._exported, node.args[3]) or "").rpartition(".")[0]
            module = self.owner.network.get_submodule(path)
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                return module(x)
        if node.target in DROPOUTS:
            return DROPOUTS[node.target](x, float(node.args[1]), self.owner.network.training)  # type: ignore[arg-type]
        return super().compute_node(node)


def _key(grid: str) -> str:
    return "of " + grid.replace("/", "//").replace(".", "/")  # no name of ModuleDict's own methods
