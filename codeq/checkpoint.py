"""Write and read self-describing checkpoints: all that export needs in one file, and nothing that chooses code to run.

A checkpoint is a dictionary of plain values and tensors, written by `torch.save` and read with `weights_only=True`:

| key | content |
|---|---|
| `format`, `format_version` | "codeq.checkpoint" and 2; 3 where the network takes several inputs |
| `model` | `{"name": registry name or None, "factory": "package.module:function" or None, "arguments": {...}}` |
| `input_shape` | one input without its batch dimension; of several inputs by name (stored_inputs.py) |
| `preprocessing` | `{"mean": [...], "std": [...]}` per channel, as `Dataset.preprocessing`; {} if none |
| `labels` | names of the outputs; missing if nobody said |
| `quantizers` | weight name to the arguments of its DeadZoneQuantizer |
| `state_dict` | of the attached network |
| `calibration_inputs`, `held_inputs` | small batches, preprocessed: from the training and the test set |
| `activations` | name of a quantized activation to `{"scale": float, "zero_point": int}`, None if they are float |
| `metrics` | e.g. `{"test_accuracy": 0.98}` |
| `training` | what `--resume` needs, or None |
| `versions` | of codeq and torch |
| `sealed` | true: the file ends in a digest of all its bytes (seal.py); older files have none |
| `content_sha256` | digest of all the above; older files have none |
"""

import hashlib
import json
import math
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import models
from codeq.activations.encoding import ActivationEncoding
from codeq.content_digest import content_sha256
from codeq.errors import AttachError, CheckpointError, OutputError, first_line
from codeq.graph.inputs import count_inputs, slice_inputs
from codeq.quantizer.attach import attach_each, quantized_weights
from codeq.quantizer.fake_quantized import is_fake_quantized, make_plain
from codeq.safe_load import check_dense, check_shape, check_values, safe_load
from codeq.seal import is_sealed, seal
from codeq.stored_inputs import Shapes, StoredInputs, check_arguments, check_stored_inputs, in_order
from codeq.toolkit.files import replace_atomically
from codeq.toolkit.text import printable
from codeq.version import __version__

FORMAT = "codeq.checkpoint"
FORMAT_VERSION = 3
"""2 brought `activations`, 3 several inputs by name."""
ONE_INPUT_VERSION = 2
"""Of a network of one input: older readers take such a file as they always have."""
EXPECTED = "a file written by codeq.save"
MODEL_OPTION = "pass --model package.module:factory"
FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)
MOST_VALUES = 2**26
"""Values of all inputs that are made up where a checkpoint holds none: 256 MiB."""
WRAPPER_OF_PREFIX = {"module.": "DataParallel or DistributedDataParallel", "_orig_mod.": "torch.compile"}
"""What a wrapper puts before the name of every tensor of the network inside it, and the wrapper."""


