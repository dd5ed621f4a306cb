"""Rewrites of the program before it is lowered to LiteRT."""
