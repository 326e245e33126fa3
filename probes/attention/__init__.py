"""Attention of every head by lag, beside the truth: `python -m probes.attention`."""
