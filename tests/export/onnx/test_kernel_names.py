"""Names of kernels: one for every kind of integer computation that a rule has, and none besides."""

from typing import get_args

from codeq.activations.rules import INTEGER, IntegerKind
from export.onnx.kernel_names import KERNEL_NAMES


def test_every_kind_of_the_rule_table_has_a_name() -> None:
    kinds = {rule.kind for rule in INTEGER.values()}
    assert kinds == set(get_args(IntegerKind)) == set(KERNEL_NAMES)
