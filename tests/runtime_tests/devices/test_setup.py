"""Emulators are set up from Debian's packages and the registry's wheels; here what would fetch them is made up."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from codeq.errors import OutputError
from codeq.toolkit.locks import written_by_one
from export.errors import ExportError
from runtime_tests.devices import arm, bochs, browser, mcu, packages, x86
from runtime_tests.devices.processor import MissingError, Processor

VERSION = "qemu-aarch64 version 7.2.22 (Debian 1:7.2)\nCopyright\n"


class Tools:
    """Stands in for apt-get, dpkg, pip, gcc and QEMU: notes what is run, and makes the files that they would."""

    def __init__(self) -> None:
        self.ran: list[list[str]] = []

    def __call__(self, words: Sequence[str | Path], what: str, *, folder: Path | None = None) -> str:
        self.ran.append([str(word) for word in words])
        name = Path(self.ran[-1][0]).name
        if name == "apt-get" and "download" in words:
            assert folder is not None
            (folder / f"{words[-1]}.deb").touch()
        if name == "dpkg":
            target = Path(words[-1])
            (target / "usr" / "bin").mkdir(parents=True, exist_ok=True)
            for emulator in ("qemu-aarch64-static", "qemu-x86_64-static", "qemu-sparc-static"):
                (target / "usr" / "bin" / emulator).touch()
        if "--target" in self.ran[-1]:
            Path(self.ran[-1][self.ran[-1].index("--target") + 1]).mkdir(parents=True)
        return VERSION if "--version" in self.ran[-1] else ""


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Tools:
    tools = Tools()
    monkeypatch.setattr(packages, "run_tool", tools)
    monkeypatch.setattr(x86, "run_tool", tools)
    return tools


def test_arm_is_fetched_once(tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "version", lambda name: "1.0")
    processors = arm.prepare(tmp_path)
    assert [processor.name for processor in processors] == list(arm.CORES)
    first = processors[0]
    assert (first.cpu, first.how) == ("arm", "qemu-aarch64 7.2.22")
    assert first.python[0] == str(tmp_path / "qemu/usr/bin/qemu-aarch64-static")
    assert "0xd03" in (tmp_path / "cores/cortex-a53/proc/cpuinfo").read_text()
    assert (tmp_path / "cores/cortex-a76/usr").resolve() == tmp_path / "arm64/usr"
    assert not (tmp_path / "qemu/usr/bin/qemu-sparc-static").exists()  # of forty, two are kept
    fetched = [words for words in tools.ran if words[0] == "apt-get"]
    assert any("-oAPT::Architecture=arm64" in words for words in fetched)
    assert any("numpy==1.0" in words for words in tools.ran)
    tools.ran.clear()
    assert arm.prepare(tmp_path) == processors
    assert not [words for words in tools.ran if words[0] in ("apt-get", "dpkg") or "pip" in words]
    monkeypatch.setattr(packages, "version", lambda name: "2.0")  # other versions here: other wheels there
    arm.prepare(tmp_path)
    assert any("numpy==2.0" in words for words in tools.ran)


def test_two_at_once_do_not_unpack_into_one_folder(tools: Tools, tmp_path: Path) -> None:
    """`make -j arm x86` shares a folder: the second is told of the first."""
    with (
        written_by_one(tmp_path / "qemu", "unpacking packages"),
        pytest.raises(OutputError, match="is unpacking packages"),
    ):
        packages.fetch_debian(tmp_path, "qemu", ["qemu-user-static"], None)
    assert not tools.ran
    packages.fetch_debian(tmp_path, "qemu", ["qemu-user-static"], None)
    assert tools.ran


def test_arm_needs_debian_s_python(tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.sys, "version_info", (3, 12, 0))
    with pytest.raises(MissingError, match=r"use Python 3\.11 here"):
        arm.prepare(tmp_path)
    monkeypatch.setattr(arm.sys, "platform", "darwin")
    with pytest.raises(MissingError, match="needs Linux"):
        arm.prepare(tmp_path)


@pytest.fixture
def on_x86(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(x86.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(x86, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(x86.shutil, "which", lambda name: None)

    def has(flags: str, features: Sequence[str] = ()) -> None:
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n")
        known = {name: False for names in (*x86.HIDDEN.values(), *x86.THERE.values()) for name in names}

        def run(self: Processor, script: Path, arguments: Sequence[str | Path]) -> str:
            return json.dumps(known | dict.fromkeys(features or x86.THERE[self.name], True))

        monkeypatch.setattr(Processor, "run", run)

    return has


def test_levels_by_faulting(tools: Tools, tmp_path: Path, on_x86: Any) -> None:
    on_x86("avx avx2 fma avx512f avx512_vnni cpuid_fault")
    processors = x86.prepare(tmp_path)
    assert [(item.name, item.cpu) for item in processors] == [
        ("this one", "x86"), ("avx512", "x86"), ("avx2", "x86"), ("avx", "x86-sse"), ("sse", "x86-sse")
    ]  # fmt: skip
    assert processors[2].environment["HIDDEN_ABOVE"] == "avx2"
    assert [words[0] for words in tools.ran] == ["gcc"]


def test_levels_by_emulation(tools: Tools, tmp_path: Path, on_x86: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on_x86("avx avx2 fma")
    whole = Processor("avx512", "x86", (), launch=lambda words, environment: pytest.fail("it starts with a file"))
    monkeypatch.setattr(bochs, "prepare", lambda folder, check: whole)
    processors = x86.prepare(tmp_path)
    assert processors[1] is whole  # QEMU knows no AVX512
    assert [(item.name, item.environment.get("QEMU_CPU")) for item in processors] == [
        ("this one", None), ("avx512", None), ("avx2", "Haswell"), ("avx", "SandyBridge"), ("sse", "Nehalem")
    ]  # fmt: skip
    assert processors[2].macs < processors[0].macs


def test_a_level_that_cannot_be_had_is_said(
    tools: Tools, tmp_path: Path, on_x86: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_x86("avx avx2 fma")
    monkeypatch.setattr(packages.sys, "version_info", (3, 12, 0))
    level = x86.prepare(tmp_path)[1]
    assert (level.name, level.macs) == ("avx512", 10**9)
    assert "use Python 3.11 here" in level.missing


def test_what_is_not_hidden_proves_nothing(
    tools: Tools, tmp_path: Path, on_x86: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_x86("avx avx2 fma", ["SSE42", "AVX", "AVX2", "FMA3"])
    monkeypatch.setattr(bochs, "prepare", lambda folder, check: Processor("avx512", "x86", (), missing="none"))
    with pytest.raises(ExportError, match=r"^avx: AVX2 is not hidden, so nothing would be proved"):
        x86.prepare(tmp_path)
    on_x86("avx avx2 fma", ["SSE42", "AVX", "AVX2"])
    with pytest.raises(ExportError, match=r"^avx2: FMA3 is not there, so nothing would be proved"):
        x86.prepare(tmp_path)


def test_numpy_knows_the_features_by_these_names() -> None:
    from numpy._core._multiarray_umath import __cpu_features__ as features

    assert {name for names in (*x86.HIDDEN.values(), *x86.THERE.values()) for name in names} <= {*features}


def test_the_interpreter_of_microcontrollers(tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcu, "run_tool", tools)

    def missing(name: str) -> str:
        raise mcu.PackageNotFoundError(name)

    monkeypatch.setattr(mcu, "installed_version", missing)
    (fetched,) = mcu.prepare(tmp_path)
    assert fetched.environment == {"PYTHONPATH": str(tmp_path / "tflm")}
    assert any(f"tflite-micro=={mcu.VERSION}" in words for words in tools.ran)
    monkeypatch.setattr(mcu, "installed_version", lambda name: "1.0")
    (installed,) = mcu.prepare(tmp_path)
    assert (installed.how, installed.environment, installed.cpu) == ("tflite-micro 1.0", {}, "tflm")


def test_levels_of_x86_need_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(x86.platform, "machine", lambda: "aarch64")
    with pytest.raises(MissingError, match="need an x86-64 processor and Linux"):
        x86.prepare(tmp_path)


@pytest.fixture
def npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tools:
    """Tools for a checkout whose examples lie in tmp_path, without a browser."""
    tools = Tools()
    monkeypatch.setattr(packages, "run_tool", tools)
    example = tmp_path / "example"
    example.mkdir()
    (example / "package-lock.json").touch()

    def run(words: Sequence[str | Path], what: str, *, folder: Path | None = None) -> str:
        said = tools(words, what, folder=folder)
        if words[0] == "npm":
            (example / "node_modules").mkdir(exist_ok=True)
            (example / "node_modules" / ".package-lock.json").touch()
        return "v20.19.0\n" if words[0] == "node" else said.replace(VERSION, "Chromium 156.0 built on Debian 156.0\n")

    monkeypatch.setattr(browser, "run_tool", run)
    monkeypatch.setattr(browser, "EXAMPLE", example)
    monkeypatch.setattr(browser.shutil, "which", lambda name: None)
    return tools


def test_browsers_are_fetched_once(npm: Tools, tmp_path: Path) -> None:
    node, chromium = browser.prepare(tmp_path)
    assert (node.cpu, node.backends, node.how) == ("wasm", ("onnx",), "v20.19.0")
    assert (chromium.cpu, chromium.backends, chromium.how) == ("wasm", ("onnx", "tflite"), "156.0")
    assert chromium.environment == {"CHROMIUM": str(tmp_path / "chromium.sh")}
    assert os.access(tmp_path / "chromium.sh", os.X_OK)
    installed = [words for words in npm.ran if "install" in words]
    assert len(installed) == 1
    assert {"--download-only", "chromium-headless-shell"} < set(installed[0])
    assert [words[:2] for words in npm.ran if words[0] == "npm"] == [["npm", "ci"]]
    npm.ran.clear()
    assert browser.prepare(tmp_path) == [node, chromium]
    assert {words[0] for words in npm.ran} == {"node", str(tmp_path / "chromium.sh")}


def test_an_installed_browser_is_taken(npm: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert browser.prepare(tmp_path)[1].environment == {"CHROMIUM": "/usr/bin/chromium-headless-shell"}
    assert not [words for words in npm.ran if words[0] == "apt-get"]


def test_what_browsers_need_is_one_line(npm: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "NODE", 22)
    with pytest.raises(MissingError, match=r"^browsers need Node 22 or later, found v20\.19\.0$"):
        browser.prepare(tmp_path)
    monkeypatch.setattr(browser, "EXAMPLE", tmp_path / "nowhere")
    with pytest.raises(MissingError, match=r"^browsers need the scripts in examples/browser, which a checkout has$"):
        browser.prepare(tmp_path)
