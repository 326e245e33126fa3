"""Resamples are draws with replacement, and Holm's correction is the step-down procedure."""

import math

import numpy as np
import pytest

from probes.resampling import bootstrap_counts, holm, resampled_means


def step_down(p: np.ndarray) -> np.ndarray:
    """Holm's correction by its definition: the smallest level at which each hypothesis is rejected in turn.

    At level a the k-th smallest p-value (k = 0, 1, ..) is rejected if it and all before it are at most a/(n - k).
    """
    n, order = len(p), sorted(range(len(p)), key=lambda k: p[k])
    corrected = np.empty(n)
    for place, which in enumerate(order):
        corrected[which] = min(1.0, max(p[order[k]] * (n - k) for k in range(place + 1)))
    return corrected


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_holm_is_the_step_down_procedure(n):
    rng = np.random.default_rng(n)
    for p in (rng.random(n), rng.random(n) ** 6, np.round(rng.random(n), 1)):
        assert holm(p).tolist() == step_down(p).tolist()


def test_holm_of_known_values():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    assert list(holm(np.array([0.6, 0.9]))) == [1.0, 1.0]
    assert len(holm(np.array([]))) == 0


def test_counts_are_those_of_draws_with_replacement():
    """n draws in each resample. Each count is binomial (n, 1/n): mean 1, variance 1 - 1/n, and two have covariance
    -1/n. Means over B resamples are known to a standard error of 1/sqrt(B); five of them are allowed."""
    n, resamples = 5, 20_000
    counts = bootstrap_counts(n, resamples, 0)
    assert counts.shape == (resamples, n) and counts.dtype == np.float64
    assert np.array_equal(counts, np.round(counts)) and counts.min() >= 0 and (counts.sum(axis=1) == n).all()
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=5 / math.sqrt(resamples))
    np.testing.assert_allclose(np.cov(counts.T), np.eye(n) - 1 / n, atol=5 * math.sqrt(3 / resamples))


def test_a_generator_goes_on_and_a_seed_starts_again():
    rng = np.random.default_rng(3)
    first, second = bootstrap_counts(7, 4, rng), bootstrap_counts(7, 4, rng)
    assert np.array_equal(first, bootstrap_counts(7, 4, 3)) and not np.array_equal(first, second)


def test_resampled_means_are_means_of_what_was_drawn():
    sequences = np.random.default_rng(1).standard_normal((6, 3))
    counts = bootstrap_counts(6, 9, 2)
    loop = [np.repeat(sequences, row.astype(int), axis=0).mean(axis=0) for row in counts]
    np.testing.assert_allclose(resampled_means(sequences, 9, 2), loop, rtol=0, atol=1e-15)
