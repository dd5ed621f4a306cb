"""Run QLinearAdd of all pairs of codes on emulated processors, and count what each form of additions.py gets wrong.

python docs/results/2026-11-28-devices/additions.py .devices arm cortex-a53
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from export.reference.machine import Codes
from export.reference.processors import ADDITIONS
from runtime_tests.devices import arm, browser, x86
from runtime_tests.devices.processor import Processor

GRIDS = 60
RUN = """
import sys
import numpy as np
import onnxruntime
folder = sys.argv[1]
for number in range(int(sys.argv[2])):
    session = onnxruntime.InferenceSession(f"{folder}/{number}.onnx", providers=["CPUExecutionProvider"])
    codes = np.load(f"{folder}/codes.npz")
    np.save(f"{folder}/{number}.npy", session.run(None, {"a": codes["a"], "b": codes["b"]})[0])
"""


def write(folder: Path, number: int, grid: tuple[float, ...]) -> None:
    sa, za, sb, zb, sy, zy = grid
    names, values = ("sa", "za", "sb", "zb", "sy", "zy"), (sa, za, sb, zb, sy, zy)
    tensors = [
        numpy_helper.from_array(np.array(value, np.float32 if name[0] == "s" else np.uint8), name)
        for name, value in zip(names, values, strict=True)
    ]
    node = helper.make_node("QLinearAdd", ["a", "sa", "za", "b", "sb", "zb", "sy", "zy"], ["y"], domain="com.microsoft")
    ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, [256 * 256]) for name in "aby"]
    graph = helper.make_graph([node], "add", ends[:2], ends[2:], tensors)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=7), folder / f"{number}.onnx")


def run(processor: Processor, place: Path) -> None:
    if processor.script is None:
        processor.run(place / "run.py", [place, str(GRIDS)])
        return
    about = json.dumps({"session_options": {}, "plain": 1})
    codes = np.load(place / "codes.npz")
    np.savez(place / "inputs.npz", about=np.array(about), **{"0.0": codes["a"], "0.1": codes["b"]})
    files = [place / f"{number}.onnx" for number in range(GRIDS)]
    processor.run(place / "run.py", [place / "inputs.npz", place / "results.npz", *files])
    for number in range(GRIDS):
        np.save(place / f"{number}.npy", np.load(place / "results.npz")[f"{number}.0.0"])


def main(folder: str, target: str, *names: str) -> None:
    rng = np.random.default_rng(0)
    grids = [
        (*np.exp(rng.uniform(-6, 0, 1)), rng.integers(256), *np.exp(rng.uniform(-6, 0, 1)), rng.integers(256), s, zy)
        for s, zy in zip(np.exp(rng.uniform(-5, 1, GRIDS)), rng.integers(0, 256, GRIDS), strict=True)
    ]
    a, b = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8), indexing="ij")
    for processor in {"arm": arm, "x86": x86, "browser": browser}[target].prepare(Path(folder)):
        if names and processor.name not in names:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            place = Path(temporary)
            np.savez(place / "codes.npz", a=a.ravel(), b=b.ravel())
            (place / "run.py").write_text(RUN)
            for number, grid in enumerate(grids):
                write(place, number, grid)
            run(processor, place)
            off = dict.fromkeys(ADDITIONS, 0)
            for number, (sa, za, sb, zb, sy, zy) in enumerate(grids):
                found = np.load(place / f"{number}.npy")
                first, second = (
                    Codes(
                        torch.from_numpy(codes.ravel().astype(np.float32)) - float(z), torch.tensor(float(s)), float(z)
                    )
                    for codes, s, z in ((a, sa, za), (b, sb, zb))
                )
                for name, form in ADDITIONS.items():
                    steps = form(None, first, second).steps(torch.tensor(float(sy)), float(zy))
                    codes = steps.round().clamp(0, 255).to(torch.uint8).numpy()
                    off[name] += int((codes != found).sum())
        counts = ", ".join(f"{name} {count:,}" for name, count in off.items())
        print(
            f"{processor.name} ({processor.how}), {GRIDS * 65536:,} sums; codes off by the form of: {counts}",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
