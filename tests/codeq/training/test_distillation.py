"""The loss of a student by hand, and which teachers are refused."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import codeq
from codeq.errors import CheckpointError
from codeq.training.distillation import distillation_loss, load_teacher


def test_the_loss_by_hand() -> None:
    outputs, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    # softmax of the teacher is (1/2, 1/2) at any temperature, that of the student at T = 2 (e, 1) / (e + 1).
    loss = distillation_loss(outputs, labels, torch.zeros(1, 2), share=0.25, temperature=2.0)
    student = torch.tensor([torch.e, 1.0]) / (torch.e + 1)
    soft = (0.5 * (0.5 / student).log()).sum()
    hard = -torch.log(torch.tensor(torch.e**2 / (torch.e**2 + 1)))
    torch.testing.assert_close(loss, 0.75 * hard + 0.25 * 4 * soft)


def test_equal_logits_cost_nothing_and_labels_alone_are_cross_entropy(rng: torch.Generator) -> None:
    outputs, labels = torch.randn(5, 3, generator=rng), torch.tensor([0, 1, 2, 0, 1])
    assert distillation_loss(outputs, labels, outputs, share=1.0, temperature=4.0).item() == pytest.approx(0, abs=1e-6)
    loss = distillation_loss(outputs, labels, -outputs, share=0.0, temperature=4.0, label_smoothing=0.1)
    torch.testing.assert_close(loss, F.cross_entropy(outputs, labels, label_smoothing=0.1))


def test_a_teacher_is_frozen_and_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    codeq.save(path, nn.Sequential(nn.Linear(4, 2)), input_shape=(4,))

    def factory() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 2))

    teacher = load_teacher(path, (4,), 2, factory)
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    with pytest.raises(CheckpointError, match=r"has 2 classes, the data has 3$"):
        load_teacher(path, (4,), 3, factory)
    with pytest.raises(CheckpointError, match=r"is for inputs \(4,\), the data has \(5,\)$"):
        load_teacher(path, (5,), 2, factory)
    with pytest.raises(CheckpointError, match="was saved without a registry name"):
        load_teacher(path, (4,), 2)


class Sum(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


def test_a_teacher_of_several_inputs_is_refused(tmp_path: Path) -> None:
    path, x = tmp_path / "net.pt", torch.zeros(1, 2)
    codeq.save(path, Sum(), input_shape={"x": (2,), "y": (2,)}, held_inputs={"x": x, "y": x})
    with pytest.raises(
        CheckpointError, match=r"net\.pt: takes the inputs x, y; as --teacher it must take one input, as"
    ):
        load_teacher(path, (2,), 2, Sum)
