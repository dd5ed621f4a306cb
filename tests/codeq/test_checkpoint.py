"""Checkpoints round-trip, describe themselves, and are safe to open."""

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import codeq
import models
from codeq.quantizer.attach import quantized_weights

pytestmark = pytest.mark.quick


def test_round_trip_is_bit_identical(tmp_path: Path) -> None:
    arguments = {"in_channels": 1, "num_classes": 7, "input_size": 12}
    model = models.create("resnet8", **arguments)
    codeq.attach(model, None, max_bits=6, overrides={"fc": {"grid": "paper", "bits": 5}}, exclude="conv1")
    model(torch.randn(8, 1, 12, 12))
    codeq.freeze(model)
    held = torch.randn(3, 1, 12, 12)
    path = tmp_path / "net.pt"
    codeq.save(
        path,
        model,
        input_shape=(1, 12, 12),
        name="resnet8",
        arguments=arguments,
        preprocessing={"mean": [0.5], "std": [2.0]},
        held_inputs=held,
        metrics={"test_accuracy": 0.5},
    )
    state = torch.get_rng_state()
    loaded = codeq.load(path)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(loaded.model(held), model.eval()(held))
    assert [w.quantizer.config() for w in quantized_weights(loaded.model)] == [
        w.quantizer.config() for w in quantized_weights(model)
    ]
    assert (loaded.name, loaded.arguments, loaded.input_shape) == ("resnet8", arguments, (1, 12, 12))
    assert loaded.preprocessing == {"mean": [0.5], "std": [2.0]}
    assert loaded.metrics == {"test_accuracy": 0.5}
    assert loaded.inputs_to_check(2)[0].shape[0] == 2
    assert loaded.inputs_to_check(5)[1] == "the checkpoint holds 3 inputs, not 5"


def test_a_network_of_ones_own_needs_its_factory(tmp_path: Path) -> None:
    def factory() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))

    model = factory()
    codeq.attach(model)
    path = tmp_path / "own.pt"
    codeq.save(path, model, input_shape=(1, 2, 2))
    with pytest.raises(
        codeq.CheckpointError, match=r"saved without a registry name; pass --model package\.module:factory"
    ):
        codeq.load(path)
    loaded = codeq.load(path, factory)
    x = torch.randn(2, 1, 2, 2)
    assert torch.equal(loaded.model(x), model(x))
    inputs, note = loaded.inputs_to_check(4)
    assert inputs.shape == (4, 1, 2, 2)
    assert "random normal" in note


