"""Two processes train as one: real jobs under torchrun on gloo, compared with the same steps in this process.

Run by torchrun this file is the job: `test_distributed.py CASE DIRECTORY`.
"""

import copy
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import codeq
from codeq.errors import RanksError
from codeq.training.agreement import check_agreement, digest_of
from codeq.training.batch_norm import reestimate_batch_norm
from codeq.training.distributed import Ranks, end_ranks, loss_weight, share, start_ranks, total, wrap
from codeq.training.sync_batch_norm import SynchronizedBatchNorm2d, synchronize_batch_norm

ALONE = Ranks(0, 1)
EXACT = {"rtol": 1e-12, "atol": 1e-12}
"""float64, the same sums in another order."""
FAR_MEAN = 1e6
FAR = {"rtol": 1e-8, "atol": 1e-8}
"""Inputs of size 1e6 are known to 1e-10 in float64; a sum of squares would leave errors of 1e-4."""
STEPS = 6
FREEZE_STEP = 3
BATCH_SIZES = {"equal": 16, "unequal": 15}
BITS = {"4": 4, "learned": None}
NORM_SHAPES = {"1d": (5, 3), "1d_sequence": (5, 3, 4), "2d": (8, 3, 4, 4), "3d": (5, 3, 2, 3, 2), "one_each": (2, 3)}
NORM_OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "cumulative": {"momentum": None},
    "plain": {"affine": False},
    "without_bias": {"bias": False},
    "untracked": {"track_running_stats": False},
}


# What a process does: on its part of the batch under torchrun, on all of it in this one.


def norm_results(ranks: Ranks, shape: tuple[int, ...], options: dict[str, Any], mean: float = 10) -> dict[str, Tensor]:
    """Two training steps and one in eval mode: what BatchNorm gives, over all ranks."""
    generator = torch.Generator().manual_seed(5)
    kinds = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    norm = kinds[len(shape)](shape[1], dtype=torch.float64, **options)
    for parameter in norm.parameters():
        nn.init.normal_(parameter, 1, generator=generator)
    synchronize_batch_norm(norm)
    results = {}
    # In eval mode, as in torch, a layer without statistics sees its own part only.
    for step, training in enumerate([True, True, False] if norm.track_running_stats else [True, True]):
        norm.train(training)
        whole = torch.randn(shape, generator=generator, dtype=torch.float64) * 2 + mean * (step + 1)
        factors = torch.randn(shape, generator=generator, dtype=torch.float64)
        x = share(whole, ranks).clone().requires_grad_()
        y = norm(x)
        norm.zero_grad()
        (y.square() * share(factors, ranks)).sum().backward()
        results |= {f"output{step}": y.detach(), f"gradient{step}": x.grad}
        results |= {f"{name}{step}": total(parameter.grad) for name, parameter in norm.named_parameters()}
        results |= {f"{name}{step}": buffer.clone() for name, buffer in norm.named_buffers()}
    return results


def network(bits: int | None) -> nn.Module:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 4 * 4, 5),
    )  # fmt: skip
    codeq.attach(model.double(), bits)
    return model


