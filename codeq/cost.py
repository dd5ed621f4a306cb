"""Count what a network costs: MACs, BOPs, zeros, bits and bytes, per layer and in total.

BOPs of a layer = density * MACs * weight_bits * activation_bits, with activation_bits = 32 as in the paper
(arXiv:2512.12981); relative BOPs are against dense 32 x 32 bits. MACs of a layer count its multiply-adds
for one input, biases and activations not counted. Recurrent layers, which stay float, count with all their steps.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from codeq.graph.eval_mode import eval_mode
from codeq.graph.inputs import Inputs, call, slice_inputs, split_inputs
from codeq.graph.kept_state import kept_state
from codeq.graph.weight_use import WeightUse
from codeq.quantizer.attach import encode, recurrent_weight_names, weight_name, weight_names
from codeq.toolkit.table import format_bytes, render_table

FLOAT_BITS = 32


@dataclass(frozen=True)
class LayerCost:
    """Counts what one weight costs.

    Attributes:
        name, shape: The weight's.
        weight_bits: Bits per code with sign; 32 for a float weight.
        nnz: Non-zero entries.
        macs: Multiply-adds with it for one input.
        entropy_bytes: Shannon bound of its codes; 4 bytes for each entry of a float weight.
        is_pointwise: Whether it is a 1x1 convolution of every pixel, without groups: LiteRT can compute those of floats
            without their zeros (docs/glossary.md, sparse inference).
    """

    name: str
    shape: tuple[int, ...]
    weight_bits: int
    nnz: int
    macs: int
    entropy_bytes: float
    is_pointwise: bool = False

    @property
    def numel(self) -> int:
        """Count the entries of the weight."""
        return math.prod(self.shape)

    @property
    def sparsity(self) -> float:
        """Return the share of exact zeros, in [0, 1]."""
        return 1 - self.nnz / self.numel

    @property
    def bops(self) -> float:
        """Count bit operations with float32 activations, the paper's definition."""
        return self.nnz / self.numel * self.macs * self.weight_bits * FLOAT_BITS


