"""A build is what a program has become: the graph of a .tflite file, and where in it the program's tensors lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from export.tflite.file.graph import Graph
from export.tflite.weights.form import StoredForm, WeightForms
from export.tflite.weights.layout import Order, StoredLayout


@dataclass(frozen=True, eq=False)
class Build:
    """Holds a lowered program, which the export writes and the check reads.

    Attributes:
        graph: What the file holds.
        weights: How each quantized weight lies in the file, by its name; `codes_name` gives the tensor's.
        codes: The order of axes of each quantized activation, by its name; `codes_name` gives the tensor's.
        stored: The form of each quantized weight, by its name.
        integer: The operators of the layers that compute on codes, by the layer's name.
        forms: What weights were allowed to be stored as.
        channels_last_io: Inputs and outputs of three and four dimensions have their channels last.
        codes_io: Inputs and outputs are codes where the network quantizes them.
    """

    graph: Graph
    weights: Mapping[str, StoredLayout] = field(default_factory=dict)
    codes: Mapping[str, Order] = field(default_factory=dict)
    stored: Mapping[str, StoredForm] = field(default_factory=dict)
    integer: Mapping[str, str] = field(default_factory=dict)
    forms: WeightForms = field(default_factory=WeightForms)
    channels_last_io: bool = False
    codes_io: bool = False
