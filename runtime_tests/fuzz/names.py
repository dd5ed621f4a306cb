"""This dictionary names what makes mutants of each format, for command lines that answer before anything is loaded."""

from collections.abc import Mapping

MUTATORS: Mapping[str, str] = {"onnx": "runtime_tests.fuzz.onnx_files"}
"""By the backend's name, a module with `mutate(content, generator)`, which gives the mutant and what was done."""
