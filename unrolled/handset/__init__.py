"""Transformers whose weights are set by hand so that the forward pass is a solver."""
