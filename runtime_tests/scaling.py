"""`python -m runtime_tests.scaling`: see runtime_tests/bench/scaling.py."""

from codeq.toolkit import cli
from runtime_tests.bench.scaling import main

if __name__ == "__main__":
    cli.run(main)
