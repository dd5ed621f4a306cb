"""This package measures latency, memory, bytes, the cost of an export and that of a training step."""
