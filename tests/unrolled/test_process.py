"""The exact score and the exact sampler against dense linear algebra."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from scipy import stats

from tests.builders import generator
from unrolled import (
    Exponential,
    GaussianProcess,
    Logarithmic,
    Matern,
    Polynomial,
    RoughPolynomial,
    random_spatial_covariance,
)
from unrolled.circulant import CIRCULANT_TOLERANCE, CirculantSampler

EPS = torch.finfo(torch.float64).eps
KERNELS = [
    Exponential(8), Exponential(8, 0.5), Exponential(8, 2), Polynomial(4, 1), RoughPolynomial(4, 1), Logarithmic(4, 1),
    Matern(4, 0.5),
    Matern(8, 2.5),
]  # fmt: skip


def make(length: int, dim: int, kernel, seed: int = 0, mean: bool = True) -> GaussianProcess:
    spatial = random_spatial_covariance(dim, generator=generator(seed))
    shift = torch.randn(length, dim, generator=generator(seed + 1), dtype=torch.float64) if mean else None
    return GaussianProcess(length, kernel, spatial, shift)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("length", [1, 2, 7, 64])
@pytest.mark.parametrize("dim", [1, 3])
def test_score_is_the_dense_solve(kernel, length, dim):
    """Relative error at most 20 eps kappa_t: a backward stable solve leaves a small multiple of eps kappa."""
    process = make(length, dim, kernel)
    for t in (1e-6, 1e-3, 0.1, 1.0, 8.0, 40.0):
        x = torch.randn(5, length, dim, generator=generator(2), dtype=torch.float64)
        centred = (x - math.exp(-t / 2) * process.mean).flatten(1)
        expected = -torch.linalg.solve(process.noisy_covariance(t), centred.T).T
        error = (process.score(x, t).flatten(1) - expected).norm(dim=1) / expected.norm(dim=1)
        assert float(error.max()) <= 20 * EPS * process.condition_number(t)


def test_score_is_the_gradient_of_the_log_density(small_process):
    """An oracle without any solve in common: autograd through torch's own Gaussian."""
    x = torch.randn(3, 8, 2, generator=generator(), dtype=torch.float64, requires_grad=True)
    for t in (0.05, 1.0):
        mean = (math.exp(-t / 2) * small_process.mean).flatten()
        law = torch.distributions.MultivariateNormal(mean, small_process.noisy_covariance(t))
        (gradient,) = torch.autograd.grad(law.log_prob(x.flatten(1)).sum(), x)
        torch.testing.assert_close(small_process.score(x.detach(), t), gradient, rtol=1e-10, atol=1e-10)


def test_score_takes_a_time_per_sequence_and_keeps_the_dtype(small_process):
    x = torch.randn(4, 8, 2, generator=generator())
    times = torch.tensor([0.01, 0.1, 1.0, 5.0])
    together = small_process.score(x, times)
    assert together.dtype == torch.float32
    for k, t in enumerate(times):
        assert torch.equal(together[k : k + 1], small_process.score(x[k : k + 1], t))


def test_condition_number_is_that_of_the_dense_matrix(small_process):
    for t in (0.01, 1.0):
        eigenvalues = torch.linalg.eigvalsh(small_process.noisy_covariance(t))
        assert small_process.condition_number(t) == pytest.approx(float(eigenvalues[-1] / eigenvalues[0]), rel=1e-12)


def test_noisy_covariance_is_row_major(small_process):
    """vec(Gamma S Sigma) = (Gamma kron Sigma) vec(S), frames first."""
    s = torch.randn(8, 2, generator=generator(), dtype=torch.float64)
    product = math.exp(-0.3) * small_process.temporal_covariance @ s @ small_process.spatial_covariance
    dense = small_process.noisy_covariance(0.3) @ s.flatten()
    torch.testing.assert_close(dense.reshape(8, 2), product - math.expm1(-0.3) * s, rtol=1e-13, atol=1e-13)


