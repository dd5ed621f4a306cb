"""Plain torch.nn networks, each by registry name. Nothing here knows about quantization."""

from models.autoencoder import autoencoder
from models.ds_cnn import ds_cnn
from models.fcn_1d import fcn_1d
from models.gru import gru
from models.mobilenet_v1 import mobilenet_v1
from models.mobilenet_v2 import mobilenet_v2
from models.registry import MODELS, Network, UnknownModelError, arguments_for, create
from models.resnet8 import resnet8
from models.resnet18 import resnet18
from models.resnet20 import resnet20
from models.resnet50 import resnet50
from models.tiny_vit import tiny_vit

__all__ = [
    "MODELS",
    "Network",
    "UnknownModelError",
    "arguments_for",
    "autoencoder",
    "create",
    "ds_cnn",
    "fcn_1d",
    "gru",
    "mobilenet_v1",
    "mobilenet_v2",
    "resnet8",
    "resnet18",
    "resnet20",
    "resnet50",
    "tiny_vit",
]
