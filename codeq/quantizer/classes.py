"""Count where outputs choose another class: the largest value along axis 1 is another one."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

LOUD_SHARE = 0.1
"""Above this share of places with another class a report warns."""


@dataclass
class Classes:
    """Counts places with another class, of all places; 0 of 0 where no output has classes to choose from."""

    changed: int = 0
    places: int = 0

    def add(self, wanted: Tensor, found: Tensor) -> None:
        """Add the places of an output, `(N, classes, ...)`, and of what is left of it."""
        if wanted.ndim < 2 or wanted.shape[1] < 2 or wanted.shape != found.shape:
            return
        differs = wanted.argmax(1) != found.argmax(1)
        self.changed += int(differs.sum())
        self.places += differs.numel()

    def add_outputs(self, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
        """Add the places of every output, by its name."""
        for name, value in wanted.items():
            self.add(value, found[name])

    @property
    def is_loud(self) -> bool:
        """Say whether more have changed than a report may keep quiet about."""
        return self.changed > LOUD_SHARE * self.places

    def __str__(self) -> str:
        return f"argmax differs on {self.changed:,} of {self.places:,}" if self.places else ""
