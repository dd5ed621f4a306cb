"""Networks that the registry has not: named on the command line, trained, saved, and asked for again."""

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import codeq
from codeq.errors import CheckpointError, CodeqError
from codeq.quantizer.attach import quantized_weights
from codeq.toolkit import cli
from codeq.train import main

NETWORKS = """
import torch
from torch import nn

def net(width=4, classes=10):
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, classes))

def needs(width, *, depth):
    return net(width)

def broken():
    raise TypeError("no weights")

def leaves():
    raise SystemExit(0)

def frozen():
    return net().requires_grad_(False)

def holed():
    model = net()
    model[0].bias.data[1] = float("nan")
    return model

class Stateful(nn.Sequential):
    def __init__(self):
        super().__init__(*net())

    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        pass

class Answer(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        return {"logits": self.net(x)}

relu, number, constant = nn.ReLU, int, 3
"""


@pytest.fixture(autouse=True)
def _networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets.py").write_text(NETWORKS)
    (tmp_path / "program.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "nets", raising=False)


def net(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 10))


def build(spec: str | None, arguments: dict[str, Any] | None) -> nn.Module:
    factory = cli.import_factory(spec, arguments)
    assert factory is not None
    return factory()


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        ("nets", None, "--model nets: unknown model 'nets', expected package.module:factory or one of resnet8, "),
        (":net", None, "--model :net: expected package.module:factory, or a name of the registry"),
        ("nothere:net", None, r"--model nothere:net: cannot be imported \(No module named 'nothere'\)"),
        ("nets:nothere", None, r"cannot be imported \(module 'nets' has no attribute 'nothere'"),
        ("nets:constant", None, "--model nets:constant: is a int, expected a function or a class"),
        (
            "nets:needs",
            None,
            r"cannot be called without arguments \(missing a required argument: 'width'\); it takes width, depth: "
            r"""give them as --model-args '\{"width": \.\.\., "depth": \.\.\.\}'$""",
        ),
        (
            "nets:net",
            {"widht": 8},
            r"""cannot be called with --model-args '\{"widht": 8\}' \(got an unexpected keyword argument 'widht'\); """
            "it takes width, classes",
        ),
        ("nets:broken", {}, r"--model nets:broken: raised TypeError \(no weights\)"),
        ("nets:net", {"width": "x"}, "--model nets:net: raised TypeError"),
        ("nets:number", None, "--model nets:number: returned a int, expected a torch.nn.Module"),
        (None, {"width": 8}, "--model-args goes with --model package.module:factory, which was not given"),
    ],
)
def test_factories_that_cannot_be_used(spec: str | None, arguments: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(CodeqError, match=message) as caught:
        build(spec, arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["width=8", "[8]", "{'width': 8}", ""])
def test_arguments_that_are_no_json_object(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--model", "nets:net", "--model-args", text])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert f"""expected a JSON object such as '{{"num_classes": 10}}', found {text!r}""" in message
    assert len(message.splitlines()) == 1


def test_a_factory_is_called_with_its_arguments() -> None:
    assert build("nets:net", {"width": 7})[0].out_channels == 7  # type: ignore[index]
    assert cli.import_factory(None) is None
    assert build("resnet8", {"num_classes": 3})(torch.zeros(1, 3, 8, 8)).shape == (1, 3)


def saved(path: Path, model: nn.Module, **options: Any) -> Path:
    codeq.attach(model)
    codeq.save(path, model, input_shape=(1, 8, 8), **options)
    return path


ARGUMENTS = {"width": 6, "name": "it's"}


@pytest.mark.parametrize(
    ("options", "factory", "message"),
    [
        ({}, None, "was saved without a registry name; pass --model package.module:factory$"),
        ({"factory": "nets:net"}, None, "was saved without a registry name; pass --model nets:net$"),
        (
            {"factory": "nets:net", "arguments": {"width": 6}},
            None,
            r"""pass --model nets:net --model-args '\{"width": 6\}'$""",
        ),
        (
            {"factory": "nets:net", "arguments": {"width": 6}},
            net,
            r"0\.\S+ has shape \(6.*\), expected \(4.*\) \(a factory with other arguments\? for the one that was "
            r"""saved, pass --model nets:net --model-args '\{"width": 6\}'\)$""",
        ),
        (
            {"factory": "nets:net"},
            lambda: nn.Sequential(*net(6), nn.BatchNorm1d(10)),
            r"0 unknown and 5 missing tensors; missing 4\.weight, 4\.bias, \.\.\. \(a factory with other arguments\?",
        ),
        ({}, lambda: nn.Sequential(nn.Conv2d(1, 6, 3)), r"no quantizable weight 3\.weight in Sequential; was it built"),
    ],
    ids=["nothing", "factory", "arguments", "shapes", "missing", "other"],
)
def test_a_checkpoint_says_which_network_it_wants(
    options: dict[str, Any], factory: Callable[[], nn.Module] | None, message: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "net.pt", net(6), **options)
    with pytest.raises(CheckpointError, match=message) as caught:
        codeq.load(path, factory)
    assert "\n" not in str(caught.value)


def test_the_option_in_the_message_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pt", net(6), factory="nets:net", arguments=ARGUMENTS)
    with pytest.raises(CheckpointError) as caught:
        codeq.load(path)
    words = shlex.split(str(caught.value).partition("pass ")[2])
    assert words[:3] == ["--model", "nets:net", "--model-args"]
    assert json.loads(words[3]) == ARGUMENTS
    loaded = codeq.load(path, lambda: net(6))
    assert (loaded.name, loaded.factory, loaded.arguments) == (None, "nets:net", ARGUMENTS)


@pytest.mark.parametrize("quantized", [True, False])
def test_the_prefix_of_a_wrapper_is_recognised(quantized: bool, tmp_path: Path) -> None:
    wrapped, path = nn.DataParallel(net()), tmp_path / "net.pt"
    if quantized:
        codeq.attach(wrapped)
    codeq.save(path, wrapped, input_shape=(1, 8, 8))
    message = r"\('module\.' is from DataParallel or DistributedDataParallel: save the network inside it\)$"
    with pytest.raises(CheckpointError, match=message):
        codeq.load(path, net)


@pytest.mark.parametrize("factory", ["nets:net; rm -rf .", "nets", "os.system:\x1b[2J", 3])
def test_a_file_cannot_name_anything_but_a_factory(factory: Any, tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pt", net())
    content = torch.load(path, weights_only=True)
    del content["content_sha256"]  # changed below, as an older file
    content["model"]["factory"] = factory
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"has the factory .*, expected package\.module:function"):
        codeq.load(path)
    assert "nets" not in sys.modules


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "resnet9"], "expected one of resnet8, .*, or package.module:factory, found 'resnet9'"),
        (["--model", "nets:relu"], "answers shape .2, 1, 8, 8. to digits, expected logits of shape .2, 10."),
        (["--model", "nets:Answer"], "--model nets:Answer: answers a dict to digits, expected logits of shape .2, 10."),
        (["--model", "nets:net", "--model-args", '{"classes": 3}'], "answers shape .2, 3. to digits, expected logits"),
        (["--model", "nets:needs"], "cannot be called without arguments"),
        (["--model", "nets:leaves"], "--model nets:leaves: raised SystemExit"),
        (["--model", "program:net"], "cannot be imported .it exits with 0.; put what it runs as a program under"),
        (["--model", "nets:frozen"], "--model nets:frozen: has no parameter that trains"),
        (["--model", "nets:holed"], "--model nets:holed: 0.bias has NaN or infinite entries"),
        (["--model", "resnet8", "--model-args", "{}"], "--model-args goes with --model package.module:factory, not"),
    ],
)
def test_networks_that_cannot_be_trained(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((CodeqError, SystemExit)) as caught:
        main([*options, "-o", "net.pt"])
    text = capsys.readouterr().err if isinstance(caught.value, SystemExit) else str(caught.value)
    assert re.search(message, text), text
    assert not (tmp_path / "net.pt").exists()


def test_a_network_with_a_state_beside_its_tensors_is_tried(tmp_path: Path) -> None:
    assert main(["--model", "nets:Stateful", "--dry-run"]) == 0


def test_a_foreign_network_is_trained_resumed_and_taught(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = ["--model", "nets:net", "--model-args", '{"width": 4}']
    common = [*network, "--epochs", "1", "--batch-size", "256"]
    assert main([*common, "--bits", "32", "-o", "float.pt"]) == 0
    assert main([*common, "--lambda-dz", "1", "--teacher", "float.pt", "-o", "net.pt"]) == 0
    content = torch.load("net.pt", weights_only=True)
    del content["content_sha256"]  # changed below, as an older file
    assert content["model"] == {"name": None, "factory": "nets:net", "arguments": {"width": 4}}
    capsys.readouterr()

    content["training"]["complete"] = False
    torch.save(content, "part.pt")
    for options, message in [
        ([], "was saved without a registry name; pass --model nets:net --model-args "),
        (
            ["--model", "nets:net"],
            """was started with --model-args '{"width": 4}', not none; repeat what it was started with""",
        ),
        (
            [*network[:3], '{"width": 5}'],
            "has shape (4,), expected (5,) (a factory with other arguments? for the one that was saved, pass ",
        ),
        (["--model", "nets:other", *network[2:]], "cannot be imported"),
        ([*network, "--epochs", "2"], "was started with --epochs 1, not 2; leave --epochs out"),
        (network, "its training state is damaged"),  # it has none any more, and gets as far as that
    ]:
        with pytest.raises(CodeqError) as caught:
            main(["--resume", "part.pt", *options])
        assert message in str(caught.value)
    (tmp_path / "nets.py").write_text(NETWORKS + "\nother = net\n")
    del sys.modules["nets"]
    with pytest.raises(CodeqError, match="was started with --model nets:net, not nets:other; repeat what it was start"):
        main(["--resume", "part.pt", "--model", "nets:other", *network[2:]])

    factory = cli.import_factory("nets:net", {"width": 4})
    assert len(list(quantized_weights(codeq.load("net.pt", factory).model))) == 2
