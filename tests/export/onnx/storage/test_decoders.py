"""Decoders as functions: each on an example worked out by hand, and all within opset 13."""

import numpy as np
import onnx
import pytest

import export.onnx.storage.plan
from export.onnx.storage.bits import (
    LANES,
    PLANES,
    byte_digits,
    byte_flags,
    pack,
    storage_radices,
    unpack,
    unpack_planes,
)
from export.onnx.storage.decoder import DECODERS, DOMAIN, function_proto, inline
from export.onnx.storage.gaps import gaps
from export.onnx.storage.golomb import golomb
from export.onnx.storage.magnitude_planes import magnitude_plane, sign
from export.onnx.storage.positions import place_by_advance, place_by_mask
from export.onnx.storage.two_level_mask import two_level_mask

pytestmark = pytest.mark.quick

BITS = (np.arange(256)[:, None] >> np.arange(8)) & 1
FLAGS = BITS.astype(bool)
assert export.onnx.storage.plan  # imports every codec


def bytes_of(values: list[int]) -> np.ndarray:
    return np.array(values, np.int8).view(np.uint8)


@pytest.mark.parametrize("radix", list(LANES))
def test_digits_fill_a_byte(radix: int, rng: np.random.Generator) -> None:
    powers = [radix**lane for lane in range(LANES[radix])]
    digits = byte_digits(powers=powers, radix=[radix])
    assert digits.dtype == np.uint8
    numbers = rng.integers(0, radix, 41)
    packed = pack(numbers, radix)
    assert packed.size == -(-41 // LANES[radix])
    np.testing.assert_array_equal(unpack(packed, digits)[:41], numbers)


@pytest.mark.parametrize("width", PLANES)
def test_planes_hold_odd_widths(width: int, rng: np.random.Generator) -> None:
    numbers = rng.integers(0, 1 << width, 41)
    packed = pack(numbers, 1 << width)
    assert packed.shape == (width, 6)
    unpacked = unpack_planes(packed, BITS.astype(np.uint8), powers=[1 << bit for bit in range(width)])
    np.testing.assert_array_equal(unpacked[:41], numbers)


def test_the_radix_with_the_fewest_bits() -> None:
    found = {count: storage_radices(count)[0] for count in (1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 32, 33, 128, 129, 254)}
    assert found == {
        1: 2,
        2: 2,
        3: 3,
        4: 4,
        5: 6,
        6: 6,
        7: 8,
        8: 8,
        9: 16,
        16: 16,
        17: 32,
        32: 32,
        33: 64,
        128: 128,
        129: 256,
        254: 256,
    }


def test_place_by_mask() -> None:
    codes = place_by_mask(np.array([0, 1, 1, 0, 1, 0], bool), bytes_of([5, -3, 7, 99]), shape=[2, 3])
    np.testing.assert_array_equal(codes, [[0, 5, -3], [0, 7, 0]])
    assert codes.dtype == np.int8


def test_place_by_advance_counts_from_the_end() -> None:
    # From behind the end: to the last weight, two further, then three further without a value.
    codes = place_by_advance(
        np.array([-1, -2, -3], np.int32),
        np.array([True, True, False]),
        np.array([1, 2, 2], np.int32),
        bytes_of([4, -6]),
        shape=[7],
        numel=[7],
    )
    np.testing.assert_array_equal(codes, [0, 0, 0, 0, -6, 0, 4])


def test_gaps_with_an_escape() -> None:
    # From the end, with 2 bits: gap 1, then 3 + 0 (an escape and a gap of none).
    numbers = np.array([1, 3, 0, 0], np.uint8)
    codes = gaps(numbers, bytes_of([9, -2]), shape=[7], numel=[7], count=[3], escape=[3])
    np.testing.assert_array_equal(codes, [0, -2, 0, 0, 0, 9, 0])


def test_golomb_steps_and_remainders() -> None:
    # m = 4. From the end: gap 1 (bit 1, remainder 1), gap 6 (bit 0, bit 1, remainder 2).
    moves = byte_digits(powers=[1, 4, 16, 64], radix=[4])
    codes = golomb(
        pack(np.array([1, 0, 1]), 2),
        FLAGS,
        pack(np.array([1, 2]), 4),
        255 - moves,
        bytes_of([5, -5]),
        shape=[10],
        numel=[10],
        count=[3],
        step=[256 - 4],
    )
    np.testing.assert_array_equal(codes, [0, -5, 0, 0, 0, 0, 0, 0, 5, 0])


def test_two_level_mask_skips_empty_blocks() -> None:
    codes = two_level_mask(
        pack(np.array([0, 1, 0]), 2),
        pack(np.array([0, 1, 0, 1]), 2),
        FLAGS,
        bytes_of([3, 4]),
        shape=[10],
        numel=[10],
        count=[3],
        row=[-1, 4],
    )
    np.testing.assert_array_equal(codes, [0, 0, 0, 0, 0, 3, 0, 4, 0, 0])


def test_magnitude_planes_and_signs() -> None:
    digits = byte_digits(powers=[1, 4, 16, 64], radix=[4])
    # Digit 3 goes on to the next plane, whose values are 50 and 60.
    packed = pack(np.array([0, 3, 1, 3, 2]), 4)
    magnitudes = magnitude_plane(packed, digits, bytes_of([10, 20, 30, 0]), bytes_of([50, 60]))
    np.testing.assert_array_equal(magnitudes[:5], [10, 50, 20, 60, 30])
    signed = sign(magnitudes, pack(np.array([1, 0, 1, 0, 0]), 2), FLAGS, count=[5])
    np.testing.assert_array_equal(signed.view(np.int8), [-10, 50, -20, 60, 30])


def test_flags_are_the_bits() -> None:
    np.testing.assert_array_equal(byte_flags(BITS.astype(np.uint8)), FLAGS)


@pytest.mark.parametrize("name", sorted(DECODERS))
@pytest.mark.parametrize("opset", [13, 18, 25])
def test_decoders_keep_to_operators_that_every_opset_since_13_has(name: str, opset: int) -> None:
    function = function_proto(name, opset)
    for node in function.node:
        if node.domain != DOMAIN:
            schema = onnx.defs.get_schema(node.op_type, opset, "")
            oldest = onnx.defs.get_schema(node.op_type, 13, "")
            assert {attribute.name for attribute in node.attribute} <= set(oldest.attributes)
            assert not schema.deprecated
        assert not node.name
        assert not node.doc_string


def test_calls_written_out_are_plain_operators_with_short_names() -> None:
    call = onnx.helper.make_node(
        "bitmask", ["0/mask", "@flags", "0/values"], ["w"], domain=DOMAIN, shape=[2, 3], numel=[6]
    )
    nodes = inline(call, "0/codes")
    assert {node.domain for node in nodes} == {""}
    assert nodes[-1].output == ["w"]
    made = [name for node in nodes for name in node.output]
    assert len(made) == len(set(made))
    assert all(name == "w" or name.startswith("0/codes.") for name in made)
