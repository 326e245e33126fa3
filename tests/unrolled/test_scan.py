"""The scan against dense solves, a closed form, products by FFT, and the differential equation it comes from."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from tests.builders import generator, make
from unrolled import Exponential, GaussianProcess, Matern, Polynomial, Scan
from unrolled.state_space import has_state_space, state_space

EPS = torch.finfo(torch.float64).eps
FAMILIES = {
    "ornstein_uhlenbeck": Exponential,
    "matern 3/2": lambda lengthscale: Matern(lengthscale, 1.5),
    "matern 5/2": lambda lengthscale: Matern(lengthscale, 2.5),
}
LENGTHSCALES = (0.1, 0.7, 4.0, 60.0, 1e3, 1e4)


def right_hand_sides(covariance: torch.Tensor) -> torch.Tensor:
    """White, like the process, as smooth as C makes it, and constant: the score is of another size in each."""
    white = torch.randn(2, len(covariance), generator=generator(2), dtype=torch.float64)
    like = white @ torch.linalg.cholesky(covariance).T
    return torch.cat([white, like, white @ covariance, torch.ones_like(white[:1])])[..., None]


def worst_error(process: GaussianProcess, t: float) -> float:
    """Error of the scan against a dense solve, relative to the solution, in units of eps kappa_t."""
    covariance = process.noisy_covariance(t)
    x = right_hand_sides(covariance)
    expected = -torch.linalg.solve(covariance, x[..., 0].T).T
    error = (Scan(process)(x, t)[..., 0] - expected).norm(dim=1) / expected.norm(dim=1)
    return float(error.max()) / (EPS * process.condition_number(t))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", [1, 2, 3, 17, 64, 65, 66, 127, 129, 200, 512])
def test_is_the_dense_solve(family, length):
    """At most 20 eps kappa_t, what a backward stable solve leaves, as for the score by eigenvectors."""
    for lengthscale in LENGTHSCALES:
        process = GaussianProcess(length, FAMILIES[family](lengthscale), [[1.0]])
        for t in (1e-4, 1e-2, 0.3, 2.0, 8.0):
            assert worst_error(process, t) <= 20


@settings(max_examples=60)
@given(
    length=st.integers(1, 512),
    family=st.sampled_from(list(FAMILIES)),
    log_lengthscale=st.floats(-1, 4),
    log_t=st.floats(-4, math.log10(8)),
)
def test_is_the_dense_solve_between(length, family, log_lengthscale, log_t):
    process = GaussianProcess(length, FAMILIES[family](10.0**log_lengthscale), [[1.0]])
    assert worst_error(process, 10.0**log_t) <= 20


@pytest.mark.parametrize("family", FAMILIES)
def test_is_the_score_by_eigenvectors(family):
    """Several values in a frame, a mean, a time for each sequence, and extreme times."""
    process = make(150, 3, FAMILIES[family](9.0))
    x = torch.randn(6, 150, 3, generator=generator(), dtype=torch.float64)
    times = torch.tensor([1e-9, 1e-3, 0.1, 1.0, 8.0, 800.0], dtype=torch.float64)
    together, expected = Scan(process)(x, times), process.score(x, times)
    for k, t in enumerate(times.tolist()):
        alone = process.scan_score(x[k : k + 1], t)
        error = float((together[k] - expected[k]).norm() / expected[k].norm())
        assert error <= 20 * EPS * process.condition_number(t)
        assert float((together[k] - alone[0]).norm() / expected[k].norm()) <= 20 * EPS * process.condition_number(t)
    assert Scan(process)(x.float(), 0.1).dtype == torch.float32


def closed_form_rows(y: np.ndarray, rows: list[int], lengthscale: float, tau: float) -> np.ndarray:
    """Rows of (Gamma + tau I)^{-1} y of an Ornstein-Uhlenbeck process, by the four images of its inverse: with
    (Gamma + tau I)^{-1} = (I - B)/tau and r, c, w, L = N - 1,

    B_ij = [r^|i-j| + c r^(i+j) + c r^(2L-i-j) + c^2 r^(2L-|i-j|)] / [w (1 - c^2 r^(2L))]     (derived)
    """
    rho, one_minus = math.exp(-1 / lengthscale), -math.expm1(-1 / lengthscale)
    q = tau * rho / (one_minus * (1 + rho))
    narrow = 1 + tau * one_minus / (1 + rho)  # 1 + a - 2q
    w = math.sqrt(narrow * (narrow + 4 * q))
    beyond = narrow + 2 * q + w  # r = 2q/(1 + a + w)
    rate = -math.log1p(-(narrow + w) / beyond)  # -log r
    r = math.exp(-rate)
    c = r * (rho - r) / (1 - rho * r)
    last = len(y) - 1
    j = np.arange(len(y), dtype=np.float64)
    power = lambda distance: np.exp(-rate * distance)  # noqa: E731
    solved = []
    for i in rows:
        images = power(np.abs(i - j)) + c * (power(i + j) + power(2 * last - i - j))
        images += c**2 * power(2 * last - np.abs(i - j))
        solved.append((y[i] - images @ y / (w * -np.expm1(2 * math.log(c) - 2 * rate * last))) / tau)
    return np.array(solved)


@pytest.mark.parametrize("lengthscale", [8.0, 1e4])
@pytest.mark.parametrize("t", [0.01, 2.0])
def test_a_million_frames_are_the_closed_form(lengthscale, t):
    """Rows of B are positive and sum to less than 1, so either side has an error of a few eps max|y|/tau."""
    length = 10**6
    process = GaussianProcess(length, Exponential(lengthscale), [[1.0]])
    x = process.noisy(1, t, generator())
    rows = [0, 1, 63, 64, 1000, 500_000, length - 65, length - 2, length - 1]
    square = math.exp(-t)
    tau = -math.expm1(-t) / square
    expected = -closed_form_rows(x[0, :, 0].numpy(), rows, lengthscale, tau) / square
    error = float(np.abs(process.score(x, t)[0, rows, 0].numpy() - expected).max())
    assert error <= 30 * EPS * float(x.abs().max()) / (tau * square)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lengthscale", [5.0, 3e3])
def test_a_long_score_solves_its_system(family, lengthscale):
    """C_t times the score gives back the sequence, the product taken by FFT: a residual of rounding of the product."""
    length, t = 50_000, 0.05
    kernel = FAMILIES[family](lengthscale)
    process = GaussianProcess(length, kernel, [[1.0]])
    x = process.noisy(2, t, generator())
    score = process.score(x, t)
    lag = torch.arange(2 * length)
    spectrum = torch.fft.rfft(kernel(torch.minimum(lag, 2 * length - lag)))[:, None]
    smooth = torch.fft.irfft(spectrum * torch.fft.rfft(score, 2 * length, dim=1), dim=1)[:, :length]
    residual = math.exp(-t) * smooth - math.expm1(-t) * score + x
    largest = math.exp(-t) * float(spectrum.real.max())
    assert float(residual.norm()) <= 20 * EPS * largest * float(score.norm())


def test_score_has_no_length_limit_where_there_is_a_scan():
    process = GaussianProcess(5000, Matern(20, 1.5), torch.eye(2))
    x = torch.randn(1, 5000, 2, generator=generator(), dtype=torch.float64)
    assert torch.equal(process.score(x, 0.1), Scan(process)(x, 0.1))
    with pytest.raises(ValueError, match=r"^length: 5000 .* nor has the score of Exponential of power 1"):
        GaussianProcess(5000, Polynomial(20, 1), torch.eye(2)).score(x, 0.1)


@pytest.mark.parametrize("temporal", [Exponential(4, 0.5), Matern(4, 2.0), Polynomial(4, 1), torch.eye(6)], ids=str)
def test_other_kernels_are_refused(temporal):
    assert not has_state_space(temporal)
    with pytest.raises(ValueError, match=r"^temporal: .* accepted: Exponential of power 1, or Matern"):
        Scan(GaussianProcess(6, temporal, torch.eye(2)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lengthscale", [0.3, 5.0, 800.0])
def test_states_are_those_of_the_differential_equation(family, lengthscale):
    """A = exp(F), Q and P against the matrix exponential, and the covariance of the first state against the kernel."""
    kernel = FAMILIES[family](lengthscale)
    space = state_space(kernel, 100)
    states = len(space.step)
    z = math.sqrt(2 * states - 1) / lengthscale
    drift = z * (np.eye(states, k=1) - np.eye(states))
    transition = linalg.expm(drift)
    np.testing.assert_allclose(np.eye(states) - space.step.numpy(), transition, atol=10 * EPS)
    stationary = space.stationary.numpy()
    np.testing.assert_allclose(space.noise, stationary - transition @ stationary @ transition.T, atol=20 * EPS)
    push = np.zeros((states, states))
    push[-1, -1] = -(drift @ stationary + stationary @ drift.T)[-1, -1]
    np.testing.assert_allclose(drift @ stationary + stationary @ drift.T, -push, atol=10 * EPS)
    lagged = [np.linalg.matrix_power(transition, lag) @ stationary for lag in range(20)]
    np.testing.assert_allclose([each[0, 0] for each in lagged], kernel(torch.arange(20)), atol=100 * EPS)


@pytest.mark.parametrize("z", [1e-4, 1e-2])
def test_noise_of_a_smooth_process_keeps_its_digits(z):
    """Q_00 of Matern 5/2 is about z^5, of which P - A P A' has no digit; its series has them all."""
    space = state_space(Matern(math.sqrt(5) / z, 2.5), 10)
    # int_0^z e^-2s s^4/4 ds times q = 16/3
    series = sum((-2.0) ** k * z ** (k + 5) / (math.factorial(k) * (k + 5)) for k in range(12)) / 4 * 16 / 3
    assert float(space.noise[0, 0]) == pytest.approx(series, rel=1e-13)