@dataclass(frozen=True)
class CostSummary:
    """Holds the costs of all layers and adds them up. `print(summary)` shows a table."""

    layers: tuple[LayerCost, ...]

    @property
    def numel(self) -> int:
        """Count the entries of all listed weights."""
        return sum(layer.numel for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Return the share of zeros in all listed weights, in [0, 1]."""
        return 1 - sum(layer.nnz for layer in self.layers) / self.numel

    @property
    def pointwise_sparsity(self) -> float:
        """Return the share of zeros in 1x1 convolutions, in [0, 1]; 0 where there are none."""
        layers = [layer for layer in self.layers if layer.is_pointwise]
        return 1 - sum(layer.nnz for layer in layers) / sum(layer.numel for layer in layers) if layers else 0.0

    @property
    def macs(self) -> int:
        """Count the multiply-adds for one input."""
        return sum(layer.macs for layer in self.layers)

    @property
    def bops(self) -> float:
        """Count the bit operations for one input, with float32 activations."""
        return sum(layer.bops for layer in self.layers)

    @property
    def relative_bops(self) -> float:
        """Divide the BOPs by those of the dense float32 network: a share in [0, 1]."""
        return self.bops / (self.macs * FLOAT_BITS * FLOAT_BITS) if self.macs else 0.0

    @property
    def mean_bits(self) -> float:
        """Average the bits per entry over all listed weights."""
        return sum(layer.weight_bits * layer.numel for layer in self.layers) / self.numel

    @property
    def entropy_bytes(self) -> float:
        """Add up the Shannon bounds of the codes, in bytes."""
        return sum(layer.entropy_bytes for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain values: `layers`, a list of one dictionary each, and `total`."""
        derived = ("numel", "sparsity", "bops")
        layers = [asdict(layer) | {name: getattr(layer, name) for name in derived} for layer in self.layers]
        totals = ("numel", "sparsity", "macs", "bops", "relative_bops", "mean_bits", "entropy_bytes")
        return {"layers": layers, "total": {name: getattr(self, name) for name in totals}}

    def __str__(self) -> str:
        rows = [
            (
                layer.name,
                "x".join(map(str, layer.shape)),
                str(layer.weight_bits),
                f"{layer.sparsity:.1%}",
                f"{layer.macs:,}",
                f"{layer.bops / 1e6:,.2f}",
                format_bytes(layer.entropy_bytes),
            )
            for layer in self.layers
        ]
        total = (
            "total",
            f"{self.numel:,}",
            f"{self.mean_bits:.2f}",
            f"{self.sparsity:.1%}",
            f"{self.macs:,}",
            f"{self.bops / 1e6:,.2f}",
            format_bytes(self.entropy_bytes),
        )
        table = render_table(("weight", "shape", "bits", "zeros", "MACs", "MBOPs", "entropy bound"), rows, total)
        return f"{table}\nrelative BOPs {self.relative_bops:.2%} of dense 32 x 32 bits"


def summary(
    model: nn.Module, input_shape: tuple[int, ...] | None = None, *, inputs: Inputs | None = None
) -> CostSummary:
    """Count what a network costs for one input.

    Args:
        model: A network, attached or plain. Weights without a quantizer count as dense 32-bit ones.
        input_shape: Shape of one input without the batch dimension, e.g. `(3, 32, 32)`. Float input.
        inputs: In its place the inputs of a network that takes several, or integers, as `export_onnx` takes them; the
            first of the batch is counted.

    Raises:
        ValueError: A quantized weight has NaN or infinite entries, the network has no layer that counts, or not one of
            `input_shape` and `inputs` is given.
        TraceError: The network does not take such inputs.
    """
    macs = _count_macs(model, *_one_input(model, input_shape, inputs))
    encodings = encode(model)
    pointwise = {weight_name(name, "weight") for name, module in model.named_modules() if _is_pointwise(module)}
    layers = []
    for name, weight in _weights(model).items():
        shape, count = tuple(weight.shape), macs.get(name, 0)
        encoding = encodings.get(name)
        if encoding is None:
            nnz = int(torch.count_nonzero(weight))
            bound = math.prod(shape) * FLOAT_BITS / 8
            layers.append(LayerCost(name, shape, FLOAT_BITS, nnz, count, bound, name in pointwise))
        else:
            entropy_bytes = encoding.entropy_bits() / 8
            layers.append(
                LayerCost(name, shape, encoding.bit_width, encoding.nnz, count, entropy_bytes, name in pointwise)
            )
    if not layers:
        raise ValueError(f"{type(model).__name__} has no convolution, linear or recurrent layer")
    return CostSummary(tuple(layers))


def _is_pointwise(module: nn.Module) -> bool:
    if not isinstance(module, nn.Conv2d) or module.groups != 1:
        return False
    return module.kernel_size == module.stride == (1, 1)


def _one_input(
    model: nn.Module, input_shape: tuple[int, ...] | None, inputs: Inputs | None
) -> tuple[tuple[Tensor, ...], tuple[str, ...]]:
    if isinstance(input_shape, Mapping):
        raise ValueError(
            f"input_shape is of several inputs, {', '.join(input_shape)}; give them: codeq.summary(model, inputs=...), "
            "e.g. the held_inputs of a checkpoint"
        )
    if inputs is not None and input_shape is None:
        return split_inputs(model, slice_inputs(inputs, slice(1)))
    if inputs is not None or input_shape is None:
        raise ValueError("codeq.summary takes one of input_shape and inputs")
    parameter = next(model.parameters(), torch.zeros(()))
    return (torch.zeros(1, *input_shape, dtype=parameter.dtype, device=parameter.device),), ()


def _counted(module: nn.Module) -> tuple[str, ...]:
    """The weights of a layer that count: those that could be quantized, and those of recurrent layers."""
    return weight_names(module) or recurrent_weight_names(module)


def _sources(model: nn.Module) -> list[tuple[Tensor, list[str]]]:
    """Every tensor that trains a weight of a layer that counts, and all names that the weight goes by."""
    sources: dict[int, tuple[Tensor, list[str]]] = {}
    for layer, module in model.named_modules():
        for tensor_name in _counted(module):
            parametrized = parametrize.is_parametrized(module, tensor_name)
            source = (
                module.parametrizations[tensor_name].original if parametrized else getattr(module, tensor_name, None)
            )
            if source is not None:
                sources.setdefault(id(source), (source, []))[1].append(weight_name(layer, tensor_name))
    return list(sources.values())


@torch.no_grad()
def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Every weight of a layer that counts, as the layer computes with it, by its first name."""
    weights = {}
    for _, (name, *_) in _sources(model):
        layer, _, tensor_name = name.rpartition(".")
        weights[name] = getattr(model.get_submodule(layer), tensor_name).detach()
    return weights


@torch.no_grad()
def _count_macs(model: nn.Module, example: tuple[Tensor, ...], names: tuple[str, ...]) -> dict[str, int]:
    """Weight name to multiply-adds in one forward pass; a layer called twice counts twice."""
    sources = _sources(model)
    use = WeightUse({names[0]: source for source, names in sources}, (*model.parameters(), *model.buffers()))
    first = {name: names[0] for _, names in sources for name in names}
    handles: list[RemovableHandle] = []

    def watch(layer: str, module: nn.Module) -> None:
        def count(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            for tensor_name, macs in _layer_macs(module, inputs, keywords).items():
                use.add(first[weight_name(layer, tensor_name)], macs)

        handles.append(module.register_forward_hook(count, with_kwargs=True))

    def follow(name: str, parametrization: nn.Module) -> None:
        handles.append(parametrization.register_forward_hook(lambda _, inputs, output: use.note(output, (name,))))

    for layer, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention) or recurrent_weight_names(module):
            watch(layer, module)
        for tensor_name in _counted(module):
            if parametrize.is_parametrized(module, tensor_name):
                follow(first[weight_name(layer, tensor_name)], module.parametrizations[tensor_name])
    try:
        with eval_mode(model), kept_state(model), use:
            call(model, example, names)
    finally:
        for handle in handles:
            handle.remove()
    return use.macs


def _layer_macs(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, int]:
    """Multiply-adds of one call of a layer that torch computes in one function, by the weight's name within it."""
    if isinstance(module, nn.MultiheadAttention):
        query, key, value = (*inputs, *(keywords[name] for name in ("query", "key", "value")[len(inputs) :]))[:3]
        tokens = [tensor.numel() // tensor.shape[-1] for tensor in (query, key, value)]
        macs = {"out_proj.weight": tokens[0] * module.out_proj.weight.numel()}
        if module._qkv_same_embed_dim:
            return macs | {"in_proj_weight": sum(tokens) * module.embed_dim * module.embed_dim}
        projections = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
        names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        return macs | {
            name: count * weight.numel() for name, count, weight in zip(names, tokens, projections, strict=True)
        }
    # Every step of every layer and direction multiplies each of its matrices (gates x hidden, in or hidden) once.
    x = inputs[0] if inputs else keywords["input"]
    values = x.data if isinstance(x, PackedSequence) else x
    steps = values.numel() // values.shape[-1]
    return {name: steps * getattr(module, name).numel() for name in recurrent_weight_names(module)}
