"""The registry's names are known without PyTorch, and are those of the registry."""

import subprocess
import sys
from inspect import isfunction

import models
from models.names import NAMES


def test_they_are_those_of_the_registry() -> None:
    assert tuple(models.MODELS) == NAMES


def test_a_factory_is_called_as_its_module_is() -> None:
    """Importing the module puts that into the package, where the factory has to stay."""
    script = (
        "from models.resnet8 import resnet8\n"
        "import models\n"
        "assert models.resnet8 is resnet8\n"
        "from models import resnet8 as same\n"
        "assert same is resnet8\n"
        "assert models.create('resnet8').input_shape == (3, 32, 32)\n"
        "assert models.gru is models.MODELS['gru'].factory\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert all(isfunction(getattr(models, name)) for name in NAMES)


def test_they_need_no_torch() -> None:
    script = "import sys; sys.modules['torch'] = None; from models.names import NAMES; print(len(NAMES))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{len(NAMES)}\n"
