"""The digits are real, and split the same every time."""

import sys

import pytest
import torch

from codeq.data import load_dataset
from codeq.errors import DataError


def test_digits_are_real_and_split_the_same_every_time() -> None:
    first, second = load_dataset("digits"), load_dataset("digits")
    train, test = (split.load(torch.arange(len(split))) for split in (first.train, first.test))
    assert train.shape == (1438, 1, 8, 8)
    assert test.shape == (359, 1, 8, 8)
    assert first.num_classes == 10
    assert torch.equal(test, second.test.load(torch.arange(359)))
    assert torch.equal(first.test.labels, second.test.labels)
    assert train.mean().abs() < 1e-5
    assert train.std() == pytest.approx(1, abs=1e-5)
    # Pixels are 0 to 16: nothing is lost in a byte, and 16 stands for 1.
    pixels = (train * first.std[0] + first.mean[0]) * 16
    assert pixels.max() == pytest.approx(16, abs=1e-4)
    torch.testing.assert_close(pixels, pixels.round(), atol=1e-4, rtol=0)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match=r"needs scikit-learn: pip install '.\[demo\]'"):
        load_dataset("digits")
