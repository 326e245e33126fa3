"""Intervals over training seeds."""

import numpy as np
from scipy import stats

__all__ = ["in_words", "interval"]

LEVEL = 0.95


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and the ends of its 95 % interval by Student's t; of a single value the ends are infinite."""
    mean, half = float(np.mean(values)), np.inf
    if len(values) > 1:
        half = float(stats.t.isf((1 - LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return mean, mean - half, mean + half


def in_words(values: np.ndarray) -> str:
    """Mean and interval to three digits; of a single value the value."""
    mean, low, high = interval(values)
    return f"{mean:.3g}" if len(values) == 1 else f"{mean:.3g} [{low:.3g}, {high:.3g}]"
