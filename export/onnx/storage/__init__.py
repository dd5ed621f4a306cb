"""How weights are stored: one codec per file, the planner (plan.py) and what applies it to a graph (write.py)."""
