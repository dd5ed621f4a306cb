"""Python that opens a .tflite file with LiteRT: order of axes, codes and open batches as the file has them."""

from collections.abc import Iterator

import numpy as np

from export.backend import OpeningCode
from export.input_slot import InputSlot
from export.tflite.file.flatbuffer import TYPES
from export.tflite.runtime import schema
from export.tflite.stored_file import TfliteFile
from export.tflite.weights.layout import CHANNELS_LAST as LAYOUTS

CODES_OF_FLOATS = ("int8", "uint8")

CODE = """interpreter = Interpreter(model_path={name!r})


def run(inputs):
    details = interpreter.get_input_details()
{before}{resize}    interpreter.allocate_tensors()
    for detail, x in zip(details, inputs):
        interpreter.set_tensor(detail["index"], x)
    interpreter.invoke()
    details = interpreter.get_output_details()
    outputs = [interpreter.get_tensor(detail["index"]) for detail in details]
{after}    return outputs

"""
RESIZE = """    for detail, x in zip(details, inputs):
        interpreter.resize_tensor_input(detail["index"], x.shape)
"""
CHANNELS_LAST = """    inputs = [np.moveaxis(x, 1, -1) if x.ndim in (3, 4) else x for x in inputs]  # channels come last
"""
CHANNELS_BACK = """    outputs = [np.moveaxis(x, -1, 1) if x.ndim in (3, 4) else x for x in outputs]
"""
ENCODE = """    inputs = [encode(x, *detail["quantization"]) for x, detail in zip(inputs, details)]
"""
DECODE = """    outputs = [decode(x, *detail["quantization"]) for x, detail in zip(outputs, details)]
"""
CODES = """

def encode(x, scale, zero_point):
    if not scale:
        return x
    return np.clip(np.rint(np.float32(x) / np.float32(scale)) + zero_point, -128, 127).astype(np.int8)


def decode(codes, scale, zero_point):
    return (np.float32(codes) - np.float32(zero_point)) * np.float32(scale) if scale else codes
"""


def opening_code(stored: TfliteFile) -> OpeningCode:
    """Write it; the file is looked for in the working directory."""
    last, codes = stored.channels_last_io, stored.codes_io
    code = CODE.format(
        name=stored.path.name,
        before=CHANNELS_LAST * last + ENCODE * codes,
        resize=RESIZE if stored.fixed_batch is None else "",
        after=DECODE * codes + CHANNELS_BACK * last,
    )
    imports = ("from ai_edge_litert.interpreter import Interpreter",)
    return OpeningCode("ai-edge-litert", imports, code + (CODES if codes else ""), tuple(_slots(stored)))


def _slots(stored: TfliteFile) -> Iterator[InputSlot]:
    dtypes = {getattr(schema().TensorType, name): dtype for dtype, name in TYPES.items()}
    (graph, *_) = stored.content.subgraphs
    for name, place in zip(stored.inputs, graph.inputs, strict=True):
        tensor = graph.tensors[place]
        signature = tensor.shapeSignature
        sizes = [None if size < 0 else int(size) for size in (tensor.shape if signature is None else signature)]
        if stored.channels_last_io and len(sizes) in LAYOUTS:
            sizes.insert(1, sizes.pop())
        dtype = dtypes[tensor.type]
        yield InputSlot(
            name, tuple(sizes), np.dtype("float32" if dtype in CODES_OF_FLOATS and stored.codes_io else dtype)
        )
