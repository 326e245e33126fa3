"""Missing values given observed ones, against formulas that are written out with whole matrices and two solves."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tests.builders import KERNELS, generator, make
from unrolled import Conditional, GaussianProcess, InputError, probability_flow
from unrolled.diffusion import alpha, sigma
from unrolled.kernels import RoughPolynomial
from unrolled.samplers import log_time_grid

EPS = torch.finfo(torch.float64).eps


def random_case(seed: int, most: int = 8) -> tuple[GaussianProcess, torch.Tensor, torch.Tensor, float]:
    """A process, a mask of values (N, d), a batch of sequences, a time."""
    rng = np.random.default_rng(seed)
    kernel = [*KERNELS, RoughPolynomial(3, 0.7)][rng.integers(len(KERNELS) + 1)]
    process = make(int(rng.integers(1, most)), int(rng.integers(1, 4)), kernel)
    frames = torch.from_numpy(rng.random(process.length) < rng.random())
    single = torch.from_numpy(rng.random((process.length, process.dim)) < rng.random())
    missing = frames[:, None].expand_as(single) if rng.random() < 0.5 else single
    return process, missing, process.sample(3, generator(seed)), float(10 ** rng.uniform(-3, 1))


def written_out(process: GaussianProcess, missing: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Mean and covariance of the missing values given the others, and the condition number of what is solved."""
    prior = torch.kron(process.temporal_covariance, process.spatial_covariance)
    m = missing.flatten()
    mu, flat = process.mean.flatten(), x.flatten(1)
    gain = torch.linalg.solve(prior[~m][:, ~m], prior[~m][:, m]).T
    mean = mu[m] + (flat[:, ~m] - mu[~m]) @ gain.T
    return mean, prior[m][:, m] - gain @ prior[~m][:, m], torch.linalg.cond(prior[~m][:, ~m])


def close_to_formulas(seed: int) -> None:
    """One solve against two nested ones, to 20 eps times the largest condition number of either way."""
    process, missing, x, t = random_case(seed)
    if bool(missing.all()) or not bool(missing.any()):
        return
    m = missing.flatten()
    frames = bool((missing == missing[:, :1]).all())
    given = torch.where(missing, torch.nan, x)
    law = process.conditional(missing[:, 0] if frames else missing, given)
    mean, covariance, kappa = written_out(process, missing, x)
    time = torch.tensor(t, dtype=torch.float64)
    a, s = float(alpha(time)), float(sigma(time))
    noised = a * x + s * torch.randn(x.shape, generator=generator(seed + 1), dtype=torch.float64)
    outer = a**2 * covariance + s**2 * torch.eye(len(covariance), dtype=torch.float64)
    expected = -torch.linalg.solve(outer, (noised.flatten(1)[:, m] - a * mean).T).T
    score = law.score(noised, t)
    both = max(float(torch.linalg.cond(each)) for each in law.noisy_covariance(t))
    worst = max(float(kappa), float(torch.linalg.cond(covariance)), float(torch.linalg.cond(outer)), both)
    allowed = 20 * EPS * worst
    assert float((score.flatten(1)[:, m] - expected).norm()) <= allowed * float(expected.norm())
    assert bool((score.flatten(1)[:, ~m] == 0).all())
    size = float(mean.norm()) + float(x.norm()) + float(process.mean.norm())
    assert float((law.mean.flatten(1)[:, m] - mean).norm()) <= allowed * size
    assert torch.equal(law.mean[:, ~missing], x[:, ~missing])
    deviation = law.variance.flatten()[m] - covariance.diagonal()
    assert float(deviation.abs().max()) <= allowed * float(process.spatial_covariance.norm())


def test_one_solve_is_two():
    for seed in range(1200):
        close_to_formulas(seed)


@pytest.mark.parametrize("shape", ["frames", "values"])
def test_all_missing_and_all_observed_are_the_known_limits(shape):
    process = make(5, 2, KERNELS[0])
    x = process.sample(4, generator())
    full = torch.ones(5 if shape == "frames" else (5, 2), dtype=torch.bool)
    nothing = process.conditional(full, x)
    assert torch.allclose(nothing.score(x, 0.3), process.score(x, 0.3), rtol=1e-10)
    assert torch.allclose(nothing.mean, process.mean.expand_as(x)) and nothing.mean.shape == x.shape
    variances = process.spatial_covariance.diagonal().expand(5, 2)
    assert torch.allclose(nothing.variance, variances, rtol=1e-12)
    everything = process.conditional(~full, x)
    assert torch.equal(everything.mean, x) and not everything.score(x, 0.3).any() and not everything.variance.any()
    assert torch.equal(everything.sample(2, generator())[1], x) and bool(everything.inside(x).all())
    low, high = everything.intervals()
    assert torch.equal(low, x) and torch.equal(high, x)


