"""Exact scores of latent processes, against Gaussian processes, Monte Carlo means and each other."""

import numpy as np
import pytest
import torch

from tests.builders import generator
from unrolled import Exponential, GaussianProcess, InputError, denoising_loss, sigma
from unrolled.evaluate import EVALUATION_TIMES
from unrolled.synthetic.drawn import DrawnData
from unrolled.synthetic.latent import FunctionOfOU, RegimeSwitch, bend, chain_covariance, changing_lengthscale

N, D = 6, 2
OU = GaussianProcess(N, Exponential(3), torch.eye(D, dtype=torch.float64))


@pytest.mark.parametrize("t", [0.004, *EVALUATION_TIMES])
def test_identity_of_a_chain_has_the_score_of_the_gaussian_process(t):
    """Rounding where t is small; where it is large the ends of the grid, beyond which lie 2e-9 of the law, show."""
    x = OU.noisy(4, t, generator())
    exact = OU.score(x, t)
    found = FunctionOfOU(N, D, 3.0, lambda z: z).score(x, t)
    assert float((found - exact).abs().max() / exact.abs().max()) < (1e-11 if t < 1 else 2e-6)


@pytest.mark.parametrize("source", [FunctionOfOU(4, 2, 3.0), RegimeSwitch(4, 2, 8.0, 0.5)])
def test_each_sequence_may_have_its_own_time(source):
    x = source.sample(3, generator())
    times = torch.tensor([0.01, 0.3, 2.0], dtype=torch.float64)
    each = torch.cat([source.score(part[None], float(t)) for part, t in zip(x, times, strict=True)])
    torch.testing.assert_close(source.score(x, times), each, rtol=1e-12, atol=1e-12)
    assert source.score(x.float(), 0.3).dtype == torch.float32


def test_a_switch_between_equal_lengthscales_is_no_switch():
    x = OU.noisy(4, 0.2, generator())
    torch.testing.assert_close(RegimeSwitch(N, D, 3.0, 3.0).score(x, 0.2), OU.score(x, 0.2), rtol=0, atol=1e-12)


def mean_of_x0(source, x: torch.Tensor, t: float, count: int = 400_000) -> torch.Tensor:
    """E[X_0 | X_t = x] by sequences of the prior, weighed by how likely they make x."""
    x0 = source.sample(count, generator(1))
    log_weight = -((x - np.exp(-t / 2) * x0) ** 2).sum(dim=(1, 2)) / (2 * sigma(t) ** 2)
    return torch.einsum("n,nia->ia", log_weight.softmax(dim=0), x0)


@pytest.mark.parametrize("source", [FunctionOfOU(4, 1, 3.0), RegimeSwitch(4, 1, 8.0, 0.5)])
@pytest.mark.parametrize("t", [0.5, 2.0])
def test_scores_are_posterior_means(source, t):
    """Tweedie's formula, with the mean by importance sampling, whose error is about 1e-2 with these many sequences."""
    x0 = source.sample(1, generator(3))
    x = np.exp(-t / 2) * x0 + sigma(t) * torch.randn(x0.shape, generator=generator(4), dtype=torch.float64)
    mean = (x[0] + sigma(t) ** 2 * source.score(x, t)[0]) / np.exp(-t / 2)
    assert float((mean - mean_of_x0(source, x[0], t)).abs().max()) < 0.03


@pytest.mark.parametrize("source", [FunctionOfOU(8, 1, 4.0), RegimeSwitch(8, 2, 16.0, 0.3)])
def test_exact_score_has_a_lower_loss_than_the_best_affine_one(source):
    """Paired over 2000 sequences, by more than five standard errors: these data are not Gaussian."""
    x0, t = source.sample(2000, generator()), 0.2
    noise = torch.randn(x0.shape, generator=generator(1), dtype=torch.float64)
    gain = denoising_loss(source.gaussian().score, x0, t, noise) - denoising_loss(source.score, x0, t, noise)
    assert float(gain.mean()) > 5 * float(gain.std()) / 2000**0.5


def test_chains_have_their_covariance():
    """Of 20000 chains, each entry within five standard errors; the clock of a lengthscale that changes."""
    covariance = chain_covariance(torch.tensor([1.0, 4.0, 2.0]))
    expected = torch.tensor([1.0, np.exp(-1), np.exp(-1.25), np.exp(-1.75)], dtype=torch.float64)
    torch.testing.assert_close(covariance[0], expected, rtol=0, atol=1e-15)
    switch = RegimeSwitch(5, 1, 8.0, 0.5)
    x = switch.sample(20_000, generator())[..., 0]
    assert float((x.T @ x / len(x) - switch.gaussian().temporal_covariance).abs().max()) < 5 * (2 / 20_000) ** 0.5
    process = changing_lengthscale(5, 2, 8.0, 1.0)
    assert float(process.temporal_covariance[0, 1]) == pytest.approx(np.exp(-1 / 8))
    assert float(process.temporal_covariance[3, 4]) == pytest.approx(np.exp(-1))


@pytest.mark.parametrize("source", [FunctionOfOU(5, 2, 3.0), RegimeSwitch(5, 2, 8.0, 0.5)])
def test_known_moments_are_those_of_samples(source):
    """Of 20000 chains, each entry of the covariance within five standard errors."""
    x = source.sample(10_000, generator())
    products = torch.einsum("nia,nja->nij", x, x) / 2
    error = products.std(dim=0) / 10_000**0.5
    assert bool(((products.mean(dim=0) - source.gaussian().temporal_covariance).abs() < 5 * error).all())


def test_moments_of_the_identity_are_those_of_the_chain():
    found = FunctionOfOU(N, D, 3.0, lambda z: z).gaussian().temporal_covariance
    torch.testing.assert_close(found, OU.temporal_covariance, rtol=0, atol=1e-12)


def test_functions_are_standardised():
    y = FunctionOfOU(2, 1, 4.0).observed(torch.randn(200_000, generator=generator(), dtype=torch.float64))
    assert abs(float(y.mean())) < 5 / 200_000**0.5 and float(y.var()) == pytest.approx(1, abs=0.02)
    assert float(bend(torch.tensor(0.0))) == 1.0


def test_drawn_data_has_the_moments_of_what_is_drawn():
    spatial = [[1.0, 0.3], [0.3, 0.5]]
    process = GaussianProcess(N, Exponential(3), spatial, mean=torch.ones(N, 2))
    found = DrawnData(N, 2, process.sample).gaussian()
    for name in ("temporal_covariance", "mean"):
        assert float((getattr(found, name) - getattr(process, name)).abs().max()) < 0.1
    whole = torch.kron(found.temporal_covariance, found.spatial_covariance)
    exact = torch.kron(process.temporal_covariance, process.spatial_covariance)
    assert float((whole - exact).norm() / exact.norm()) < 0.1


def test_bad_sizes_are_named():
    for make in (
        lambda: DrawnData(0, 1, OU.sample), lambda: RegimeSwitch(2, 1, 1.0, 1.0), lambda: FunctionOfOU(1, 1, 1.0),
        lambda: changing_lengthscale(1, 1, 1.0, 1.0),
    ):  # fmt: skip
        with pytest.raises(InputError, match="^length: "):
            make()
    with pytest.raises(InputError, match="^x: shape"):
        RegimeSwitch(3, 1, 1.0, 2.0).score(torch.zeros(2, 4, 1), 0.1)
