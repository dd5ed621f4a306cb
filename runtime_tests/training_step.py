"""`python -m runtime_tests.training_step`: see runtime_tests/bench/training_step.py."""

from codeq.toolkit import cli
from runtime_tests.bench.training_step import main

if __name__ == "__main__":
    cli.run(main)