class UnnamedNetworkError(CheckpointError):
    """Raised where a checkpoint of a network that is not in the registry is loaded without a factory."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Holds a loaded checkpoint: the network, attached and in eval mode, and what was stored beside it.

    Attributes:
        model: The network.
        path, sha256: The file and its digest.
        name, factory, arguments: How the network is built, as in `save`.
        input_shape: Shape of one input without its batch dimension; of a network that takes several by name a mapping
            of these, in the order of its arguments.
        preprocessing, labels: As in `save`; empty if none were stored.
        calibration_inputs, held_inputs: Preprocessed batches `(N, *input_shape)`, or None; of several inputs mappings.
        metrics: E.g. `{"test_accuracy": 0.98}`.
        training: What a run goes on from, or None.
        activations: The grid of every quantized activation, by name; None if they are float.
    """

    model: nn.Module
    path: Path
    sha256: str
    name: str | None
    arguments: dict[str, Any]
    input_shape: Shapes
    preprocessing: dict[str, list[float]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    calibration_inputs: StoredInputs | None = None
    held_inputs: StoredInputs | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] | None = None
    activations: dict[str, ActivationEncoding] | None = None
    factory: str | None = None

    @property
    def values_per_input(self) -> int:
        """Say of how many values one input is, all tensors together."""
        shapes = self.input_shape.values() if isinstance(self.input_shape, dict) else [self.input_shape]
        return sum(math.prod(shape) for shape in shapes)

    def only_input_shape(self, way_out: str) -> tuple[int, ...]:
        """Give the shape of the input of a network that takes one.

        Args:
            way_out: What to do where it takes several, for the message.

        Raises:
            CheckpointError: It takes several by name.
        """
        if isinstance(self.input_shape, dict):
            raise CheckpointError(f"{self.path}: takes the inputs {', '.join(self.input_shape)}; {way_out}")
        return self.input_shape

    def inputs_to_check(self, count: int) -> tuple[StoredInputs, str]:
        """Take up to `count` inputs to judge an exported file on, `(N, *input_shape)`; several by name.

        Returns:
            The inputs, and a note where they are not `count` held ones (empty otherwise).

        Raises:
            CheckpointError: It holds none, and one is too large to make up.
        """
        held = self.held_inputs if self.held_inputs is not None else self.calibration_inputs
        if held is None or not count_inputs(held):
            # Several are never stored without values (stored_inputs.py).
            shape = self.only_input_shape("write it again with codeq.save and held_inputs")
            fitting = MOST_VALUES // self.values_per_input
            if not fitting:
                raise CheckpointError(
                    f"{self.path}: holds no inputs, and one of {self.values_per_input:,} values is too large to make "
                    "up; write it again with codeq.save and held_inputs"
                )
            count = min(count, fitting)
            generator = torch.Generator().manual_seed(0)
            note = "the checkpoint holds no inputs: random normal ones were used"
            return torch.randn(count, *shape, generator=generator), note
        if count_inputs(held) < count:
            return held, f"the checkpoint holds {count_inputs(held)} inputs, not {count}"
        return slice_inputs(held, slice(count)), ""


def save(
    path: str | os.PathLike[str],
    model: nn.Module,
    *,
    input_shape: tuple[int, ...] | Mapping[str, tuple[int, ...]],
    name: str | None = None,
    factory: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    preprocessing: Mapping[str, list[float]] | None = None,
    calibration_inputs: Tensor | Mapping[str, Tensor] | None = None,
    held_inputs: Tensor | Mapping[str, Tensor] | None = None,
    labels: Sequence[str] = (),
    metrics: Mapping[str, float] | None = None,
    training: Mapping[str, Any] | None = None,
    activations: Mapping[str, ActivationEncoding] | None = None,
) -> None:
    """Write a checkpoint, replacing an older one only when the new one is complete.

    Args:
        path: Target file.
        model: The network, attached (or plain, for a float twin).
        input_shape: Shape of one input without its batch dimension; a mapping by the names of arguments for a network
            that takes several, e.g. `{"input_ids": (16,), "attention_mask": (16,)}`.
        name, arguments: How the registry builds the network, e.g. "resnet8" and `{"in_channels": 1}`. Without a name
            the file can only be loaded with a factory.
        factory: What built a network without a name, as `package.module:function`, called with `arguments`. It is text
            for messages that say how to load the file: nothing is imported for it.
        preprocessing: `{"mean": [...], "std": [...]}`, recorded for whoever feeds the deployed file: an input is (pixel
            / max_pixel - mean) / std. With `{"max_pixel": [255]}`, and `{"crop": [0.875]}` where a central part of an
            image becomes the input, `codeq inspect FILE --code` writes the program that does so.
        labels: What the network's outputs stand for, in their order; empty where nobody said.
        calibration_inputs, held_inputs: Preprocessed batches `(N, *input_shape)`, float32, int64, int32 or bool; of
            several inputs mappings likewise, and one of both is needed: they say which dtypes the network takes.
        metrics, training: Plain values (and tensors) to keep.
        activations: The grids that training gave to activations, by name.

    Raises:
        CheckpointError: A value that `load` would refuse: neither plain nor a tensor, or not fitting the others.
        OutputError: The file cannot be written.

    Examples:
        >>> import tempfile
        >>> model = models.create("resnet8", in_channels=1)
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = os.path.join(folder.name, "net.pt")
        >>> save(path, model, input_shape=(1, 32, 32), name="resnet8", arguments={"in_channels": 1})
        >>> load(path).input_shape
        (1, 32, 32)
        >>> folder.cleanup()
    """
    payload = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION if isinstance(input_shape, Mapping) else ONE_INPUT_VERSION,
        "model": {"name": name, "factory": factory, "arguments": dict(arguments or {})},
        "input_shape": _shapes_to_store(input_shape),
        "preprocessing": dict(preprocessing or {}),
        "quantizers": {weight.name: weight.quantizer.config() for weight in quantized_weights(model)},
        "state_dict": dict(model.state_dict()),
        "calibration_inputs": calibration_inputs,
        "held_inputs": held_inputs,
        "activations": None if activations is None else {name: asdict(grid) for name, grid in activations.items()},
        "metrics": dict(metrics or {}),
        "training": dict(training) if training is not None else None,
        **({"labels": list(labels)} if labels else {}),
        "versions": {"codeq": __version__, "torch": str(torch.__version__)},
    }
    payload = {key: _plain(key, value) for key, value in payload.items()}
    # What cannot be loaded is not saved.
    header = validate_header(Path(path), payload)
    check_arguments(Path(path), model, payload["input_shape"])
    _read_activations(Path(path), payload["activations"])
    if name is not None:
        _registry_factory(Path(path), header)
    payload["sealed"] = True
    payload["content_sha256"] = content_sha256(payload)
    with replace_atomically(Path(path)) as temporary:
        try:
            with _checksums_on():
                torch.save(payload, temporary)
            with temporary.open("r+b") as file:
                seal(file)
        except RuntimeError as error:  # torch's zip writer: the disk is full, or a limit was reached
            raise OutputError(f"cannot write {path}: {first_line(error)}") from error


