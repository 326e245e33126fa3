"""The exact score over kernels, N, d, t and dtype, against a dense solve, with a budget from kappa and the dtype.

The budget: a solve by eigenvectors or by Cholesky factors is backward stable, so that its relative error is a small
multiple of eps kappa_t; its size relative to |x| is that of |x - alpha_t mu| where the two cancel. With d = 0 digits
left nothing is claimed: settings with eps kappa_t > 1e-4 are left out.
"""

import math

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.builders import generator, many
from unrolled import (
    Exponential,
    GaussianProcess,
    InputError,
    Logarithmic,
    Matern,
    Polynomial,
    alpha,
    random_spatial_covariance,
    sigma,
)

EPS = torch.finfo(torch.float64).eps
FACTOR = 200.0
"""Of eps kappa_t; 135 is the largest that was measured against 320-bit arithmetic."""
KERNELS = st.one_of(
    st.builds(Exponential, st.floats(1e-3, 1e3), st.floats(0.1, 2.0)),
    st.builds(Polynomial, st.floats(1e-3, 1e3), st.floats(0.1, 4.0)),
    st.builds(Logarithmic, st.floats(1e-3, 1e3), st.floats(0.1, 4.0)),
    st.builds(Matern, st.floats(1e-2, 1e2), st.sampled_from([0.5, 1.5, 2.5])),
)
TIMES = st.floats(-6.0, 2.0).map(lambda power: 10.0**power)


@st.composite
def processes(draw, kernels=KERNELS) -> GaussianProcess:
    length, dim = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    seed = draw(st.integers(0, 10))
    spatial = random_spatial_covariance(dim, draw(st.floats(1.0, 1e3)), generator(seed))
    mean = draw(st.sampled_from([0.0, 1.0, 100.0])) * torch.randn(length, dim, generator=generator(seed)).double()
    return GaussianProcess(length, draw(kernels), spatial, mean)


def sequences(process: GaussianProcess, t: float, n: int = 2) -> torch.Tensor:
    return process.noisy(n, t, generator(7))


def dense_score(process: GaussianProcess, x: torch.Tensor, t: float) -> torch.Tensor:
    root = torch.linalg.cholesky(process.noisy_covariance(t))
    centred = (x.double() - alpha(t) * process.mean).flatten(1)
    return -torch.cholesky_solve(centred.T, root).T.reshape(x.shape)


def budget(process: GaussianProcess, x: torch.Tensor, t: float, eps: float = EPS) -> float:
    """Largest error of a score that rounds to eps, absolute in the 2-norm of one sequence."""
    smallest, largest = process.extreme_eigenvalues(t)
    assume(eps * largest / smallest < 1e-4)
    centred = x.double() - alpha(t) * process.mean
    size = float(centred.flatten(1).norm(dim=1).max())
    lost = float(x.double().flatten(1).norm(dim=1).max())
    return (FACTOR * EPS * largest / smallest * size + 4 * eps * lost) / smallest


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).flatten(1).norm(dim=1).max())


@settings(max_examples=many(40, 4000))
@given(processes(), TIMES)
def test_the_score_is_that_of_a_dense_solve(process, t):
    x = sequences(process, t)
    assert gap(process.score(x, t), dense_score(process, x, t)) <= budget(process, x, t)


@settings(max_examples=many(30, 3000))
@given(processes(st.builds(Exponential, st.floats(1e-3, 1e3))), TIMES)
def test_the_scan_is_that_of_a_dense_solve(process, t):
    x = sequences(process, t)
    assert gap(process.scan_score(x, t), dense_score(process, x, t)) <= budget(process, x, t)


@settings(max_examples=many(30, 3000))
@given(processes(), TIMES, st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_lower_precision_costs_the_rounding_of_its_input_and_output(process, t, dtype):
    """The score is computed in float64 whatever x is, so only what goes in and comes out is rounded."""
    x = sequences(process, t).to(dtype)
    exact = process.score(x.double(), t)
    assume(bool(exact.to(dtype).isfinite().all()) and float(exact.abs().min()) > torch.finfo(dtype).tiny)
    assert process.score(x, t).dtype == dtype
    assert bool(((process.score(x, t).double() - exact).abs() <= torch.finfo(dtype).eps * exact.abs()).all())


@settings(max_examples=many(30, 3000))
@given(processes(), TIMES, st.floats(0.1, 10.0), st.integers(0, 20))
def test_the_score_is_equivariant(process, t, factor, seed):
    """To a shift of x with the mean, to a rotation of the values with Sigma, and to the reversal of time."""
    x = sequences(process, t)
    score, allowed = process.score(x, t), 4 * budget(process, x, t)
    shift = factor * torch.randn(process.mean.shape, generator=generator(seed), dtype=torch.float64)
    moved = GaussianProcess(process.length, process.temporal, process.spatial_covariance, process.mean + shift)
    assert gap(moved.score(x + alpha(t) * shift, t), score) <= allowed + 4 * budget(moved, x + alpha(t) * shift, t)
    turn, _ = torch.linalg.qr(torch.randn(process.dim, process.dim, generator=generator(seed), dtype=torch.float64))
    turned = GaussianProcess(
        process.length, process.temporal, turn @ process.spatial_covariance @ turn.T, process.mean @ turn.T
    )
    assert gap(turned.score(x @ turn.T, t), score @ turn.T) <= allowed
    back = GaussianProcess(process.length, process.temporal, process.spatial_covariance, process.mean.flip(0))
    assert gap(back.score(x.flip(1), t), score.flip(1)) <= allowed


@settings(max_examples=many(20, 1000))
@given(processes(), st.floats(40.0, 700.0))
def test_late_times_leave_a_standard_normal(process, t):
    x = torch.randn(2, process.length, process.dim, generator=generator(), dtype=torch.float64)
    # score + x = alpha_t mu - alpha_t^2 (I - Gamma (x) Sigma) x to first order, and kappa_t is 1: one budget of eps
    left = math.exp(-t / 2) * float(process.mean.norm()) + 1e6 * math.exp(-t) * float(x.norm())
    assert gap(process.score(x, t), -x) <= 2 * left + FACTOR * EPS * float(x.norm())


@settings(max_examples=many(20, 1000))
@given(st.integers(1, 10), TIMES)
def test_short_and_long_lengthscales_are_the_independent_and_the_constant_sequence(length, t):
    x = torch.randn(2, length, 1, generator=generator(), dtype=torch.float64)
    noise = sigma(t) ** 2
    apart = GaussianProcess(length, Exponential(1e-9), torch.eye(1)).score(x, t)
    assert gap(apart, -x) <= 1e-12 * float(x.norm())  # alpha^2 + sigma^2 = 1
    together = GaussianProcess(length, torch.ones(length, length).double(), torch.eye(1))
    mean = x.mean(dim=1, keepdim=True)
    exact = -mean / (length * alpha(t) ** 2 + noise) - (x - mean) / noise  # Sherman and Morrison
    assert gap(together.score(x, t), exact) <= budget(together, x, t)


@settings(max_examples=many(40, 1000))
@given(st.integers(-2, 3), st.floats(), st.floats(), st.floats(), st.floats())
def test_any_arguments_give_a_finite_score_or_the_documented_error(length, lengthscale, power, condition, t):
    try:
        spatial = random_spatial_covariance(2, condition, generator())
        process = GaussianProcess(length, Exponential(lengthscale, power), spatial)
        score = process.score(torch.ones(1, length, 2, dtype=torch.float64), t)
    except InputError:
        return
    assert bool(score.isfinite().all())