def batches(size: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(9)
    for _ in range(STEPS):
        yield (
            torch.randn(size, 1, 8, 8, generator=generator, dtype=torch.float64),
            torch.randint(0, 5, (size,), generator=generator),
        )


def train(ranks: Ranks, bits: int | None, batch_size: int) -> dict[str, Any]:
    """Steps before and after the grids freeze."""
    model = network(bits)
    synchronize_batch_norm(model)
    check_agreement("the network", digest_of(model.state_dict()))
    groups = codeq.param_groups(model, lr=0.05, theta_lr=0.05, lambda_dz=0.1, lambda_bit=0.1)
    optimizer = torch.optim.SGD(groups)
    wrapped = wrap(model, ranks)
    losses = []
    for step, (inputs, labels) in enumerate(batches(batch_size)):
        if step == FREEZE_STEP:
            codeq.freeze(model)
        part = share(torch.arange(batch_size), ranks)
        loss = F.cross_entropy(wrapped(inputs[part]), labels[part])
        optimizer.zero_grad()
        (loss * loss_weight(len(part), batch_size, ranks)).backward()
        optimizer.step()
        losses.append(total(loss * len(part)) / batch_size)
    reestimate_batch_norm(model, [share(inputs, ranks) for inputs, _ in batches(batch_size)])
    check_agreement("the trained network", digest_of(model.state_dict()))
    encodings = codeq.encode(model)
    return {
        "losses": torch.stack(losses),
        "codes": {name: encoding.codes for name, encoding in encodings.items()},
        "scales": {name: encoding.scale for name, encoding in encodings.items()},
        "state": copy.deepcopy(model).state_dict(),
    }


def train_activations(ranks: Ranks) -> dict[str, Any]:
    """int8 activations: their quantizers get no gradient before calibration, some zero points never."""
    model = network(4).float()
    synchronize_batch_norm(model)
    example = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    quantized = codeq.QuantizedActivations(model, (example[:2],))
    wrapped = wrap(quantized, ranks)
    # A rate at which the quantizers move visibly, whose gradients are small by design.
    groups = [{"params": model.parameters()}, {"params": quantized.quantizers.parameters(), "lr": 300.0}]
    optimizer = torch.optim.SGD(groups, lr=0.01)
    for step, (inputs, labels) in enumerate(batches(16)):
        if step == FREEZE_STEP:
            codeq.freeze(model)
            quantized.calibrate((example,))
        part = share(torch.arange(16), ranks)
        optimizer.zero_grad()
        F.cross_entropy(wrapped(inputs[part].float()), labels[part]).backward()
        optimizer.step()
    check_agreement("the trained network", digest_of(quantized.state_dict()))
    return quantized.state_dict()


def equivalence(ranks: Ranks) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for shape_name, shape in NORM_SHAPES.items():
        for option_name, options in NORM_OPTIONS.items():
            results[f"norm {shape_name} {option_name}"] = norm_results(ranks, shape, options)
    results["norm far"] = norm_results(ranks, NORM_SHAPES["2d"], {}, FAR_MEAN)
    for bits_name, bits in BITS.items():
        for size_name, size in BATCH_SIZES.items():
            results[f"train {bits_name} {size_name}"] = train(ranks, bits, size)
    results["activations"] = train_activations(ranks)
    results["total"] = total(torch.tensor([1, ranks.rank]))
    return results


def disagreement(ranks: Ranks) -> dict[str, Any]:
    # The lengths differ as well: no rank may wait for bytes that another does not send.
    check_agreement("the seed", "0")
    check_agreement("the data", "short" if ranks.rank == 0 else b"longer")
    return {}


def loss_of_a_rank(ranks: Ranks) -> dict[str, Any]:
    if ranks.rank == 1:
        raise RanksError("rank 1 has had enough")
    total(torch.zeros(1))
    return {}


def late_rank(ranks: Ranks) -> dict[str, Any]:
    """At the end the others wait for one that still works."""
    if ranks.rank == 1:
        time.sleep(2)
    arrived = time.time()
    end_ranks()
    return {"arrived": arrived, "ended": time.time()}


def foreign_norm(ranks: Ranks) -> dict[str, Any]:
    class Own(nn.BatchNorm2d):
        pass

    model = nn.Sequential(nn.BatchNorm2d(2), Own(2))
    with pytest.raises(
        RanksError, match=r"^1: cannot synchronize Own over ranks, expected BatchNorm1d, .*one process$"
    ):
        synchronize_batch_norm(model)
    assert type(model[0]) is nn.BatchNorm2d
    model[1] = nn.SyncBatchNorm(2)
    synchronize_batch_norm(model)
    synchronize_batch_norm(model)  # a second call changes nothing
    assert [type(norm) for norm in model] == [SynchronizedBatchNorm2d, nn.SyncBatchNorm]
    # The reason for a class of our own; when torch's takes CPU tensors, ours can go.
    with pytest.raises(ValueError, match="expected input tensor to be on GPU"):
        model[1](torch.zeros(2, 2, 1, 1))
    return {}


CASES: dict[str, Callable[[Ranks], dict[str, Any]]] = {
    case.__name__: case for case in (equivalence, disagreement, loss_of_a_rank, late_rank, foreign_norm)
}


def job(case: str, directory: Path) -> None:
    """A process under torchrun: leaves its results, or the error that ended it, in a file of its own."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    ranks = start_ranks()
    assert start_ranks() == ranks
    try:
        torch.save(CASES[case](ranks), directory / f"rank{ranks.rank}.pt")
    except Exception as error:
        (directory / f"rank{ranks.rank}.txt").write_text(f"{type(error).__name__}: {error}")
        raise
    end_ranks()
    end_ranks()  # a second call changes nothing
    assert not dist.is_initialized()


# The tests.


def launch(case: str, directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(Path(codeq.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, __file__, case, str(directory)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks computed in one job; a normal run prints nothing."""
    directory = tmp_path_factory.mktemp("ranks")
    finished = launch("equivalence", directory)
    assert (finished.stderr, finished.stdout, finished.returncode) == ("", "", 0)
    return [torch.load(directory / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("options", NORM_OPTIONS)
@pytest.mark.parametrize("shape", NORM_SHAPES)
def test_batch_norm_equals_that_of_the_whole_batch(results: list[dict[str, Any]], shape: str, options: str) -> None:
    expected = norm_results(ALONE, NORM_SHAPES[shape], NORM_OPTIONS[options])
    assert_norms_equal([result[f"norm {shape} {options}"] for result in results], expected, EXACT)


def test_batch_norm_of_inputs_far_from_zero(results: list[dict[str, Any]]) -> None:
    expected = norm_results(ALONE, NORM_SHAPES["2d"], {}, FAR_MEAN)
    assert_norms_equal([result["norm far"] for result in results], expected, FAR)


def assert_norms_equal(
    parts: list[dict[str, Tensor]], expected: dict[str, Tensor], tolerance: dict[str, float]
) -> None:
    assert list(parts[0]) == list(expected)
    for name, value in expected.items():
        if name.startswith(("output", "gradient")):
            torch.testing.assert_close(torch.cat([part[name] for part in parts]), value, **tolerance)
        else:
            torch.testing.assert_close(parts[0][name], value, **tolerance)
            assert torch.equal(parts[0][name], parts[1][name])


@pytest.mark.parametrize("size", BATCH_SIZES)
@pytest.mark.parametrize("bits", BITS)
def test_two_ranks_train_the_network_of_one_process(results: list[dict[str, Any]], bits: str, size: str) -> None:
    expected = train(ALONE, BITS[bits], BATCH_SIZES[size])
    first, second = (result[f"train {bits} {size}"] for result in results)
    assert digest_of(first["state"]) == digest_of(second["state"])
    assert list(first["state"]) == list(expected["state"])
    torch.testing.assert_close(first["losses"], expected["losses"], rtol=1e-7, atol=0)
    assert list(first["codes"]) == list(expected["codes"]) == ["0.weight", "3.weight", "7.weight"]
    for name, codes in expected["codes"].items():
        assert torch.equal(first["codes"][name], codes)
        assert codes.unique().numel() > 4  # a code that could differ
        # Quantizers compute in float32, so a gradient split between ranks is rounded otherwise.
        torch.testing.assert_close(first["scales"][name], expected["scales"][name], rtol=1e-6, atol=0)
    for name, value in expected["state"].items():
        torch.testing.assert_close(first["state"][name], value, rtol=1e-5, atol=1e-6)


def test_activation_quantizers_train_as_in_one_process(results: list[dict[str, Any]]) -> None:
    expected = train_activations(ALONE)
    first, second = (result["activations"] for result in results)
    assert digest_of(first) == digest_of(second)
    assert list(first) == list(expected)
    assert any("log2_scale" in name and value != 0 for name, value in first.items())
    for name, value in expected.items():
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-5)


def test_total_is_the_sum_over_ranks(results: list[dict[str, Any]]) -> None:
    assert [result["total"].tolist() for result in results] == [[2, 1], [2, 1]]


@pytest.mark.full
def test_ranks_that_disagree_all_raise(tmp_path: Path) -> None:
    assert launch("disagreement", tmp_path).returncode != 0
    message = (
        "RanksDisagreeError: ranks disagree on the data: rank 1 differs from rank 0; "
        "use the same code, data, arguments, package versions and kind of processor for all"
    )
    assert [(tmp_path / f"rank{rank}.txt").read_text() for rank in range(2)] == [message, message]


@pytest.mark.full
def test_a_lost_rank_does_not_leave_the_others_waiting(tmp_path: Path) -> None:
    # They would wait for ten minutes, longer than `launch` does.
    assert launch("loss_of_a_rank", tmp_path).returncode != 0
    assert (tmp_path / "rank1.txt").read_text() == "RanksError: rank 1 has had enough"
    assert not (tmp_path / "rank0.pt").exists()


@pytest.mark.full
def test_ranks_end_together(tmp_path: Path) -> None:
    finished = launch("late_rank", tmp_path)
    assert finished.returncode == 0, finished.stderr
    times = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    assert times[0]["ended"] >= times[1]["arrived"]


@pytest.mark.full
def test_which_norms_are_synchronized(tmp_path: Path) -> None:
    finished = launch("foreign_norm", tmp_path)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(
    ("size", "world_size", "parts"),
    [
        (4, 1, [[0, 1, 2, 3]]),
        (4, 2, [[0, 1], [2, 3]]),
        (5, 3, [[0, 1], [2, 3], [4]]),
        (3, 3, [[0], [1], [2]]),
    ],
    ids=["alone", "equal", "unequal", "one_each"],
)
def test_parts_by_hand(size: int, world_size: int, parts: list[list[int]]) -> None:
    ranks = [Ranks(rank, world_size) for rank in range(world_size)]
    assert [share(torch.arange(size), each).tolist() for each in ranks] == parts
    # The mean over ranks of weighted means is the mean of the whole.
    values = torch.arange(size, dtype=torch.float64).square()
    weighted = [share(values, each).mean() * loss_weight(len(share(values, each)), size, each) for each in ranks]
    torch.testing.assert_close(torch.stack(weighted).mean(), values.mean(), **EXACT)


def test_weights_by_hand() -> None:
    assert loss_weight(8, 16, Ranks(1, 2)) == 1
    assert [loss_weight(size, 5, Ranks(0, 3)) for size in (2, 2, 1)] == [1.2, 1.2, 0.6]


def test_a_batch_smaller_than_the_ranks_is_refused() -> None:
    for rank in range(3):
        with pytest.raises(
            RanksError, match=r"^batch of 2 for 3 ranks, expected an input for each; use larger batches"
        ):
            share(torch.arange(2), Ranks(rank, 3))


def test_a_rank_is_one_of_the_ranks() -> None:
    assert Ranks(0, 2).is_main
    assert not Ranks(1, 2).is_main
    with pytest.raises(ValueError, match=r"^rank must be 0 to 1 for 2 ranks, found 2$"):
        Ranks(2, 2)


def test_alone_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")  # exported by a cluster, not a launch
    assert start_ranks() == ALONE
    assert not dist.is_initialized()
    end_ranks()
    model = network(4)
    synchronize_batch_norm(model)
    assert type(model[1]) is nn.BatchNorm2d
    assert wrap(model, ALONE) is model
    values = torch.arange(3)
    assert torch.equal(total(values), values)
    check_agreement("anything", "digest")


def test_torchrun_with_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert start_ranks() == ALONE
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"WORLD_SIZE": "2"},
            r"^the environment of torchrun is incomplete: WORLD_SIZE without RANK, MASTER_ADDR, MASTER_PORT; "
            r"start with torchrun, or unset WORLD_SIZE for a single process$",
        ),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"},
            r"^the environment of torchrun is incomplete: RANK, WORLD_SIZE without MASTER_PORT; ",
        ),
        (
            {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
            r"^RANK='2', WORLD_SIZE='2' in the environment: rank must be 0 to 1 for 2 ranks, found 2; ",
        ),
        (
            {"RANK": "one", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
            r"^RANK='one', WORLD_SIZE='2' in the environment: invalid literal .*; start with torchrun$",
        ),
        (
            {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
            r"^rank 1 of 2 did not meet the others at 127.0.0.1:1 within 1 s \(.*\); start all of them with torchrun$",
        ),
    ],
    ids=["half_set", "no_port", "too_high", "no_number", "nobody_there"],
)
def test_bad_launches(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RanksError, match=message) as caught:
        start_ranks(timedelta(seconds=1))
    assert "\n" not in str(caught.value)
    assert not dist.is_initialized()


if __name__ == "__main__":
    job(sys.argv[1], Path(sys.argv[2]))