@contextmanager
def _checksums_on() -> Iterator[None]:
    """Let torch write the CRCs that `load` checks, whatever the process has chosen for its own files."""
    chosen = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(True)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(chosen)


def load(path: str | os.PathLike[str], factory: Callable[[], nn.Module] | None = None) -> Checkpoint:
    """Read a checkpoint and rebuild its network.

    The file is read with `weights_only=True`; its names and shapes are compared with the network on torch's meta
    device, before memory for the network is reserved.

    Args:
        path: A file written by `save`.
        factory: Builds the network instead of the registry, for networks that are not ours.

    Returns:
        The checkpoint, its network attached, loaded and in eval mode.

    Raises:
        CheckpointError: Missing, truncated, damaged, foreign, newer, unsafe, of an unknown network, or not fitting it.
    """
    source = Path(path)
    payload = _read(source)
    header = validate_header(source, payload)
    state = payload["state_dict"]

    build = factory or _registry_factory(source, header)
    with torch.random.fork_rng(devices=[]):  # building must not move the caller's random state
        if factory is None:
            # Once on the meta device, to compare shapes before memory is reserved for what a file asks for.
            with torch.device("meta"):
                _check_state(source, _build(source, build, payload), state, header)
        model = _build(source, build, payload)
        if factory is not None:
            _check_state(source, model, state, header)
    try:
        model.load_state_dict(state)
        for weight in quantized_weights(model):
            weight.quantizer.validate_frozen(weight.original)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{source}: {first_line(error)}") from error

    check_arguments(source, model, payload["input_shape"])
    shapes = in_order(model, payload["input_shape"])
    with source.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return Checkpoint(
        model=model.eval(),
        path=source,
        sha256=digest,
        name=header["name"],
        arguments=header["arguments"],
        input_shape={n: tuple(s) for n, s in shapes.items()} if isinstance(shapes, dict) else tuple(shapes),
        preprocessing=payload["preprocessing"],
        labels=tuple(payload.get("labels", ())),
        calibration_inputs=in_order(model, payload["calibration_inputs"]),
        held_inputs=in_order(model, payload["held_inputs"]),
        metrics=payload["metrics"],
        training=payload["training"],
        activations=_read_activations(source, payload.get("activations")),
        factory=header.get("factory"),
    )


