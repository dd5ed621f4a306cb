"""These are the targets of `runtime_tests.devices` and the networks that go there, for its parser."""

from models.names import NAMES

STRESS = "stress"
"""A network whose codes reach to both ends of 8 bits."""
TARGETS = ("arm", "x86", "mcu", "browser")
SPARSE = ("sparse", "mirrored")
"""A mobilenet_v2 and a mobilenet_v1 of floats, whose zeros XNNPACK skips on Arm and in WebAssembly; the second, which
pads behind, is mirrored."""
NETWORKS = (*NAMES, STRESS, *SPARSE)
KINDS = ("x86", "x86-sse", "arm", "wasm")
"""Kinds of processor, as `export.reference.processors` names them."""
MICRO = "tflm"
"""What TFLite Micro's results name in their place, as `export.reference.tflm` does."""
MCU_NETWORKS = ("resnet8", "ds_cnn", "mobilenet_v1", "autoencoder", STRESS)
"""What fits a microcontroller."""
DEFAULT_NETWORKS = ("resnet20", "mobilenet_v2", "tiny_vit", *MCU_NETWORKS, *SPARSE)
"""What edge teams ship, and MLPerf Tiny's four; first those that a slow emulator, still starting, leaves out."""
