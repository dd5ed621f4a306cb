"""A node of the program has become a value: a tensor of the file, and how the node's axes lie in it."""

from dataclasses import dataclass

from export.tflite.file.graph import TensorGrid
from export.tflite.weights.layout import Order


@dataclass(frozen=True)
class JoinedAxes:
    """Axis 1 of a value joins several axes, which lie in the file in another order than PyTorch joins them.

    Attributes:
        sizes: Of the joined axes, in PyTorch's order.
        order: In which they are stored: place i holds axis order[i].
    """

    sizes: tuple[int, ...]
    order: Order

    def behind(self, first: int) -> Order:
        """Give the stored order as axes of a weight whose joined axes start at axis `first`."""
        return tuple(first + axis for axis in self.order)


@dataclass(frozen=True, eq=False)
class Value:
    """Holds one value of the network.

    Attributes:
        tensor: Its number in the file.
        order: Axis i as stored is PyTorch's axis order[i].
        quantization: Its grid where it is codes; None for floats.
        joined: What axis 1 is made of, where that lies in another order than PyTorch's; who reads it as features must
            order its weight alike.
    """

    tensor: int
    order: Order
    quantization: TensorGrid | None = None
    joined: JoinedAxes | None = None
