"""Reference solvers against their defining properties, bounds and limits."""

import math

import pytest
import torch
from numpy.polynomial import Chebyshev

from tests.builders import generator
from unrolled import Exponential, GaussianProcess, random_spatial_covariance
from unrolled.solvers import (
    chebyshev,
    chebyshev_bound,
    chebyshev_steps,
    conjugate_gradient,
    gradient_descent,
    gradient_descent_bound,
    leja_order,
    preconditioned,
)

EPS = torch.finfo(torch.float64).eps


@pytest.fixture(scope="module")
def system():
    """C_t of an Ornstein-Uhlenbeck process, a batch of right-hand sides and the exact solution."""
    process = GaussianProcess(64, Exponential(8), random_spatial_covariance(4, generator=generator()))

    def at(t: float):
        c = process.noisy_covariance(t)
        r = torch.linalg.cholesky(c) @ torch.randn(256, 8, generator=generator(1), dtype=torch.float64)
        r = r.T.contiguous()
        return process, c, r, -torch.linalg.solve(c, r.T).T

    return at


def relative(s, exact) -> float:
    return float(((s - exact).norm(dim=1) / exact.norm(dim=1)).max())


@pytest.mark.parametrize("t", [0.01, 0.1, 0.5, 2.0])
def test_bounds_hold_at_every_step(system, t):
    process, c, r, exact = system(t)
    m, largest = process.extreme_eigenvalues(t)
    kappa = largest / m

    def product(v):
        return v @ c

    slack = 1 + 100 * kappa * EPS
    for k, s in enumerate(gradient_descent(product, r, m, largest, 40), start=1):
        assert relative(s, exact) <= gradient_descent_bound(kappa, k) * slack + 100 * kappa * EPS
    for steps in (1, 2, 7, 32):
        *_, s = chebyshev(product, r, m, largest, steps)
        assert relative(s, exact) <= chebyshev_bound(kappa, steps) * slack + 100 * kappa * EPS

    def energy(v):
        return ((v @ c) * v).sum(dim=1).sqrt()

    for k, s in enumerate(conjugate_gradient(product, r, 40), start=1):
        error = energy(s - exact) / energy(exact)
        assert float(error.max()) <= chebyshev_bound(kappa, k) * slack + 100 * kappa * EPS


def test_bounds_are_attained():
    """On the spectrum of the Chebyshev extrema the bound is an equality: neither a smaller bound nor a wrong step
    passes."""
    m, largest, steps = 0.1, 5.0, 6
    nodes = torch.tensor([math.cos(math.pi * k / steps) for k in range(steps + 1)], dtype=torch.float64)
    eigenvalues = (largest + m) / 2 + (largest - m) / 2 * nodes
    r = torch.eye(steps + 1, dtype=torch.float64)
    *_, s = chebyshev(lambda v: v * eigenvalues, r, m, largest, steps)
    error = ((s + r / eigenvalues).norm(dim=1) * eigenvalues).max()
    assert float(error) == pytest.approx(chebyshev_bound(largest / m, steps), rel=1e-12)
    *_, s = gradient_descent(lambda v: v * eigenvalues, r, m, largest, steps)
    error = ((s + r / eigenvalues).norm(dim=1) * eigenvalues).max()
    assert float(error) == pytest.approx(gradient_descent_bound(largest / m, steps), rel=1e-12)


def test_one_step_of_each_is_the_same_direction(system):
    _, c, r, _ = system(0.5)
    firsts = [next(gradient_descent(lambda v: v @ c, r, 1.0, 2.0, 1)), next(conjugate_gradient(lambda v: v @ c, r, 1))]
    for s in firsts:
        assert torch.allclose(s / s[:, :1], r / r[:, :1], rtol=1e-12)


def test_conjugate_gradient_minimises_over_krylov_spaces(system):
    """An oracle that shares nothing: the energy minimiser over span(r, Cr, ..) from an orthonormal basis."""
    _, c, r, _ = system(0.5)
    basis = torch.zeros(8, 256, 0, dtype=torch.float64)
    v = r
    for s, _ in zip(conjugate_gradient(lambda v: v @ c, r, 6), range(6), strict=True):
        v = v - (basis @ (basis.transpose(1, 2) @ v[..., None]))[..., 0]
        v = v - (basis @ (basis.transpose(1, 2) @ v[..., None]))[..., 0]
        basis = torch.cat([basis, (v / v.norm(dim=1, keepdim=True))[..., None]], dim=2)
        small = basis.transpose(1, 2) @ c @ basis
        best = -(basis @ torch.linalg.solve(small, basis.transpose(1, 2) @ r[..., None]))[..., 0]
        torch.testing.assert_close(s, best, rtol=0, atol=1e-10 * float(best.abs().max()))
        v = basis[..., -1] @ c


