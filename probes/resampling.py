"""How much of a result is chance: sequences drawn again with replacement, and p-values corrected for their number."""

import numpy as np
from jaxtyping import Float
from statsmodels.stats.multitest import multipletests

__all__ = ["LEVEL", "bootstrap_counts", "holm", "resampled_means"]

LEVEL = 0.05
"""A corrected p-value below this counts."""


def bootstrap_counts(n: int, resamples: int, seed: int | np.random.Generator) -> Float[np.ndarray, "resamples n"]:
    """How often each of n sequences is drawn in each resample of n."""
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    return counts.astype(np.float64)


def resampled_means(
    sequences: Float[np.ndarray, "sequences n"], resamples: int, seed: int | np.random.Generator
) -> Float[np.ndarray, "resamples n"]:
    """Mean profiles of as many sequences as there are, drawn with replacement from `sequences`."""
    return (bootstrap_counts(len(sequences), resamples, seed) / len(sequences)) @ sequences


def holm(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """p-values corrected for their number: the chance that any true null is rejected at a is at most a.

    Published: Holm, Scand. J. Stat. 6, 1979.
    """
    return np.asarray(multipletests(p, method="holm")[1])
