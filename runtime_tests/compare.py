"""`python -m runtime_tests.compare`: see runtime_tests/bench/compare.py."""

from codeq.toolkit import cli
from runtime_tests.bench.compare import main

if __name__ == "__main__":
    cli.run(main)
