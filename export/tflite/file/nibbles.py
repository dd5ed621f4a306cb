"""Put two codes of four bits into a byte, the first one low, as INT4 tensors of .tflite files have them. Exact."""

import numpy as np

SMALLEST, LARGEST = -8, 7


def fits(codes: np.ndarray) -> bool:
    """Tell whether every code has four bits."""
    return bool(codes.min(initial=0) >= SMALLEST and codes.max(initial=0) <= LARGEST)


def pack(codes: np.ndarray) -> np.ndarray:
    """Pack int8 codes of any shape into uint8 `((size + 1) // 2,)`."""
    flat = codes.reshape(-1).astype(np.uint8) & 15
    low, high = flat[0::2], flat[1::2]
    packed = low.copy()
    packed[: len(high)] |= high << 4
    return packed


def unpack(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Undo `pack`: int8 codes of a shape."""
    pairs = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[: int(np.prod(shape))]
    return ((pairs ^ 8).astype(np.int8) - 8).reshape(shape)
