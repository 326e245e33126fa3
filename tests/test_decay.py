"""Decay fits recover what they are given, and say so when there is nothing to recover."""

import math

import numpy as np
import pytest

from probes.decay import MIN_LAGS, fit_decay, fit_families, fold_lags
from unrolled import Exponential, Logarithmic, Polynomial

LAGS = np.arange(33)
KERNELS = [
    Exponential(4, 1), Exponential(9, 0.5), Exponential(3, 1.7), Polynomial(3, 1.5), Polynomial(6, 3), Logarithmic(2, 1),
]  # fmt: skip


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize(("amplitude", "floor"), [(1.0, 0.0), (0.2, 0.03), (0.5, -0.1), (-0.4, 0.6)])
def test_recovers_parameters_without_noise(kernel, amplitude, floor):
    profile = floor + amplitude * kernel(LAGS).numpy()
    fit, *others = fit_families(LAGS, profile)
    assert fit.family == kernel.name and fit.r2 > 1 - 1e-12 and fit.at_boundary == ""
    found = (fit.lengthscale, fit.power, fit.amplitude, fit.floor)
    # Residuals are zero to rounding; parameters are as good as their curvature: 1e-5 leaves room for flat directions.
    np.testing.assert_allclose(found, (kernel.lengthscale, kernel.power, amplitude, floor), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fit(LAGS), profile, atol=1e-9)
    assert all(other.r2 < fit.r2 for other in others)


def test_power_two_is_at_the_boundary():
    fit = fit_decay(LAGS, Exponential(5, 2)(LAGS).numpy())
    assert fit.at_boundary == "power" and fit.power == pytest.approx(2, abs=1e-4)


def test_errors_shrink_with_noise():
    """Least squares with noise s: the error of the lengthscale is proportional to s (ratio of two noise levels is 10)."""
    rng = np.random.default_rng(0)
    clean = 0.3 * Exponential(4)(LAGS).numpy()
    noise = rng.standard_normal((40, len(LAGS)))
    errors = [
        np.sqrt(np.mean([(fit_decay(LAGS, clean + s * each).lengthscale - 4) ** 2 for each in noise]))
        for s in (1e-3, 1e-4)
    ]
    assert 8 < errors[0] / errors[1] < 12.5


def test_held_out_error_is_that_of_the_other_half():
    clean = Exponential(4)(LAGS).numpy()
    fit = fit_decay(LAGS, clean, held_out=clean + 0.1)
    spread = math.sqrt(np.mean((clean - clean.mean()) ** 2))
    assert fit.held_out_error == pytest.approx(0.1 / spread, rel=1e-6)


def test_constant_profile_has_no_decay():
    fit = fit_decay(LAGS, np.full(len(LAGS), 0.25))
    assert fit.at_boundary == "constant" and fit.floor == 0.25 and math.isnan(fit.r2)


def test_weights_are_pairs():
    lags, folded, weights = fold_lags(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert list(lags) == [0, 1, 2] and list(folded) == [3.0, 3.0, 3.0] and list(weights) == [3, 4, 2]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="^lag: "):
        fit_decay(LAGS[: MIN_LAGS - 1], np.ones(MIN_LAGS - 1))
    with pytest.raises(ValueError, match="^family: "):
        fit_decay(LAGS, np.ones(len(LAGS)), "cosine")
    with pytest.raises(ValueError, match="^profile: "):
        fit_decay(LAGS, np.full(len(LAGS), np.nan))
