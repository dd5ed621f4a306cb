"""One name for the codes of a tensor, and back."""

from torch.fx import Graph

from export.program.names import LAYER_SCOPE, codes_name, plain_name, scope_name


def test_codes_and_back() -> None:
    assert codes_name("conv1.weight") == "conv1.weight_quantized"
    assert plain_name("conv1.weight_quantized") == plain_name("conv1.weight") == "conv1.weight"


def test_the_name_that_quantizing_has_written() -> None:
    node = Graph().placeholder("x")
    assert scope_name(node) == ""
    node.meta["nn_module_stack"] = {"": ("", "Net"), "codeq": (f"{LAYER_SCOPE}block1.conv1", "codeq.Layer")}
    assert scope_name(node) == "block1.conv1"
