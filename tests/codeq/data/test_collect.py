"""What Python callers calibrate with becomes the inputs of one call; what cannot is refused in one line."""

import itertools
import logging
import re
from collections import UserDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from codeq.data import collect, collect_calibration
from codeq.errors import CalibrationError

pytestmark = pytest.mark.quick

X = torch.arange(24.0).reshape(6, 4)
IDS = torch.arange(18).reshape(6, 3)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


class Stream(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Tensor]:
        return iter(X)


def batches_of_two(*tensors: Any) -> list[Any]:
    """Three batches."""
    parts = [tuple(tensor[start : start + 2] for tensor in tensors) for start in (0, 2, 4)]
    return [part[0] for part in parts] if len(tensors) == 1 else parts


ONE_TENSOR: dict[str, Any] = {
    "a tensor": X,
    "a parameter": torch.nn.Parameter(X),
    "an array": X.numpy(),
    "an array read from the right": np.asfortranarray(X.numpy()),
    "a list of tensors": batches_of_two(X),
    "a list of arrays": batches_of_two(X.numpy()),
    "a generator": (batch for batch in batches_of_two(X)),
    "a tuple of batches": tuple([batch] for batch in batches_of_two(X)),
    "pairs with labels": batches_of_two(X, LABELS),
    "pairs of arrays": batches_of_two(X.numpy(), LABELS.numpy().astype(np.int32)),
    "a loader of inputs": DataLoader(TensorDataset(X), batch_size=4),
    "a loader with labels": DataLoader(TensorDataset(X, LABELS), batch_size=4),
    "a loader of a stream": DataLoader(Stream(), batch_size=4),
    "an empty batch first": [X[:0], X],
}


@pytest.mark.parametrize("inputs", ONE_TENSOR.values(), ids=ONE_TENSOR)
def test_one_tensor(inputs: Any) -> None:
    found = collect_calibration(inputs)
    assert isinstance(found, Tensor)
    assert torch.equal(found, X)
    assert found.dtype == torch.float32
    assert not found.requires_grad


SEVERAL: dict[str, tuple[Any, Any]] = {
    "a tuple": ((X, IDS.numpy()), (X, IDS)),
    "a tuple of one": ((X,), (X,)),
    "a mapping": ({"x": X, "ids": IDS, "mask": None}, {"x": X, "ids": IDS}),
    "what a tokenizer gives": (UserDict({"ids": IDS}), {"ids": IDS}),
    "tuples": (batches_of_two(X, IDS), (X, IDS)),
    "a loader of tuples": (DataLoader(TensorDataset(X, IDS), batch_size=5), (X, IDS)),
    "mappings": ([{"x": X[:2], "ids": IDS[:2]}, {"ids": IDS[2:], "x": X[2:]}], {"x": X, "ids": IDS}),
    "mappings with labels": ([({"x": X, "ids": IDS}, LABELS)], {"x": X, "ids": IDS}),
    "tuples with labels": ([((X, IDS), LABELS)], (X, IDS)),
    "targets that are floats": (batches_of_two(X, X[:, 0]), (X, X[:, 0])),
    "labels in a tuple of tensors": ((X, LABELS), (X, LABELS)),
}


@pytest.mark.parametrize(("inputs", "expected"), SEVERAL.values(), ids=SEVERAL)
def test_several_tensors(inputs: Any, expected: Any) -> None:
    found = collect_calibration(inputs)
    assert type(found) is type(expected)
    assert len(found) == len(expected)
    for key in expected if isinstance(expected, dict) else range(len(expected)):
        assert torch.equal(found[key], expected[key])  # type: ignore[index, call-overload]


def test_what_a_network_takes_decides_what_labels_are() -> None:
    pairs = batches_of_two(X, LABELS)
    assert torch.equal(torch.as_tensor(collect_calibration((X, LABELS), arity=1)[0]), X)  # type: ignore[index]
    assert isinstance(collect_calibration(pairs, arity=1), Tensor)
    both = collect_calibration(pairs, arity=2)
    assert isinstance(both, tuple)
    assert torch.equal(both[1], LABELS)


