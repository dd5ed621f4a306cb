"""Range checks for factory arguments: a checkpoint's header passes through here before anything is built."""


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
    ranges = {
        "in_channels": (in_channels, 1, 1024),
        "num_classes": (num_classes, 1, 65536),
        "input_size": (input_size, smallest, 4096),
    }
    for name, (value, low, high) in ranges.items():
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{name} must be an integer from {low} to {high}, found {value!r}")
