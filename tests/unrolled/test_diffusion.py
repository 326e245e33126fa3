"""The forward process, the loss and the samplers against closed forms for Gaussian data."""

import itertools
import math

import pytest
import torch

from tests.builders import generator
from unrolled import (
    add_noise,
    alpha,
    denoising_loss,
    log_time_grid,
    probability_flow,
    relative_error,
    reverse_sde,
    sigma,
)


def test_alpha_and_sigma_keep_their_digits():
    for t in (1e-12, 1e-3, 1.0, 30.0):
        assert sigma(t) ** 2 == pytest.approx(-math.expm1(-t), rel=1e-15)
        assert float(sigma(torch.tensor(t, dtype=torch.float64))) == pytest.approx(sigma(t), rel=1e-15)
        assert alpha(t) ** 2 + sigma(t) ** 2 == pytest.approx(1, rel=1e-15)


def test_noising_has_the_forward_law(small_process):
    """Mean squared entry of X_t - alpha mu is alpha^2 tr(Gamma) tr(Sigma) + sigma^2 N d over N d."""
    n, t = 20000, 0.4
    x = add_noise(small_process.sample(n, generator()), t, torch.randn(n, 8, 2, generator=generator(1)).double())
    energy = (x - math.exp(-t / 2) * small_process.mean).square().sum(dim=(1, 2))
    covariance = small_process.noisy_covariance(t)
    standard_error = math.sqrt(2 * float(covariance.square().sum()) / n)  # var of a Gaussian quadratic form is 2 tr C^2
    assert abs(float(energy.mean()) - float(covariance.trace())) < 4.5 * standard_error


@pytest.mark.parametrize("t", [0.02, 0.5, 3.0])
def test_exact_score_has_the_smallest_denoising_loss(small_process, t):
    """E|sigma s + eps|^2 = N d - sigma^2 tr(C_t^-1) for the exact score; scaling the score raises it."""
    n = 20000
    x0 = small_process.sample(n, generator())
    noise = torch.randn(x0.shape, generator=generator(1), dtype=torch.float64)
    losses = {
        scale: denoising_loss(lambda x, time, c=scale: c * small_process.score(x, time), x0, t, noise)
        for scale in (0.9, 1.0, 1.1)
    }
    expected = 1 - sigma(t) ** 2 * float(torch.linalg.inv(small_process.noisy_covariance(t)).trace()) / 16
    standard_error = float(losses[1.0].std()) / math.sqrt(n)
    assert abs(float(losses[1.0].mean()) - expected) < 4.5 * standard_error
    for scale in (0.9, 1.1):
        # E|c a + b|^2 grows by (1-c)^2 E|sigma s|^2, E|sigma s|^2 = sigma^2 tr(C_t^-1); compare on common noise.
        growth = losses[scale] - losses[1.0]
        assert abs(float(growth.mean()) - 0.01 * (1 - expected)) < 4.5 * float(growth.std()) / math.sqrt(n)


def test_times_per_sequence_equal_scalar_times(small_process):
    x0, noise = small_process.sample(3, generator()), small_process.sample(3, generator(1))
    times = torch.tensor([0.01, 0.3, 2.0], dtype=torch.float64)
    losses = denoising_loss(small_process.score, x0, times, noise)
    for k, t in enumerate(times):
        one = denoising_loss(small_process.score, x0[k : k + 1], float(t), noise[k : k + 1])
        assert float(losses[k]) == pytest.approx(float(one), rel=1e-12)


def test_relative_error():
    truth = torch.tensor([3.0, 4.0])
    assert relative_error(torch.tensor([3.0, 4.5]), truth) == pytest.approx(0.1)
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0


def transported(process, x, t_from: float, t_to: float) -> torch.Tensor:
    """The probability flow of a Gaussian in closed form: along an eigenvector of C, x - alpha mu scales like
    sqrt(C_t)."""
    eigenvalues, vectors = torch.linalg.eigh(process.noisy_covariance(1.0))
    clean = (eigenvalues - sigma(1.0) ** 2) / alpha(1.0) ** 2
    at = {t: alpha(t) ** 2 * clean + sigma(t) ** 2 for t in (t_from, t_to)}
    centred = (x - alpha(t_from) * process.mean).flatten(1)
    moved = (centred @ vectors) * (at[t_to] / at[t_from]).sqrt() @ vectors.T
    return moved.reshape(x.shape) + alpha(t_to) * process.mean


def test_probability_flow_is_second_order(small_process):
    x = torch.randn(5, 8, 2, generator=generator(), dtype=torch.float64)
    expected = transported(small_process, x, 6.0, 0.01)
    errors = []
    for steps in (40, 80, 160):
        states = list(probability_flow(small_process.score, x, log_time_grid((0.01, 6.0), steps)))
        assert len(states) == steps + 1 and states[-1][0] == 0.01
        errors.append(relative_error(states[-1][1], expected))
    assert errors[2] < 1e-3
    for coarse, fine in itertools.pairwise(errors):
        assert 3.3 < coarse / fine < 5.0  # 4 for a second-order method, up to the next order


def sde_law(process, grid: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of what `reverse_sde` generates with the exact score: every step is affine in x."""
    size = process.length * process.dim
    mean, covariance = torch.zeros(size, dtype=torch.float64), torch.eye(size, dtype=torch.float64)
    for t, t_next in itertools.pairwise(grid):
        h = t - t_next
        inverse = torch.linalg.inv(process.noisy_covariance(t))
        step = math.exp(h / 2) * torch.eye(size) - 2 * math.expm1(h / 2) * inverse
        mean = step @ mean + 2 * math.expm1(h / 2) * inverse @ (alpha(t) * process.mean.flatten())
        covariance = step @ covariance @ step.T + math.expm1(h) * torch.eye(size)
    return mean, covariance


def test_reverse_sde_has_the_law_of_its_recursion(small_process):
    grid = log_time_grid((0.05, 6.0), 25)
    x = torch.randn(6000, 8, 2, generator=generator(), dtype=torch.float64)
    *_, (t, x) = reverse_sde(small_process.score, x, grid, generator(1))
    assert t == 0.05
    mean, covariance = sde_law(small_process, grid)
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (x.flatten(1) - mean).T, upper=False)
    count = whitened.numel()
    assert abs(float(whitened.square().sum()) - count) < 4.5 * math.sqrt(2 * count)
    assert abs(float(whitened.sum())) < 4.5 * math.sqrt(count)


def test_reverse_sde_tends_to_the_data(small_process):
    """First order: the covariance of the recursion approaches C_t0 as steps double, up to what starting at N(0, I)
    costs."""
    target = small_process.noisy_covariance(0.05)
    errors = [
        float((sde_law(small_process, log_time_grid((0.05, 12.0), steps))[1] - target).norm() / target.norm())
        for steps in (100, 200, 400)
    ]
    for coarse, fine in itertools.pairwise(errors):
        assert 1.7 < coarse / fine < 2.3


@pytest.mark.parametrize("arguments", [((0.0, 1.0), 4), ((2.0, 1.0), 4), ((0.1, 1.0), 0)])
def test_bad_grid(arguments):
    with pytest.raises(ValueError, match="^(t_range|steps): "):
        log_time_grid(*arguments)