def read_factory(path: str | os.PathLike[str]) -> tuple[str | None, dict[str, Any]]:
    """Read which function a checkpoint says that its network is built by, `package.module:function`, and with what.

    It is text from a file: import it only where a person has said that this file may choose code to run.

    Raises:
        CheckpointError: As for `load`.
    """
    source = Path(path)
    header = validate_header(source, _read(source))
    return header.get("factory"), header["arguments"]


def _read(source: Path) -> dict[str, Any]:
    payload = safe_load(source, expected=EXPECTED)
    if payload.get("format") != FORMAT:
        if payload and all(isinstance(value, Tensor) for value in payload.values()):
            raise CheckpointError(
                f"{source}: is a plain state_dict of {len(payload)} tensors, which does not say how it is quantized; "
                "load it into its network, codeq.attach, and write it with codeq.save"
            )
        raise CheckpointError(f"{source}: has no format {FORMAT!r}, expected {EXPECTED}")
    return payload


def validate_header(source: Path, payload: dict[str, Any]) -> dict[str, Any]:
    """Check every entry of a checkpoint but the tensors in its state; returns its entry "model".

    Raises:
        CheckpointError: A newer version, an entry that is missing or malformed, or another digest than was saved.
    """
    version = payload.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise CheckpointError(f"{source}: format version {printable(repr(version))}, expected an integer of at least 1")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{source}: format version {version} is newer than {FORMAT_VERSION}, the newest that codeq "
            f"{__version__} reads; upgrade codeq"
        )
    several = (dict,) if version >= FORMAT_VERSION else ()
    types: dict[str, type | tuple[type, ...]] = {
        "model": dict,
        "input_shape": (list, *several),
        "preprocessing": dict,
        "quantizers": dict,
        "state_dict": dict,
        "calibration_inputs": (Tensor, type(None), *several),
        "held_inputs": (Tensor, type(None), *several),
        "metrics": dict,
        "training": (dict, type(None)),
    }
    for key, expected in types.items():
        if key not in payload:
            raise CheckpointError(f"{source}: has no entry {key!r}; is the file complete?")
        if not isinstance(payload[key], expected):
            raise CheckpointError(f"{source}: entry {key!r} is a {type(payload[key]).__name__}")
    check_stored_inputs(source, payload)
    for name, values in payload["preprocessing"].items():
        if not isinstance(values, list) or not all(isinstance(value, float | int) for value in values):
            found = printable(f"{name} {values!r}")
            raise CheckpointError(f"{source}: preprocessing has {found}, expected a list of numbers")
    labels = payload.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.isprintable() for label in labels):
        raise CheckpointError(f"{source}: entry 'labels' is no list of names")
    if not all(isinstance(name, str) and isinstance(value, dict) for name, value in payload["quantizers"].items()):
        raise CheckpointError(f"{source}: entry 'quantizers' does not map names to arguments")
    header: dict[str, Any] = payload["model"]
    name, arguments = header.get("name", 0), header.get("arguments")
    if not isinstance(name, str | None) or not isinstance(arguments, dict):
        raise CheckpointError(f"{source}: entry 'model' names no network")
    factory = header.get("factory")
    if factory is not None and not (isinstance(factory, str) and FACTORY.fullmatch(factory)):
        found = printable(repr(factory))
        raise CheckpointError(f"{source}: entry 'model' has the factory {found}, expected package.module:function")
    _check_digest(source, payload)
    return header


def _shapes_to_store(shapes: tuple[int, ...] | Mapping[str, tuple[int, ...]]) -> Any:
    if isinstance(shapes, Mapping):
        return {name: list(shape) for name, shape in shapes.items()}
    return list(shapes)


def _check_digest(source: Path, payload: Mapping[str, Any]) -> None:
    expected = payload.get("content_sha256")
    if expected is None:
        return  # of an older release
    try:
        found = content_sha256({key: value for key, value in payload.items() if key != "content_sha256"})
        shown = found[:12]
    except RecursionError:
        found, shown = "", "none, for it contains itself"
    except ValueError as error:
        found, shown = "", f"none ({first_line(error)})"
    if found != expected:
        raise CheckpointError(
            f"{source}: is not what codeq.save wrote: the digest of its content is {shown}, saved was "
            f"{str(expected)[:12]}; it is damaged or was edited: copy it again, or write it with codeq.save"
        )
    if payload.get("sealed") is True and is_sealed(source) is None:  # a broken seal has been refused by safe_load
        raise CheckpointError(
            f"{source}: is not what codeq.save wrote: the digest behind it is missing; it is damaged or was edited: "
            "copy it again, or write it with codeq.save"
        )