def test_times_of_a_batch_and_values_that_are_not_read():
    process = make(6, 2, KERNELS[4])
    missing = torch.tensor([False, True, True, False, True, False])
    x = process.sample(3, generator())
    law, t = process.conditional(missing, x), torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    expected = torch.stack([law.score(x, float(one))[k] for k, one in enumerate(t)])
    assert torch.allclose(law.score(x, t), expected, rtol=1e-12)
    other = torch.where(missing[:, None], x, 99.0)  # observed places of the noised sequence
    assert torch.equal(law.score(other, 0.5), law.score(x, 0.5))
    assert law.score(x.float(), 0.5).dtype == torch.float32
    v = torch.randn(3, 6, 2, generator=generator(), dtype=torch.float64)
    dense = torch.kron(law.covariance[0] / process.spatial_eigen[0][0], process.spatial_covariance)
    times = (dense @ v[:, missing].flatten(1).T).T.unflatten(1, (3, 2))
    assert torch.allclose(law.covariance_times(v)[:, missing], times) and not law.covariance_times(v)[:, ~missing].any()


@pytest.mark.parametrize("frames", [True, False])
def test_samples_have_the_law(frames):
    """Mean and covariance of samples within five standard errors, and coverage of intervals and ellipsoid."""
    process = make(5, 2, KERNELS[0])
    missing: Any = torch.tensor([False, True, True, False, True])
    missing = missing if frames else torch.stack([missing, ~missing], dim=1)
    x = process.sample(1, generator(3))
    law, n = process.conditional(missing, x), 20_000
    drawn = law.sample(n, generator(4))[:, 0]
    deviation = (drawn.mean(dim=0) - law.mean[0]) / (law.variance.sqrt() / n**0.5)
    places = missing[:, None].expand(5, 2) if frames else missing
    assert float(deviation[places].abs().max()) < 5 and torch.equal(drawn[:, ~places], x[:, ~places].expand(n, -1))
    _, covariance, _ = written_out(process, places, x)
    found = torch.cov(drawn[:, places].T)
    scale = (covariance.diagonal()[:, None] * covariance.diagonal()).sqrt()
    assert float(((found - covariance) / scale).abs().max()) < 5 * (2 / n) ** 0.5
    low, high = law.intervals(0.9)
    inside = ((low < drawn) & (drawn < high)).double().mean(dim=0)[places]
    error = (0.9 * 0.1 / n) ** 0.5
    assert float((inside - 0.9).abs().max()) < 5 * error
    many = process.conditional(missing, x.expand(n, -1, -1))
    assert abs(float(many.inside(drawn, 0.9).double().mean()) - 0.9) < 5 * error


def test_the_probability_flow_of_the_score_ends_at_the_law():
    """Sequences that start from noise and follow the exact score have the mean and the variance of the law, up to the
    steps of the sampler."""
    process = make(6, 1, KERNELS[0])
    missing = torch.tensor([False, True, True, True, False, True])
    x = process.sample(1, generator(1)).expand(4000, -1, -1)
    law = process.conditional(missing, x)
    start = torch.randn(x.shape, generator=generator(2), dtype=torch.float64)
    *_, (t, last) = probability_flow(law.score, start, log_time_grid((1e-3, 8.0), 60))
    a = float(alpha(torch.tensor(t, dtype=torch.float64)))
    found = last[:, missing]
    expected = (a**2 * law.variance + 1 - a**2)[missing]
    assert torch.allclose(found.mean(dim=0), a * law.mean[0, missing], atol=5 * float((expected.max() / 4000).sqrt()))
    assert torch.allclose(found.var(dim=0), expected, rtol=5 * (2 / 4000) ** 0.5)


def test_the_ellipsoid_is_that_of_the_chi_square_law():
    process = make(4, 1, KERNELS[0])
    x = process.sample(1, generator())
    law = process.conditional(torch.tensor([False, True, True, False]), x)
    values, vectors = torch.linalg.eigh(law.covariance[0] / 1)
    radius = float(stats.chi2.ppf(0.95, 2)) ** 0.5
    for k in range(2):
        step = torch.zeros(1, 4, 1, dtype=torch.float64)
        step[0, 1:3, 0] = vectors[:, k] * values[k].sqrt() * radius
        assert bool(law.inside(law.mean + 0.999 * step)) and not bool(law.inside(law.mean + 1.001 * step))


def test_bad_input():
    process = make(4, 2, KERNELS[0])
    x = process.sample(2, generator())
    mask = torch.tensor([True, False, False, True])
    for missing, observed, said in (
        (mask.float(), x, "missing: float32 of shape (4,) is not accepted; accepted: bool of shape (4,) or (4, 2)"),
        (mask[:3], x, "missing: bool of shape (3,)"),
        (mask, x[0], "observed: shape (4, 2) is not accepted; accepted: (batch, 4, 2)"),
        (mask, torch.full_like(x, torch.nan), "observed: has NaN"),
    ):
        with pytest.raises(InputError) as refused:
            Conditional(process, missing, observed)
        assert str(refused.value).startswith(said)
    law = process.conditional(mask, x)
    for call, said in (
        (lambda: law.score(x[:1], 0.1), "x: shape (1, 4, 2)"),
        (lambda: law.score(x, 0.0), "t: 0 is not accepted"),
        (lambda: law.intervals(1.0), "level: 1.0 is not accepted"),
        (lambda: law.sample(0), "n: 0 is not accepted"),
    ):
        with pytest.raises(InputError) as refused:
            call()
        assert str(refused.value).startswith(said)
    smooth = GaussianProcess(60, KERNELS[2], [[1.0]])  # a Gaussian kernel: 50 frames at lengthscale 8 are dependent
    with pytest.raises(InputError, match="observed: the covariance of these values is singular"):
        smooth.conditional(torch.arange(60) > 50, smooth.sample(1, generator()))
