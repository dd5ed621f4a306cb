"""Several inputs of a checkpoint by name: they come back as they were saved, and damaged ones are one line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import codeq

pytestmark = pytest.mark.quick

IDS, MASK = torch.arange(12).reshape(4, 3), torch.arange(12).reshape(4, 3) % 2 == 0
STEPS, IMAGE = torch.arange(4, dtype=torch.int32), torch.arange(24.0).reshape(4, 1, 2, 3)
INPUTS = {"image": IMAGE, "ids": IDS, "mask": MASK, "steps": STEPS}
SHAPES = {"image": (1, 2, 3), "ids": (3,), "mask": (3,), "steps": ()}


class Four(nn.Module):
    """Takes an input of every dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.fc = nn.Embedding(12, 6), nn.Linear(6, 2)

    def forward(self, image: Tensor, ids: Tensor, mask: Tensor, steps: Tensor, labels: Tensor | None = None) -> Tensor:
        words = (self.embedding(ids) * mask[:, :, None]).sum(1)
        result: Tensor = self.fc(words + image.flatten(1)) * steps[:, None]
        return result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    model = Four()
    codeq.attach(model)
    codeq.save(tmp_path / "net.pt", model, input_shape=SHAPES, held_inputs=INPUTS)
    return tmp_path / "net.pt"


@pytest.mark.parametrize("order", [1, -1])
def test_they_come_back_in_the_order_of_the_network(path: Path, order: int) -> None:
    shapes, inputs = (dict(list(each.items())[::order]) for each in (SHAPES, INPUTS))
    codeq.save(path, Four(), input_shape=shapes, held_inputs=inputs)  # type: ignore[arg-type]
    loaded = codeq.load(path, Four)
    assert loaded.input_shape == SHAPES
    assert list(loaded.input_shape) == list(SHAPES)
    assert loaded.values_per_input == 6 + 3 + 3 + 1
    assert loaded.calibration_inputs is None
    held, note = loaded.inputs_to_check(3)
    assert isinstance(held, dict)
    assert list(held) == list(INPUTS)
    assert note == ""
    assert all(held[name].dtype == tensor.dtype for name, tensor in INPUTS.items())
    assert all(torch.equal(held[name], tensor[:3]) for name, tensor in INPUTS.items())
    assert loaded.inputs_to_check(9)[1] == "the checkpoint holds 4 inputs, not 9"
    with pytest.raises(codeq.CheckpointError, match=r"net\.pt: takes the inputs image, ids, mask, steps; give up$"):
        loaded.only_input_shape("give up")


def test_one_input_stays_a_file_of_version_2(path: Path, tmp_path: Path) -> None:
    codeq.save(tmp_path / "one.pt", nn.Linear(2, 2), input_shape=(2,))
    assert torch.load(tmp_path / "one.pt", weights_only=True)["format_version"] == 2
    assert torch.load(path, weights_only=True)["format_version"] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "entry 'input_shape' is a dict"),
        ({"input_shape": {}}, "input_shape names 0 inputs, expected 1 to 256"),
        ({"input_shape": {f"x{n}": [1] for n in range(300)}}, "input_shape names 300 inputs"),
        ({"input_shape": {"a b\n": [3]}}, r"input_shape names 'a b\\n', expected names of arguments"),
        ({"input_shape": {5: [3]}}, "input_shape names 5, expected names"),
        ({"input_shape": {"x" * 9999: [3]}}, "input_shape names 'x{59}, expected names"),
        ({"input_shape": {"ids": [0]}}, r"input_shape of ids is \[0\], expected positive sizes"),
        ({"input_shape": {"ids": 3}}, "input_shape of ids is 3, expected positive sizes"),
        ({"input_shape": {"ids": [10**12]}}, r"input_shape of ids is \[1000000000000\]"),
        ({"held_inputs": None}, "holds no inputs for image, ids, mask, steps; several are stored with some"),
        ({"held_inputs": IDS}, "held_inputs are a Tensor, expected a mapping of image, ids, mask, steps"),
        ({"held_inputs": {"ids": IDS}}, "held_inputs have 'ids', expected image, ids, mask, steps"),
        ({"held_inputs": {}}, "held_inputs have nothing, expected image"),
        ({"held_inputs": INPUTS | {"mask": [1]}}, "held_inputs have a list as mask, expected a tensor"),
        (
            {"held_inputs": INPUTS | {"mask": MASK[:, :2]}},
            r"held_inputs of mask have shape \[4, 2\], expected \[N, 3\]",
        ),
        ({"held_inputs": INPUTS | {"steps": torch.tensor(1)}}, r"of steps have shape \[\], expected \[N\]"),
        ({"held_inputs": INPUTS | {"mask": MASK[:3]}}, "held_inputs of mask are 3 inputs, expected 4 as of image"),
        ({"held_inputs": {name: x[:0] for name, x in INPUTS.items()}}, "of image are 0 inputs, expected one at least"),
        ({"held_inputs": INPUTS | {"image": IMAGE.double()}}, r"of image are torch\.float64, expected torch\.float32"),
        ({"held_inputs": INPUTS | {"image": IMAGE.to_sparse()}}, r"of image are torch\.sparse_coo"),
        (
            {"calibration_inputs": INPUTS | {"ids": IDS.int()}},
            "ids is int32 and int64 in calibration_inputs and held_inputs, expected one",
        ),
        ({"input_shape": [3], "held_inputs": {"ids": IDS}}, r"held_inputs are several by name, and input_shape is \[3"),
        (
            {"input_shape": {"ids": [3]}, "held_inputs": {"ids": IDS}},
            "holds inputs ids, and Four needs an input 'image', it takes image, ids, mask, steps, labels; was it built",
        ),
        (
            {"input_shape": {"other": [3]}, "held_inputs": {"other": IDS}},
            "holds inputs other, and Four names no argument 'other', it takes image",
        ),
    ],
)
def test_what_is_damaged_is_one_line(path: Path, changes: dict[str, Any], message: str) -> None:
    content = torch.load(path, weights_only=True)
    del content["content_sha256"]
    torch.save(content | changes, path)
    with pytest.raises(codeq.CheckpointError, match=message) as caught:
        codeq.load(path, Four)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


def test_what_cannot_be_loaded_is_not_saved(tmp_path: Path) -> None:
    for options, message in [
        ({"held_inputs": tuple(INPUTS.values())}, "entry 'held_inputs' is a tuple"),
        ({"held_inputs": None}, "holds no inputs for image"),
        ({"input_shape": {"other": (3,)}, "held_inputs": {"other": IDS}}, "Four names no argument 'other'"),
    ]:
        with pytest.raises(codeq.CheckpointError, match=message):
            codeq.save(tmp_path / "a.pt", Four(), **({"input_shape": SHAPES, "held_inputs": INPUTS} | options))
        assert not list(tmp_path.iterdir())


def test_another_value_is_found_by_the_digest(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["held_inputs"]["mask"][0, 0] ^= True
    torch.save(content, path)
    with pytest.raises(codeq.CheckpointError, match="the digest of its content"):
        codeq.load(path, Four)