def covariance_p_value(samples: torch.Tensor, mean: torch.Tensor, covariance: torch.Tensor) -> float:
    """Exact test that samples are N(mean, covariance), by the trace of the whitened sample covariance and by the sum of
    squared projections on random directions; both are chi-square. Returns the smaller two-sided p-value, doubled."""
    flat = (samples - mean).flatten(1)
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), flat.T, upper=False)
    size = whitened.numel()
    total = float(whitened.square().sum())
    direction = torch.randn(flat.shape[1], generator=generator(9), dtype=torch.float64)
    one = float((flat @ direction).square().sum() / (direction @ covariance @ direction))
    p_values = [
        2 * min(law.cdf(value), law.sf(value))
        for law, value in ((stats.chi2(size), total), (stats.chi2(len(flat)), one))
    ]
    return 2 * min(p_values)


@pytest.mark.parametrize(
    "kernel", [Exponential(4), Exponential(4, 0.5), Polynomial(4, 1), Logarithmic(4, 1), Matern(2, 1.5)], ids=str
)
def test_samples_have_the_covariance(kernel):
    """With a fixed seed this passes or fails for good; at the 1e-4 level a right sampler fails one seed in 10^4."""
    process = make(24, 3, kernel)
    truth = torch.kron(process.temporal_covariance, process.spatial_covariance)
    samples = process.sample(3000, generator(5))
    assert samples.shape == (3000, 24, 3) and samples.dtype == torch.float64
    assert covariance_p_value(samples, process.mean, truth) > 1e-4


def test_the_covariance_test_can_fail():
    process, other = make(24, 3, Exponential(4)), make(24, 3, Exponential(4.5))
    truth = torch.kron(process.temporal_covariance, process.spatial_covariance)
    assert covariance_p_value(other.sample(3000, generator(5)), process.mean, truth) < 1e-4


@pytest.mark.parametrize("kernel", [Exponential(4), Matern(5, 0.5), Exponential(6, 2), Polynomial(2, 4)], ids=str)
def test_circulant_samples_have_the_covariance(kernel):
    length = 40
    sampler = CirculantSampler(kernel, length)
    samples = sampler(4001, 1, generator(1))
    # A little noise keeps the smooth kernels' matrix invertible; it is added to both sides.
    noise = 0.05 * torch.randn(samples.shape, generator=generator(2), dtype=torch.float64)
    truth = kernel.matrix(length) + 0.05**2 * torch.eye(length)
    assert covariance_p_value(samples + noise, torch.zeros(1, dtype=torch.float64), truth) > 1e-4


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_circulant_error_is_the_error(kernel):
    """The covariance implied by the clipped spectrum differs from gamma by what the sampler says, at every lag."""
    length = 600
    try:
        sampler = CirculantSampler(kernel, length)
    except ValueError as error:
        assert isinstance(kernel, Polynomial | Logarithmic), error
        return
    implied = torch.fft.ifft(sampler.root**2).real[:length]
    deviation = float((implied - kernel(torch.arange(length))).abs().max())
    assert deviation == pytest.approx(sampler.covariance_error, abs=1e-14)
    assert sampler.covariance_error <= CIRCULANT_TOLERANCE * float(sampler.root.max()) ** 2
    if isinstance(kernel, Exponential | Matern) and kernel != Exponential(8, 2) and kernel != Matern(8, 2.5):
        assert sampler.covariance_error == 0


@pytest.mark.parametrize("kernel", [Exponential(100), Exponential(5, 0.5), Matern(50, 0.5)], ids=str)
def test_long_sequences_take_linear_memory(kernel):
    length = 2**17
    process = GaussianProcess(length, kernel, torch.eye(4))
    tracemalloc.start()
    x = process.sample(1, generator())
    tracemalloc.stop()
    assert x.shape == (1, length, 4) and process.sampler.method == "circulant"
    assert process.sampler.covariance_error == 0
    # Neighbouring products average to gamma(1), 4 columns: the standard error is below sqrt(2 * 4 range / (4 N)).
    lag_one = float((x[0, 1:] * x[0, :-1]).mean())
    correlation_range = float(kernel(torch.arange(length)).square().sum() * 2)
    assert abs(lag_one - float(kernel(1))) < 6 * math.sqrt(correlation_range / (4 * length))
    with pytest.raises(ValueError, match="length: 131072"):
        _ = process.temporal_covariance


