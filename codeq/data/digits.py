"""Load scikit-learn's digits: 1,797 real handwritten digits of 8 x 8 pixels, 0 to 16."""

import torch

from codeq.data.dataset import Dataset
from codeq.data.tensors import build_dataset
from codeq.errors import DataError
from codeq.toolkit.extras import install_hint

TEST_SHARE = 0.2
SPLIT_SEED = 0
"""The split belongs to the data set: it is the same whatever `--seed` trains with, so that runs compare."""
MAX_PIXEL = 16
NUM_CLASSES = 10


def load_digits(*, shift: int | None, flip: bool | None) -> Dataset:
    """Load the digits; a fifth of them, drawn once and for all, is the test set.

    Args:
        shift, flip: As for `load_dataset`.

    Raises:
        DataError: scikit-learn, which holds them, is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError(f"the digits data set needs scikit-learn: {install_hint('demo')}") from error
    digits = datasets.load_digits()
    pixels = torch.from_numpy(digits.images).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    test, train = order.tensor_split([round(len(labels) * TEST_SHARE)])
    return build_dataset(
        (pixels[train], labels[train]),
        (pixels[test], labels[test]),
        num_classes=NUM_CLASSES,
        max_pixel=MAX_PIXEL,
        shift=shift,
        flip=flip,
        source="digits",
        classes=tuple("0123456789"),
    )
