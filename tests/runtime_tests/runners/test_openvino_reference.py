"""Which convolutions OpenVINO adds behind, read from what it made of a file."""

from runtime_tests.runners.openvino_reference import fused_convolutions

NAMES = dict.fromkeys(("input", "one", "two", "add", "pool"))


def test_all_but_the_last_of_a_convolution_have_no_codes() -> None:
    primitives = [
        ("Convolution", {"one", "relu"}),
        ("Convolution", {"add", "two", "bias"}),
        ("Pooling", {"input", "pool"}),
    ]
    assert fused_convolutions(primitives, NAMES) == {"two"}
    assert fused_convolutions([], NAMES) == frozenset()
