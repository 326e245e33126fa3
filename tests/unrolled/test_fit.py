"""Fitted baselines are their formulas, their errors fall as theory says, and their checkpoints go everywhere."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import optimize, stats

from tests.builders import generator, make, noisy
from unrolled import (
    EmpiricalScore,
    Exponential,
    GaussianProcess,
    GaussianScore,
    InputError,
    Matern,
    Polynomial,
    RoughPolynomial,
    SeriesData,
    alpha,
    draw_training_set,
    expected_score_error,
    fit_model,
    relative_error,
    score_errors,
    sigma,
)
from unrolled.fit.kronecker import least_samples
from unrolled.fit.moments import moments, shrunk_covariance, visible_directions

TIMES = (0.01, 0.2, 3.0)


def dense_score(x: torch.Tensor, t: float, mean: np.ndarray, covariance: np.ndarray) -> torch.Tensor:
    """-(alpha^2 C + sigma^2 I)^{-1} (x - alpha m) by numpy's solver."""
    noisy_covariance = math.exp(-t) * covariance + (1 - math.exp(-t)) * np.eye(len(covariance))
    rows = x.flatten(1).numpy() - math.exp(-t / 2) * mean.reshape(-1)
    return torch.as_tensor(-np.linalg.solve(noisy_covariance, rows.T).T).reshape(x.shape)


def assert_is_score(model, process: GaussianProcess, mean: np.ndarray, covariance: np.ndarray) -> None:
    for t in TIMES:
        x = noisy(process, t, 5)
        assert relative_error(model(x, t), dense_score(x, t, mean, covariance)) < 1e-10


@pytest.fixture(scope="module")
def process() -> GaussianProcess:
    """6 frames of 2 values with a mean."""
    return make(6, 2, Exponential(3))


@pytest.fixture(scope="module")
def sequences(process) -> torch.Tensor:
    return draw_training_set(process, 40, 0)


# ---------------------------------------------------------------------------------------------------- Gaussian kinds


@pytest.mark.parametrize("n", [2, 7, 40])
def test_sample_covariance_is_that_of_numpy(process, sequences, n):
    """Also where it is singular, with fewer sequences than values."""
    rows = sequences[:n].flatten(1).numpy()
    model = fit_model("sample-covariance", sequences[:n]).model
    assert_is_score(model, process, rows.mean(axis=0), np.cov(rows.T, bias=True))


def test_affine_is_the_wiener_denoiser_of_the_shrunk_covariance(process, sequences):
    """Tweedie: alpha E[X_0 | x] = x + sigma^2 score(x), and E[X_0 | x] = m + alpha C (alpha^2 C + sigma^2 I)^{-1}
    (x - alpha m), with the definition of the intensity written out sum by sum."""
    rows = sequences.flatten(1).numpy()
    mean, n, p = rows.mean(axis=0), *rows.shape
    s = np.cov(rows.T, bias=True)
    noise = sum(np.sum((np.outer(row, row) - s) ** 2) for row in rows - mean) / n**2
    intensity = min(noise / np.sum((s - np.trace(s) / p * np.eye(p)) ** 2), 1.0)
    shrunk = (1 - intensity) * s + intensity * np.trace(s) / p * np.eye(p)
    fitted = fit_model("affine", sequences)
    assert fitted.facts["shrinkage"] == pytest.approx(intensity, rel=1e-10) and 0.01 < intensity < 0.99
    assert_is_score(fitted.model, process, mean, shrunk)
    t = 0.3
    x = noisy(process, t)
    denoised = (x + sigma(t) ** 2 * fitted.model(x, t)) / alpha(t)
    gain = alpha(t) * shrunk @ np.linalg.inv(alpha(t) ** 2 * shrunk + sigma(t) ** 2 * np.eye(p))
    wiener = mean + (x.flatten(1).numpy() - alpha(t) * mean) @ gain.T
    assert relative_error(denoised, torch.as_tensor(wiener).reshape(x.shape)) < 1e-10


def test_affine_does_better_than_the_sample_covariance_where_sequences_are_few(process, sequences):
    for n in (5, 10):
        models = [fit_model(kind, sequences[:n]).model for kind in ("affine", "sample-covariance")]
        affine, sample = (score_errors(model, process, [0.01], 64, dtype=torch.float64)[0.01] for model in models)
        assert affine < sample


