"""Intervals over training seeds."""

import numpy as np
from scipy import stats

__all__ = ["interval"]

LEVEL = 0.95


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and the ends of its 95 % interval by Student's t; of a single value the ends are infinite."""
    mean, half = float(np.mean(values)), np.inf
    if len(values) > 1:
        half = float(stats.t.isf((1 - LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return mean, mean - half, mean + half
