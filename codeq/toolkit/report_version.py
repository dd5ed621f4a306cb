"""This number is written first into every `--json` report, so that a reader can tell which keys to expect."""

FORMAT_VERSION = 1
"""Rises when a key of any report goes, or changes its meaning; a reader refuses a newer one."""
