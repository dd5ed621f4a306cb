"""This package rewrites the program before it is lowered to LiteRT."""
