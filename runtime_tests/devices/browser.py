"""WebAssembly: onnxruntime-web in Node and in headless Chromium, LiteRT.js in Chromium.

examples/browser/ has the scripts and pins the npm packages, 200 MB with what they need; Chromium is Debian's, unpacked
into a folder, 560 MB with its libraries. Nothing is installed in the system.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime_tests.devices.packages import fetch_debian
from runtime_tests.devices.processor import MissingError, Processor, run_tool

EXAMPLE = Path(__file__).parents[2] / "examples" / "browser"
NAMES = ("node", "chromium")
OPTIONS: Mapping[str, Mapping[str, Any]] = {"tflite": {"batch": 1}}
"""Of the exports, by backend: LiteRT.js opens files of one batch size alone."""
NODE = 20
"""The oldest Node that is known to do."""
CHROMIUM = "chromium-headless-shell"
WRAPPER = """#!/bin/sh
# Debian's Chromium, from where it was unpacked.
lib="$(dirname "$(readlink -f "$0")")/chromium/usr/lib"
export LD_LIBRARY_PATH="$lib/x86_64-linux-gnu:$lib/x86_64-linux-gnu/pulseaudio"
exec "$lib/chromium/chromium-headless-shell" "$@"
"""


def prepare(folder: Path) -> list[Processor]:
    """Fetch what is missing, and give Node and Chromium.

    Args:
        folder: Where Chromium is kept, with `chromium.sh` that starts it; npm's packages are kept with the example.

    Raises:
        MissingError: No checkout, no Node 20 or later, no npm or no apt, or packages that cannot be had.
    """
    if not EXAMPLE.exists():
        raise MissingError("browsers need the scripts in examples/browser, which a checkout has")
    version = run_tool(["node", "--version"], "running WebAssembly").strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE:
        raise MissingError(f"browsers need Node {NODE} or later, found {version}")
    done, lock = EXAMPLE / "node_modules" / ".package-lock.json", EXAMPLE / "package-lock.json"
    if not done.exists() or done.stat().st_mtime < lock.stat().st_mtime:
        run_tool(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], "onnxruntime-web", folder=EXAMPLE)
    chromium = _chromium(folder.resolve())
    shown = run_tool([chromium, "--version"], "Chromium").split()
    environment = {"CHROMIUM": str(chromium)}
    return [
        Processor(NAMES[0], "wasm", ("node",), {}, version, script=EXAMPLE / "on_device.mjs", backends=("onnx",)),
        Processor(NAMES[1], "wasm", ("node",), environment, shown[-1], script=EXAMPLE / "in_chromium.mjs"),
    ]


def _chromium(folder: Path) -> Path:
    installed = shutil.which(CHROMIUM) or shutil.which("chromium")
    if installed:
        return Path(installed)
    fetch_debian(folder, "chromium", [CHROMIUM, "fonts-dejavu-core"], None, with_dependencies=True)
    wrapper = folder / "chromium.sh"
    wrapper.write_text(WRAPPER)
    wrapper.chmod(0o755)
    return wrapper
