"""Measurements: latency, memory, bytes, export cost, a training step."""
