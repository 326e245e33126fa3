"""Laws of generated samples against closed forms, against simulation, and against Girsanov's bound."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import generator
from unrolled import (
    Exponential,
    GaussianLaw,
    GaussianProcess,
    alpha,
    construct,
    kl_divergence,
    log_time_grid,
    probability_flow,
    reverse_sde,
    sigma,
    wasserstein2,
)
from unrolled.generated import (
    affine_score,
    discrete_girsanov_bound,
    discrete_law,
    generated_law,
    girsanov_bound,
    marginal_law,
    score_error,
    standard_law,
)

RANGE = (0.05, 6.0)


@pytest.fixture(scope="module")
def tiny() -> GaussianProcess:
    """4 frames of one value, non-zero mean."""
    return GaussianProcess(4, Exponential(3), [[1.5]], mean=torch.linspace(-1, 1, 4)[:, None])


def closed_law(process: GaussianProcess, t_range: tuple[float, float]) -> GaussianLaw:
    """The exact score's law from N(0, I): variance c + (1 - c_T) g^2 and mean alpha mu - alpha_T mu g along an
    eigenvector, g = c/c_T e^{(t-T)/2} (claim reverse-exact)."""
    (t, last), eye = t_range, torch.eye(process.length * process.dim, dtype=torch.float64)
    before, after = process.noisy_covariance(last), process.noisy_covariance(t)
    growth = after @ torch.linalg.inv(before) * math.exp((t - last) / 2)
    mean = process.mean.flatten()
    return GaussianLaw(alpha(t) * mean - alpha(last) * growth @ mean, after + growth @ (eye - before) @ growth.T)


def test_affine_parts_of_the_exact_score(small_process):
    matrix, offset = affine_score(small_process.score, 8, 2, 0.3)
    inverse = torch.linalg.inv(small_process.noisy_covariance(0.3))
    assert torch.allclose(matrix, -inverse, rtol=0, atol=1e-12 * float(inverse.norm()))
    assert torch.allclose(offset, inverse @ (alpha(0.3) * small_process.mean.flatten()), rtol=0, atol=1e-11)


@pytest.mark.parametrize("arguments", [("chebyshev", 3), ("preconditioned", 1), ("gradient_descent", 2, "relu")])
def test_hand_set_models_are_affine(tiny, arguments):
    model = construct(tiny, *arguments)
    matrix, offset = affine_score(model, 4, 1, 0.5)
    x = torch.randn(3, 4, 1, generator=generator(5), dtype=torch.float64)
    expected = (x.flatten(1) @ matrix.T + offset).reshape(x.shape)
    assert torch.allclose(model(x, 0.5), expected, rtol=0, atol=1e-6 * float(expected.norm()))


def test_data_dependent_models_are_refused(tiny):
    with pytest.raises(ValueError, match="^model: off from an affine map"):
        affine_score(construct(tiny, "conjugate_gradient", 2, model="relu"), 4, 1, 0.5)
    with pytest.raises(ValueError, match="^model: "):
        affine_score(lambda x, t: x / 0, 4, 1, 0.5)


def test_exact_score_in_closed_form(small_process):
    truth, law = marginal_law(small_process, RANGE[0]), generated_law(small_process.score, 8, 2, RANGE)
    assert kl_divergence(closed_law(small_process, RANGE), law) < 1e-15
    assert kl_divergence(truth, law) == pytest.approx(kl_divergence(truth, closed_law(small_process, RANGE)), rel=1e-6)
    proper = generated_law(small_process.score, 8, 2, RANGE, start=marginal_law(small_process, RANGE[1]))
    assert kl_divergence(truth, proper) < 1e-15


def test_ode_in_closed_form_and_against_its_sampler(small_process):
    """Along an eigenvector the flow scales x - alpha mu by the root of c/c_T."""
    law = generated_law(small_process.score, 8, 2, RANGE, kind="ode")
    eigenvalues, vectors = torch.linalg.eigh(small_process.noisy_covariance(1.0))
    clean = (eigenvalues - sigma(1.0) ** 2) / alpha(1.0) ** 2
    ratio = torch.stack([alpha(t) ** 2 * clean + sigma(t) ** 2 for t in RANGE])
    flow = (vectors * (ratio[0] / ratio[1]).sqrt()) @ vectors.T
    mean = small_process.mean.flatten()
    expected = GaussianLaw(alpha(RANGE[0]) * mean - alpha(RANGE[1]) * flow @ mean, flow @ flow.T)
    assert kl_divergence(expected, law) < 1e-15
    gaps = [
        wasserstein2(law, discrete_law(small_process.score, 8, 2, log_time_grid(RANGE, steps), kind="ode"))
        for steps in (100, 200)
    ]
    assert gaps[1] < 1e-3 and 3.3 < gaps[0] / gaps[1] < 5  # 4 for a second-order method
    start = torch.randn(3, 8, 2, generator=generator(), dtype=torch.float64)
    *_, (_, moved) = probability_flow(small_process.score, start, log_time_grid(RANGE, 200))
    assert torch.allclose(moved.flatten(1), (start.flatten(1) @ flow.T) + expected.mean, rtol=0, atol=5e-3)


def test_discrete_law_is_that_of_the_sampler(tiny):
    """Whitened samples of `reverse_sde` with a score that is wrong: first two moments within 4.5 standard errors."""
    grid, count = log_time_grid(RANGE, 12), 20000

    def wrong(x: torch.Tensor, t: torch.Tensor | float) -> torch.Tensor:
        return 1.2 * tiny.score(x, t) + 0.2

    *_, (_, x) = reverse_sde(
        wrong, torch.randn(count, 4, 1, generator=generator(), dtype=torch.float64), grid, generator(1)
    )
    law = discrete_law(wrong, 4, 1, grid)
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(law.covariance), (x.flatten(1) - law.mean).T, upper=False
    )
    assert float(white.mean(dim=1).abs().max()) < 4.5 / math.sqrt(count)
    spread = white @ white.T / count - torch.eye(4)
    assert float(spread.abs().max()) < 4.5 * math.sqrt(2 / count)  # variance 2/count on the diagonal, 1/count beside it


def test_discrete_law_tends_to_the_continuous_one(small_process):
    limit = generated_law(small_process.score, 8, 2, RANGE)
    gaps = [
        kl_divergence(limit, discrete_law(small_process.score, 8, 2, log_time_grid(RANGE, steps)))
        for steps in (60, 120)
    ]
    assert gaps[1] < 0.01 and 3.3 < gaps[0] / gaps[1] < 5  # the law is first order in the step, KL second


def test_score_error_by_simulation(tiny):
    """E|s - s_hat|^2 for the score times 1.5 is |s|^2/4, of mean tr(C_t^-1)/4; and its integral in closed form."""
    value, error = score_error(lambda x, t: 1.5 * tiny.score(x, t), tiny, RANGE)
    before, after = (torch.logdet(tiny.noisy_covariance(t)) for t in RANGE)
    # c' = 1 - c along an eigenvector: 1/c is the derivative of log c + t.
    assert value == pytest.approx((float(after - before) + 4 * (RANGE[1] - RANGE[0])) / 4, rel=1e-9)
    assert error < 1e-6 * value


@settings(max_examples=10)
@given(scale=st.floats(0.6, 1.5), shift=st.floats(-0.5, 0.5), steps=st.integers(3, 40))
def test_girsanov_dominates(scale, shift, steps):
    process = GaussianProcess(2, Exponential(2), [[1.5]], mean=[[0.5], [-1.0]])
    truth, grid = marginal_law(process, 0.1), log_time_grid((0.1, 4.0), steps)

    def model(x: torch.Tensor, t: torch.Tensor | float) -> torch.Tensor:
        return scale * process.score(x, t) + shift

    law = generated_law(model, 2, 1, (0.1, 4.0), rtol=1e-6)
    assert kl_divergence(truth, law) <= girsanov_bound(model, process, (0.1, 4.0), rtol=1e-4)
    assert kl_divergence(truth, discrete_law(model, 2, 1, grid)) <= discrete_girsanov_bound(model, process, grid)


def test_girsanov_is_attained_by_the_score_of_other_data(tiny):
    """From its own marginal the path measures differ in their ends alone (claim girsanov-tight)."""
    other = GaussianProcess(4, Exponential(1), [[0.8]])
    law = generated_law(other.score, 4, 1, RANGE, start=marginal_law(other, RANGE[1]))
    error, _ = score_error(other.score, tiny, RANGE)
    last = kl_divergence(marginal_law(tiny, RANGE[1]), marginal_law(other, RANGE[1]))
    assert kl_divergence(marginal_law(tiny, RANGE[0]), law) == pytest.approx(last + error / 2, rel=1e-7)
    bound = girsanov_bound(other.score, tiny, RANGE)
    start = kl_divergence(marginal_law(tiny, RANGE[1]), standard_law(4))
    assert bound == pytest.approx(start + error / 2, rel=1e-7)


def test_discrete_bound_tends_to_the_continuous_one(tiny):
    """The frozen score adds an amount of the order of the step."""
    other = GaussianProcess(4, Exponential(1), [[0.8]])
    limit = girsanov_bound(other.score, tiny, RANGE)
    extra = [discrete_girsanov_bound(other.score, tiny, log_time_grid(RANGE, k)) - limit for k in (100, 200)]
    assert extra[1] > 0 and 1.8 < extra[0] / extra[1] < 2.2


def test_a_coarse_sampler_breaks_the_continuous_bound(small_process):
    law = discrete_law(small_process.score, 8, 2, log_time_grid((0.01, 8.0), 20))
    gap = kl_divergence(marginal_law(small_process, 0.01), law)
    assert gap > 10 * girsanov_bound(small_process.score, small_process, (0.01, 8.0))


def test_bad_arguments(tiny):
    with pytest.raises(ValueError, match="^t_range: "):
        generated_law(tiny.score, 4, 1, (1.0, 0.1))
    with pytest.raises(ValueError, match="^t_range: "):
        girsanov_bound(tiny.score, tiny, (0.0, 1.0))
