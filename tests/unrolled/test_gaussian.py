"""Distances between Gaussians against quadrature, matrix square roots and known special cases."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, linalg, stats

from tests.builders import generator
from unrolled import GaussianLaw, kl_divergence, total_variation_bound, wasserstein2


def random_law(n: int, seed: int) -> GaussianLaw:
    root = torch.randn(n, n, generator=generator(seed), dtype=torch.float64)
    mean = torch.randn(n, generator=generator(seed + 100), dtype=torch.float64)
    return GaussianLaw(mean, root @ root.T + 0.1 * torch.eye(n))


def normal(mean: float, deviation: float) -> GaussianLaw:
    return GaussianLaw(torch.tensor([mean], dtype=torch.float64), torch.tensor([[deviation**2]], dtype=torch.float64))


@pytest.mark.parametrize("parameters", [(0, 1, 0, 1.5), (0.3, 1, -0.2, 0.7), (2, 0.5, 0, 1)])
def test_one_dimension_by_quadrature(parameters):
    m1, s1, m2, s2 = parameters
    p, q = stats.norm(m1, s1), stats.norm(m2, s2)
    kl, _ = integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -12, 12, epsabs=1e-13)
    assert kl_divergence(normal(m1, s1), normal(m2, s2)) == pytest.approx(kl, abs=1e-11)
    w2, _ = integrate.quad(lambda u: (p.ppf(u) - q.ppf(u)) ** 2, 0, 1, epsabs=1e-10)
    assert wasserstein2(normal(m1, s1), normal(m2, s2)) == pytest.approx(math.sqrt(w2), abs=1e-6)
    tv, _ = integrate.quad(lambda x: abs(p.pdf(x) - q.pdf(x)) / 2, -12, 12, limit=200)
    assert tv - 1e-9 <= total_variation_bound(normal(m1, s1), normal(m2, s2)) <= 1


@pytest.mark.parametrize("seed", range(4))
def test_many_dimensions_by_textbook_formulas(seed):
    p, q = random_law(6, seed), random_law(6, seed + 10)
    P, Q, shift = p.covariance.numpy(), q.covariance.numpy(), (q.mean - p.mean).numpy()
    inverse = np.linalg.inv(Q)
    log_ratio = np.linalg.slogdet(Q)[1] - np.linalg.slogdet(P)[1]
    kl = (np.trace(inverse @ P) - 6 + log_ratio + shift @ inverse @ shift) / 2
    # The textbook form inverts Q, so it is itself only good to eps cond(Q) times its terms.
    tolerance = 100 * np.finfo(float).eps * np.linalg.cond(Q) * (abs(np.trace(inverse @ P)) + shift @ inverse @ shift)
    assert abs(kl_divergence(p, q) - kl) <= tolerance
    root = np.real(linalg.sqrtm(P))
    w2 = np.trace(P + Q - 2 * np.real(linalg.sqrtm(root @ Q @ root))) + shift @ shift
    assert wasserstein2(p, q) == pytest.approx(math.sqrt(w2), rel=1e-9)
    assert wasserstein2(p, q) == pytest.approx(wasserstein2(q, p), rel=1e-12)


def test_equal_laws_are_at_distance_zero():
    p = random_law(8, 1)
    assert kl_divergence(p, p) <= 1e-14 and wasserstein2(p, p) <= 1e-13 and total_variation_bound(p, p) <= 1e-7


def test_small_distances_keep_their_digits():
    """KL of N(0, (1+h)^2) from N(0, 1) is h^2 + O(h^3): the naive form has nothing left at h = 1e-8."""
    for h in (1e-4, 1e-6, 1e-7):
        assert kl_divergence(normal(0, 1 + h), normal(0, 1)) == pytest.approx(h**2, rel=1e-3 + 3e-16 / h**2 * h)
        assert wasserstein2(normal(0, 1 + h), normal(0, 1)) == pytest.approx(h, rel=1e-6)


def test_singular_or_mismatched_laws_are_refused():
    p = random_law(3, 0)
    with pytest.raises(ValueError, match="^q: its covariance"):
        kl_divergence(p, GaussianLaw(p.mean, torch.ones(3, 3, dtype=torch.float64)))
    with pytest.raises(ValueError, match="^q: mean"):
        wasserstein2(p, random_law(4, 0))