def flip_flop_of_numpy(rows: np.ndarray, sweeps: int, start: np.ndarray) -> np.ndarray:
    """Gamma (x) Sigma by the textbook sums over sequences, beginning with Gamma, from a given Sigma."""
    n, length, dim = rows.shape
    centred, spatial = rows - rows.mean(axis=0), start
    for _ in range(sweeps):
        inverse = np.linalg.inv(spatial)
        temporal = sum(x @ inverse @ x.T for x in centred) / (n * dim)
        inverse = np.linalg.inv(temporal)
        spatial = sum(x.T @ inverse @ x for x in centred) / (n * length)
    return np.kron(temporal, spatial)


def test_kronecker_is_the_fixed_point_that_numpy_finds_from_another_start(process, sequences):
    rows = sequences.numpy()
    fitted = fit_model("kronecker", sequences)
    assert isinstance(fitted.model, GaussianScore)
    law = fitted.model.process
    assert float(law.spatial_covariance.trace()) == pytest.approx(process.dim, rel=1e-12)
    dense = flip_flop_of_numpy(rows, 200, np.diag([1.0, 9.0]))
    assert_is_score(fitted.model, process, rows.mean(axis=0), dense)


def test_kronecker_maximises_the_likelihood(sequences):
    """No disturbance of either factor is more likely, judged by scipy's density."""
    law = fit_model("kronecker", sequences).model.process
    rows, mean = sequences.flatten(1).numpy(), law.mean.flatten().numpy()
    gamma, spatial = law.temporal_covariance.numpy(), law.spatial_covariance.numpy()

    def likelihood(a: np.ndarray, b: np.ndarray) -> float:
        return float(stats.multivariate_normal(mean, np.kron(a, b)).logpdf(rows).sum())

    best, rng = likelihood(gamma, spatial), np.random.default_rng(0)
    for size in (1e-3, 1e-1):
        for _ in range(10):
            a, b = (np.eye(len(m)) + size * rng.normal(size=m.shape) for m in (gamma, spatial))
            assert likelihood(a @ gamma @ a.T, spatial) < best
            assert likelihood(gamma, b @ spatial @ b.T) < best


def test_kronecker_of_single_values_is_the_sample_covariance():
    process = make(5, 1, Exponential(3))
    drawn = draw_training_set(process, least_samples(5, 1), 0)
    models = [fit_model(kind, drawn).model for kind in ("kronecker", "sample-covariance")]
    x = noisy(process, 0.1)
    assert relative_error(*(model(x, 0.1) for model in models)) < 1e-10


@pytest.mark.parametrize(
    ("length", "dim", "least"), [(32, 4, 10), (5, 1, 6), (4, 2, 4), (3, 2, 3), (2, 2, 4), (1, 1, 2)]
)
def test_least_samples(length, dim, least):
    """With m = n - 1 and r as in the docstring: 32 x 4 has r = 1, g = 4 at m = 8 and r < 0 at 9; 3 x 2 has r = 1, g = 1
    at m = 2; and so on."""
    assert least_samples(length, dim) == least


def test_with_fewer_sequences_the_likelihood_has_many_maxima():
    """4 x 2, n = 3: the limit depends on the start; with n = 4, the least, it does not."""
    rows = draw_training_set(make(4, 2, Exponential(3)), 4, 1).numpy()
    for n, unique in ((3, False), (4, True)):
        a, b = (flip_flop_of_numpy(rows[:n], 500, np.diag([1.0, s])) for s in (1.0, 9.0))
        difference = np.linalg.norm(a - b) / np.linalg.norm(a)
        assert difference < 1e-8 if unique else difference > 1e-2
    with pytest.raises(InputError, match=r"^samples: 3 is not accepted; accepted: an integer >= 4, which kronecker"):
        fit_model("kronecker", torch.as_tensor(rows[:3]))


