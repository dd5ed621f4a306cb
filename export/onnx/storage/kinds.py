"""This module names the storages that a file can be asked for; plan.py chooses encodings by them."""

from typing import Literal

Storage = Literal["auto", "dense", "sparse", "packed", "smallest"]
STORAGES: tuple[Storage, ...] = ("auto", "dense", "sparse", "packed", "smallest")
PACKING: tuple[Storage, ...] = ("packed", "smallest")
"""Those that encode weights."""
