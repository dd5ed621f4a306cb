"""The walk keeps two streams: layers are decided on the inputs that they will get, and what moves is put right."""

import torch
from torch import Tensor, nn

from codeq.compress.columns import Layer
from codeq.compress.layer_by_layer import Walked, walk
from codeq.compress.moments import estimate
from codeq.graph.trace import trace
from codeq.quantizer.attach import weight_names


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)]
    model = nn.Sequential(*layers)
    model.train()(torch.randn(64, 2, 6, 6) * 2 + 1)
    return model.eval()


def run(
    model: nn.Module, x: Tensor, change: dict[str, Tensor], **options: bool
) -> tuple[Walked, dict[str, list[Tensor]]]:
    """Walk with given weights; what was seen of each: moments and cross moments."""
    seen: dict[str, list[Tensor]] = {}

    def decide(name: str, layer: Layer | None, problems: object, largest: object) -> Tensor:
        assert layer is not None
        (problem,) = problems()  # type: ignore[operator]
        seen[name] = [problem.moments, problem.cross]
        return change[name]

    names = {f"{layer}.weight" for layer, module in model.named_modules() if weight_names(module)}
    batches = [(part,) for part in x.split(5)]
    return walk(trace(model, (x[:2],)), batches, {name: name for name in names}, decide, **options), seen


def test_moments_are_of_what_each_stream_gives_the_layer() -> None:
    model, x = network(), torch.randn(12, 2, 6, 6)
    new = model[0].weight.detach() + 0.3
    change = {"0.weight": new, "4.weight": model[4].weight.detach()}
    walked, seen = run(model, x, change, correct=False)
    original = model[:4](x).detach()
    model[0].weight.data = new
    replaced = model[:4](x).detach()
    for found, wanted in zip(seen["4.weight"], estimate([replaced[:, None]], [original[:, None]]), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-6)
    assert set(walked.tensors) == {"0.weight", "4.weight"}


def test_corrections_keep_the_mean_and_the_deviation_of_every_channel() -> None:
    model, x = network(), torch.randn(40, 2, 6, 6) * 2 + 1
    change = {"0.weight": model[0].weight.detach() * 1.3 + 0.1, "4.weight": model[4].weight.detach() * 0.8 + 0.05}
    before = [model[:2](x).detach(), model(x).detach()]
    walked, _ = run(model, x, change)
    assert set(walked.tensors) == {"0.weight", "1.running_mean", "1.running_var", "4.weight", "4.bias"}
    model.load_state_dict({**model.state_dict(), **walked.tensors})
    after = [model[:2](x).detach(), model(x).detach()]
    axes = (0, 2, 3)
    assert torch.allclose(before[0].mean(axes), after[0].mean(axes), atol=1e-3)
    assert torch.allclose(before[0].std(axes), after[0].std(axes), rtol=1e-3)
    assert torch.allclose(before[1].mean(0), after[1].mean(0), atol=1e-4)


def test_nothing_changes_where_weights_stay() -> None:
    model, x = network(), torch.randn(8, 2, 6, 6)
    change = {name: model.get_parameter(name).detach() for name in ("0.weight", "4.weight")}
    walked, _ = run(model, x, change)
    for name, value in walked.tensors.items():
        assert torch.allclose(value, model.state_dict()[name], atol=1e-6), name
    assert walked.outputs[0].decibels > 100
    assert walked.elsewhere == {}
