"""A network is built by its name; a data set's shape gives its arguments."""

import inspect

import pytest

import models

pytestmark = pytest.mark.quick


def test_unknown_name_and_argument() -> None:
    with pytest.raises(
        models.UnknownModelError, match="unknown model 'resnet9', expected one of resnet8, resnet18, resnet20, resnet50"
    ):
        models.create("resnet9")
    with pytest.raises(models.UnknownModelError, match="takes no argument depth"):
        models.create("resnet8", depth=3)
    with pytest.raises(models.UnknownModelError, match="unknown model 'resnet9'"):
        models.arguments_for("resnet9", (1, 8, 8), 10)


@pytest.mark.parametrize("name", models.MODELS)
def test_input_axes_name_arguments_that_set_the_input(name: str) -> None:
    network = models.MODELS[name]
    assert set(network.input_axes) <= set(inspect.signature(network.factory).parameters)
    # A prime each, so that no two axes can be mistaken for one another; patches of tiny_vit need a multiple of 4.
    sizes = dict(zip(dict.fromkeys(network.input_axes), (2, 28, 44), strict=False))
    expected = tuple(sizes[axis] for axis in network.input_axes)
    assert models.create(name, **sizes).input_shape == expected


@pytest.mark.parametrize(
    ("name", "input_shape", "arguments"),
    [
        ("resnet8", (3, 32, 32), {"in_channels": 3, "input_size": 32, "num_classes": 7}),
        ("ds_cnn", (1, 28, 20), {"in_channels": 1, "height": 28, "width": 20, "num_classes": 7}),
        ("fcn_1d", (9, 128), {"in_channels": 9, "length": 128, "num_classes": 7}),
        ("gru", (25, 10), {"length": 25, "in_features": 10, "num_classes": 7}),
    ],
)
def test_arguments_for_a_data_set(name: str, input_shape: tuple[int, ...], arguments: dict[str, int]) -> None:
    assert models.arguments_for(name, input_shape, 7) == arguments
    assert models.create(name, **arguments).input_shape == input_shape


@pytest.mark.parametrize(
    ("name", "input_shape", "message"),
    [
        (
            "resnet8",
            (3, 28, 32),
            r"expected inputs of in_channels x input_size x input_size, found shape \(3, 28, 32\)",
        ),
        ("gru", (1, 8, 8), r"expected inputs of length x in_features, found shape \(1, 8, 8\)"),
        ("resnet8", (8, 8), "expected inputs of in_channels x"),
        ("autoencoder", (64,), "it has no classes"),
    ],
)
def test_data_that_does_not_fit_is_refused(name: str, input_shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.arguments_for(name, input_shape, 7)
