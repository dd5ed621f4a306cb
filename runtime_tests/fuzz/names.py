"""This dictionary names what makes mutants of each format, for command lines that answer before anything is loaded."""

from collections.abc import Mapping

CHECKPOINT = "checkpoint"
MUTATORS: Mapping[str, str] = {
    CHECKPOINT: "runtime_tests.fuzz.checkpoint_files",
    "onnx": "runtime_tests.fuzz.onnx_files",
    "tflite": "runtime_tests.fuzz.tflite_files",
}
"""By the backend's name, or CHECKPOINT, a module with `mutate(content, generator)`: the mutant, and what was done."""
