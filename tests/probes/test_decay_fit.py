"""Decay fits recover what they are given, and say so when there is nothing to recover."""

import math

import numpy as np
import pytest
from scipy.optimize import least_squares

from probes.capture.lags import fold_lags
from probes.decay.curves import SHAPE_RANGES, TABLE_ERROR, curves, kernel_of
from probes.decay.fit import MIN_LAGS, SHAPE_LAGS, fit_decay, fit_families, fit_profiles
from probes.decay.projection import Projection, lengthscale_range
from unrolled import Exponential, Logarithmic, Matern, Polynomial
from unrolled.kernels import KERNELS

LAGS = np.arange(33)
PAIRS = np.where(LAGS == 0, 64.0, 2.0 * (64 - LAGS))
CASES = [
    Exponential(4, 1), Exponential(9, 0.5), Exponential(3, 1.7), Polynomial(3, 1.5), Polynomial(6, 3),
    Logarithmic(2, 1),
]  # fmt: skip


@pytest.mark.parametrize("family", KERNELS)
def test_curves_are_the_kernels(family):
    """Against the kernel classes, exact but for the Matern table. Derivatives against central differences of step 1e-5,
    whose error is 1e-10 third derivatives and 1e-11 of rounding."""
    rng = np.random.default_rng(0)
    lag = np.sort(rng.uniform(0, 40, 30)) * (np.arange(30) > 0)
    lengthscale = np.exp(rng.uniform(np.log(0.2), np.log(160), 60))
    low, high = np.log(SHAPE_RANGES[family])
    shape = rng.uniform(low + 1e-4, high - 1e-4, 60)
    gamma, *slopes = curves(family, lag, np.log(lengthscale), shape)
    truth = [
        kernel_of(family, a, b)(lag).numpy() for a, b in zip(lengthscale.tolist(), np.exp(shape).tolist(), strict=True)
    ]
    np.testing.assert_allclose(gamma, truth, rtol=0, atol=TABLE_ERROR.get(family, 3e-15))
    for slope, change in zip(slopes, ((1e-5, 0), (0, 1e-5)), strict=True):
        ends = [curves(family, lag, np.log(lengthscale) + s * change[0], shape + s * change[1])[0] for s in (1, -1)]
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-5, rtol=0, atol=2e-8)


@pytest.mark.parametrize("kernel", CASES, ids=str)
@pytest.mark.parametrize(("amplitude", "floor"), [(1.0, 0.0), (0.2, 0.03), (0.5, -0.1), (-0.4, 0.6)])
def test_recovers_parameters_without_noise(kernel, amplitude, floor):
    profile = floor + amplitude * kernel(LAGS).numpy()
    fit, *others = fit_families(LAGS, profile)
    assert fit.family == kernel.name and fit.r2 > 1 - 1e-12 and fit.at_boundary == fit.fixed == ""
    found = (fit.lengthscale, fit.power, fit.amplitude, fit.floor)
    # Residuals are zero to rounding; parameters are as good as their curvature: 1e-5 leaves room for flat directions.
    np.testing.assert_allclose(found, (kernel.lengthscale, kernel.power, amplitude, floor), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fit(LAGS), profile, atol=1e-9)
    assert all(other.r2 < fit.r2 for other in others)


def test_recovers_matern_as_well_as_its_table_allows():
    profile = 0.1 + 0.5 * Matern(5, 1.2)(LAGS).numpy()
    fit = fit_decay(LAGS, profile, "matern")
    assert fit.r2 > 1 - 1e-10 and np.abs(fit(LAGS) - profile).max() < 4e-7
    assert (fit.lengthscale, fit.power) == (pytest.approx(5, rel=1e-4), pytest.approx(1.2, rel=1e-4))


@pytest.mark.parametrize("metric", ["weights", "matrix"])
@pytest.mark.parametrize("family", KERNELS)
def test_no_other_optimiser_finds_less(family, metric):
    """Against scipy from 12 starts, on profiles that no family fits: noise that wanders, and a hump."""
    rng = np.random.default_rng(1)
    profiles = 0.3 + 0.7 * np.exp(-LAGS / 4.0) + 0.02 * np.cumsum(rng.standard_normal((4, 33)), axis=1)
    profiles[-1] += 0.3 * np.exp(-(((LAGS - 6) / 2.0) ** 2))
    weights = PAIRS / PAIRS.sum()
    if metric == "matrix":
        weights = np.linalg.inv(np.diag(1 / weights) * 0.2 + np.exp(-np.abs(LAGS[:, None] - LAGS) / 5) * 20)
        weights = (weights + weights.T) / 2
    root = np.linalg.cholesky(np.diag(weights) if weights.ndim == 1 else weights).T
    projection = Projection(family, LAGS, weights)
    found = projection.fit_closely(profiles)
    near = projection.fit(profiles, (float(found.log_lengthscale[0]), float(found.log_shape[0])))
    bounds = np.log([[lengthscale_range(LAGS)[k], SHAPE_RANGES[family][k]] for k in (0, 1)])

    def residual(theta, profile):
        design = root @ np.stack([curves(family, LAGS, *theta[:, None])[0][0], np.ones(33)], axis=1)
        return root @ profile - design @ np.linalg.lstsq(design, root @ profile)[0]

    for k, profile in enumerate(profiles):
        starts = [np.array([a, b]) for a in np.log([0.5, 3, 12, 60]) for b in np.linspace(*(bounds[:, 1]), 5)[1:4]]
        best = min(
            2 * least_squares(residual, each, bounds=bounds, args=(profile,), ftol=1e-12).cost for each in starts
        )
        assert found.rss[k] <= best * (1 + 1e-9) and near.rss[k] <= best * (1 + 1e-3)
        theta = np.array([found.log_lengthscale[k], found.log_shape[k]])
        assert found.rss[k] == pytest.approx(np.sum(residual(theta, profile) ** 2), rel=1e-9)
        curve = found.floor[k] + found.amplitude[k] * curves(family, LAGS, *theta[:, None])[0][0]
        assert np.sum((root @ (profile - curve)) ** 2) == pytest.approx(found.rss[k], rel=1e-9)


