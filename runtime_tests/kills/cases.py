"""This module lists the commands that write files, with small inputs for each."""

import io
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

import codeq
from codeq import train
from codeq.compress import compress
from codeq.training.recipe import TrainConfig
from codeq.training.trainer import EpochResult, Trainer
from export import export_onnx
from runtime_tests.kills.network import FACTORY, digits_network

CHECKPOINT, OLDER = "net.pt", "older bytes\n"
SHAPE = (1, 8, 8)
EPOCHS = 3
TRAINING = ["--model", FACTORY, "--data", "digits", "--epochs", str(EPOCHS), "--batch-size", "512", "--threads", "1"]
TRAINING += ["--sparsity", "0.3", "-o", CHECKPOINT, "--quiet"]


@dataclass(frozen=True)
class Case:
    """Describes a command that is killed: its name, its module, its words, what it writes, and what makes its inputs.

    `older` says that its files exist before, `trains` that a killed run goes on with `--resume`, and `again` what words
    the next run has beside those, or those of `--resume`.
    """

    name: str
    module: str
    words: list[str]
    writes: tuple[str, ...]
    prepare: Callable[[Path], None]
    older: bool = False
    trains: bool = False
    again: list[str] = field(default_factory=lambda: ["--force"])


def cases() -> dict[str, Case]:
    """Give all of them by name."""
    word = ["--quiet"]
    compressing = ["--model", FACTORY, "--init", "float.pt", "--calibration", "inputs.npy", "--threads", "1"]
    training = (CHECKPOINT, "net.jsonl")
    found = [
        Case("train", "codeq.train", TRAINING, training, _nothing, trains=True),
        Case("train --force", "codeq.train", [*TRAINING, "--force"], training, _older(*training), True, trains=True),
        Case(
            "train --resume",
            "codeq.train",
            ["--resume", CHECKPOINT, "--model", FACTORY, "--quiet"],
            training,
            _half,
            trains=True,
        ),
        Case(
            "train --best --json",
            "codeq.train",
            [*TRAINING, *_BEST],
            (*training, "best.pt", "a.json"),
            _nothing,
            trains=True,
            again=["--force", *_BEST],
        ),
        Case("pareto", "codeq.pareto", ["net.jsonl", "-o", "figures", *word], ("figures/",), _trained),
        Case("compress", "codeq.compress.__main__", [*compressing, "-o", "out.pt", *word], ("out.pt",), _float),
        Case("advise --json", "codeq.advise", [*compressing[:4], "--json", "a.json", *word], ("a.json",), _float),
        Case("adopt", "codeq.adopt.__main__", [*_ADOPTED, "-o", "out.pt", *word], ("out.pt",), _quantized),
    ]
    for backend in ("onnx", "tflite"):
        name = f"net.{backend}"
        for activations in ("float32", "int8"):
            words = [CHECKPOINT, "-o", name, "--model", FACTORY, "--activations", activations, "--check", "2", *word]
            module = f"export.{backend}.__main__"
            found.append(Case(f"export {backend} {activations}", module, words, (name,), _checkpoint))
        found.append(
            Case(
                f"export {backend} --force",
                module,
                [*words, "--force"],
                (name,),
                _both(_checkpoint, _older(name)),
                True,
            )
        )
    found += [
        Case("materialize", "export.materialize", ["net.onnx", "-o", "dense.onnx", *word], ("dense.onnx",), _file),
        Case("inspect --json", "export.inspect", ["net.onnx", "--json", "a.json", *word], ("a.json",), _file),
        Case(
            "runtimes --json",
            "runtime_tests.runtimes",
            [*_COMPARED, "--runtimes", "onnxruntime", "--json", "a.json", *word],
            ("a.json",),
            _file,
        ),
        Case(
            "bench --json",
            "runtime_tests.bench.__main__",
            ["net.onnx", "--seconds", "0.01", "--json", "a.json", *word],
            ("a.json",),
            _file,
        ),
        Case(
            "parity --json --force",
            "runtime_tests.parity",
            [*_COMPARED, "--json", "a.json", "--force", *word],
            ("a.json",),
            _both(_file, _older("a.json")),
            True,
        ),
    ]
    return {case.name: case for case in found}


_ADOPTED = ["--model", FACTORY, "--init", "quantized.pt", "--input-shape", "1,8,8"]


_BEST = ["--best", "best.pt", "--json", "a.json"]
_COMPARED = [CHECKPOINT, "net.onnx", "--model", FACTORY, "--count", "2"]


def _nothing(folder: Path) -> None:
    pass


def _older(*names: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        for name in names:
            (folder / name).write_text(OLDER)

    return prepare


def _both(*steps: Callable[[Path], None]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        for step in steps:
            step(folder)

    return prepare


def _half(folder: Path) -> None:
    """Write the checkpoint of a training that was stopped after its first epoch."""

    def stop(row: EpochResult) -> None:
        raise KeyboardInterrupt

    torch.manual_seed(0)
    config = TrainConfig(model=FACTORY, epochs=EPOCHS, batch_size=512, sparsity=0.3)
    with suppress(KeyboardInterrupt):
        Trainer(config, factory=digits_network).run(folder / CHECKPOINT, on_epoch=stop)


def _trained(folder: Path) -> None:
    """Leave the log of a whole training."""
    words = [*TRAINING[: TRAINING.index("-o")], "-o", str(folder / CHECKPOINT), "--quiet"]
    with redirect_stdout(io.StringIO()):
        train.main(words)
    (folder / CHECKPOINT).unlink()


def _inputs() -> torch.Tensor:
    return torch.rand(16, *SHAPE, generator=torch.Generator().manual_seed(0))


def _float(folder: Path) -> None:
    torch.manual_seed(0)
    torch.save(digits_network().state_dict(), folder / "float.pt")
    np.save(folder / "inputs.npy", _inputs().numpy())


def _compressed() -> torch.nn.Module:
    torch.manual_seed(0)
    model = digits_network().eval()
    compress(model, _inputs(), bits=4)
    return model


def _quantized(folder: Path) -> None:
    """Write a state_dict whose weights lie on a grid."""
    torch.manual_seed(0)
    state = digits_network().state_dict()
    for name in ("0.weight", "4.weight"):
        state[name] = (state[name] * 100).round().clamp(-7, 7) * 0.125
    torch.save(state, folder / "quantized.pt")


def _checkpoint(folder: Path) -> None:
    codeq.save(
        folder / CHECKPOINT,
        _compressed(),
        input_shape=SHAPE,
        factory=FACTORY,
        held_inputs=_inputs(),
        calibration_inputs=_inputs(),
    )


def _file(folder: Path) -> None:
    _checkpoint(folder)
    model = codeq.load(folder / CHECKPOINT, digits_network).model
    export_onnx(model, (_inputs()[:2],), folder / "net.onnx", check_inputs=(_inputs(),), storage="packed")
