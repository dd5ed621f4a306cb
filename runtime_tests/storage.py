"""`python -m runtime_tests.storage`: see runtime_tests/bench/storage.py."""

from codeq.toolkit import cli
from runtime_tests.bench.storage import main

if __name__ == "__main__":
    cli.run(main)
