"""A lowering raises `CannotLower` where a node has no counterpart in LiteRT."""


class CannotLower(Exception):
    """Says why a node has no counterpart; the text goes on where a layer and its operator were named."""
