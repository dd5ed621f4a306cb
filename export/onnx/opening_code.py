"""Python that opens an ONNX file with plain onnxruntime, with the options that the file asks for."""

import onnx

from export.backend import OpeningCode
from export.input_slot import InputSlot
from export.onnx.stored_file import OnnxFile

CODE = """options = ort.SessionOptions()
{options}session = ort.InferenceSession({name!r}, options, providers=["CPUExecutionProvider"])


def run(inputs):
    return session.run(None, dict(zip([item.name for item in session.get_inputs()], inputs)))

"""


def opening_code(stored: OnnxFile) -> OpeningCode:
    """Write it; the file is looked for in the working directory."""
    entries = stored.metadata.session_options or {}
    options = "".join(f"options.add_session_config_entry({key!r}, {value!r})\n" for key, value in entries.items())
    code = CODE.format(options=options, name=stored.path.name)
    inputs = tuple(map(_slot, stored.model.graph.input))
    return OpeningCode("onnxruntime", ("import onnxruntime as ort",), code, inputs)


def _slot(value: onnx.ValueInfoProto) -> InputSlot:
    kind = value.type.tensor_type
    shape = tuple(size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim)
    return InputSlot(value.name, shape, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
