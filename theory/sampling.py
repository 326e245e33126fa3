"""How an error of the score changes the samples: Girsanov's bound, where it is attained, where it does not apply."""

import itertools
from collections.abc import Iterator
from typing import Any

import sympy as sp
import torch
from torch import Tensor

from theory.certify import Each, Identity, Increasing, Reals, Sweep, equal
from theory.certify.identity import reduce_to_zero
from theory.claim import Claim, Mutant, Statement
from theory.distances import gaussian_kl
from theory.symbols import NOTATION, Letters, T, clean, mu0, t
from unrolled.diffusion import ScoreModel, alpha
from unrolled.gaussian import GaussianLaw, kl_divergence
from unrolled.generated import (
    discrete_girsanov_bound,
    discrete_law,
    generated_law,
    marginal_law,
    score_error,
    standard_law,
)
from unrolled.kernels import Exponential, Logarithmic, Polynomial
from unrolled.process import GaussianProcess, random_spatial_covariance
from unrolled.samplers import log_time_grid
from unrolled.solvers import chebyshev, gradient_descent

__all__ = ["CLAIMS"]

LETTERS = Letters("sampling", NOTATION)
HALF = sp.Rational(1, 2)
CHEN = "Girsanov's theorem; Chen, Chewi, Li, Li, Salim and Zhang, arXiv 2209.11215"
other = LETTERS.define("q_0", "an eigenvalue of the covariance of other data", positive=True)


def _noisy(eigenvalue: Any, at: Any = t) -> Any:
    return sp.exp(-at) * (eigenvalue - 1) + 1


GROWTH = _noisy(clean) / _noisy(clean, T) * sp.exp((t - T) / 2)
STARTED = _noisy(clean) + (1 - _noisy(clean, T)) * GROWTH**2


def _reverse(noise: Any = 1, data: bool = False) -> Statement:
    """-d/dt of variance and mean against the drift (1/2 + A) x + b of the SDE; the ODE's; the law from N(0, 1)."""
    c, mean = _noisy(clean), sp.exp(-t / 2) * mu0
    slope = -1 / (clean if data else c)
    b = -slope * mean
    shifted = mean - sp.exp(-T / 2) * mu0 * GROWTH
    return (
        equal(-sp.diff(c, t), (1 + 2 * slope) * c + noise), equal(-sp.diff(mean, t), (HALF + slope) * mean + b),
        equal(-sp.diff(c, t), (1 + slope) * c),
        equal(-sp.diff(STARTED, t), (1 + 2 * slope) * STARTED + noise), equal(sp.Subs(STARTED, t, T), 1),
        equal(-sp.diff(shifted, t), (HALF + slope) * shifted + b), equal(sp.Subs(shifted, t, T), 0),
    )  # fmt: skip


REVERSE = Claim(
    name="reverse-exact",
    title="The exact score takes p_T to p_t; from N(0, 1) the SDE has variance c_t + (1 - c_T) (c_t/c_T)^2 e^(t-T).",
    statement=_reverse(),
    certificate=Identity(),
    provenance="derived",
    bound=STARTED,
    mutants=(
        Mutant("noise of half the size", _reverse(noise=HALF)),
        Mutant("score of the data without noise", _reverse(data=True)),
    ),
    steps=(
        ("Backwards in t a variance v grows at the rate 2 F v + 1 under dx = F x + dW, and 2 F v under the ODE", None),
        ("and C_t obeys dc/dt = 1 - c (forward-marginal); for n values each eigenvector is a case of its own", None),
    ),
)


def _tight(half: Any = HALF, exchanged: bool = False) -> Statement:
    c, q = _noisy(clean), _noisy(other)
    error = (1 / q - 1 / c) ** 2 * (q if exchanged else c) + (sp.exp(-t / 2) * mu0 / q) ** 2
    return (equal(-sp.diff(gaussian_kl(c, sp.exp(-t / 2) * mu0, q), t), half * error),)


def _in_alpha(difference: Any) -> Any:
    """Reduce with e^-t and e^-T as squares of letters: the difference is rational in them."""
    return reduce_to_zero(
        difference.subs({time: -2 * sp.log(sp.Symbol(f"alpha_{time}", positive=True)) for time in (t, T, t_k)})
    )


