"""What tests of measurements share."""

import pytest

NO_PROCESS_BYTES = 1_000_000


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> int:
    """Replace the processes in which files are opened for their memory, seconds each; test_file_memory.py has them.

    The bytes that each is said to take.
    """
    from runtime_tests.bench import latency

    monkeypatch.setattr(latency, "measure_in_a_process", lambda path, threads, batch: NO_PROCESS_BYTES)
    return NO_PROCESS_BYTES
