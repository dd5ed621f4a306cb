"""What a report says of a .tflite file's kernels, as tests compare it."""

from export import Report


def on_codes(report: Report) -> dict[str, str]:
    """Give the operator of every layer that computes on codes, by the layer's name."""
    return {kernel.name: kernel.kernel for kernel in report.kernels if kernel.is_integer}
