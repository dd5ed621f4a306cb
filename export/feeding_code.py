"""`codeq inspect FILE --code` prints a program that feeds a file as its network was trained.

It divides pixels by what they were divided by, and so on, and needs NumPy, Pillow where inputs are images, and the
file's runtime; nothing of ours. What a file says enters it as numbers, as quoted text, or escaped in a comment: no file
chooses code.
"""

import pprint
from collections.abc import Mapping, Sequence
from pathlib import Path

from codeq.toolkit.text import printable
from export.backend import StoredFile, backend_of
from export.errors import ExportError
from export.input_slot import InputSlot

WIDTH = 88
IMAGE_RANK, BYTE = 4, 255
MODES = {1: "L", 3: "RGB"}
"""Pillow's names of images by channels."""

PREPARE = '''
MEAN = np.float32({mean})
STD = np.float32({std})


def prepare(pixels):
    """Turn pixels (height, width, {channels}), {colours}from 0 to {top}, into an input."""
    x = (np.float32(pixels).reshape({height}, {width}, {channels}) / np.float32({top}) - MEAN) / STD
    return x.transpose(2, 0, 1)[None]


def read(path):
    """Read a picture of 8 bits a pixel, as pixels for `prepare`."""
    image = Image.open(path).convert("{mode}")
{crop}    pixels = np.asarray(image.resize(({width}, {height}), Image.Resampling.BILINEAR, box))
    return {scaled}
'''
WHOLE = """    box = 0, 0, *image.size
"""
CROPPED = """    rows, columns = {rows}, {columns}  # the smallest image that covers these is cut to {height} x {width}
    width, height = image.size
    if width * rows > height * columns:
        columns = int(rows * width / height)
    else:
        rows = int(columns * height / width)
    left, top = round((columns - {width}) / 2), round((rows - {height}) / 2)
    across, down = width / columns, height / rows
    box = left * across, top * down, (left + {width}) * across, (top + {height}) * down
"""
IMAGES = """

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("give pictures, as in: python " + sys.argv[0] + " cat.png")
    for path in sys.argv[1:]:
        try:
            pixels = read(path)
        except OSError as error:
            sys.exit("%s: %s" % (path, error))
        outputs = run([prepare(pixels)])
{show}"""
BEST = """        best = int(outputs[0][0].argmax())
        print(path, LABELS[best], float(outputs[0][0, best]))
"""
SHAPES = """        for output in outputs:  # the file does not name its classes
            print(path, output.shape, "largest at", int(output[0].argmax()))
"""
OTHERS = """
INPUTS = [  # name, shape of one, type; what they are made of the file does not say
{inputs}]


if __name__ == "__main__":
    if len(sys.argv) != 1 + len(INPUTS):
        sys.exit("give an .npy file for each input: " + ", ".join(name for name, _, _ in INPUTS))
    arrays = []
    for path, (_, shape, dtype) in zip(sys.argv[1:], INPUTS):
        try:
            arrays.append(np.load(path).astype(dtype).reshape(shape))
        except (OSError, ValueError) as error:
            sys.exit("%s: %s" % (path, error))
    for output in run(arrays):
        print(output.shape, *output.reshape(-1)[:10])
"""


def feeding_code(path: Path) -> str:
    """Write the program for a file of any backend.

    Args:
        path: The file; the program opens it by this name.

    Returns:
        Python, which runs as it is: with images as arguments where inputs are images.

    Raises:
        ExportError: Missing, damaged, not one of ours, or a file with state, which a program of one call cannot show.
    """
    backend = backend_of(path)
    stored = backend.read(path)
    if stored.metadata.state:
        raise ExportError(
            f"{path}: keeps state between calls, which this program would not; what comes out has to go in again"
        )
    opening = backend.opening_code(stored)
    slots = opening.inputs
    preprocessing = stored.metadata.preprocessing
    images = len(slots) == 1 and _takes_images(slots[0], preprocessing)
    packages = ["numpy", *["pillow"] * images, opening.package]
    lines = [f"# Feed {printable(path.name)} as its network was trained. pip install {' '.join(packages)}", ""]
    lines += [
        "import sys",
        "",
        "import numpy as np",
        *opening.imports,
        *["from PIL import Image"] * images,
        "",
        opening.code,
    ]
    text = "\n".join(lines)
    return text + (_feed_images(stored, slots[0]) if images else _feed_anything(slots))


def _takes_images(slot: InputSlot, preprocessing: Mapping[str, Sequence[float]]) -> bool:
    known = {"mean", "std", "max_pixel"} <= preprocessing.keys() and all(map(_are_numbers, preprocessing.values()))
    fits = len(slot.shape) == IMAGE_RANK and slot.shape[1] in MODES and None not in slot.shape[1:]
    return known and fits and len(preprocessing["mean"]) == len(preprocessing["std"]) == slot.shape[1]


def _are_numbers(values: object) -> bool:
    """Tell whether a file's figures are what we write: they go into a program."""
    return isinstance(values, list) and bool(values) and all(type(value) in (int, float) for value in values)


def _feed_images(stored: StoredFile, slot: InputSlot) -> str:
    preprocessing, labels = stored.metadata.preprocessing, stored.metadata.labels
    _, channels, height, width = slot.at_batch(1)
    top = preprocessing["max_pixel"][0]
    crop = WHOLE
    if "crop" in preprocessing:
        rows, columns = (round(size / preprocessing["crop"][0]) for size in (height, width))
        crop = CROPPED.format(rows=rows, columns=columns, height=height, width=width)
    text = PREPARE.format(
        mean=preprocessing["mean"],
        std=preprocessing["std"],
        top=f"{top:g}",
        channels=channels,
        colours="red, green and blue, " if channels > 1 else "",
        height=height,
        width=width,
        mode=MODES[channels],
        crop=crop,
        scaled="pixels" if top == BYTE else f"pixels * ({top:g} / {BYTE})",
    )
    if labels:
        text += f"\n\nLABELS = {pprint.pformat(list(labels), width=WIDTH, compact=True)}\n"
    return text + IMAGES.format(show=BEST if labels else SHAPES)


def _feed_anything(slots: Sequence[InputSlot]) -> str:
    inputs = "".join(f"    ({printable(slot.name)!r}, {slot.at_batch(1)}, np.{slot.dtype.name}),\n" for slot in slots)
    return OTHERS.format(inputs=inputs)
