"""Check the ranges of factory arguments: a checkpoint's header passes through here before anything is built."""

MAX_CLASSES = 65536
MAX_CHANNELS = 1024
MAX_SIZE = 4096


def check_integers(**arguments: tuple[int, int, int]) -> None:
    """Check integer arguments, each given as (value, smallest, largest).

    Raises:
        ValueError: Naming the argument, its range and the value found.

    Examples:
        >>> check_integers(in_features=(0, 1, 65536))
        Traceback (most recent call last):
        ValueError: in_features must be an integer from 1 to 65536, found 0
    """
    for name, (value, low, high) in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{name} must be an integer from {low} to {high}, found {value!r}")


def check_image_arguments(in_channels: int, num_classes: int, input_size: int, *, smallest: int) -> None:
    """Check the arguments every image classifier of ours takes.

    Args:
        in_channels: 1 to 1024.
        num_classes: 1 to 65536.
        input_size: Height and width in pixels, `smallest` to 4096.
        smallest: The total stride of the network: below it, the last feature map would be empty.

    Raises:
        ValueError: Naming the argument, its range and the value found.
    """
    check_integers(
        in_channels=(in_channels, 1, MAX_CHANNELS),
        num_classes=(num_classes, 1, MAX_CLASSES),
        input_size=(input_size, smallest, MAX_SIZE),
    )


def check_width(width: float) -> None:
    """Check a width multiplier: a number from 0.05 to 8.

    Raises:
        ValueError: Naming the range and the value found.
    """
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0.05 <= width <= 8:
        raise ValueError(f"width must be a number from 0.05 to 8, found {width!r}")