def test_conjugate_gradient_ends_with_the_distinct_eigenvalues():
    eigenvalues = torch.tensor([1.0, 1.0, 3.0, 3.0, 7.0], dtype=torch.float64)
    r = torch.randn(4, 5, generator=generator(), dtype=torch.float64)
    states = list(conjugate_gradient(lambda v: v * eigenvalues, r, 12))
    assert len(states) == 12 and relative(states[2], -r / eigenvalues) < 1e-13
    assert relative(states[1], -r / eigenvalues) > 1e-3
    assert all(torch.isfinite(s).all() and relative(s, -r / eigenvalues) < 1e-12 for s in states[3:])


def test_conjugate_gradient_at_zero_stays_zero():
    for s in conjugate_gradient(lambda v: 2 * v, torch.zeros(2, 3, dtype=torch.float64), 4):
        assert torch.equal(s, torch.zeros(2, 3, dtype=torch.float64))


def test_leja_order_keeps_partial_products_small():
    """Rounding of a step is multiplied by the steps after it, the start by those before: in Leja's both stay below
    kappa (measured up to 1e6), while a sorted order lets one of them reach 1e30."""
    m, largest, steps = 1e-4, 1.0, 64
    etas = chebyshev_steps(m, largest, steps)
    c = torch.logspace(-4, 0, 2000, dtype=torch.float64)
    factors = torch.stack([1 - eta * c for eta in etas])
    assert float(factors.cumprod(dim=0).abs().max()) < 1e4
    assert float(factors.flip(0).cumprod(dim=0).abs().max()) < 1e4
    assert float(torch.stack([1 - eta * c for eta in sorted(etas, reverse=True)]).cumprod(dim=0).abs().max()) > 1e30
    assert sorted(leja_order([0.3, -1.0, 1.0, 0.0])) == [0, 1, 2, 3] and leja_order([0.3, -1.0, 1.0, 0.0])[:2] == [2, 1]


def test_preconditioned_by_the_inverse_is_exact(system):
    _, c, r, exact = system(0.1)
    inverse = torch.linalg.inv(c)
    half = list(preconditioned(lambda v: v @ c, r, [lambda v: 0.5 * v @ inverse.T, lambda v: v @ inverse.T]))
    assert relative(half[0], exact / 2) < 1e-10 and relative(half[1], exact) < 1e-10


@pytest.mark.parametrize(("t", "steps"), [(0.01, 64), (0.1, 64), (0.5, 32), (2.0, 16)])
def test_chebyshev_is_its_polynomial(system, t, steps):
    """The error is T_K((L+m-2c)/(L-m)) / T_K((L+m)/(L-m)) times the solution in every eigenvector, with T_K from
    numpy's Clenshaw sum. Rounding: each of K steps makes an error of a few eps of C s, which C^{-1} amplifies by
    kappa."""
    process, c, r, exact = system(t)
    m, largest = process.extreme_eigenvalues(t)
    *_, s = chebyshev(lambda v: v @ c, r, m, largest, steps)
    values, vectors = torch.linalg.eigh(c)
    polynomial = Chebyshev.basis(steps)
    factor = polynomial((largest + m - 2 * values.numpy()) / (largest - m)) / polynomial((largest + m) / (largest - m))
    predicted = -(exact @ vectors * torch.from_numpy(factor)) @ vectors.T
    assert float((s - exact - predicted).norm()) <= 4 * steps * largest / m * EPS * float(exact.norm())
    assert float(predicted.norm()) > 1e4 * float((s - exact - predicted).norm())  # there is something to compare


@pytest.mark.parametrize("arguments", [(0.0, 1.0, 3), (2.0, 1.0, 3), (1.0, 2.0, 0)])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ValueError, match="^(smallest, largest|steps): "):
        gradient_descent(lambda v: v, torch.zeros(1, 1), *arguments)
