"""This package stores weights: it has one codec per file, the planner (plan.py) and what applies its plan to a graph
(write.py).
"""
