"""How a lowering says that a node has no counterpart in LiteRT."""


class CannotLower(Exception):
    """Why a node has no counterpart in LiteRT; the text goes on where a layer and its operator were named."""
