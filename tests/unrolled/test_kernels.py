"""Kernels against their definitions: mixtures of Gaussians, Bessel functions, limits, and refused parameters."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from unrolled.kernels import Exponential, Logarithmic, Matern, Polynomial, RoughPolynomial, kernel_from_config

EPS = torch.finfo(torch.float64).eps
KERNELS = [
    Exponential(4),
    Exponential(8, 0.5),
    Exponential(8, 2),
    Polynomial(4, 1),
    Polynomial(2.5, 3),
    RoughPolynomial(4, 1),
    RoughPolynomial(2.5, 3),
    Logarithmic(4, 1),
    Logarithmic(1, 0.3),
    Matern(5, 0.5),
    Matern(5, 1.5),
    Matern(5, 2.5),
    Matern(3, 0.8),
    Matern(3, 7.3),
]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_is_an_even_decreasing_correlation(kernel):
    lag = torch.arange(0, 200)
    gamma = kernel(lag)
    assert gamma.dtype == torch.float64
    assert gamma[0] == 1
    assert bool((gamma[:-1] >= gamma[1:]).all()) and bool((gamma >= 0).all())
    assert torch.equal(kernel(-lag), gamma)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("length", [1, 2, 33, 128])
def test_matrix_is_positive_semidefinite_up_to_rounding(kernel, length):
    matrix = kernel.matrix(length)
    eigenvalues = torch.linalg.eigvalsh(matrix)
    assert eigenvalues[0] >= -length * EPS * eigenvalues[-1]
    assert matrix[0, -1] == kernel(length - 1)


@given(st.floats(0.3, 30), st.floats(0.2, 6), st.floats(0, 60))
def test_polynomial_is_its_gamma_mixture(lengthscale, power, lag):
    """gamma(r) = E exp(-y (r/lengthscale)^2) with y ~ Gamma(power/2), as an integral over the quantiles of y."""
    law = stats.gamma(power / 2)
    u = (lag / lengthscale) ** 2
    falls = law.cdf(np.array([0.01, 0.1, 1, 3, 10, 40]) / max(u, 1e-300))  # where the integrand falls, for quad to see
    value, error = integrate.quad(lambda v: math.exp(-law.ppf(v) * u), 0, 1, limit=400, points=np.unique(falls))
    assert abs(value - float(Polynomial(lengthscale, power)(lag))) < 1e-6 + error


@given(st.floats(0.3, 30), st.floats(0.01, 60))
def test_ornstein_uhlenbeck_is_its_levy_mixture(lengthscale, lag):
    """exp(-r/l) = E exp(-b r^2) with b Levy of scale 1/(2 l^2), that is b = 1/(2 l^2 z^2) with z standard normal."""
    ratio = lag / lengthscale
    value, error = integrate.quad(
        lambda z: 2 * stats.norm.pdf(z) * math.exp(-(ratio**2) / (2 * z**2)) if z > 0 else float(ratio == 0), 0, 40,
        points=np.unique(np.clip([0.1 * ratio, 0.3 * ratio, ratio, 3 * ratio, 1.0, 3.0, 10.0], 1e-12, 39.0)), limit=400,
    )  # fmt: skip
    assert abs(value - float(Exponential(lengthscale, 1)(lag))) < 1e-7 + error


@given(st.floats(0.3, 30), st.floats(0.2, 6), st.floats(0, 60))
def test_logarithmic_is_its_mixture_of_polynomials(lengthscale, power, lag):
    """gamma(r) = E (1 + (r/lengthscale)^2)^-y with y ~ Gamma(power)."""
    law = stats.gamma(power)
    value, error = integrate.quad(lambda v: (1 + (lag / lengthscale) ** 2) ** -law.ppf(v), 0, 1, limit=400)
    assert abs(value - float(Logarithmic(lengthscale, power)(lag))) < 1e-6 + error


@given(st.floats(0.3, 30), st.floats(0.2, 6), st.floats(0, 60))
def test_rough_polynomial_is_its_mixture_of_ou_kernels(lengthscale, power, lag):
    """gamma(r) = E exp(-y r/lengthscale) with y ~ Gamma(power), as an integral over the quantiles of y."""
    law = stats.gamma(power)
    u = lag / lengthscale
    falls = law.cdf(np.array([0.01, 0.1, 1, 3, 10, 40]) / max(u, 1e-300))
    value, error = integrate.quad(lambda v: math.exp(-law.ppf(v) * u), 0, 1, limit=400, points=np.unique(falls))
    assert abs(value - float(RoughPolynomial(lengthscale, power)(lag))) < 1e-6 + error


@given(st.floats(0.3, 30), st.floats(0.2, 6))
def test_rough_polynomial_is_rough_as_ou_and_decays_as_polynomial(lengthscale, power):
    """Near 0 it falls with slope power/lengthscale, far away it is the same power of the lag as Polynomial."""
    kernel = RoughPolynomial(lengthscale, power)
    near, far = 1e-6 * lengthscale, 1e8 * lengthscale
    assert (1 - float(kernel(near))) / near == pytest.approx(power / lengthscale, rel=1e-4)
    assert float(kernel(far)) == pytest.approx(float(Polynomial(lengthscale, power)(far)), rel=1e-6)


@pytest.mark.parametrize("smoothness", [0.5, 0.51, 0.8, 1.0, 1.5, 2.5, 7.3, 40.0])
@pytest.mark.parametrize("lag", [1e-9, 0.01, 1.0, 7.0, 60.0])
def test_matern_is_the_bessel_formula(smoothness, lag):
    with mpmath.workdps(60):
        z = mpmath.sqrt(2 * mpmath.mpf(smoothness)) * mpmath.mpf(lag) / 5
        nu = mpmath.mpf(smoothness)
        expected = float(2 ** (1 - nu) / mpmath.gamma(nu) * z**nu * mpmath.besselk(nu, z))
    assert abs(float(Matern(5, smoothness)(lag)) - expected) <= 3e-14 * max(smoothness, 1)  # as its docstring says


def test_matern_tends_to_the_rbf():
    lag = torch.arange(30)
    limit = Exponential(5 * math.sqrt(2), 2)(lag)
    distances = [float((Matern(5, nu)(lag) - limit).abs().max()) for nu in (10, 30, 90)]
    assert distances[0] > 2.5 * distances[1] > 6 * distances[2]  # first order in 1/nu: factors near 3


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_config_round_trip(kernel):
    assert kernel_from_config(kernel.config()) == kernel


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: Exponential(0), "lengthscale"),
        (lambda: Exponential(-1.0), "lengthscale"),
        (lambda: Exponential(math.nan), "lengthscale"),
        (lambda: Exponential(math.inf), "lengthscale"),
        (lambda: Exponential(4, 2.01), "power"),
        (lambda: Exponential(4, 0), "power"),
        (lambda: Polynomial(4, -1), "power"),
        (lambda: RoughPolynomial(4, 0), "power"),
        (lambda: Logarithmic(4, 0), "power"),
        (lambda: Matern(4, 0), "smoothness"),
        (lambda: Matern(4, 101), "smoothness"),
        (lambda: kernel_from_config({"name": "cosine"}), "temporal"),
        (lambda: kernel_from_config({"name": "matern", "lengthscale": 1.0, "power": 1.0}), "temporal"),
    ],
)
def test_refuses_what_is_not_positive_definite(make, argument):
    with pytest.raises(ValueError, match=f"^{argument}: .*accepted|^{argument}: .*do not fit"):
        make()


def test_power_above_two_is_indeed_indefinite():
    """The reason for the bound: exp(-|lag|^p) with p > 2 has a negative eigenvalue."""
    lag = np.abs(np.subtract.outer(np.arange(40), np.arange(40)))
    assert np.linalg.eigvalsh(np.exp(-((lag / 6.0) ** 2.5)))[0] < -1e-3
