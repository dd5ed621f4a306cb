"""The training loop: exact resume, freezing, budgets, divergence, several processes, what a checkpoint holds."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import codeq
import models
from codeq import checkpoint
from codeq.activations.learned_step import QuantizedActivations
from codeq.channels.spaces import find_spaces
from codeq.errors import CheckpointError, KernelTimesError
from codeq.quantizer.attach import quantized_weights
from codeq.run_log import RunLog, read_run
from codeq.training.batching import Batch
from codeq.training.budget import BudgetError
from codeq.training.recipe import RECIPES, TrainConfig
from codeq.training.trainer import DivergedError, EpochResult, Trainer, train
from tests.codeq.channels.tables import table_of

ADAMW: dict[str, Any] = {"optimizer": "adamw", "lr": 6e-3, "weight_decay": 1e-2}
SHORT = TrainConfig(**ADAMW, epochs=3, batch_size=128, lambda_dz=1.0, freeze_fraction=0.34)


def raw_state(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def run_part(trainer: Trainer, output: Path, epochs: int, best: Path | None = None) -> None:
    """Interrupt a run after some epochs."""

    def stop(row: EpochResult) -> None:
        if row.epoch + 1 == epochs:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run(output, best=best, on_epoch=stop)


RESUMED: dict[str, dict[str, Any]] = {
    "fixed": {},
    "mixed": {"bits": None},
    "int8": {"activations": "int8"},
    "compiled": {"compile": "model"},
    "budget": {"lambda_dz": None, "sparsity": 0.7},
    "mixed_budget": {"lambda_dz": None, "bops": 0.06, "bits": None},
    "channels": {"lambda_dz": None, "macs": 0.5, "sparsity": 0.6, "granularity": "channel"},
    "sgd": {"optimizer": "sgd", "lr": 0.05, "warmup_fraction": 0.4, "label_smoothing": 0.1, "clip_norm": 1.0},
}


@pytest.mark.parametrize(
    ("kind", "stop_after", "fraction"),
    [
        pytest.param("fixed", 1, 0.5, marks=pytest.mark.full),
        pytest.param("fixed", 3, 0.5, marks=pytest.mark.full),
        pytest.param("fixed", 2, 0.4, marks=pytest.mark.full),
        pytest.param("mixed", 1, 0.4, marks=pytest.mark.full),
        pytest.param("int8", 1, 0.5, marks=pytest.mark.full),
        pytest.param("int8", 3, 0.4, marks=pytest.mark.full),
        pytest.param("compiled", 1, 0.4, marks=pytest.mark.full),
        pytest.param("budget", 1, 0.5, marks=pytest.mark.full),
        pytest.param("budget", 3, 0.4, marks=pytest.mark.full),
        pytest.param("mixed_budget", 1, 0.5, marks=pytest.mark.slow("three trainings")),
        pytest.param("channels", 1, 0.5, marks=pytest.mark.slow("three trainings")),
        pytest.param("channels", 3, 0.4, marks=pytest.mark.full),
        pytest.param("sgd", 2, 0.4, marks=pytest.mark.full),
    ],
)
def test_resume_is_bit_identical(kind: str, stop_after: int, fraction: float, tmp_path: Path) -> None:
    # Grids freeze after two of four epochs, or within the third.
    config = replace(SHORT, epochs=4, freeze_fraction=fraction, **RESUMED[kind])
    assert config.freeze_step(4 * 12) == {0.5: 24, 0.4: 29}[fraction]
    whole = train(config, tmp_path / "whole.pt")
    run_part(Trainer(config), tmp_path / "part.pt", stop_after)
    torch.manual_seed(99)  # what happens in between must not matter
    rest = train(config, tmp_path / "part.pt", resume=checkpoint.load(tmp_path / "part.pt"))
    assert rest.history == whole.history
    expected, found = raw_state(tmp_path / "whole.pt"), raw_state(tmp_path / "part.pt")
    assert expected["metrics"] == found["metrics"]
    assert expected["activations"] == found["activations"]
    assert (expected["activations"] is None) == (config.activations == "float32")
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(tensor, found["state_dict"][name]), name


def test_a_run_freezes_and_stores_what_export_needs(tmp_path: Path) -> None:
    result = train(SHORT, tmp_path / "a.pt")
    loaded = codeq.load(tmp_path / "a.pt")
    assert all(bool(weight.quantizer.frozen) for weight in quantized_weights(loaded.model))
    assert result.cost.sparsity == loaded.metrics["sparsity"]
    # So strong a lambda reaches its zeros within the first epoch; which way they go from there is up to the draws.
    assert all(row.sparsity > 0.5 for row in result.history[1:])
    assert loaded.held_inputs is not None
    assert loaded.held_inputs.shape == (128, 1, 8, 8)
    assert set(loaded.preprocessing) == {"mean", "std", "max_pixel"}
    assert loaded.training is not None
    assert loaded.training["complete"]


def test_the_float_twin_has_no_quantizers(tmp_path: Path) -> None:
    result = train(replace(SHORT, bits=32, lambda_dz=None, epochs=1), tmp_path / "a.pt")
    assert not list(quantized_weights(codeq.load(tmp_path / "a.pt").model))
    assert result.cost.relative_bops == 1


def test_mixed_precision_learns_fewer_bits(tmp_path: Path) -> None:
    result = train(replace(SHORT, bits=None, epochs=2, lambda_bit=2.0), tmp_path / "a.pt")
    assert 2 <= result.history[-1].bits < 8
    assert result.cost.mean_bits == pytest.approx(result.history[-1].bits)


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_a_diverging_run_stops_and_leaves_the_last_epoch(activations: str, tmp_path: Path) -> None:
    config = replace(SHORT, lr=1e3, activations=activations)
    with pytest.raises(DivergedError, match=r"in epoch 1: .* holds epoch 0; try a smaller --lr"):
        train(config, tmp_path / "a.pt")
    assert codeq.load(tmp_path / "a.pt").training is not None


def test_nan_names_its_layer(tmp_path: Path) -> None:
    trainer = Trainer(SHORT)
    with torch.no_grad():
        trainer.model.block2.conv1.parametrizations.weight.original[0, 0] = float("nan")  # type: ignore[union-attr]
    with pytest.raises(DivergedError, match=r"the loss became nan in epoch 1: block2\.conv1\.weight has NaN"):
        trainer.run(tmp_path / "a.pt")


def test_the_first_batch_of_an_epoch_is_not_judged_alone(tmp_path: Path) -> None:
    trainer = Trainer(replace(SHORT, epochs=2))
    step = trainer.train_step

    def outlier(batch: Batch) -> float:
        loss = step(batch)
        return 60.0 if trainer.state.step == trainer.batch_count + 1 else loss  # 26 times that of guessing

    trainer.train_step = outlier
    assert len(trainer.run(tmp_path / "a.pt").history) == 2


def test_a_diverging_run_names_the_file_that_holds_the_last_good_epoch(tmp_path: Path) -> None:
    run_part(Trainer(SHORT), tmp_path / "part.pt", 1)
    trainer = Trainer(SHORT, resume=checkpoint.load(tmp_path / "part.pt"))
    with torch.no_grad():
        trainer.model.conv1.bias[0] = float("nan")  # type: ignore[index,union-attr]
    with pytest.raises(DivergedError, match=r"in epoch 2: .*part\.pt holds epoch 1; try a smaller --lr"):
        trainer.run(tmp_path / "other.pt")
    assert not (tmp_path / "other.pt").exists()


@pytest.mark.slow("it trains")
def test_int8_activations_are_learned_and_stored(tmp_path: Path) -> None:
    config = replace(SHORT, activations="int8")
    result = train(config, tmp_path / "a.pt")
    loaded = codeq.load(tmp_path / "a.pt")
    assert loaded.activations is not None
    assert set(loaded.activations) >= {"input", "conv1", "block1.add", "pool"}
    # Learned, not only calibrated: steps have moved from where an untrained copy starts.
    quantized = QuantizedActivations(loaded.model, (loaded.calibration_inputs[:2],))  # type: ignore[index]
    quantized.calibrate((loaded.calibration_inputs,))  # type: ignore[arg-type]
    assert any(quantized.encodings()[name] != grid for name, grid in loaded.activations.items())
    assert 0 <= result.test_accuracy <= 1


def test_weights_that_break_in_the_last_step_replace_nothing(tmp_path: Path) -> None:
    def poison(step: int, steps: int, loss: float) -> None:
        if step == 24:  # the last of the second epoch
            with torch.no_grad():
                trainer.model.conv1.bias[0] = float("nan")  # type: ignore[index,union-attr]

    trainer = Trainer(SHORT)
    with pytest.raises(DivergedError, match=r"conv1.bias has NaN or infinite entries after epoch 2; .* holds epoch 1"):
        trainer.run(tmp_path / "a.pt", on_step=poison)
    loaded = codeq.load(tmp_path / "a.pt")
    assert loaded.training is not None
    assert len(loaded.training["history"]) == 1


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        pytest.param({"sparsity": 0.8}, "sparsity", id="sparsity", marks=pytest.mark.full),
        pytest.param({"bops": 0.03}, "bops", id="bops", marks=pytest.mark.full),
        pytest.param(
            {"size": 12_000.0, "optimizer": "sgd", "lr": 0.05, "weight_decay": 1e-2},
            "size",
            id="size_sgd",
            marks=pytest.mark.full,
        ),
        pytest.param({"bops": 0.03, "bits": None}, "bops", id="bops_mixed", marks=pytest.mark.full),
        pytest.param(
            {"sparsity": 0.8, "theta_init": 0.5, "bits": 2}, "sparsity", id="sparsity_2_bits", marks=pytest.mark.full
        ),
    ],
)
def test_a_budget_is_met(changes: dict[str, Any], kind: str, tmp_path: Path) -> None:
    config = replace(SHORT, epochs=16, batch_size=32, lambda_dz=None, freeze_fraction=0.25, **changes)
    result = train(config, tmp_path / "a.pt")
    budget = config.budget
    assert budget is not None
    assert budget.kind == kind
    assert abs(budget.of(result.cost) - budget.target) <= budget.margin
    assert result.test_accuracy > 0.9
    assert not codeq.collapsed(result.model) or kind == "sparsity"
    assert result.history[-1].lambda_dz == 0 < max(row.lambda_dz for row in result.history[1:])


@pytest.mark.slow("it trains")
def test_channels_and_zeros_have_a_budget_each(tmp_path: Path) -> None:
    config = replace(SHORT, epochs=12, batch_size=32, lambda_dz=None, freeze_fraction=0.25, macs=0.5, sparsity=0.7)
    result = train(config, tmp_path / "a.pt")
    assert result.shrunk is not None
    assert result.shrunk.macs[1] / result.shrunk.macs[0] == pytest.approx(0.5, rel=0.02)
    assert result.cost.sparsity == pytest.approx(0.7, abs=0.01)
    assert result.test_accuracy > 0.9
    assert result.history[0].macs > result.history[-1].macs == pytest.approx(0.5, rel=0.02)
    small = codeq.shrink(codeq.load(tmp_path / "a.pt").model, torch.zeros(2, 1, 8, 8)).model
    assert codeq.summary(small, (1, 8, 8)).macs == result.shrunk.macs[1]


@pytest.mark.slow("it trains")
def test_latency_has_a_budget(tmp_path: Path) -> None:
    config = replace(SHORT, epochs=12, batch_size=32, lambda_dz=None, freeze_fraction=0.25)
    model = models.resnet8(in_channels=1, input_size=8)
    codeq.attach(model, 4, channels=True)
    times = table_of(find_spaces(model, torch.zeros(2, 1, 8, 8)))
    times.write(tmp_path / "times.json")
    config = replace(config, latency=0.6, kernel_times=str(tmp_path / "times.json"))
    result = train(config, tmp_path / "a.pt")
    assert result.latency is not None
    assert result.latency.share == pytest.approx(0.6, rel=0.1)
    assert result.latency.dense_ms == times.dense_ms
    assert result.test_accuracy > 0.9
    assert result.history[0].latency > result.history[-1].latency == pytest.approx(result.latency.share, abs=0.01)
    assert result.history[-1].macs < 1
    small = codeq.shrink(codeq.load(tmp_path / "a.pt").model, torch.zeros(2, 1, 8, 8)).model
    assert times.of_network(small) == result.latency
    (tmp_path / "times.json").write_text("{}")
    with pytest.raises(KernelTimesError, match=r"times\.json is not a table"):
        train(config, tmp_path / "b.pt")


def test_without_budget_or_lambda_the_aim_is_90_percent_zeros() -> None:
    assert str(TrainConfig().budget) == "90.0% zeros"
    assert TrainConfig(lambda_dz=0.1).budget is TrainConfig(bits=32).budget is TrainConfig(macs=0.5).budget is None


@pytest.mark.slow("it trains")
@pytest.mark.full
def test_an_unreachable_budget_stops_the_run_half_way(tmp_path: Path) -> None:
    steps = []
    config = replace(SHORT, epochs=12, lambda_dz=None, sparsity=0.985, freeze_fraction=0.2)
    with pytest.raises(
        BudgetError, match=r"98.5% zeros is out of reach after \d+ of 116 steps: about \d\d.\d% zeros is"
    ):
        train(config, tmp_path / "a.pt", on_step=lambda step, steps_, loss: steps.append(step))
    assert len(steps) < 0.6 * 12 * 12


def test_the_paper_recipe_is_the_published_operator() -> None:
    trainer = Trainer(TrainConfig(**RECIPES["paper"], epochs=2))
    quantizers = [weight.quantizer for weight in quantized_weights(trainer.model)]
    assert {quantizer.grid for quantizer in quantizers} == {"paper"}
    assert {quantizer.theta_dz.item() for quantizer in quantizers} == {3.0}
    assert isinstance(trainer.state.optimizer, torch.optim.SGD)
    groups = {group["kind"]: group for group in trainer.state.optimizer.param_groups}
    assert groups["theta_dz"]["weight_decay"] == 0.01
    assert groups["theta_dz"]["momentum"] == 0.9
    assert trainer.freeze_step == trainer.steps
    assert trainer.state.controller is None


@pytest.mark.full
def test_a_teacher_is_listened_to(tmp_path: Path) -> None:
    train(replace(SHORT, bits=32, lambda_dz=None, epochs=6), tmp_path / "float.pt")
    taught = replace(SHORT, teacher=str(tmp_path / "float.pt"), teacher_weight=1.0)
    trainer = Trainer(taught)
    assert trainer.teacher is not None
    before = {name: tensor.clone() for name, tensor in trainer.teacher.state_dict().items()}
    result = trainer.run(tmp_path / "a.pt")
    # Labels have no share in the loss: what it knows it knows from the teacher.
    assert result.test_accuracy > 0.8
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.teacher.state_dict().items())


def test_a_teacher_of_other_data_is_refused(make_checkpoint: Any) -> None:
    path = make_checkpoint("resnet8", input_size=16)
    with pytest.raises(CheckpointError, match=r"is for inputs \(1, 16, 16\), the data has \(1, 8, 8\)"):
        Trainer(replace(SHORT, teacher=str(path)))


def test_an_unfinished_teacher_is_refused_but_its_best_epoch_is_not(tmp_path: Path) -> None:
    twin = replace(SHORT, bits=32, lambda_dz=None, epochs=2)
    run_part(Trainer(twin), tmp_path / "part.pt", 1, best=tmp_path / "best.pt")
    message = r"--teacher .*part\.pt: is unfinished; finish it with --resume .*part\.pt or use its --best file"
    with pytest.raises(CheckpointError, match=message):
        Trainer(replace(SHORT, teacher=str(tmp_path / "part.pt")))
    assert Trainer(replace(SHORT, teacher=str(tmp_path / "best.pt"))).teacher is not None


@pytest.mark.full
def test_a_resumed_run_notices_another_teacher(tmp_path: Path) -> None:
    teacher, part = tmp_path / "float.pt", tmp_path / "part.pt"
    twin = replace(SHORT, bits=32, lambda_dz=None, epochs=1)
    train(twin, teacher)
    first = teacher.read_bytes()
    config = replace(SHORT, teacher=str(teacher))
    run_part(Trainer(config), part, 1)
    train(replace(twin, seed=1), teacher)
    with pytest.raises(
        CheckpointError, match=r"--teacher .*float\.pt: is not the file that .*part\.pt was started with"
    ):
        Trainer(config, resume=checkpoint.load(part))
    teacher.write_bytes(first)
    assert Trainer(config, resume=checkpoint.load(part)).teacher is not None


def test_a_run_starts_from_given_weights(tmp_path: Path) -> None:
    train(replace(SHORT, bits=32, lambda_dz=None, epochs=4), tmp_path / "float.pt")
    weights = raw_state(tmp_path / "float.pt")["state_dict"]
    torch.save(weights, tmp_path / "weights.pt")
    trainer = Trainer(replace(SHORT, init=str(tmp_path / "weights.pt")))
    for weight in quantized_weights(trainer.model):
        assert torch.equal(weight.original, weights[weight.name])
    assert trainer.evaluate(trainer.data.test) > 0.9


@pytest.mark.slow("it trains")
def test_the_best_epoch_is_kept_of_those_on_frozen_grids(tmp_path: Path) -> None:
    config = replace(SHORT, epochs=6, freeze_fraction=0.5)
    trainer = Trainer(config)
    accuracies = iter([0.9, 0.8, 0.7, 0.5, 0.6, 0.55, 0.5])  # the last one is of the end, after re-estimation
    trainer.evaluate = lambda split: next(accuracies)  # type: ignore[method-assign]
    trainer.run(tmp_path / "a.pt", best=tmp_path / "best.pt")
    best = codeq.load(tmp_path / "best.pt")
    assert best.metrics["test_accuracy"] == 0.6
    assert best.training is not None
    assert best.training["epoch"] == 4
    assert all(bool(weight.quantizer.frozen) for weight in quantized_weights(best.model))


@pytest.mark.parametrize("fraction", [0.0, 0.5])
@pytest.mark.full
def test_a_resumed_run_keeps_the_best_epoch_of_before(fraction: float, tmp_path: Path) -> None:
    config = replace(SHORT, epochs=4, freeze_fraction=fraction)
    output, best = tmp_path / "a.pt", tmp_path / "best.pt"
    trainer = Trainer(config)
    trainer.evaluate = lambda split: 0.9  # type: ignore[method-assign]
    run_part(trainer, output, 3, best)
    assert best.exists() == (fraction > 0)
    trainer = Trainer(config, resume=checkpoint.load(output))
    trainer.evaluate = lambda split: 0.8  # type: ignore[method-assign]
    trainer.run(output, best=best)
    kept = codeq.load(best)
    assert kept.training is not None
    # Without frozen grids on the way there is nothing but the end.
    assert (kept.training["epoch"], kept.metrics["test_accuracy"]) == ((2, 0.9) if fraction else (3, 0.8))


def test_the_records_tell_the_run(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = []
    config = replace(SHORT, lambda_dz=None, bops=0.05, bits=None, bit_ratio=1.0)
    result = Trainer(config).run(tmp_path / "a.pt", record=records.append)
    assert [record["event"] for record in records] == ["start", "epoch", "epoch", "epoch", "result"]
    assert records[0]["steps"] == 36
    first, last = records[1], records[3]
    assert [first["epoch"], last["epoch"]] == [1, 3]
    assert {layer["name"] for layer in first["layers"]} == {weight.name for weight in quantized_weights(result.model)}
    assert first["layers"][0]["bits"] > last["layers"][0]["bits"]
    assert first["lambda_dz"] > 0 == last["lambda_dz"]
    assert records[4]["test_accuracy"] == result.test_accuracy


@pytest.mark.slow("it trains")
@pytest.mark.full
def test_autocast_trains_and_keeps_grids_in_float32(tmp_path: Path) -> None:
    result = train(replace(SHORT, autocast="bfloat16", epochs=6), tmp_path / "a.pt")
    assert result.test_accuracy > 0.7
    for weight in quantized_weights(result.model):
        assert weight.original.dtype == torch.float32
        encoding = weight.quantizer.encode(weight.original)
        value = getattr(weight.module, weight.tensor_name)
        assert torch.equal(value, encoding.codes.float() * encoding.scale)


JOB = """
import json, sys, torch
from pathlib import Path
from codeq.training.distributed import end_ranks, start_ranks
from codeq.training.recipe import TrainConfig
from codeq.training.trainer import Trainer
torch.set_num_threads(1)
config = TrainConfig(**json.loads(sys.argv[2]))
Trainer(config, ranks=start_ranks()).run(Path(sys.argv[1]))
end_ranks()
"""
PAIRED: dict[str, dict[str, Any]] = {
    "budget": {"sparsity": 0.3, "lambda_dz": None},
    "mixed": {"bits": None, "bops": 0.15, "lambda_dz": None},
    "int8": {"activations": "int8"},
}


@pytest.mark.full
@pytest.mark.parametrize("changes", PAIRED.values(), ids=PAIRED)
def test_two_processes_train_as_one(changes: dict[str, Any], tmp_path: Path) -> None:
    options = {"epochs": 2, "batch_size": 100, "lambda_dz": 1.0, "freeze_fraction": 0.4, "lr": 1e-3} | changes
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    (tmp_path / "job.py").write_text(JOB)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(tmp_path / "job.py"), str(tmp_path / "two.pt"), json.dumps(options)]
    done = subprocess.run([*launch, *arguments], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    torch.set_num_threads(1)
    train(TrainConfig(**options), tmp_path / "one.pt")
    one, two = codeq.load(tmp_path / "one.pt"), codeq.load(tmp_path / "two.pt")
    # Sums over a batch in another order differ by 1e-7, which training amplifies: few weights end on another level, and
    # a shift that lies between two fractions may snap to the other one, a sixteenth of a step away.
    ours, theirs = codeq.encode(one.model), codeq.encode(two.model)
    for name, encoding in ours.items():
        assert theirs[name].bit_width == encoding.bit_width, name
        value = encoding.dequantize()
        assert (theirs[name].dequantize() - value).norm() < 0.1 * value.norm(), name
    count = sum(encoding.codes.numel() for encoding in ours.values())
    assert sum(int((ours[name].levels != theirs[name].levels).sum()) for name in ours) < 0.01 * count
    assert (one.activations is None) == (two.activations is None)


class KilledError(BaseException):
    """Stands for SIGKILL between two writes."""


@pytest.mark.slow("a run of two epochs, killed at eight places")
def test_a_kill_between_any_two_writes_loses_no_record_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(SHORT, epochs=2, bits=32, lambda_dz=None, freeze_fraction=0.0)
    output, log = tmp_path / "a.pt", tmp_path / "a.jsonl"
    save = checkpoint.save

    def run(kill_at: int) -> int:
        """Train with a pause before each write and after it; the process dies in that one. Returns their number."""
        pauses = 0

        def pause() -> None:
            nonlocal pauses
            pauses += 1
            if pauses == kill_at:
                raise KilledError

        def save_between(*arguments: Any, **keywords: Any) -> None:
            pause()
            save(*arguments, **keywords)
            pause()

        monkeypatch.setattr(checkpoint, "save", save_between)
        resume = checkpoint.load(output) if output.exists() else None
        if resume is not None and (resume.training or {})["complete"]:
            return 0
        trainer = Trainer(config, resume=resume)
        with RunLog(log, resumed_epoch=len(trainer.history)) as written:

            def record(entry: dict[str, Any]) -> None:
                pause()
                written.write(entry)
                pause()

            trainer.run(output, record=record)
        return pauses

    whole = run(kill_at=0)
    expected = raw_state(output)["state_dict"]
    for kill_at in range(whole - 7, whole + 1):  # around the last epoch's record and checkpoint, and the result's
        output.unlink()
        with pytest.raises(KilledError):
            run(kill_at)
        run(kill_at=0)
        found = read_run(log)
        assert [epoch["epoch"] for epoch in found.epochs] == [1, 2], kill_at
        assert found.result is not None, kill_at
        assert all(torch.equal(tensor, expected[name]) for name, tensor in raw_state(output)["state_dict"].items())
