"""Float weights arrive from every kind of file they are kept in; what does not fit is named, and loads nothing."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import codeq
import models
from codeq.training.init_weights import load_init
from tests.codeq.adopt.others import Published, publish

State = dict[str, Tensor]


def network(num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    return models.create("resnet8", in_channels=in_channels, num_classes=num_classes, input_size=8)


@pytest.fixture
def trained() -> nn.Module:
    model = network()
    model(torch.randn(16, 1, 8, 8))  # BatchNorm's statistics
    return model


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def looped(state: State) -> dict[str, Any]:
    inner: dict[str, Any] = {"state_dict": state}
    inner["loop"] = inner
    return inner


FILES: dict[str, Callable[[State], dict[str, Any]]] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "model": "resnet8"},
    "model": lambda state: {"model": state, "optimizer": {"param_groups": []}},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": 0.5},
    "wrapper_in_wrapper": lambda state: {"model": {"state_dict": state}},
    "contains_itself": looped,
    "ddp": lambda state: prefixed(state, "module."),
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "ddp_compiled": lambda state: {"model": prefixed(state, "module._orig_mod.")},
    "compiled_ddp": lambda state: prefixed(state, "_orig_mod.module."),
    "old": lambda state: {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("write", FILES.values(), ids=FILES)
def test_a_state_dict_is_found_and_loaded(
    write: Callable[[State], dict[str, Any]], trained: nn.Module, tmp_path: Path
) -> None:
    torch.save(write(trained.state_dict()), tmp_path / "a.pt")
    model = network()
    load_init(model, tmp_path / "a.pt")
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(model.eval()(x), trained.eval()(x))
    assert codeq.attach(model).quantized


def test_a_float_twin_of_ours_is_loaded(trained: nn.Module, tmp_path: Path) -> None:
    codeq.save(tmp_path / "a.pt", trained, input_shape=(1, 8, 8))
    model = network()
    load_init(model, tmp_path / "a.pt")
    for name, tensor in trained.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


@pytest.mark.parametrize("plain", [False, True], ids=["checkpoint", "state_dict"])
@pytest.mark.parametrize("bits", [4, None], ids=["4_bits", "learned"])
def test_of_quantized_networks_the_float_weights_are_taken(
    plain: bool, bits: int | None, trained: nn.Module, tmp_path: Path
) -> None:
    floats = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    codeq.attach(trained, bits, exclude="fc")
    codeq.freeze(trained)
    if plain:
        torch.save(prefixed(trained.state_dict(), "module."), tmp_path / "a.pt")
    else:
        codeq.save(tmp_path / "a.pt", trained, input_shape=(1, 8, 8))
    model = network()
    load_init(model, tmp_path / "a.pt")
    assert model.state_dict().keys() == floats.keys()
    for name, tensor in floats.items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_of_a_published_state_dict_the_float_weights_are_taken(trained: nn.Module, tmp_path: Path) -> None:
    floats = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    torch.save(prefixed(publish(trained, Published(4)).state_dict(), "module."), tmp_path / "a.pt")
    model = network()
    load_init(model, tmp_path / "a.pt")
    for name, tensor in floats.items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_half_precision_is_cast(trained: nn.Module, tmp_path: Path) -> None:
    torch.save(trained.half().state_dict(), tmp_path / "a.pt")
    model = network()
    load_init(model, tmp_path / "a.pt")
    assert torch.equal(model.fc.weight, trained.fc.weight.float())  # type: ignore[union-attr,operator]
    assert model.fc.weight.dtype == torch.float32  # type: ignore[union-attr]


@pytest.mark.parametrize("prefix", ["", "module."], ids=["as_is", "ddp"])
def test_a_layer_may_be_called_module(prefix: str, tmp_path: Path) -> None:
    source, model = (nn.ModuleDict({"module": nn.Linear(2, 2)}) for _ in range(2))
    torch.save(prefixed(source.state_dict(), prefix), tmp_path / "a.pt")
    load_init(model, tmp_path / "a.pt")
    assert torch.equal(model["module"].weight, source["module"].weight)


def test_parametrizations_of_the_networks_own_keep_their_names(tmp_path: Path) -> None:
    source, model = (nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)) for _ in range(2))
    torch.save(source.state_dict(), tmp_path / "a.pt")
    load_init(model, tmp_path / "a.pt")
    for name, tensor in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def without(state: State, *names: str) -> State:
    return {name: tensor for name, tensor in state.items() if name not in names}


WRONG: dict[str, tuple[Callable[[State], Any], str]] = {
    "list": (lambda state: [1, 2], "holds a list, expected a state_dict, or a file written by codeq.save"),
    "empty": (lambda state: {}, "holds no tensors"),
    "no_state": (
        lambda state: {"epoch": 3, "weights": state},
        "epoch is a int, expected a tensor; a state_dict may be the whole file, "
        "or under state_dict, model_state_dict or model",
    ),
    "no_tensor": (lambda state: state | {"fc.bias": [0.0] * 10}, r"fc\.bias is a list, expected a tensor"),
    "no_text": (lambda state: state | {5: torch.zeros(1)}, "names that are no text"),
    "sparse": (lambda state: state | {"fc.bias": torch.ones(10).to_sparse()}, r"has layout torch\.sparse_coo"),
    "meta": (lambda state: state | {"fc.bias": torch.ones(10, device="meta")}, r"fc\.bias is on meta"),
    "missing": (
        lambda state: without(state, "conv1.bias", "fc.bias", "fc.weight"),
        r"does not fit ResNet8: 3 missing: conv1\.bias, fc\.weight, \.\.\., 0 unknown \(other arguments\?\)",
    ),
    "unknown": (
        lambda state: state | {"extra": torch.zeros(1)},
        r"does not fit ResNet8: 0 missing, 1 unknown: extra \(other arguments\?\)",
    ),
    "another_network": (
        lambda state: nn.Linear(2, 2).state_dict(),
        r"does not fit ResNet8: \d+ missing: .*, 2 unknown: weight, bias \(no name fits: another network\?\)",
    ),
    "classes": (
        lambda state: network(num_classes=100).state_dict(),
        r"shapes differ from those of ResNet8: fc\.weight \(100, 64\), expected \(10, 64\); "
        r"fc\.bias \(100,\), expected \(10,\) \(--init needs the same classes\)",
    ),
    "channels": (
        lambda state: network(in_channels=3).state_dict(),
        r"conv1\.weight \(16, 3, 3, 3\), expected \(16, 1, 3, 3\) \(another network, or other arguments\?\)",
    ),
    "many_shapes": (
        lambda state: {name: torch.zeros(7) for name in state},
        r"; \.\.\. \(\d+ in all\) \(another network, or other arguments\?\)",
    ),
    "integers": (lambda state: state | {"fc.bias": torch.ones(10).char()}, r"fc\.bias is torch\.int8, expected"),
    "nan": (lambda state: state | {"fc.bias": torch.full((10,), torch.nan)}, r"fc\.bias has NaN or infinite"),
    "overflow": (
        lambda state: state | {"fc.bias": torch.full((10,), 1e300, dtype=torch.float64)},
        r"fc\.bias has NaN or infinite",
    ),
    "variance": (lambda state: state | {"bn1.running_var": -torch.ones(16)}, r"bn1\.running_var has negative"),
    "newer": (lambda state: {"format": "codeq.checkpoint", "format_version": 99}, "newer than .*upgrade codeq"),
    "incomplete": (lambda state: {"format": "codeq.checkpoint", "format_version": 1}, "has no entry"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_named_and_loads_nothing(
    change: Callable[[State], Any], message: str, trained: nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "a.pt"
    torch.save(change(dict(trained.state_dict())), path)
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(codeq.CheckpointError, match=message) as caught:
        load_init(model, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    for name, tensor in before.items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_a_size_that_a_file_only_declares_reserves_no_memory(trained: nn.Module, tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(2**40)
    torch.save(trained.state_dict() | {"fc.bias": huge}, tmp_path / "a.pt")
    with pytest.raises(codeq.CheckpointError, match=r"fc\.bias \(1099511627776,\), expected \(10,\)"):
        load_init(network(), tmp_path / "a.pt")


def test_what_is_no_file_of_tensors_is_named(trained: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with pytest.raises(codeq.CheckpointError, match="no such file"):
        load_init(network(), path)
    with pytest.raises(codeq.CheckpointError, match="is a folder, expected a state_dict"):
        load_init(network(), tmp_path)
    with pytest.raises(codeq.CheckpointError, match="is no ordinary file"):
        load_init(network(), Path("/dev/null"))
    path.write_text("hello, this is text")
    with pytest.raises(codeq.CheckpointError, match=r"not a checkpoint, .*expected a state_dict"):
        load_init(network(), path)
    torch.save(trained.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(codeq.CheckpointError, match="not a checkpoint, or truncated"):
        load_init(network(), path)


class Exploit:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "ran")


def test_nothing_in_a_file_runs(trained: nn.Module, tmp_path: Path) -> None:
    path, proof = tmp_path / "evil.pt", tmp_path / "proof"
    torch.save({"state_dict": trained.state_dict(), "arguments": Exploit(proof)}, path)
    with pytest.raises(codeq.CheckpointError, match=r"could run code, and was not opened; expected a state_dict, or"):
        load_init(network(), path)
    torch.save(trained, path)  # a whole network is Python objects, too
    with pytest.raises(codeq.CheckpointError, match="could run code"):
        load_init(network(), path)
    path.write_bytes(pickle.dumps(Exploit(proof)))
    with pytest.raises(codeq.CheckpointError, match="not a checkpoint"):
        load_init(network(), path)
    assert not proof.exists()


def test_weights_come_before_quantizers(trained: nn.Module, tmp_path: Path) -> None:
    torch.save(trained.state_dict(), tmp_path / "a.pt")
    model = network()
    codeq.attach(model)
    with pytest.raises(codeq.AttachError, match=r"has quantizers already; load weights before codeq\.attach"):
        load_init(model, tmp_path / "a.pt")
