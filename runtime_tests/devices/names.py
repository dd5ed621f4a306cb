"""These are the targets of `runtime_tests.devices` and the networks that go there, for its parser."""

from models.names import NAMES

STRESS = "stress"
"""A network whose codes reach to both ends of 8 bits."""
TARGETS = ("arm", "x86", "mcu", "browser")
NETWORKS = (*NAMES, STRESS)
KINDS = ("x86", "x86-sse", "arm", "wasm", "tflm")
"""Kinds of processor, as `export.reference.processors` and `export.reference.tflm` name them."""
DEFAULT_NETWORKS = ("resnet8", "ds_cnn", "mobilenet_v1", "autoencoder", "resnet20", "mobilenet_v2", "tiny_vit", STRESS)
"""MLPerf Tiny's four, and what edge teams ship."""
MCU_NETWORKS = ("resnet8", "ds_cnn", "mobilenet_v1", "autoencoder", STRESS)
"""What fits a microcontroller."""