@pytest.mark.parametrize(
    "kernel", [Exponential(3, 1.2), Polynomial(2, 1), RoughPolynomial(2, 1.5), Matern(3, 0.8)], ids=str
)
def test_kernel_is_the_maximum_that_another_optimiser_finds(kernel):
    """BFGS over the parameters and a Cholesky factor of Sigma, from the truth, with scipy's density.

    An optimum is flat to the root of the rounding of the likelihood, and parameters are known to 1e-5 or so, far better
    than 60 sequences know them.
    """
    process = make(6, 2, kernel)
    drawn = draw_training_set(process, 60, 0)
    rows, mean = drawn.flatten(1).numpy(), drawn.mean(dim=0).flatten().numpy()
    fitted = fit_model("kernel", drawn, temporal=kernel.name)
    found = [value for name, value in fitted.facts.items() if name != "kernel"]

    def covariance(logarithms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b, c = logarithms[2:]
        root = np.array([[math.exp(a), 0.0], [b, math.exp(c)]])
        gamma = type(kernel)(*np.exp(logarithms[:2]).tolist()).matrix(6).numpy()
        return np.kron(gamma, root @ root.T), root @ root.T

    def negative(logarithms: np.ndarray) -> float:
        return -float(stats.multivariate_normal(mean, covariance(logarithms)[0]).logpdf(rows).mean())

    parameters = [value for name, value in kernel.config().items() if name != "name"]
    root = np.linalg.cholesky(process.spatial_covariance.numpy())
    start = [*np.log(parameters), math.log(root[0, 0]), root[1, 0], math.log(root[1, 1])]
    best = optimize.minimize(negative, start, method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose(found, np.exp(best.x[:2]), rtol=1e-4)
    law = fitted.model.process
    np.testing.assert_allclose(law.spatial_covariance, covariance(best.x)[1], rtol=1e-4, atol=1e-6)
    dense = np.kron(type(kernel)(*found).matrix(6).numpy(), law.spatial_covariance.numpy())
    assert_is_score(fitted.model, process, mean, dense)


def test_kernel_of_smooth_frames_is_found_where_gamma_is_singular_to_rounding():
    """The RBF of lengthscale 6 on 16 frames has a condition number above 1e15, so that no inverse exists in float64.
    The directions that are left decide its lengthscale to better than 1 %."""
    process = make(16, 2, Exponential(6, 2))
    drawn = draw_training_set(process, 100, 0)
    assert visible_directions(moments(drawn)).shape[1] < 16
    found = fit_model("kernel", drawn).facts
    assert found["lengthscale"] == pytest.approx(6, rel=0.01) and found["power"] == pytest.approx(2, rel=0.01)
    assert fit_model("kronecker", drawn).facts["sweeps"] < 1000
    assert fit_model("kernel", drawn, temporal="matern").facts["smoothness"] > 10  # the limit is the RBF


@pytest.mark.parametrize("n", [2, 3, 10])
def test_singular_covariances_are_held_with_no_negative_eigenvalue(n):
    """Windows of a random walk, whose covariance has one large eigenvalue and N d - n + 1 that are 0 to rounding."""
    walk = torch.randn(500, 4, generator=generator(), dtype=torch.float64).cumsum(dim=0)
    drawn = draw_training_set(SeriesData([walk], 32), n, 0)
    held = fit_model("sample-covariance", drawn).model.temporal
    covariance = torch.cov(drawn.flatten(1).T, correction=0)
    assert float(torch.linalg.eigvalsh(held)[0]) > 0
    assert float((held - covariance).norm() / covariance.norm()) < 1e-13


def test_models_accept_their_times_and_shapes_alone(sequences):
    for kind in ("affine", "empirical"):
        model = fit_model(kind, sequences, t_range=(0.01, 2.0)).model
        for t in (0.009, 2.1, float("nan")):
            with pytest.raises(InputError, match="^t: "):
                model(sequences, t)
        with pytest.raises(InputError, match="^x: "):
            model(sequences[:, :5], 0.1)
        single = model(sequences.float(), torch.full((40,), 0.1))
        assert single.dtype == torch.float32
        assert relative_error(single, model(sequences, 0.1)) < 1e-5


# --------------------------------------------------------------------------------------------------- error against n


def squared_excess(model: GaussianScore, process: GaussianProcess, t: float) -> float:
    """E|s_n - s|^2 over x ~ p_t, exactly: with A, B the two matrices -C^{-1} it is |(A - B) C^{1/2}|^2 + |bias|^2."""
    c = process.noisy_covariance(t)
    law = model.process
    fitted, exact = torch.linalg.inv(law.noisy_covariance(t)), torch.linalg.inv(c)
    difference = fitted - exact
    bias = alpha(t) * fitted @ (law.mean - process.mean.reshape(-1, 1))
    return float(torch.trace(difference @ c @ difference) + bias.square().sum())


@pytest.mark.parametrize("kind", ["sample-covariance", "affine"])
def test_squared_error_falls_like_1_over_n_with_the_predicted_constant(kind):
    """The slope of log error against log n is -1 within its 99.9 % interval, and so is the constant.

    Both are asymptotic: the next term is of relative order p/n, at p = 6 below 1 % from n = 2000 on, and that much is
    added to the intervals: 0.01 to the constant, and the 0.01 spread over a factor 8 in n to the slope.
    """
    process, t = make(3, 2, Exponential(2)), 0.3
    sizes, repeats = (2000, 4000, 8000, 16000), 100
    log_ratio = np.empty((repeats, len(sizes)))
    for repeat, (k, n) in itertools.product(range(repeats), enumerate(sizes)):
        model = fit_model(kind, draw_training_set(process, n, 1000 * k + repeat)).model
        expected = expected_score_error(process, t, n) ** 2 * float((1 / process.eigenvalues(t)).sum())
        log_ratio[repeat, k] = squared_excess(model, process, t) / expected
    means = log_ratio.mean(axis=0)
    errors = log_ratio.std(axis=0, ddof=1) / math.sqrt(repeats)
    quantile = stats.norm.isf(0.0005)
    assert np.all(np.abs(means - 1) < quantile * errors + 0.01)
    x = np.log(sizes) - np.log(sizes).mean()
    slope = -1 + float(x @ np.log(means)) / float(x @ x)
    width = quantile * math.sqrt(float(x**2 @ (errors / means) ** 2)) / float(x @ x)
    assert abs(slope + 1) < width + 0.01 / math.log(8) and width < 0.1


@pytest.mark.parametrize("t", [0.01, 0.3, 3.0])
def test_predicted_error_is_the_expectation_of_the_first_order(t):
    """E[D_ij D_kl] = (C_ik C_jl + C_il C_jk)/n of the clean covariance C, summed entry by entry."""
    process, n = make(3, 2, Exponential(2)), 7
    inverse = torch.linalg.inv(process.noisy_covariance(t))
    clean = torch.kron(process.temporal_covariance, process.spatial_covariance)
    fourth = torch.einsum("ik,jl->ijkl", clean, clean) + torch.einsum("il,jk->ijkl", clean, clean)
    k = alpha(t) ** 4 * torch.einsum("ai,ijkl,jk,la->", inverse, fourth, inverse, inverse)
    k = k + alpha(t) ** 2 * torch.trace(inverse @ clean @ inverse)
    assert expected_score_error(process, t, n) == pytest.approx(math.sqrt(float(k / inverse.trace()) / n), rel=1e-10)


def test_predicted_error_is_what_is_measured(process):
    """One fit at n = 20000 by `score_errors`: a squared error of p(p+1)/2 + p = 90 degrees of freedom or fewer scatters
    by about sqrt(2/20), with eigenvalues as uneven as these."""
    model = fit_model("sample-covariance", draw_training_set(process, 20_000, 0)).model
    for t, error in score_errors(model, process, [0.05, 1.0], dtype=torch.float64).items():
        assert error == pytest.approx(expected_score_error(process, t, 20_000), rel=0.5)


# ---------------------------------------------------------------------------------------------------- empirical kinds


def mixture_score(x: np.ndarray, known: np.ndarray, t: float) -> np.ndarray:
    """Gradient of the log density of the mixture at x (p,), with 60 digits: sum of densities times their gradients."""
    with mpmath.workdps(60):
        a, variance = mpmath.exp(-mpmath.mpf(t) / 2), -mpmath.expm1(-mpmath.mpf(t))
        density, gradient = mpmath.mpf(0), [mpmath.mpf(0)] * len(x)
        for row in known:
            difference = [a * mpmath.mpf(float(k)) - mpmath.mpf(float(v)) for k, v in zip(row, x, strict=True)]
            weight = mpmath.exp(-sum(value**2 for value in difference) / (2 * variance))
            density += weight
            gradient = [g + weight * value / variance for g, value in zip(gradient, difference, strict=True)]
        return np.array([float(g / density) for g in gradient])


@pytest.mark.parametrize("t", [1e-3, 0.01, 0.2, 1.0, 8.0])
def test_empirical_score_is_that_of_the_mixture(process, sequences, t):
    known = sequences[:6].flatten(1).numpy()
    x = noisy(process, t)
    direct = np.stack([mixture_score(row, known, t) for row in x.flatten(1).numpy()])
    score = EmpiricalScore.of(sequences[:6])(x, t)
    assert relative_error(score, torch.as_tensor(direct).reshape(x.shape)) < 1e-10


def test_empirical_score_is_the_gradient_of_the_log_density(process, sequences):
    t = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    x = noisy(process, 1.0).requires_grad_()
    means = alpha(t)[:, None, None, None] * sequences
    exponents = -(x[:, None] - means).square().sum(dim=(2, 3)) / (2 * sigma(t)[:, None] ** 2)
    (gradient,) = torch.autograd.grad(exponents.logsumexp(dim=1).sum(), x)
    assert relative_error(EmpiricalScore.of(sequences)(x, t).detach(), gradient) < 1e-10


def test_nearest_is_the_limit_of_empirical_and_the_nearest(process, sequences):
    """At t = 1e-4 the log weights are 1e4 times half the differences of squared distances, which are of order 1."""
    x = process.sample(8, generator(7))
    nearest = fit_model("nearest", sequences, t_range=(1e-5, 8.0)).model
    empirical = fit_model("empirical", sequences, t_range=(1e-5, 8.0)).model
    for t in TIMES:
        place = torch.cdist(x.flatten(1), alpha(t) * sequences.flatten(1)).argmin(dim=1)
        assert relative_error(nearest.denoise(x, t), sequences[place]) < 1e-14
    assert relative_error(empirical(x, 1e-4), nearest(x, 1e-4)) < 1e-12
    assert relative_error(empirical(x, 3.0), nearest(x, 3.0)) > 1e-2


def test_empirical_does_not_depend_on_the_order_nor_on_the_chunks(process, sequences, monkeypatch):
    x, order = noisy(process, 0.5, 9), torch.randperm(len(sequences), generator=generator())
    for nearest in (False, True):
        score = EmpiricalScore.of(sequences, nearest)(x, 0.5)
        assert relative_error(EmpiricalScore.of(sequences[order], nearest)(x, 0.5), score) < 1e-13
        with monkeypatch.context() as patch:
            patch.setattr("unrolled.models.empirical.CHUNK_WEIGHTS", 2 * len(sequences))
            assert relative_error(EmpiricalScore.of(sequences, nearest)(x, torch.full((9,), 0.5)), score) < 1e-13


def test_empirical_of_sequences_far_from_zero(process, sequences):
    """An offset of 1e6 costs the rounding of x and of the set, 1e6 eps, and not its square over sigma^2."""
    x, t, offset = noisy(process, 0.05, 9), 0.05, 1e6
    plain, moved = EmpiricalScore.of(sequences), EmpiricalScore.of(sequences + offset)
    eps = torch.finfo(torch.float64).eps
    # |x| |x_k| / sigma^2 is below 1e3 here: log weights change by 1e3 times the relative rounding.
    expected = plain.denoise(x, t) + offset
    assert float((moved.denoise(x + alpha(t) * offset, t) - expected).abs().max()) < 1e3 * offset * eps


# ------------------------------------------------------------------------------------------------------- training sets


def test_training_sets_are_a_function_of_the_seed_and_no_other_draw(process):
    drawn = draw_training_set(process, 32, 1)
    assert torch.equal(drawn, draw_training_set(process, 32, 1))
    others = [draw_training_set(process, 32, 2), process.sample(32, generator(1))]
    assert all(not torch.isclose(drawn, other).any(dim=0).all() for other in others)
    assert drawn.dtype == torch.float64 and drawn.shape == (32, 6, 2)
    for seed, n, named in ((-1, 4, "seed: -1"), (0, 0, "samples: 0")):
        with pytest.raises(InputError, match=f"^{named} "):
            draw_training_set(process, n, seed)


def test_training_sets_of_a_series_are_different_windows_of_its_training_part():
    data = SeriesData([torch.arange(100.0, dtype=torch.float64)[:, None] - 50], 10)
    windows = len(data.starts["train"])
    drawn = draw_training_set(data, windows, 0)
    assert len(drawn[:, 0, 0].unique()) == windows and float(drawn.max()) < 100 * 0.8 - 50
    with pytest.raises(InputError, match=rf"^samples: {windows + 1} "):
        draw_training_set(data, windows + 1, 0)


def test_shrinkage_is_that_of_scikit_learn():
    """The figures are what `sklearn.covariance.ledoit_wolf` of version 1.9.1 gives on the same matrix."""
    rows = np.sin(np.outer(np.arange(1, 13), np.arange(1, 7)) / 5)
    covariance, intensity = shrunk_covariance(torch.as_tensor(rows).reshape(12, 3, 2))
    assert intensity == pytest.approx(0.8459601479178364, rel=1e-12)
    entries = [covariance[0, 0], covariance[0, 1], covariance[5, 2]]
    np.testing.assert_allclose(entries, [0.3742694418925573, -0.007813910570812304, 0.010635679274582355], rtol=1e-12)
