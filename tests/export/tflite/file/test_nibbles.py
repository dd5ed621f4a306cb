"""Two codes a byte, by hand, and every pair."""

import numpy as np

from export.tflite.file.nibbles import fits, pack, unpack


def test_low_nibbles_come_first() -> None:
    codes = np.array([[1, -8], [7, -1], [3, 0]], np.int8)
    assert pack(codes).tolist() == [0x81, 0xF7, 0x03]
    assert np.array_equal(unpack(pack(codes), (3, 2)), codes)


def test_every_pair() -> None:
    codes = np.stack(np.meshgrid(np.arange(-8, 8), np.arange(-8, 8)), axis=-1).astype(np.int8)
    assert np.array_equal(unpack(pack(codes), codes.shape), codes)
    assert np.array_equal(unpack(pack(codes.reshape(-1)[:-1]), (511,)), codes.reshape(-1)[:-1])


def test_what_fits() -> None:
    assert fits(np.array([-8, 7], np.int8))
    assert not fits(np.array([8], np.int8))
    assert not fits(np.array([-9], np.int8))