def _read_activations(source: Path, values: Any) -> dict[str, ActivationEncoding] | None:
    if values is None:
        return None
    try:
        return {str(name): ActivationEncoding(**grid) for name, grid in values.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: entry 'activations' holds no grids ({first_line(error)})") from error


def _registry_factory(source: Path, header: Mapping[str, Any]) -> Callable[[], nn.Module]:
    name = header["name"]
    if name is None:
        raise UnnamedNetworkError(f"{source}: was saved without a registry name; {_model_option(header)}")
    if name not in models.MODELS:
        raise CheckpointError(
            f"{source}: names the network {name!r}, which is not in the registry "
            f"({', '.join(models.MODELS)}); {MODEL_OPTION}"
        )
    return lambda: models.create(name, **header["arguments"])


def _model_option(header: Mapping[str, Any]) -> str:
    """What to add to a command, in the words of whoever saved the file; it is for a person to read and repeat."""
    if header.get("factory") is None:
        return MODEL_OPTION
    arguments = json.dumps(header["arguments"], default=str)
    named = f" --model-args {shlex.quote(arguments)}" if header["arguments"] else ""
    return f"pass --model {header['factory']}{named}"


def _build(source: Path, build: Callable[[], nn.Module], payload: Mapping[str, Any]) -> nn.Module:
    quantizers = payload["quantizers"]
    try:
        model = build()
        # A factory of a network that another tool trains quantized: it was saved as `codeq.recover` left it.
        for quantizer in make_plain(model, values=False) if is_fake_quantized(model) else []:
            quantizer.remove()
        attach_each(model, quantizers)
    except AttachError as error:
        cause = _likely_cause(payload["model"], list(quantizers))
        raise CheckpointError(f"{source}: {error}{cause or '; was it built with another --model?'}") from error
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: {first_line(error)}") from error
    return model


def _check_state(source: Path, skeleton: nn.Module, state: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    expected = skeleton.state_dict()
    if not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{source}: state_dict has names that are no text")
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    if missing or unknown:
        cause = _likely_cause(header, unknown)
        raise CheckpointError(
            f"{source}: {len(unknown)} unknown and {len(missing)} missing tensors{_examples('unknown', unknown)}"
            f"{_examples('missing', missing)}{cause or ' (another network or other arguments?)'}"
        )
    for name, tensor in state.items():
        check_dense(source, name, tensor)
        check_shape(source, name, tensor, expected[name], hint=_likely_cause(header, []))
        if tensor.dtype != expected[name].dtype:
            raise CheckpointError(f"{source}: {name} is {tensor.dtype}, expected {expected[name].dtype}")
        check_values(source, name, tensor)


def _likely_cause(header: Mapping[str, Any], unknown: list[str]) -> str:
    """Why a file does not fit the network that was built for it, as far as it tells; empty where it does not."""
    for prefix, wrapper in WRAPPER_OF_PREFIX.items():
        if unknown and all(name.startswith(prefix) for name in unknown):
            return f" ({prefix!r} is from {wrapper}: save the network inside it)"
    if header["name"] is None and header.get("factory") is not None:
        return f" (a factory with other arguments? for the one that was saved, {_model_option(header)})"
    return ""


def _plain(where: str, value: Any) -> Any:
    """A value as `weights_only=True` reads it back: numpy's numbers become Python's."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return value.item()  # before the next line: numpy's float64 is a float
    if value is None or isinstance(value, bool | int | float | str | Tensor):
        return value
    if isinstance(value, Mapping):
        return {_plain(where, key): _plain(f"{where}.{key}", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(where, item) for item in value)
    raise CheckpointError(f"{where} holds a {type(value).__name__}, expected plain values and tensors")


def _examples(title: str, names: list[str]) -> str:
    more = ", ..." if len(names) > 2 else ""
    return f"; {title} {', '.join(names[:2])}{more}" if names else ""