@pytest.mark.parametrize("targets", [X[:, 0], X[:, :1], X, X.numpy() > 0], ids=["numbers", "rows", "itself", "masks"])
def test_targets_of_any_kind_go_where_a_network_takes_one_input(targets: Any, caplog: pytest.LogCaptureFixture) -> None:
    pairs = [(X[:2], targets[:2]), (X[2:], targets[2:])]
    with caplog.at_level(logging.INFO):
        found = collect_calibration(pairs, arity=1, source="loader")
    assert torch.equal(torch.as_tensor(found), X)
    assert caplog.text.count("loader: gives pairs; the network takes one input, so that the second is left out") == 1
    whole = collect_calibration((X, torch.as_tensor(targets)), arity=1)  # nobody's batches: two inputs by mistake
    assert len(whole) == 2


@pytest.mark.parametrize("count", [3, 4])
def test_a_count_takes_the_first(count: int) -> None:
    pairs = batches_of_two(X)
    for inputs in (X, pairs, itertools.cycle(pairs), DataLoader(TensorDataset(X, LABELS))):
        assert torch.equal(torch.as_tensor(collect_calibration(inputs, count=count)), X[:count])


def test_more_than_there_are_is_what_there_is() -> None:
    assert torch.equal(torch.as_tensor(collect_calibration(batches_of_two(X), count=50)), X)


def test_what_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(collect_calibration(itertools.repeat(X))) == 256
    monkeypatch.setattr(collect, "MOST_VALUES", 40)  # ten inputs of four values
    assert len(collect_calibration(itertools.repeat(X))) == 10
    assert len(collect_calibration(torch.cat([X] * 100))) == 600, "a tensor is taken whole"


def test_what_needs_no_change_is_not_copied() -> None:
    assert collect_calibration(X) is X
    found = collect_calibration({"x": X})
    assert isinstance(found, dict)
    assert found["x"] is X


def test_an_array_that_cannot_be_written_is_copied() -> None:
    array = np.broadcast_to(np.float32(2), (3, 2))
    assert torch.equal(torch.as_tensor(collect_calibration(array)), torch.full((3, 2), 2.0))


def spoiled(value: float, row: int = 1) -> Tensor:
    x = X[:2].clone()
    x[row, 2] = value
    return x


NAN, INF = float("nan"), float("inf")

