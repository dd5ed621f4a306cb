"""The browser example as far as it goes without its packages; `make browser` runs it whole, in Chromium."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from runtime_tests.devices.browser import EXAMPLE, NODE

INDEX = (EXAMPLE / "index.html").read_text()
PACKAGES = json.loads((EXAMPLE / "package.json").read_text())
ARRAYS = {
    "about": np.array('{"what": "größer ≥ 🙂"}'),
    "0.1": np.arange(6, dtype=np.float32).reshape(2, 3),
    "0.2": np.array(7, np.float64),
    "codes": np.array([-128, 0, 127], np.int8),
    "bytes": np.arange(256, dtype=np.uint8),
    "ids": np.array([[2**40, -1]], np.int64),
    "wide": np.array([-(2**31)], np.int32),
    "masks": np.array([True, False]),
    "none": np.zeros((0, 4), np.float32),
}


def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("no Node here")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < NODE:
        pytest.skip(f"Node is {version.strip()}, the example needs {NODE}")
    return found


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_of_numpy_are_read_and_written(save: object, tmp_path: Path) -> None:
    save(tmp_path / "in.npz", **ARRAYS)  # type: ignore[operator]
    script = tmp_path / "copy.mjs"
    script.write_text(
        f"""
        import {{ readNpz, writeNpz }} from {json.dumps((EXAMPLE / "npz.mjs").as_uri())};
        import {{ readFileSync, writeFileSync }} from "node:fs";
        const bytes = readFileSync("in.npz");
        const read = await readNpz(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
        writeFileSync("out.npz", writeNpz(Object.fromEntries(read)));
        """
    )
    done = subprocess.run([node(), script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as found:
        assert set(found.files) == set(ARRAYS)
        for name, array in ARRAYS.items():
            assert found[name].dtype == array.dtype, name
            assert found[name].shape == array.shape, name
            assert np.array_equal(found[name], array), name


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "read.mjs"
    module = json.dumps((EXAMPLE / "npz.mjs").as_uri())
    script.write_text(f"import {{ readNpz }} from {module};\nawait readNpz(new ArrayBuffer(64));\n")
    done = subprocess.run([node(), script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "this is no .npz file" in done.stderr


@pytest.mark.quick
def test_packages_are_pinned() -> None:
    asked = PACKAGES["dependencies"] | PACKAGES["devDependencies"]
    locked = json.loads((EXAMPLE / "package-lock.json").read_text())["packages"]
    for name, version in asked.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
        assert locked[f"node_modules/{name}"]["version"] == version
    assert all("integrity" in about for path, about in locked.items() if path)


@pytest.mark.quick
def test_the_page_asks_nobody_else() -> None:
    texts = [path.read_text() for path in (EXAMPLE / "index.html", EXAMPLE / "style.css", EXAMPLE / "page.mjs")]
    assert not [text for text in texts if "http://" in text or "https://" in text or '"//' in text]
    mapped = json.loads(re.search(r'<script type="importmap">(.*?)</script>', INDEX, re.DOTALL)[1])["imports"]  # type: ignore[index]
    assert set(PACKAGES["dependencies"]) < set(mapped)
    assert all(path.startswith("./node_modules/") for path in mapped.values())


@pytest.mark.quick
def test_the_page_can_be_heard() -> None:
    """Everything that is drawn on has a name, and what changes is announced."""
    assert INDEX.count("<canvas") == INDEX.count("aria-label=")
    assert 'role="status"' in INDEX
    assert '<html lang="en">' in INDEX
    assert INDEX.count('scope="col"') == INDEX.count("<th ")
