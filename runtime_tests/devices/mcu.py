"""TFLite Micro, the interpreter of microcontrollers, runs on this machine as the registry's package has it.

Its reference kernels are those that a microcontroller without optimized ones runs; CMSIS-NN's for Cortex-M follow the
same rules in convolutions (docs/devices.md). Files have int8 inputs and outputs and dense weights.
"""

import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from runtime_tests.devices.processor import Processor, run_tool

PACKAGE = "tflite-micro"
VERSION = "0.dev20261023182759"
OPTIONS: Mapping[str, Mapping[str, Any]] = {"tflite": {"target": "tflm"}}
"""Of the exports, by backend."""
BACKEND = "tflite"
NAMES = ("tflite-micro",)


def prepare(folder: Path) -> list[Processor]:
    """Fetch the package unless it is installed, and give the interpreter as a processor.

    Args:
        folder: Where it is kept.

    Raises:
        MissingError: It cannot be had.
    """
    try:
        return [_processor(installed_version(PACKAGE), {})]
    except PackageNotFoundError:
        site = folder.resolve() / "tflm"
        if not (site / "tflite_micro").exists():
            words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site)]
            run_tool([*words, f"{PACKAGE}=={VERSION}"], "TFLite Micro")
        return [_processor(VERSION, {"PYTHONPATH": str(site)})]


def _processor(version: str, environment: Mapping[str, str]) -> Processor:
    return Processor(NAMES[0], "tflm", (sys.executable,), environment, f"{PACKAGE} {version}")
