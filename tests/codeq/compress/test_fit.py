"""Networks and inputs that do not fit each other are refused in one line, before anything is changed."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import codeq
from codeq.compress import compress
from codeq.compress.fit import answer, check_network
from codeq.errors import AttachError, CalibrationError, CompressError, TraceError
from codeq.quantizer.attach import quantized_weights
from codeq.training.budget import Budget


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    return nn.Sequential(*layers)


def images(count: int = 16) -> Tensor:
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))


class Words(nn.Module):
    """Looks up a table of ten words."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(10, 4), nn.Linear(4, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.layer(self.table(ids))


class Root(nn.Module):
    """Has NaN where its layer gives a negative value."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1, bias=False)
        nn.init.ones_(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).sqrt()


def ids() -> Tensor:
    ids = torch.zeros(16, 3, dtype=torch.int64)
    ids[1, 2] = 10  # not among those that are held back
    return ids


def negative_at(number: int) -> Tensor:
    x = torch.ones(16, 2)
    x[number] = -1
    return x


def with_nan(batch: int, number: int) -> list[Tensor]:
    batches = [images(), images()]
    batches[batch][number, 0, 1, 1] = float("nan")
    return batches


def attached() -> nn.Module:
    model = network()
    codeq.attach(model, 4)
    return model


Case = tuple[Callable[[], Any], Any, dict[str, Any], type[Exception], str]

CASES: dict[str, Case] = {
    "nothing": (network, [], {}, CalibrationError, "calibration needs at least one input, found none"),
    "no rows": (network, images(0), {}, CalibrationError, "calibration needs at least one input, found none"),
    "none": (network, None, {}, CalibrationError, "calibration is a NoneType, expected a tensor, "),
    "path": (network, "images/", {}, CalibrationError, "is the text 'images/', expected inputs; .*read_calibration"),
    "NaN": (network, with_nan(1, 3), {}, CalibrationError, r"calibration, batch 1: input 3 has NaN or infinite"),
    "other shape": (
        network, [images(), images()[:, :, :5]], {}, CalibrationError,
        r"batch 1 is float32 \(16, 3, 5, 6\), expected float32 \(N, 3, 6, 6\) as in batch 0; resize",
    ),
    "other dtype": (
        network, [images(), images().long()], {}, CalibrationError,
        r"batch 1 is int64 \(16, 3, 6, 6\), expected float32",
    ),
    "tuple behind a tensor": (
        network, [images(), (images(), images())], {}, CalibrationError,
        "batch 1 holds a tuple of 2, batch 0 a tensor; give all in one form",
    ),
    "mapping behind a tensor": (
        network, [images(), {"input": images()}], {}, CalibrationError,
        "batch 1 holds a mapping of input, batch 0 a tensor; give all in one form",
    ),
    "other name": (network, {"photo": images()}, {}, TraceError, "names no argument 'photo', expected input"),
    "other channels": (
        network, images()[:, :1], {}, TraceError,
        r"^Sequential cannot be called with calibration inputs \d+ to \d+, float32 \(N, 1, 6, 6\) like all of them: "
        r"RuntimeError \(.* expected "
        r"input\[2, 1, 6, 6\] to have 3 channels.*\); give them in the shape and dtype that its forward takes$",
    ),
    "other kind": (
        network, images().long(), {}, TraceError,
        r"inputs \d+ to \d+, int64 \(N, 3, 6, 6\) like all of them: RuntimeError",
    ),
    "too many": (
        network, (images(), images()), {}, TraceError,
        r"float32 \(N, 3, 6, 6\), float32 \(N, 3, 6, 6\) like all of them: TypeError",
    ),
    "ids outside the table": (
        Words, ids(), {}, TraceError,
        r"^Words cannot be called .*int64 \(N, 3\) like all of them: IndexError \(index out of range",
    ),
    "NaN made": (
        Root, negative_at(15), {}, CalibrationError,
        "^Root: output is NaN or infinite for calibration input 15, in the float network already; load its trained",
    ),
    "nearly all zeros": (
        network, images(), {"budget": Budget("sparsity", 0.99999)}, CompressError, r"^99\.999% zeros is out of reach",
    ),
    "quantizers": (attached, images(), {}, AttachError, r"^0\.weight has a quantizer already; compress the float net"),
    "no module": (lambda: len, images(), {}, CompressError, r"takes a torch\.nn\.Module, found a builtin_function"),
    "one input": (
        network, images(1), {}, CalibrationError,
        "^calibration is one input, which cannot choose codes and judge them; give some dozens$",
    ),
    "bits of one bit": (
        network, images(), {"bits": 4, "method": "spfq_sign"}, CompressError,
        "^spfq_sign gives every weight one bit and no zeros; leave bits, zeros and budgets out$",
    ),
    "zeros of one bit": (network, images(), {"zeros": 0.5, "method": "spfq_sign"}, CompressError, "leave bits, zeros"),
    "nine bits": (network, images(), {"bits": 9}, CompressError, "^bits must be 2 to 8, or None, found 9$"),
    "half a bit": (network, images(), {"bits": 4.5}, CompressError, r"^bits must be 2 to 8, or None, found 4\.5$"),
    "too few bytes": (
        network, images(), {"budget": Budget("size", 10)}, CompressError,
        r"^10 B is out of reach: the least that can be done here is \d+ B, with about [\d.]+ dB .*; ask for at least",
    ),
    "too many zeros": (
        network, images(), {"budget": Budget("sparsity", 0.999)}, CompressError,
        r"^99\.9% zeros is out of reach: the most that can be done here is [\d.]+% zeros, .*; ask for at most that$",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_one_line_and_leaves_the_network(case: str) -> None:
    build, calibration, options, error, message = CASES[case]
    model = build()
    before = copy.deepcopy(model.state_dict()) if isinstance(model, nn.Module) else {}
    had = len(list(quantized_weights(model))) if isinstance(model, nn.Module) else 0
    with pytest.raises(error, match=message) as caught:
        compress(model, calibration, **options)
    assert "\n" not in str(caught.value)
    for name, tensor in before.items():
        assert torch.equal(model.state_dict()[name], tensor)
    assert not isinstance(model, nn.Module) or len(list(quantized_weights(model))) == had


def test_the_budget_that_the_message_names_can_be_met() -> None:
    with pytest.raises(CompressError) as caught:
        compress(network(), images(), budget=Budget("size", 10))
    least = str(caught.value).partition("here is ")[2].partition(" B")[0]
    report = compress(network(), images(), budget=Budget("size", float(least)))
    assert report.budget is not None
    assert report.budget.met


def test_answers_are_those_of_every_batch() -> None:
    model, x = network().eval(), images()
    check_network(model)
    parts = answer(model, [(x[:10],), (x[10:],)], ())
    assert torch.equal(torch.cat([part["output"] for part in parts]), model(x))


def test_of_few_inputs_the_report_says_so() -> None:
    report = compress(network(), images(3))
    assert "after 2 inputs; judged on 1 other" in str(report)
    assert report.warnings == ("calibration is 3 inputs, and what fits them may fit no other; take some dozens",)
    assert compress(network(), images(16)).warnings == ()
