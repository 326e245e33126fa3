"""Layers against steps of solvers: `python -m probes.layers`."""