@pytest.fixture
def payload(checkpoint_path: Path) -> dict[str, Any]:
    """The content of a checkpoint, to be changed; without the digest, as older files are."""
    content: dict[str, Any] = torch.load(checkpoint_path, weights_only=True)
    del content["content_sha256"]
    return content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "has no format 'codeq.checkpoint'"),
        ({"format_version": 4}, "format version 4 is newer than 3.*upgrade codeq"),
        ({"format_version": "x"}, "format version 'x', expected an integer"),
        (
            {"model": {"name": "resnet999", "arguments": {}}},
            "names the network 'resnet999', which is not in the registry",
        ),
        ({"model": {"name": "resnet8", "arguments": {"num_classes": 10**12}}}, "num_classes must be an integer from 1"),
        ({"model": {"name": "resnet8", "arguments": {"num_classes": 11, "in_channels": 1}}}, r"fc\.\S+ has shape"),
        ({"model": {"name": "resnet8", "arguments": {"depth": 3}}}, "takes no argument depth"),
        ({"model": {"name": 5, "arguments": {}}}, "entry 'model' names no network"),
        ({"quantizers": {"conv1.weight": {"bits": 40}}}, "bits must be 2 to 8"),
        ({"quantizers": {"conv1.weight": {"bitz": 4}}}, "unexpected keyword argument 'bitz'"),
        ({"quantizers": {"bn1.weight": {"bits": 4}}}, "no quantizable weight bn1.weight"),
        ({"quantizers": {}}, "unknown and .* missing tensors; unknown"),
        ({"state_dict": []}, "entry 'state_dict' is a list"),
        ({"input_shape": [0]}, r"input_shape is \[0\]"),
        ({"held_inputs": torch.zeros(2, 1, 8, 8).double()}, r"held_inputs are torch\.float64"),
        ({"preprocessing": {"mean": torch.zeros(1)}}, "preprocessing has mean tensor.*expected a list of numbers"),
        ({"held_inputs": torch.zeros(2, 3)}, "held_inputs have shape"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_header_that_does_not_fit_is_named(
    payload: dict[str, Any], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "changed.pt"
    torch.save(payload | changes, path)
    with pytest.raises(codeq.CheckpointError, match=message) as caught:
        codeq.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_entry_is_named(payload: dict[str, Any], tmp_path: Path) -> None:
    del payload["state_dict"]
    torch.save(payload, tmp_path / "a.pt")
    with pytest.raises(codeq.CheckpointError, match="has no entry 'state_dict'"):
        codeq.load(tmp_path / "a.pt")


def test_a_tensor_of_another_dtype_is_named(payload: dict[str, Any], tmp_path: Path) -> None:
    payload["state_dict"]["fc.bias"] = payload["state_dict"]["fc.bias"].half()
    torch.save(payload, tmp_path / "a.pt")
    with pytest.raises(codeq.CheckpointError, match=r"fc\.bias is torch\.float16, expected torch\.float32"):
        codeq.load(tmp_path / "a.pt")


def test_nan_weights_are_named(payload: dict[str, Any], tmp_path: Path) -> None:
    payload["state_dict"]["fc.bias"][3] = float("nan")
    torch.save(payload, tmp_path / "a.pt")
    with pytest.raises(codeq.CheckpointError, match=r"fc\.bias has NaN or infinite entries"):
        codeq.load(tmp_path / "a.pt")


def test_foreign_files_are_told_apart(checkpoint_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for write, message in [
        (lambda: None, "no such file"),
        (lambda: path.write_bytes(b""), r"not a checkpoint, or truncated \(0 bytes\)"),
        (lambda: path.write_bytes(b"hello, this is text"), "not a checkpoint"),
        (lambda: path.write_bytes(checkpoint_path.read_bytes()[:-2000]), "not a checkpoint, or truncated"),
        (lambda: torch.save([1, 2], path), "holds a list"),
        (lambda: torch.save(models.resnet8().state_dict(), path), "is a plain state_dict of .* tensors"),
        (lambda: torch.save({"a": 1}, path), "has no format"),
    ]:
        write()
        with pytest.raises(codeq.CheckpointError, match=message):
            codeq.load(path)
    with pytest.raises(codeq.CheckpointError, match="is a folder"):
        codeq.load(tmp_path)


class Exploit:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "ran")


@pytest.mark.parametrize("wrapped", [True, False], ids=["torch_archive", "bare_pickle"])
def test_a_malicious_pickle_does_not_run(wrapped: bool, tmp_path: Path) -> None:
    path, proof = tmp_path / "evil.pt", tmp_path / "proof"
    if wrapped:
        torch.save({"format": "codeq.checkpoint", "x": Exploit(proof)}, path)
    else:
        path.write_bytes(pickle.dumps(Exploit(proof)))
    with pytest.raises(codeq.CheckpointError, match=r"could run code|not a checkpoint"):
        codeq.load(path)
    assert not proof.exists()


def test_saving_replaces_whole_files_only(
    checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(b"old")
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        codeq.save(path, nn.Linear(2, 2), input_shape=(2,))
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt"]
    with pytest.raises(codeq.OutputError, match="cannot write"):
        codeq.save(tmp_path / "nowhere" / "net.pt", nn.Linear(2, 2), input_shape=(2,))


def test_a_frozen_grid_that_no_training_writes_is_named(payload: dict[str, Any], tmp_path: Path) -> None:
    name = next(name for name in payload["state_dict"] if name.endswith("frozen_grid"))
    good = payload["state_dict"][name]
    for field, value, message in [
        (0, 0.0, "frozen grid has scale 0"),
        (1, 1.5, "frozen grid has multiplier 1.5"),
        (2, 200.0, "frozen grid has offset 200"),
        (3, 9.0, "frozen grid has quant_max 9"),
        (4, 0.5, "frozen grid has shift 0.5"),
    ]:
        changed = good.clone()
        changed[field] = value
        payload["state_dict"][name] = changed
        torch.save(payload, tmp_path / "a.pt")
        with pytest.raises(codeq.CheckpointError, match=message):
            codeq.load(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bn1.running_var", -torch.ones(16), r"bn1\.running_var has negative entries"),
        ("fc.bias", torch.empty(10, device="meta"), r"fc\.bias is on meta|not a checkpoint"),
        (5, torch.zeros(1), "state_dict has names that are no text"),
    ],
)
def test_tensors_that_cannot_be_are_named(
    payload: dict[str, Any], name: Any, value: torch.Tensor, message: str, tmp_path: Path
) -> None:
    payload["state_dict"][name] = value
    torch.save(payload, tmp_path / "a.pt")
    with pytest.raises(codeq.CheckpointError, match=message):
        codeq.load(tmp_path / "a.pt")


def test_a_sparse_tensor_is_named(payload: dict[str, Any], tmp_path: Path) -> None:
    payload["state_dict"]["fc.bias"] = payload["state_dict"]["fc.bias"].to_sparse()
    torch.save(payload, tmp_path / "a.pt")
    with pytest.raises(codeq.CheckpointError, match=r"fc\.bias has layout torch\.sparse_coo|not a checkpoint"):
        codeq.load(tmp_path / "a.pt")


def test_what_cannot_be_loaded_is_not_saved(tmp_path: Path) -> None:
    path, model = tmp_path / "a.pt", nn.Linear(2, 2)
    for options, message in [
        ({"metrics": {"x": object()}}, r"metrics\.x holds a object, expected plain values"),
        ({"name": "resnet999"}, "names the network 'resnet999'"),
        ({"held_inputs": torch.zeros(3, 5)}, "held_inputs have shape"),
        ({"preprocessing": {"mean": 0.5}}, "expected a list of numbers"),
    ]:
        with pytest.raises(codeq.CheckpointError, match=message):
            codeq.save(path, model, **({"input_shape": (2,)} | options))  # type: ignore[arg-type]
        assert not path.exists()
    size = np.int64(2)
    codeq.save(path, model, input_shape=(size,), metrics={"test_accuracy": np.float64(0.5)})  # type: ignore[arg-type]
    loaded = codeq.load(path, lambda: nn.Linear(2, 2))
    assert loaded.metrics == {"test_accuracy": 0.5}
    assert loaded.input_shape == (2,)


def test_a_factory_may_compute_while_it_builds(tmp_path: Path) -> None:
    def factory() -> nn.Module:  # stochastic depth reads its rates this way; the meta device has no values
        rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
        return nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.Dropout(rate)) for rate in rates))

    codeq.save(tmp_path / "a.pt", factory(), input_shape=(2,))
    assert isinstance(codeq.load(tmp_path / "a.pt", factory).model, nn.Sequential)


