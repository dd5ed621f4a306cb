"""Exported files in real runtimes, held against PyTorch: commands, and the same as tests."""