def test_many_profiles_are_fitted_like_one():
    profiles = np.stack(
        [0.1 * k + Exponential(2 + k, 1)(LAGS).numpy() ** (1 + k / 3) for k in range(4)] + [np.ones(33)]
    )
    together = fit_profiles(LAGS, profiles, ["exponential", "polynomial"], PAIRS, profiles + 0.1)
    for profile, fits in zip(profiles, together, strict=True):
        for fit in fits:
            alone = fit_decay(LAGS, profile, fit.family, PAIRS, profile + 0.1)
            assert alone.at_boundary == fit.at_boundary
            for name in ("lengthscale", "power", "amplitude", "floor", "r2", "held_out_error"):
                # A batch adds in another order; what rounding does to parameters is its curvature's, as above.
                assert getattr(alone, name) == pytest.approx(getattr(fit, name), rel=1e-5, abs=1e-6, nan_ok=True)


def test_lags_need_not_be_integers_and_units_do_not_matter():
    lag = np.sqrt(np.arange(20.0))
    profile = 0.2 + 0.3 * np.exp(-((lag / 1.7) ** 1.3))
    fit, scaled = fit_decay(lag, profile), fit_decay(1e3 * lag, 1e-9 * profile)
    assert (fit.lengthscale, fit.power) == (pytest.approx(1.7, rel=1e-6), pytest.approx(1.3, rel=1e-6))
    assert (scaled.lengthscale, scaled.amplitude) == (pytest.approx(1700, rel=1e-6), pytest.approx(3e-10, rel=1e-6))


@pytest.mark.parametrize("b", [4.0, 3.0, 1.0, 0.0625])
def test_gaussian_is_at_the_boundary(b):
    fit = fit_decay(LAGS, np.exp(-b * LAGS**2.0) / 3)
    assert fit.at_boundary == "power" and fit.power == 2.0
    assert fit.lengthscale == pytest.approx(b**-0.5, rel=1e-7)


def test_errors_shrink_with_noise():
    """Least squares with noise s: the error of the lengthscale is proportional to s (ratio of two noise levels is
    10)."""
    rng = np.random.default_rng(0)
    clean = 0.3 * Exponential(4)(LAGS).numpy()
    noise = rng.standard_normal((40, len(LAGS)))
    errors = [
        np.sqrt(
            np.mean([(fits[0].lengthscale - 4) ** 2 for fits in fit_profiles(LAGS, clean + s * noise, ["exponential"])])
        )
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
    assert list(fit(LAGS[:3])) == [0.25] * 3


@pytest.mark.parametrize("family", KERNELS)
def test_few_lags_fix_the_shape(family):
    for lags in (LAGS[: SHAPE_LAGS - 1], LAGS[:MIN_LAGS]):
        fit = fit_decay(lags, 0.1 + 0.4 * kernel_of(family, 2.0, 1.0)(lags).numpy(), family)
        assert fit.fixed == "power" and fit.power == {"matern": 1.5}.get(family, 1.0)
        if family != "matern":
            assert fit.lengthscale == pytest.approx(2, rel=1e-6)
    assert fit_decay(LAGS[:SHAPE_LAGS], Exponential(2)(LAGS[:SHAPE_LAGS]).numpy(), family).fixed == ""


def test_weights_are_pairs():
    lags, folded, weights = fold_lags(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert list(lags) == [0, 1, 2] and list(folded) == [3.0, 3.0, 3.0] and list(weights) == [3, 4, 2]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="^lag: 3 lags are too few"):
        fit_decay(LAGS[: MIN_LAGS - 1], np.ones(MIN_LAGS - 1))
    with pytest.raises(ValueError, match="^lag: 2 lags are too few"):
        fit_decay(np.array([0, 0, 1, 1, 1]), np.ones(5))
    with pytest.raises(ValueError, match="^lag: has negative"):
        fit_decay(LAGS - 1, np.ones(len(LAGS)))
    with pytest.raises(ValueError, match="^family: "):
        fit_decay(LAGS, np.ones(len(LAGS)), "cosine")
    with pytest.raises(ValueError, match="^profile: has NaN"):
        fit_decay(LAGS, np.full(len(LAGS), np.nan))
    with pytest.raises(ValueError, match="^profile: 5 values"):
        fit_decay(LAGS, np.ones(5))
    with pytest.raises(ValueError, match="^weights: "):
        fit_decay(LAGS, np.ones(len(LAGS)), weights=np.zeros(len(LAGS)))