def flip(path: Path, start: int, count: int) -> None:
    data = bytearray(path.read_bytes())
    for place in range(start, start + count):
        data[place] ^= 0xFF
    path.write_bytes(data)


def test_torch_reads_damaged_files_that_are_refused(checkpoint_path: Path, tmp_path: Path) -> None:
    """40 flipped bytes anywhere: torch alone reads most of these files, and gives other weights."""
    path, content = tmp_path / "a.pt", checkpoint_path.read_bytes()
    read_by_torch = 0
    for start in range(40, len(content) - 40, len(content) // 40):
        path.write_bytes(content)
        flip(path, start, 40)
        try:
            torch.load(path, weights_only=True)
            read_by_torch += 1
        except Exception:
            pass  # whatever torch says of it
        with pytest.raises(codeq.CheckpointError):
            codeq.load(path)
    assert read_by_torch > 10


def test_300_damaged_files_are_refused(checkpoint_path: Path, tmp_path: Path) -> None:
    """200 flipped bits and 100 zeroed blocks, between the records and in the zip's own tables too."""
    path, content = tmp_path / "a.pt", checkpoint_path.read_bytes()
    generator = random.Random(0)
    damaged = []
    for _ in range(200):
        changed = bytearray(content)
        changed[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        damaged.append(bytes(changed))
    while len(damaged) < 300:
        start, length = generator.randrange(len(content)), generator.choice([1, 8, 64, 512, 4096])
        block = content[start : start + length]
        changed = content[:start] + bytes(len(block)) + content[start + length :]
        if changed != content:  # else they were zeros
            damaged.append(changed)
    for number, changed in enumerate(damaged):
        path.write_bytes(changed)
        with pytest.raises(codeq.CheckpointError) as raised:
            codeq.load(path)
        message = str(raised.value)
        assert message.startswith(str(path)), number
        assert message.isprintable(), number


def test_a_damaged_weight_is_named_by_its_record(checkpoint_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    weights = torch.load(checkpoint_path, weights_only=True)["state_dict"]
    name = next(name for name in weights if name.endswith("original"))
    start = checkpoint_path.read_bytes().index(weights[name].numpy().tobytes()[:64])
    path.write_bytes(checkpoint_path.read_bytes())
    flip(path, start, 40)
    with pytest.raises(codeq.CheckpointError, match=r"is damaged: its record \S+/data/\d+ has another CRC") as raised:
        codeq.load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("key", ["state_dict", "quantizers", "held_inputs"])
def test_another_content_is_found_by_its_digest(checkpoint_path: Path, tmp_path: Path, key: str) -> None:
    """A file whose CRCs are right: read, changed, and written by another program."""
    content = torch.load(checkpoint_path, weights_only=True)
    if key == "quantizers":
        next(iter(content[key].values()))["grid_limit"] = 126
    else:
        tensor = content[key]["fc.bias"] if key == "state_dict" else content[key]
        tensor.reshape(-1)[0] = torch.nextafter(tensor.reshape(-1)[0], torch.tensor(9.0))
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(codeq.CheckpointError, match=r"the digest of its content is [0-9a-f]{12}, saved was") as raised:
        codeq.load(tmp_path / "a.pt")
    assert "\n" not in str(raised.value)


def test_a_seal_that_is_gone_is_missed(checkpoint_path: Path, tmp_path: Path) -> None:
    torch.save(torch.load(checkpoint_path, weights_only=True), tmp_path / "a.pt")
    with pytest.raises(codeq.CheckpointError, match="the digest behind it is missing"):
        codeq.load(tmp_path / "a.pt")


def test_older_checkpoints_have_no_digest(payload: dict[str, Any], tmp_path: Path) -> None:
    torch.save(payload, tmp_path / "a.pt")
    assert codeq.load(tmp_path / "a.pt").input_shape == (1, 8, 8)


def test_crcs_are_written_whatever_the_process_has_chosen(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        codeq.save(tmp_path / "a.pt", nn.Linear(2, 2), input_shape=(2,))
        assert torch.serialization.get_crc32_options() is False
    finally:
        torch.serialization.set_crc32_options(True)
    assert codeq.load(tmp_path / "a.pt", lambda: nn.Linear(2, 2)).input_shape == (2,)
