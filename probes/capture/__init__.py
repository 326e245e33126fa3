"""Attention maps of a model while it runs, reduced by lag."""
