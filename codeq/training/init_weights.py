"""Load trained float weights to start from: a state_dict as other tools write it, or a checkpoint of ours.

Accepted are a state_dict alone; one under "state_dict", "model_state_dict" or "model"; names that
DistributedDataParallel ("module.") or torch.compile ("_orig_mod.") prefixed; and a file written by `codeq.save`. Of a
quantized network the float weights behind the quantizers are taken, what the quantizers learned is not.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from codeq.checkpoint import FORMAT, WRAPPER_OF_PREFIX, validate_header
from codeq.errors import AttachError, CheckpointError, first_line
from codeq.quantizer.attach import quantized_weights
from codeq.safe_load import check_dense, check_values, safe_load

EXPECTED = "a state_dict, or a file written by codeq.save"
WRAPPERS = ("state_dict", "model_state_dict", "model")
MAX_DEPTH = 3
"""How many wrappers within wrappers are opened: a file's dictionary may contain itself."""
ORIGINAL = re.compile(r"(?P<layer>.*\.)?parametrizations\.(?P<tensor>[^.]+)\.original")
QUANTIZER = re.compile(
    r"(.*\.)?parametrizations\.[^.]+\.\d+\."
    r"(theta_dz|theta_bit|frozen|frozen_grid|frozen_scale"
    # Those of the method's authors, as in codeq/adopt/published.py.
    r"|quantizer\.(logit_dz|logit_bit|fixed_bit|max_bits|min_bits|learnable_bit|learnable_deadzone))"
)


def load_init(model: nn.Module, path: Path) -> None:
    """Load float weights into a plain network, in place; do this before `attach`.

    The file is read with `weights_only=True`. All of it is checked before the network is touched.

    Args:
        model: A network without quantizers. Floating point tensors of another width are cast to its own.
        path: The file. `num_batches_tracked`, which old files do not have, may be missing.

    Raises:
        CheckpointError: The file is missing, unsafe, or not one of the kinds above; or its tensors are not those of the
            network: other names, shapes or types, NaN or infinite entries.
        AttachError: The network has quantizers already.
    """
    source = Path(path)
    if any(True for _ in quantized_weights(model)):
        raise AttachError("the network has quantizers already; load weights before codeq.attach")
    load_floats(model, read_state(source), source)


def read_state(source: Path) -> dict[str, Tensor]:
    """Read the state_dict in a file, whatever it is under, with `weights_only=True`.

    Raises:
        CheckpointError: The file is missing, unsafe, or has none.
    """
    return find_state(source, safe_load(source, expected=EXPECTED))


def load_floats(model: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Load the float weights of a state_dict into a plain network, in place, once all of them are checked.

    Args:
        model: A network without quantizers. Floating point tensors of another width are cast to its own.
        state: As `read_state` returns it.
        source: For messages.

    Raises:
        CheckpointError: Its tensors are not those of the network: as for `load_init`.
    """
    expected = model.state_dict()
    state = _plain_names(unwrap_names(state, expected), expected)
    _check_names(source, model, state, expected)
    _check_shapes(source, model, state, expected)
    cast = dict(expected)
    for name, tensor in state.items():
        wanted = expected[name].dtype
        if tensor.dtype != wanted and not (tensor.is_floating_point() and wanted.is_floating_point):
            raise CheckpointError(f"{source}: {name} is {tensor.dtype}, expected {wanted}")
        cast[name] = tensor.to(wanted)
        check_values(source, name, cast[name])  # after the cast, which may overflow
    try:
        model.load_state_dict(cast)
    except RuntimeError as error:
        raise CheckpointError(f"{source}: {first_line(error)}") from error


def find_state(source: Path, payload: dict[Any, Any]) -> dict[str, Tensor]:
    """Find the state_dict in what a file holds, and see that it maps names to tensors.

    Raises:
        CheckpointError: There is none.
    """
    if payload.get("format") == FORMAT:
        validate_header(source, payload)
        state = payload["state_dict"]
    else:
        state = payload
        for _ in range(MAX_DEPTH):
            state = next((state[key] for key in WRAPPERS if isinstance(state.get(key), dict)), state)
    if not state:
        raise CheckpointError(f"{source}: holds no tensors, expected {EXPECTED}")
    for name, value in state.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{source}: state_dict has names that are no text")
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{source}: {name} is a {type(value).__name__}, expected a tensor; "
                f"a state_dict may be the whole file, or under {', '.join(WRAPPERS[:-1])} or {WRAPPERS[-1]}"
            )
        check_dense(source, name, value)
    return state


def unwrap_names(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take away what a wrapper of the network put before every name."""
    renamed = dict(state)
    # Never where names fit: a network may have a layer called "module".
    while not renamed.keys() & expected.keys():
        prefix = next(
            (prefix for prefix in WRAPPER_OF_PREFIX if all(name.startswith(prefix) for name in renamed)), None
        )
        if prefix is None:
            break
        renamed = {name.removeprefix(prefix): tensor for name, tensor in renamed.items()}
    return renamed


def _plain_names(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names that the plain network gives its tensors; what belongs to quantizers is left out."""
    plain = {}
    for name, tensor in state.items():
        original = None if name in expected else ORIGINAL.fullmatch(name)
        if original:
            plain[(original["layer"] or "") + original["tensor"]] = tensor
        elif name in expected or not QUANTIZER.fullmatch(name):
            plain[name] = tensor
    return plain


def _check_names(source: Path, model: nn.Module, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in expected]
    if not missing and not unknown:
        return
    kind = type(model).__name__
    cause = "other arguments" if state.keys() & expected.keys() else "no name fits: another network"
    raise CheckpointError(
        f"{source}: does not fit {kind}: {_listed(missing, 'missing')}, {_listed(unknown, 'unknown')} ({cause}?)"
    )


def _check_shapes(source: Path, model: nn.Module, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    differing = [name for name in state if state[name].shape != expected[name].shape]
    if not differing:
        return
    shapes = [f"{name} {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}" for name in differing]
    last_layer = list(expected)[-1].rpartition(".")[0]
    only_last = all(name.rpartition(".")[0] == last_layer for name in differing)
    cause = "--init needs the same classes" if only_last else "another network, or other arguments?"
    more = f"; ... ({len(shapes)} in all)" if len(shapes) > 2 else ""
    raise CheckpointError(
        f"{source}: shapes differ from those of {type(model).__name__}: {'; '.join(shapes[:2])}{more} ({cause})"
    )


def _listed(names: list[str], title: str) -> str:
    more = ", ..." if len(names) > 2 else ""
    return f"{len(names)} {title}" + (f": {', '.join(names[:2])}{more}" if names else "")
