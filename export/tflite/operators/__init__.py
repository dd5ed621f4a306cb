"""Lowerings of aten operators, one file per family: families.py lists them, registry.py finds one."""
