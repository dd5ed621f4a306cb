"""This package defines the dead-zone quantizer: the operator, its integer grid, and how layers get it."""
