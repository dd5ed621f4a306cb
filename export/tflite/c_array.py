"""A file becomes C++ source for TFLite Micro: its bytes, its grids, and the operators that a firmware registers for it.

NAME.h    declares the array and its length; grids of inputs and outputs; a function that fills a resolver
NAME.cc   the bytes, aligned to 16
"""

import hashlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from export.tflite.build import Build

METHODS = {
    "CUMSUM": "CumSum",
    "L2_NORMALIZATION": "L2Normalization",
    "PADV2": "PadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}
"""Methods of MicroMutableOpResolver, without their `Add`, whose names do not follow from the operator's."""
BYTES_PER_LINE = 16


def write_c_array(build: Build, operators: Collection[str], content: bytes, staged: Path) -> tuple[str, str]:
    """Write both files beside a file, and give their names.

    Args:
        build: What the file was written from: its inputs and outputs.
        operators: Its operators, by the schema's names.
        content: Its bytes.
        staged: Where it is.
    """
    name = re.sub(r"\W", "_", staged.stem)
    name = f"_{name}" if name[0].isdigit() else name
    header, source = staged.with_suffix(".h"), staged.with_suffix(".cc")
    header.write_text("\n".join(_header(build, sorted(set(operators)), content, name)) + "\n")
    source.write_text("\n".join(_source(content, name, header.name)) + "\n")
    return header.name, source.name


def method(operator: str) -> str:
    """Name the method of MicroMutableOpResolver that registers an operator: CONV_2D -> AddConv2D."""
    words = "".join(word.capitalize() for word in operator.split("_"))
    return f"Add{METHODS.get(operator, re.sub(r'(?<=[0-9])d$', 'D', words))}"


def _header(build: Build, operators: list[str], content: bytes, name: str) -> Iterator[str]:
    yield f"// Written by codeq from {len(content)} bytes with SHA-256 {hashlib.sha256(content).hexdigest()}."
    yield "#pragma once"
    yield ""
    yield "#include <cstddef>"
    yield "#include <cstdint>"
    yield ""
    yield f"extern const unsigned char {name}_data[];"
    yield f"constexpr size_t {name}_size = {len(content)};"
    yield ""
    yield "// real value = scale * (code - zero point), codes int8"
    for kind, tensors in (("input", build.graph.inputs), ("output", build.graph.outputs)):
        for place, (title, number) in enumerate(tensors.items()):
            tensor = build.graph.tensors[number]
            shape = " x ".join(map(str, tensor.shape))
            yield f"// {kind} {place}, {re.sub(r'[^ -~]', '?', title)}: {shape}"
            if tensor.quantization is not None:
                scale, zero_point = float(tensor.quantization.scale[0]), int(tensor.quantization.zero_point)
                yield f"constexpr float {name}_{kind}{place}_scale = {scale:.9g}f;"
                yield f"constexpr int32_t {name}_{kind}{place}_zero_point = {zero_point};"
    yield ""
    yield f"// tflite::MicroMutableOpResolver<{name}_operators> resolver; {name}_register(resolver);"
    yield f"constexpr size_t {name}_operators = {len(operators)};"
    yield "template <typename Resolver>"
    yield f"void {name}_register(Resolver& resolver) {{"
    yield from (f"  resolver.{method(operator)}();" for operator in operators)
    yield "}"


def _source(content: bytes, name: str, header: str) -> Iterator[str]:
    yield f'#include "{header}"'
    yield ""
    yield f"alignas(16) const unsigned char {name}_data[] = {{"
    for start in range(0, len(content), BYTES_PER_LINE):
        yield "  " + ", ".join(f"0x{byte:02x}" for byte in content[start : start + BYTES_PER_LINE]) + ","
    yield "};"
