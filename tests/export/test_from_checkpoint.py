"""How activations are quantized: every combination of what training stored and what the user asks for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from codeq.activations.encoding import ActivationEncoding
from codeq.errors import CodeqError
from export.errors import ExportError
from export.from_checkpoint import checked_inputs, choose_quantization

pytestmark = pytest.mark.quick

STORED = {"input": ActivationEncoding(0.5, 0)}
HELD = torch.ones(4, 2)


def checkpoint(*, learned: bool, inputs: torch.Tensor | None = HELD) -> Any:
    return SimpleNamespace(
        path=Path("ckpt.pt"),
        activations=STORED if learned else None,
        calibration_inputs=inputs,
        input_shape=(2,),
        values_per_input=2,
        inputs_to_check=lambda count: (HELD[:count], f"{count} inputs"),
    )


@pytest.mark.parametrize(
    ("learned", "asked", "activations", "source"),
    [
        (False, {}, "float32", "mse"),
        (False, {"activations": "float32"}, "float32", "mse"),
        (False, {"activations": "int8"}, "int8", "mse"),
        (False, {"ranges": "minmax"}, "int8", "minmax"),
        (True, {}, "int8", "learned in training"),
        (True, {"activations": "int8"}, "int8", "learned in training"),
        (True, {"activations": "float32"}, "float32", "mse"),
        (True, {"ranges": "mse"}, "int8", "mse"),
        (True, {"activations_except": ("fc",)}, "int8", "learned in training"),
    ],
)
def test_what_is_chosen(learned: bool, asked: dict[str, Any], activations: str, source: str) -> None:
    chosen = choose_quantization(checkpoint(learned=learned), asked, None)
    assert (chosen.activations, chosen.source) == (activations, source)
    assert chosen.activations_except == asked.get("activations_except", ())
    assert (chosen.calibration is None) == (activations == "float32")


@pytest.mark.parametrize("learned", [True, False])
def test_a_file_of_inputs_calibrates_anew(learned: bool, tmp_path: Path) -> None:
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.full((3, 2), 7, np.float32))
    chosen = choose_quantization(checkpoint(learned=learned), {}, path)
    assert (chosen.activations, chosen.source) == ("int8", "mse")
    assert torch.equal(torch.as_tensor(chosen.calibration), torch.full((3, 2), 7.0))


@pytest.mark.parametrize("asked", [{"ranges": "mse"}, {"activations_except": ("fc",)}])
def test_options_that_contradict_each_other(asked: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match="are for --activations int8"):
        choose_quantization(checkpoint(learned=False), {"activations": "float32", **asked}, None)


@pytest.mark.parametrize("inputs", [None, HELD[:0]])
def test_nothing_to_calibrate_with(inputs: torch.Tensor | None) -> None:
    with pytest.raises(ExportError, match="holds no calibration inputs; give some with --calibration"):
        choose_quantization(checkpoint(learned=False, inputs=inputs), {"activations": "int8"}, None)


SEVERAL = {"ids": torch.arange(8).reshape(4, 2), "mask": torch.ones(4, 2, dtype=torch.bool)}


def several(inputs: Any = SEVERAL) -> Any:
    return SimpleNamespace(
        path=Path("ckpt.pt"),
        activations=None,
        calibration_inputs=inputs,
        values_per_input=4,
        inputs_to_check=lambda count: (SEVERAL, ""),
    )


def test_several_inputs_calibrate_by_name(tmp_path: Path) -> None:
    chosen = choose_quantization(several(), {"activations": "int8"}, None)
    assert isinstance(chosen.calibration, dict)
    assert all(torch.equal(chosen.calibration[name], tensor) for name, tensor in SEVERAL.items())
    path = tmp_path / "inputs.npz"
    np.savez(path, labels=np.zeros(3), mask=np.zeros((3, 2), bool), ids=np.ones((3, 2), np.int64))
    chosen = choose_quantization(several(), {}, path)
    assert isinstance(chosen.calibration, dict)
    assert list(chosen.calibration) == ["ids", "mask"]
    assert not chosen.calibration["mask"].any()


def test_several_inputs_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "inputs.npz"
    ids, mask = np.ones((3, 2), np.int64), np.zeros((3, 2), bool)
    for arrays, message in [
        ({"ids": ids}, "inputs.npz: holds ids, expected ids, mask; write it with numpy.savez(path, ids=..., mask=...)"),
        ({"ids": ids, "mask": ids}, "inputs.npz: 'mask' is int64 (3, 2), expected bool (N, 2)"),
        ({"ids": ids[:, :1], "mask": mask}, "inputs.npz: 'ids' is int64 (3, 1), expected int64 (N, 2)"),
        ({"ids": ids[:2], "mask": mask}, "'mask' is bool (3, 2), expected 2 along the first axis"),
    ]:
        np.savez(path, **arrays)  # type: ignore[arg-type]
        with pytest.raises(CodeqError) as caught:
            choose_quantization(several(), {}, path)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    np.save(tmp_path / "x.npy", ids)
    with pytest.raises(CodeqError, match=r"x\.npy: holds one array without a name, expected ids, mask"):
        choose_quantization(several(), {}, tmp_path / "x.npy")
    with pytest.raises(CodeqError, match=r"is a folder, which holds one input each, and the network takes ids, mask"):
        choose_quantization(several(), {}, tmp_path)
    with pytest.raises(ExportError, match="--mean and --std are for images, and the network takes ids, mask"):
        choose_quantization(several(), {}, path, mean=[0.5])


def test_how_many_inputs_are_checked() -> None:
    assert checked_inputs(checkpoint(learned=False), 2)[1] == "2 inputs"
    assert checked_inputs(checkpoint(learned=False), None)[1] == "64 inputs"
