"""Counted by hand."""

import pytest
import torch

from codeq.quantizer.classes import Classes

pytestmark = pytest.mark.quick


def test_other_classes_are_counted() -> None:
    classes = Classes()
    classes.add(torch.tensor([[1.0, 2.0], [4.0, 3.0], [0.0, 1.0]]), torch.tensor([[2.0, 1.0], [9.0, 8.0], [0.0, 0.5]]))
    assert (classes.changed, classes.places) == (1, 3)
    assert str(classes) == "argmax differs on 1 of 3"
    assert classes.is_loud
    masks = torch.zeros(1, 2, 4, 5)
    masks[:, 1] = 1.0
    classes.add(masks, masks + 1)
    assert (classes.changed, classes.places) == (1, 23)
    assert not classes.is_loud


def test_what_has_no_classes_counts_nothing() -> None:
    classes = Classes()
    for shape in ((4,), (4, 1)):
        classes.add(torch.zeros(shape), torch.ones(shape))
    assert (classes.places, str(classes), classes.is_loud) == (0, "", False)
