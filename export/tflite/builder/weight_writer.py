"""Write weights: codes in the form that was chosen, and the floats that LiteRT makes of them. Exact.

dequantize(codes, scale)         ->  DEQUANTIZE(int8 codes), or the codes alone for an integer kernel,
                                     behind a DENSIFY where their zeros are left out
dequantize(codes, scale, shift)  ->  values + shift * SIGN(values), values = DEQUANTIZE(int8 codes)
"""

from dataclasses import replace

import numpy as np
from torch.fx import Node

from export.program.fold_batch_norm import CHANNEL_AXIS
from export.program.names import codes_name
from export.tflite.builder.graph_writer import GraphWriter
from export.tflite.builder.program_reader import ProgramReader, dequantize
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.file.graph import Tensor, TensorGrid
from export.tflite.file.operator_versions import INT4_DEQUANTIZE, PER_CHANNEL_DEQUANTIZE
from export.tflite.weights.form import FLOATS, Reader, StoredForm, WeightForms, is_exact
from export.tflite.weights.layout import StoredLayout, identity


class WeightWriter:
    """Writes the weights of a program to the graph of a file; each is stored once.

    Attributes:
        forms: What they may be stored as.
        layouts: How each lies in the file, by its name.
        stored: The form of each, by its name.
    """

    def __init__(self, program: ProgramReader, writer: GraphWriter, forms: WeightForms) -> None:
        self.forms = forms
        self.layouts: dict[str, StoredLayout] = {}
        self.stored: dict[str, StoredForm] = {}
        self._program = program
        self._writer = writer
        self._codes: dict[tuple[str, StoredLayout], Value] = {}
        self._floats: dict[int, int] = {}

    def add(self, node: Node, layout: StoredLayout, reader: Reader = FLOATS, channel_axis: int | None = None) -> int:
        """Add a weight, or find it where it was added; the number of the tensor that a layer reads.

        Args:
            node: A dequantize of codes, or a float constant.
            layout: How it is to lie in the file.
            reader: What reads its codes; `FLOATS` gives floats.
            channel_axis: Of the output channels, as stored: a scale of the whole tensor is repeated for each. Some
                kernels that quantize their input themselves refuse one scale.

        Raises:
            CannotLower: It is computed from a quantized one, or its grid has no form here.
        """
        if node.target is not dequantize:
            return self._add_constant(node, layout)
        codes = self._add_codes(node, layout, reader, channel_axis)
        if reader != FLOATS:
            return codes.tensor
        if codes.tensor not in self._floats:
            self._floats[codes.tensor] = self._add_floats(node, layout, codes)
        return self._floats[codes.tensor]

    def _add_constant(self, node: Node, layout: StoredLayout) -> int:
        if self._program.depends_on_codes(node):
            raise CannotLower("its weight is computed from a quantized one; quantize another one, or none")
        value = self._program.constant(node)
        if value is None:
            raise CannotLower("its weight depends on the input")
        return self._writer.number(layout.store(value), self._program.weight_name(node))

    def _add_codes(self, node: Node, layout: StoredLayout, reader: Reader, channel_axis: int | None) -> Value:
        record = self._program.weight_record(node)
        key = (record.name, layout)
        if key in self._codes:
            first = self.stored[record.name]
            if not is_exact(first.form, reader):
                raise CannotLower(
                    f"{record.name} is stored as {first.form} for {first.reader}, which {reader} cannot read"
                )
            return self._codes[key]
        if record.name in self.layouts:
            raise CannotLower(f"{record.name} is used by two layers that want it in different orders")
        axis = record.encoding.axis
        grid = TensorGrid(self._program.weight_scale(node), 0, 0 if axis is None else layout.order.index(axis))
        codes = layout.store(record.encoding.codes.numpy())
        if channel_axis is not None and grid.scale.size == 1:
            grid = TensorGrid(np.repeat(grid.scale, codes.shape[channel_axis]), 0, channel_axis)
        stored = self.forms.choose(codes, grid.scale.size, replace(reader, layers_only=is_read_by_layers(node)))
        name = self._writer.unused_name(codes_name(record.name))
        tensor = Tensor(name, codes.shape, codes.dtype, codes, grid, form=stored.form)
        value = Value(self._writer.add_tensor(tensor), identity(codes.ndim), grid)
        if stored.form == "csr":
            value = self._writer.operator("DENSIFY", [value], tensor, value.order, label="dense")
        self._codes[key] = value
        self.layouts[record.name] = layout
        self.stored[record.name] = stored
        return value

    def _add_floats(self, node: Node, layout: StoredLayout, codes: Value) -> int:
        writer, name = self._writer, self._program.weight_name(node)
        like = Tensor(name, layout.shape, np.dtype(np.float32))
        order = identity(len(layout.shape))
        version = _dequantize_version(writer.tensor(codes))
        shift = self._program.constant(node.args[2])
        if shift is None:
            return writer.operator("DEQUANTIZE", [codes], like, order, version=version).tensor
        values = writer.operator("DEQUANTIZE", [codes], like, order, label="scaled", version=version)
        if shift.size > 1:
            # The channel axis comes first where the stored shape has joined others.
            axis = int(node.args[3])  # type: ignore[arg-type]
            place = layout.order.index(axis) if len(layout.shape) == len(layout.view) else 0
            shift = shift.reshape([-1 if other == place else 1 for other in range(len(layout.shape))])
        sign = writer.operator("SIGN", [values], like, order, label="sign")
        steps: list[Value | int] = [sign, writer.number(np.ascontiguousarray(shift), f"{name}/shift")]
        product = writer.operator("MUL", steps, like, order, label="shifted")
        return writer.operator("ADD", [values, product], like, order).tensor


def is_plain(weight: Node) -> bool:
    """Tell whether a weight is codes times a scale, without a shift."""
    return weight.target is dequantize and weight.args[2] is None


def is_read_by_layers(weight: Node) -> bool:
    """Tell whether a weight is read by convolutions and linear layers alone, without a shift in between."""
    return is_plain(weight) and all(layer.target in CHANNEL_AXIS and layer.args[1] is weight for layer in weight.users)


def _dequantize_version(codes: Tensor) -> int | None:
    """Find the version of DEQUANTIZE that knows a form of codes; None for the usual one."""
    if codes.form == "int4":
        return INT4_DEQUANTIZE
    assert codes.quantization is not None
    return PER_CHANNEL_DEQUANTIZE if codes.quantization.scale.size > 1 else None
