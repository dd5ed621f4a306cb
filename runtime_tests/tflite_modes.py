"""`python -m runtime_tests.tflite_modes`: see runtime_tests/bench/tflite_modes.py."""

from codeq.toolkit import cli
from runtime_tests.bench.tflite_modes import main

if __name__ == "__main__":
    cli.run(main)