TIGHT = Claim(
    name="girsanov-tight",
    title="With the score of other data Girsanov's bound is attained: -dKL(p_t || q_t)/dt = E_p|s - s_hat|^2/2.",
    statement=_tight(),
    certificate=Identity(reduce=_in_alpha),
    provenance="published",
    source="de Bruijn's identity; Barron, Ann. Probab. 14, 1986",
    mutants=(Mutant("without the half", _tight(half=1)), Mutant("mean over q", _tight(exchanged=True))),
    steps=(
        ("p has variance c_t and mean alpha mu_0, q variance q_t and mean 0, from another eigenvalue q_0", None),
        ("Integrate from t_0 to T: KL(p_t0 || q_t0) = KL(p_T || q_T) + half the integral, started from q_T", None),
        ("Started from N(0, I) it is attained up to what N(0, I) is off q_T", None),
    ),
    scope="reduced for one eigenvector, two Gaussians; for commuting covariances it adds over eigenvectors.",
)
KL_Q, START, PATH = LETTERS.symbols({
    "KL_q": "KL(p_t0 || q_t0) of what is generated in continuous time",
    "KL_T": "KL(p_T || the law from which sampling starts), N(0, I) unless said",
    "int_error": "integral over [t_0, T] of E|s - s_hat|^2 under the true p_t",
}, nonnegative=True)  # fmt: skip


def _processes() -> Iterator[GaussianProcess]:
    spatial = random_spatial_covariance(2, generator=torch.Generator().manual_seed(0))
    yield GaussianProcess(8, Exponential(4), spatial, mean=torch.linspace(-1, 1, 16).reshape(8, 2))
    yield GaussianProcess(4, Polynomial(2, 1), spatial)
    yield GaussianProcess(6, Logarithmic(1, 1), [[2.0]], mean=torch.ones(6, 1))


def _scores(process: GaussianProcess) -> Iterator[ScoreModel]:
    """Exact; that of other data; scaled; shifted; a few steps of a solver."""
    yield process.score
    yield GaussianProcess(process.length, Exponential(2, 1.5), process.spatial_covariance, process.mean / 2).score
    yield lambda x, t: 1.1 * process.score(x, t)
    yield lambda x, t: process.score(x, t) + 0.3
    for solver, steps in ((chebyshev, 5), (gradient_descent, 3)):

        def iterate(x: Tensor, t: Any, solver: Any = solver, steps: int = steps) -> Tensor:
            covariance, residual = process.noisy_covariance(t), (x - alpha(t) * process.mean).flatten(1)
            *_, last = solver(lambda v: v @ covariance, residual, *process.extreme_eigenvalues(t), steps)
            return last.reshape(x.shape)

        yield iterate


def _generated() -> Iterator[dict[Any, float]]:
    """Long ranges, and short ones that are nearly tight: there the SDE forgets little of its start, and with the score
    of other data, started from their law, nothing is lost (girsanov-tight)."""
    ranges = ((0.01, 8.0), (0.1, 8.0), (0.01, 4.0), (0.1, 4.0))
    for process, t_range in zip((*_processes(), next(_processes())), ranges, strict=True):
        for model in _scores(process):
            yield _measured(process, model, t_range)
    for scale in (100.0, 0.5):
        process = GaussianProcess(2, Exponential(2), [[scale]], mean=torch.ones(2, 1))
        rival = GaussianProcess(2, Exponential(3), [[1.2 * scale]])
        yield _measured(process, process.score, (0.1, 0.101))
        yield _measured(process, rival.score, (0.1, 2.0), marginal_law(rival, 2.0))


def _measured(
    process: GaussianProcess, model: ScoreModel, t_range: tuple[float, float], start: GaussianLaw | None = None
) -> dict[Any, float]:
    truth, last = (marginal_law(process, time) for time in t_range)
    law = generated_law(model, process.length, process.dim, t_range, start=start, rtol=1e-8)
    return {
        T: t_range[1], t: t_range[0], KL_Q: kl_divergence(truth, law),
        START: kl_divergence(last, standard_law(len(last.mean)) if start is None else start),
        PATH: score_error(model, process, t_range)[0],
    }  # fmt: skip


def _girsanov(start: Any = 1, half: Any = HALF) -> Statement:
    return (sp.Le(KL_Q, start * START + half * PATH),)