def test_long_sequence_without_embedding_is_refused(monkeypatch):
    monkeypatch.setattr("unrolled.circulant.CIRCULANT_LENGTH", 2**15)  # the real limit takes a second to reach
    with pytest.raises(ValueError, match=r"length: .*accepted: a length <= 4096"):
        GaussianProcess(5000, Polynomial(400, 1), torch.eye(1)).sample(1)
    assert GaussianProcess(600, Polynomial(4000, 1), torch.eye(1)).sampler.method == "factor"


def test_own_covariance_matrix(small_process):
    """A matrix that is no kernel: samples and score come from it as given."""
    root = torch.randn(6, 6, generator=generator(), dtype=torch.float64)
    own = root @ root.T
    process = GaussianProcess(6, own, [[2.0, 0.5], [0.5, 1.0]])
    assert torch.equal(process.temporal_covariance, (own + own.T) / 2)
    samples = process.sample(4000, generator(1))
    truth = torch.kron(process.temporal_covariance, process.spatial_covariance)
    assert covariance_p_value(samples, process.mean, truth) > 1e-4


def test_samples_follow_the_generator(small_process):
    a, b, c = (small_process.sample(3, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_state_round_trip(small_process):
    again = GaussianProcess.from_state(small_process.state())
    assert torch.equal(again.sample(2, generator()), small_process.sample(2, generator()))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"length": 0}, "length"),
        ({"spatial": [[1.0, 0.2], [0.1, 1.0]]}, "spatial"),
        ({"spatial": [[1.0, 2.0], [2.0, 1.0]]}, "spatial"),
        ({"spatial": [[1.0, 1.0], [1.0, 1.0]]}, "spatial"),
        ({"spatial": [[math.nan]]}, "spatial"),
        ({"spatial": torch.ones(2, 3)}, "spatial"),
        ({"temporal": torch.eye(5)}, "temporal"),
        ({"temporal": [[1.0, 2.0], [2.0, 1.0]], "length": 2}, "temporal"),
        ({"mean": torch.zeros(3, 2)}, "mean"),
        ({"mean": torch.full((8, 2), math.inf)}, "mean"),
    ],
)
def test_bad_input_is_named(arguments, named):
    given = {"length": 8, "temporal": Exponential(2), "spatial": torch.eye(2), **arguments}
    with pytest.raises(ValueError, match=f"^{named}: "):
        GaussianProcess(**given)


@pytest.mark.parametrize("t", [0.0, -1.0, math.nan, math.inf])
def test_score_needs_a_positive_time(small_process, t):
    with pytest.raises(ValueError, match="^t: "):
        small_process.score(torch.zeros(1, 8, 2), t)
    with pytest.raises(ValueError, match="^t: "):
        small_process.score(torch.zeros(2, 8, 2), torch.tensor([1.0, t]))


def test_score_needs_matching_shapes(small_process):
    with pytest.raises(ValueError, match="^x: shape"):
        small_process.score(torch.zeros(1, 8, 3), 1.0)
    with pytest.raises(ValueError, match="^t: shape"):
        small_process.score(torch.zeros(2, 8, 2), torch.ones(3))


def test_random_spatial_covariance_is_as_conditioned_as_asked():
    matrix = random_spatial_covariance(5, 37.0, generator(4))
    eigenvalues = np.linalg.eigvalsh(matrix.numpy())
    assert eigenvalues[-1] / eigenvalues[0] == pytest.approx(37, rel=1e-12) and matrix.trace() == pytest.approx(5)