REFUSED: dict[str, tuple[Any, str]] = {
    "no rows": (X[:0], "calibration needs at least one input, found none"),
    "no batches": ([], "calibration needs at least one input, found none; a generator gives its batches only once"),
    "no tensors": ((), "calibration is empty, expected at least one tensor"),
    "a mapping of nothing": ({"x": None}, "calibration is empty, expected at least one tensor"),
    "NaN": (spoiled(NAN), "calibration: input 1 has NaN or infinite values"),
    "infinity": ([X, spoiled(INF, 0)], "calibration, batch 1: input 0 has NaN or infinite values"),
    "NaN of a name": (
        [{"x": X[:2], "m": X[:2]}, {"x": X[:2], "m": spoiled(NAN)}],
        "calibration, batch 1: input 1 of 'm' has NaN values",
    ),
    "NaN of a place": ([(X[:2], spoiled(NAN))], "calibration, batch 0: input 1 of argument 1 has NaN values"),
    "another shape": (
        [X, X, X[:, :3]],
        "calibration, batch 2 is float32 (6, 3), expected float32 (N, 4) as in batch 0; resize or pad inputs alike",
    ),
    "another shape of a name": (
        [{"x": X, "ids": IDS}, {"x": X, "ids": IDS[:, :2]}],
        "calibration, batch 1: 'ids' is int64 (6, 2), expected int64 (N, 3) as in batch 0",
    ),
    "another dtype": ([X, IDS], "calibration, batch 1 is int64 (6, 3), expected float32 (N, 4) as in batch 0"),
    "another kind": ([(X, X), {"x": X}], "calibration, batch 1 holds a mapping of x, batch 0 a tuple of 2; give all"),
    "other names": ([{"x": X}, {"y": X}], "calibration, batch 1 holds a mapping of y, batch 0 a mapping of x"),
    "another number": ([X, (X, X)], "calibration, batch 1 holds a tuple of 2, batch 0 a tensor"),
    "rows that differ": (
        {"x": X, "ids": IDS[:5]},
        "calibration: 'ids' is int64 (5, 3), expected 6 along the first axis, as the first",
    ),
    "float64": ([X.double()], "calibration, batch 0 is torch.float64 (6, 4), which no network takes; convert floats"),
    "half": ({"x": X.half()}, "calibration: 'x' is torch.float16 (6, 4), which no network takes"),
    "numpy's default": (np.ones((2, 3)), "calibration is float64 (2, 3), which no network takes; convert floats to fl"),
    "objects": (np.array([{}], object), "calibration is object (1,), which no network takes"),
    "text": (np.array(["a"]), "calibration is <U1 (1,), which no network takes"),
    "a number": ([torch.tensor(1.0)], "calibration, batch 0 is torch.float32 (), expected a batch of inputs along the"),
    "no tensor": ([X, "x"], "calibration, batch 1 is a str, expected a tensor or an array, batch first"),
    "numbers": ([[1.0, 2.0]], "calibration, batch 0: argument 0 is a float, expected a tensor or an array"),
    "sparse": (X.to_sparse(), "calibration is torch.sparse_coo, expected a dense tensor"),
    "a path": (Path("images"), "calibration is the text 'images', expected inputs; codeq.data.read_calibration reads"),
    "a text": ("inputs.npz", "calibration is the text 'inputs.npz', expected inputs"),
    "a data set": (
        TensorDataset(X, LABELS),
        "calibration is a TensorDataset, whose items are no batches; give torch.utils.data.DataLoader(dataset,",
    ),
    "a number of inputs": (
        8,
        "calibration is a int, expected a tensor, an array, a tuple or a mapping of them, a Data",
    ),
    "a batch for an iterable": ([X, LABELS], "calibration, batch 1 is int64 (6,), expected float32 (N, 4) as in batch"),
}


@pytest.mark.parametrize(("inputs", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(inputs: Any, message: str) -> None:
    with pytest.raises(CalibrationError, match="^" + re.escape(message)) as caught:
        collect_calibration(inputs)
    assert "\n" not in str(caught.value)


def test_beside_other_inputs_infinity_may_be_a_mask() -> None:
    mask = spoiled(-INF)
    found = collect_calibration((X[:2], mask))
    assert isinstance(found, tuple)
    assert torch.equal(found[1], mask)


def test_a_count_is_positive() -> None:
    with pytest.raises(ValueError, match="count must be at least 1, found 0"):
        collect_calibration(X, count=0)


def test_labels_of_a_mapping_go_where_the_network_does_not_take_them() -> None:
    """As a DataLoader gives them with a collator of transformers."""
    rows = [{"ids": ids, "mask": ids > 2, "labels": label} for ids, label in zip(IDS, LABELS, strict=True)]
    loader: DataLoader[Any] = DataLoader(rows, batch_size=4)  # type: ignore[arg-type]
    found = collect_calibration(loader, names=("ids", "mask"))
    assert isinstance(found, dict)
    assert list(found) == ["ids", "mask"]
    assert torch.equal(found["ids"], IDS)
    kept = collect_calibration(loader, names=("ids", "mask", "labels"))
    assert isinstance(kept, dict)
    assert torch.equal(kept["labels"], LABELS)
    assert list(collect_calibration(loader)) == ["ids", "mask", "labels"]  # type: ignore[arg-type]
    assert list(collect_calibration({"ids": IDS, "other": IDS}, names=("ids",))) == ["ids", "other"]  # type: ignore[arg-type]
