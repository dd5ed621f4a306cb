"""Rules by the kind of processor."""

from pathlib import Path

import pytest
import torch

from export.reference import processors
from export.reference.additions import add_fused, add_in_integers, add_unfused
from export.reference.onnxruntime import ONNXRUNTIME

add = torch.ops.aten.add.Tensor


def test_additions_alone_depend_on_the_processor() -> None:
    rules = {cpu: processors.onnxruntime_rules(cpu) for cpu in (*processors.ADDITIONS, "riscv64")}
    assert rules["arm"].kernels[add] is add_in_integers
    assert rules["x86"].kernels[add] is rules["riscv64"].kernels[add] is add_fused
    for found in rules.values():
        assert {key: value for key, value in found.kernels.items() if key is not add} == {
            key: value for key, value in ONNXRUNTIME.kernels.items() if key is not add
        }


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("aarch64", "Features : fp asimd", "arm"),
        ("arm64", "", "arm"),
        ("x86_64", "flags\t: sse4_2 fma avx2", "x86"),
        ("x86_64", "flags\t: sse4_2 avx", "x86-sse"),
        ("AMD64", "", "x86"),
    ],
)
def test_this_processor(
    machine: str, flags: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(f"{flags} \n")
    monkeypatch.setattr(processors, "CPUINFO", tmp_path / ("cpuinfo" if flags else "none"))
    monkeypatch.setattr(processors.platform, "machine", lambda: machine)
    assert processors.this_processor() == expected
    assert processors.onnxruntime_rules(expected).kernels[add] is {
        "arm": add_in_integers, "x86": add_fused, "x86-sse": add_unfused
    }[expected]  # fmt: skip
