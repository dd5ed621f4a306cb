"""This tuple names the registry's networks, for command lines that answer before PyTorch is loaded."""

NAMES = (
    "resnet8",
    "resnet18",
    "resnet20",
    "resnet50",
    "mobilenet_v1",
    "mobilenet_v2",
    "tiny_vit",
    "ds_cnn",
    "fcn_1d",
    "gru",
    "autoencoder",
)
"""The keys of `models.MODELS`, in its order; each is also the name of a module and of the function in it."""
