"""Plain torch.nn networks, each by registry name. Nothing here knows about quantization."""

from models.registry import MODELS, UnknownModelError, create
from models.resnet8 import resnet8
from models.resnet18 import resnet18
from models.resnet20 import resnet20

__all__ = ["MODELS", "UnknownModelError", "create", "resnet8", "resnet18", "resnet20"]
