"""This package exports every network of the registry in every kind of file, each held to the parity contract."""
