"""This package loads data sets a batch at a time: digits, IDX files, CIFAR-10 and folders of images."""

from codeq.data.dataset import AUGMENTATION_DRAWS, Dataset, Split
from codeq.data.loader import batches
from codeq.data.sources import SOURCES, load_dataset

__all__ = ["AUGMENTATION_DRAWS", "SOURCES", "Dataset", "Split", "batches", "load_dataset"]
