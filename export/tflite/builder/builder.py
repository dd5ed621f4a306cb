"""A lowering gets a builder: the program to read from, and the file's graph, weights and values to write to.

def lower_tanh(build: Builder, node: Node) -> None:
    x = build.values.read_float(node.args[0])
    build.values.result(node, "TANH", [x], x.order)
"""

from export.program.program import ReferenceProgram
from export.tflite.build import Build
from export.tflite.builder.graph_writer import GraphWriter
from export.tflite.builder.program_reader import ProgramReader
from export.tflite.builder.values import Values
from export.tflite.builder.weight_writer import WeightWriter
from export.tflite.weights.form import WeightForms


class Builder:
    """Holds one program while it is lowered.

    Attributes:
        program: Shapes, names and constants of its nodes.
        writer: Adds tensors and operators.
        weights: Adds weights.
        values: What nodes have become.
        integer: The operators of the layers that compute on codes, by the layer's name.
    """

    def __init__(self, program: ReferenceProgram, forms: WeightForms) -> None:
        self.program = ProgramReader(program)
        self.writer = GraphWriter()
        self.weights = WeightWriter(self.program, self.writer, forms)
        self.values = Values(self.program, self.writer, self.weights)
        self.integer: dict[str, str] = {}

    def finish(self, *, channels_last_io: bool, codes_io: bool) -> Build:
        """Give what the program has become; arguments are those of `Build`."""
        return Build(
            self.writer.graph,
            weights=self.weights.layouts,
            codes=self.values.codes,
            stored=self.weights.stored,
            integer=self.integer,
            forms=self.weights.forms,
            channels_last_io=channels_last_io,
            codes_io=codes_io,
        )
