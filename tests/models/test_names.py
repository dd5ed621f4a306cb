"""The names for command lines are those of the registry, and each is the function that builds its network."""

import subprocess
import sys
from importlib import import_module

import pytest

import models
from models.names import NAMES


def test_the_names_are_the_registrys() -> None:
    assert tuple(models.MODELS) == NAMES
    assert all(models.MODELS[name].factory is getattr(models, name) for name in NAMES)
    assert set(NAMES) | {"MODELS", "NAMES", "create"} <= set(models.__all__)
    assert set(models.__all__) <= set(dir(models))


@pytest.mark.parametrize("first", ["models.gru", "models.registry", "models"])
@pytest.mark.full
def test_a_name_is_the_function_whatever_is_imported_first(first: str) -> None:
    program = f"import {first}; import models; from models import gru; print(models.gru is gru, gru.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True gru\n"


def test_names_need_no_pytorch() -> None:
    program = "import sys; sys.modules['torch'] = None; import models; print(models.NAMES[0])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "resnet8\n"


def test_what_is_no_network_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'models' has no attribute 'resnet9'"):
        models.resnet9  # noqa: B018
    assert import_module("models.gru").gru is models.gru