GIRSANOV = Claim(
    name="girsanov",
    title="For the reverse SDE in continuous time KL(p_t0 || q_t0) <= KL(p_T || N(0, I)) + int E_p|s - s_hat|^2 dt/2.",
    statement=_girsanov(),
    certificate=Sweep(
        _generated,
        "3 processes of 6 to 16 values, T 4 and 8, t_0 0.01 and 0.1, 6 affine scores: exact, of other data, "
        "scaled, shifted,"
        " 5 Chebyshev and 3 gradient-descent steps; 4 settings that are nearly tight; laws by ODE solver, float64",
        1e-6,
    ),
    provenance="published",
    source=CHEN,
    mutants=(
        Mutant("a quarter of the integral", _girsanov(half=HALF / 2)),
        Mutant("without KL(p_T || N(0, I))", _girsanov(start=0)),
        Mutant("0.9 of KL(p_T || N(0, I))", _girsanov(start=sp.Rational(9, 10))),
        Mutant("without the score's error", _girsanov(half=0)),
    ),
    steps=(
        (
            "Two SDEs with the same noise and drifts s - s_hat apart: by Girsanov the KL of their paths is",
            START + PATH / 2,
        ),
        ("and that of their last points is no more, by the data-processing inequality", None),
    ),
)
A = LETTERS.define("A_k", "eigenvalue of the matrix of an affine score at t_k")
t_k = LETTERS.define("t_k", "time at which a step starts and its score is frozen", positive=True)


def _frozen_integral(factor: int = 4) -> Any:
    start, back = _noisy(clean, t_k), t_k - t
    return sp.log(start / _noisy(clean)) + back + factor * A * (1 - sp.exp(-back / 2)) + back * A**2 * start


def _frozen(noise: int = 1, factor: int = 4) -> Statement:
    c, back, integral = _noisy(clean), t_k - t, _frozen_integral(factor)
    expected = 1 / c + 2 * A * sp.exp(-back / 2) + A**2 * (sp.exp(-back) * c + noise * (1 - sp.exp(-back)))
    return (equal(-sp.diff(integral, t), expected), equal(integral.subs(t, t_k), 0))


FROZEN_SCORE = Claim(
    name="frozen-score",
    title="A score A x frozen for h costs int E|s(X_t) - A X_k|^2 = log(c_k/c_{k+1}) + h + 4A(1 - e^(-h/2)) + h "
    "A^2 c_k.",
    statement=_frozen(),
    certificate=Identity(reduce=_in_alpha),
    provenance="derived",
    bound=_frozen_integral(),
    mutants=(
        Mutant("X_k without its own noise", _frozen(noise=0)),
        Mutant("2A(1 - e^(-h/2))", _frozen(factor=2)),
    ),
    steps=(
        (
            "X_k = e^(-(t_k - t)/2) X_t + noise, so that at every t of the step the mean square is",
            None,
        ),
        ("1/c_t + 2A e^(-(t_k - t)/2) + A^2 c_k; means and b add (A m_k + b)^2", None),
        ("dc_t/dt = 1 - c_t makes 1/c_t the derivative of log c_t + t", None),
    ),
    scope="reduced for one eigenvector; for a matrix A each term is a trace.",
)
KL_H, FROZEN, GAP, GAP_HALF = LETTERS.symbols({
    "KL_h": "KL(p_t0 || q_h) of the sampler with steps, exact score",
    "int_frozen": "integral of E|s(X_t, t) - s(X_k, t_k)|^2 over [t_0, T]",
    "gap_h": "KL(q || q_h), q in continuous time", "gap_h/2": "the same with twice the steps",
}, nonnegative=True)  # fmt: skip


def _known(process: GaussianProcess, grid: list[float]) -> dict[Any, float]:
    """The law of a sampler with the exact score, and its parts of the bound."""
    law = discrete_law(process.score, process.length, process.dim, grid)
    start = kl_divergence(marginal_law(process, grid[0]), standard_law(len(law.mean)))
    return {
        KL_H: kl_divergence(marginal_law(process, grid[-1]), law), START: start,
        FROZEN: 2 * (discrete_girsanov_bound(process.score, process, grid) - start),
    }  # fmt: skip


def _coarse() -> Iterator[dict[Any, float]]:
    for process in itertools.islice(_processes(), 2):
        for steps in (50, 100):
            yield _known(process, log_time_grid((0.01, 8.0), steps))


def _one_step() -> Iterator[dict[Any, float]]:
    """One short step from far away, which forgets nothing of its start: nearly tight."""
    yield from _coarse()
    for size in (100.0, 0.01):
        yield _known(GaussianProcess(2, Exponential(2), [[size]], mean=torch.ones(2, 1)), [0.101, 0.1])
    yield _known(GaussianProcess(2, Exponential(0.1), [[1e-4]]), [0.02, 0.01])


def _halved() -> Iterator[dict[Any, float]]:
    t_range = (0.01, 8.0)
    for process in itertools.islice(_processes(), 2):
        shape = (process.length, process.dim)
        limit = generated_law(process.score, *shape, t_range)
        grids = [log_time_grid(t_range, steps) for steps in (200, 400)]
        gaps = [kl_divergence(limit, discrete_law(process.score, *shape, grid)) for grid in grids]
        yield dict(zip((GAP, GAP_HALF), gaps, strict=True))


