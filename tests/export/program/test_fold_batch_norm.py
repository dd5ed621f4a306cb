"""BatchNorm goes into the scale: codes and zeros stay, signs flip where gamma is negative."""

import pytest
import torch
from torch import Tensor, nn

import codeq
from codeq.quantizer.grid import WeightEncoding
from export.program.fold_batch_norm import channel_factors, fold_batch_norm, fold_into_encoding
from export.program.program import ReferenceProgram, build_reference_program

CODES = torch.tensor([[1, 0, -2], [3, -1, 0], [0, 0, 0], [2, 2, 1]], dtype=torch.int8)


def encoding(**changes: object) -> WeightEncoding:
    fields: dict[str, object] = {"codes": CODES, "scale": torch.tensor(0.5), "bit_width": 3, "quant_max": 3}
    return WeightEncoding(**(fields | changes))  # type: ignore[arg-type]


def test_fold_by_hand() -> None:
    folded = fold_into_encoding(encoding(), torch.tensor([2.0, -4.0, 100.0, 0.0], dtype=torch.float64), axis=0)
    assert folded.codes.tolist() == [[1, 0, -2], [-3, 1, 0], [0, 0, 0], [0, 0, 0]]
    # Channels 2 (no survivor) and 3 (gamma 0) are dead and take the smallest live scale.
    assert folded.scale.tolist() == [1.0, 2.0, 1.0, 1.0]
    assert folded.axis == 0
    assert folded.shift is None


def test_fold_scales_the_shift_of_the_papers_grid() -> None:
    folded = fold_into_encoding(encoding(shift=torch.tensor(0.25)), torch.tensor([2.0, -4, 1, 1]).double(), axis=0)
    assert folded.shift is not None
    assert folded.shift.tolist() == [0.5, 1.0, 0.25, 0.25]


def test_a_network_of_dead_channels_keeps_its_scale() -> None:
    folded = fold_into_encoding(encoding(codes=CODES * 0), torch.ones(4, dtype=torch.float64), axis=0)
    assert folded.scale.tolist() == [0.5] * 4


@pytest.mark.parametrize("factor", [1e-40, 1e39])
def test_a_scale_outside_float32_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="leaves float32's normal range"):
        fold_into_encoding(encoding(), torch.tensor([1.0, factor, 1, 1]).double(), axis=0)


def test_channel_factors_by_hand() -> None:
    factors = channel_factors(torch.tensor([3.0, -1.0]), torch.tensor([3.0, 0.0]), 1.0)
    assert factors.tolist() == [1.5, -1.0]
    assert channel_factors(None, torch.tensor([3.0]), 1.0).tolist() == [0.5]


def program_of(model: nn.Module, x: Tensor) -> ReferenceProgram:
    return build_reference_program(model, (x,), codeq.encode(model))


def randomise(norm: nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            if tensor is not None:
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
        norm.running_var.copy_(torch.rand(norm.running_var.shape, generator=generator) + 0.1)


FOLDABLE = {
    "conv1d": (nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), (2, 3, 9)),
    "conv2d": (nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), (2, 3, 9, 9)),
    "conv3d": (nn.Conv3d(2, 4, 2), nn.BatchNorm3d(4), (2, 2, 4, 4, 4)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8), (2, 4, 9, 9)),
    "transposed": (nn.ConvTranspose2d(3, 6, 2, stride=2), nn.BatchNorm2d(6), (2, 3, 5, 5)),
    "linear": (nn.Linear(5, 6), nn.BatchNorm1d(6), (2, 5)),
    "no_affine": (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, affine=False), (2, 3, 9, 9)),
}


@pytest.mark.parametrize("grid", ["integer", "paper"])
@pytest.mark.parametrize("name", FOLDABLE)
def test_folded_programs_compute_the_same(name: str, grid: str) -> None:
    layer, norm, shape = FOLDABLE[name]
    model = nn.Sequential(layer, norm).eval()
    randomise(norm)
    codeq.attach(model, 4, grid=grid)
    try:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        program = program_of(model, x)
        assert fold_batch_norm(program) == 1
        assert program.skipped_folds == {}
        record = next(iter(program.weights.values()))
        assert record.batch_norm == "1"
        expected = model(x)
        torch.testing.assert_close(program.run(x)[0], expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
        original = codeq.encode(model)["0.weight"].codes
        assert torch.equal(record.encoding.codes.abs(), original.abs())
        targets = [str(node.target) for node in program.exported.graph.nodes]
        assert not any("batch_norm" in target for target in targets)
        # No float weight is left: only codes, scale (and shift), bias.
        dtypes = {name: tensor.dtype for name, tensor in program.exported.state_dict.items()}
        assert dtypes["0.parametrizations.weight.original"] == torch.int8
        assert len(dtypes) == (3 if grid == "integer" else 4)
    finally:
        codeq.detach(model)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.conv(x)))


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.norm(y)


@pytest.mark.parametrize(
    ("model", "exclude", "reason"),
    [
        (nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)), (), "no convolution or linear layer before it"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)), (), "no convolution or linear layer"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)), "0", "is not quantized"),
        (
            nn.Sequential(nn.ConvTranspose2d(2, 4, 1, groups=2), nn.BatchNorm2d(4)),
            (),
            "a grouped transposed convolution has no axis",
        ),
        (
            nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)),
            (),
            "normalises with the statistics of its batch",
        ),
        (Shared(), (), "its weight is shared"),
        (Branch(), (), "the layer before it has other consumers"),
    ],
    ids=["first", "not_adjacent", "float_layer", "grouped_transposed", "batch_statistics", "shared", "branch"],
)
def test_near_misses_are_left_alone_with_a_reason(model: nn.Module, exclude: str, reason: str) -> None:
    codeq.attach(model.eval(), exclude=exclude)
    x = torch.randn(2, 2, 4, 4)
    program = program_of(model, x)
    assert fold_batch_norm(program) == 0
    assert [text for text in program.skipped_folds.values() if reason in text]
    torch.testing.assert_close(program.run(x)[0], model(x))


def test_linear_over_a_sequence_is_not_the_batch_norms_channel() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(5)).eval()
    codeq.attach(model)
    program = program_of(model, torch.randn(2, 5, 3))
    assert fold_batch_norm(program) == 0
    assert "are not those it normalises" in program.skipped_folds["1"]


def test_a_second_run_changes_nothing_and_the_network_is_untouched() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).eval()
    codeq.attach(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(2, 2, 4, 4)
    program = program_of(model, x)
    assert fold_batch_norm(program) == 1
    first = program.run(x)[0]
    assert fold_batch_norm(program) == 0
    assert torch.equal(program.run(x)[0], first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
