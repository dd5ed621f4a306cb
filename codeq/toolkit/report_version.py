"""The version that `--json` writes first into every report, so that a reader can tell which keys to expect."""

FORMAT_VERSION = 1
"""Rises when a key of any report goes, or changes its meaning; a reader refuses a newer one."""