def _steps(low: float = 3.8, high: float = 4.2, frozen: Any = HALF) -> Statement:
    return (
        sp.Ge(KL_H, START), sp.Le(KL_H, START + frozen * FROZEN),
        sp.Ge(GAP, low * GAP_HALF), sp.Le(GAP, high * GAP_HALF),
    )  # fmt: skip


TWO = "2 processes, T = 8, t_0 = 0.01, steps even in log t, exact laws, float64"
DISCRETISED = Claim(
    name="girsanov-discretised",
    title="With 50 or 100 steps the exact score breaks the bound of continuous time, but not that with the score "
    "frozen.",
    statement=_steps(),
    certificate=Each(
        (
            Sweep(_coarse, f"50 and 100 steps, {TWO}"),
            Sweep(_one_step, "the same, and 3 single steps that are nearly tight"),
            Sweep(_halved, f"200 and 400 steps, {TWO}"),
            Sweep(_halved, f"200 and 400 steps, {TWO}"),
        )
    ),
    provenance="published",
    source=CHEN,
    bound=START + FROZEN / 2,
    mutants=(
        Mutant("without the frozen score's error", _steps(frozen=0)),
        Mutant("KL falls like the step", _steps(low=1.5, high=2.5)),
        Mutant("KL falls like the fourth power", _steps(low=12.0, high=20.0)),
    ),
    true_variants=dict.fromkeys(
        ("relation 1: right side times 1.1", "relation 1: right side times 2"),
        "50 or 100 steps cost far more than the start does",
    ),
    steps=(
        ("The sampler is an SDE whose score is frozen during a step: Girsanov with s(X_t, t) - s_hat(X_k, t_k)", None),
        ("That integral falls like the step (frozen-score), KL itself like its square: loose for many steps", None),
    ),
)
off = LETTERS.define("e_s", "relative error of the score")
beyond = LETTERS.define("u", "T - 2", positive=True)
SPAN = 2 + beyond


def _not_ode(rate: int = 1, share: Any = sp.Rational(1, 4)) -> Statement:
    """The variance of the ODE after time t from N(0, 1), its KL at T, a bound on it, and when that is above e^2 T/2."""
    variance = sp.exp(-rate * off * t)
    divergence = (sp.exp(off * SPAN) - 1 - off * SPAN) / 2
    return (
        equal(sp.Derivative(variance, t), (1 - (1 + off)) * variance),
        equal(sp.Subs(gaussian_kl(1, 0, variance), t, SPAN), divergence),
        sp.Ge(divergence, share * (off * SPAN) ** 2),
        sp.Gt(share * (off * SPAN) ** 2, HALF * off**2 * SPAN),
    )


NOT_ODE = Claim(
    name="girsanov-not-ode",
    title="The ODE breaks the bound: for white noise, s_hat = -(1 + e_s) x and T > 2, KL(p || q) >= (e_s T)^2/4 > "
    "e_s^2 T/2.",
    statement=_not_ode(),
    certificate=Each((
        Identity(), Identity(), Increasing(off, 0, factor=sp.exp(-off * SPAN), order=3), Reals(),
    )),
    provenance="derived",
    assumptions=(sp.Gt(off, 0),),
    bound=HALF * off**2 * SPAN,
    mutants=(
        Mutant("variance e^(-2 e_s T)", _not_ode(rate=2)),
        Mutant("KL >= (e_s T)^2", _not_ode(share=1)),
        Mutant("KL >= (e_s T)^2/2", _not_ode(share=HALF)),
        Mutant("KL >= (e_s T)^2/5", _not_ode(share=sp.Rational(1, 5))),
    ),
    steps=(
        (
            "White noise is stationary: p_t = N(0, 1) at every t, s = -x, the start is exact and E|s - s_hat|^2 = "
            "e_s^2: the bound is e_s^2 T/2",
            None,
        ),
        ("After time T of dx = (x + s_hat)/2, from N(0, 1), the variance v is", sp.exp(-off * T)),
        (
            "KL(p || q) = (1/v - 1 + log v)/2 is (e_s T)^2/4 at least, since exp(y) >= 1 + y + y^2/2 for y = e_s T > 0",
            None,
        ),
    ),
)  # fmt: skip
CLAIMS = (REVERSE, TIGHT, GIRSANOV, FROZEN_SCORE, DISCRETISED, NOT_ODE)
