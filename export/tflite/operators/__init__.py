"""This package lowers aten operators, one file per family: families.py lists them, registry.py finds one."""
