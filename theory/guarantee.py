"""What a relative score error guarantees about the samples."""

from collections.abc import Iterator, Sequence
from typing import Any

import sympy as sp

from theory.certify import Identity, Sweep, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import NOTATION, Letters, T, clean, eps, t, t0
from unrolled.diffusion import ScoreModel
from unrolled.gaussian import kl_divergence
from unrolled.generated import generated_law, marginal_law, relative_score_error, standard_law
from unrolled.handset import construct
from unrolled.kernels import Exponential, Polynomial
from unrolled.models.record import record_of
from unrolled.process import GaussianProcess, random_spatial_covariance

__all__ = ["CLAIMS"]

LETTERS = Letters("guarantee", NOTATION)


def _energy(at: Any) -> Any:
    """E|s|^2 = 1/c_t along an eigenvector."""
    return 1 / (sp.exp(-at) * (clean - 1) + 1)


def _antiderivative(shift: Any = clean - 1) -> Any:
    return sp.log(sp.exp(t) + shift)


def _integral(factor: Any = 1, shift: Any = clean - 1) -> Statement:
    return (equal(factor * sp.diff(_antiderivative(shift), t), _energy(t)),)


ENERGY = Claim(
    name="score-energy",
    title="The score has E|s|^2 = tr C_t^{-1}, and its integral over [t_0, T] is the sum of log((e^T + c_0 - "
    "1)/(e^t_0 + c_0 - 1)).",
    statement=_integral(),
    certificate=Identity(),
    provenance="derived",
    bound=sp.log((sp.exp(T) + clean - 1) / (sp.exp(t0) + clean - 1)),
    mutants=(
        Mutant("half of it", _integral(factor=sp.Rational(1, 2))),
        Mutant("c_0 for c_0 - 1", _integral(shift=clean)),
    ),
    steps=(
        ("s = -C^{-1}(x - alpha mu) has covariance C^{-1}; along an eigenvector E|s|^2 is", _energy(t)),
        ("whose antiderivative is", _antiderivative()),
        (
            "For small t_0 each eigenvalue adds log(1/(t_0 + c_0)): the integral grows with log kappa, not with kappa",
            None,
        ),
    ),
)

kl, terminal, energy = LETTERS.symbols({
    "KL": "KL(p_t0 || q_t0) of the generated samples, exact", "KL_T": "KL(p_T || N(0, I))",
    "E": "integral of E|s|^2 over [t_0, T], see score-energy",
})  # fmt: skip
GUARANTEE_KL = terminal + eps**2 * energy / 2


def _setting(
    process: GaussianProcess, model: ScoreModel, span: tuple[float, float], times: Sequence[float]
) -> dict[Any, float]:
    worst = max(relative_score_error(model, process, time) for time in times)
    spectrum = (process.temporal_eigen[0][:, None] * process.spatial_eigen[0]).flatten().tolist()
    generated = generated_law(model, process.length, process.dim, span, rtol=1e-7)
    return {
        kl: kl_divergence(marginal_law(process, span[0]), generated), eps: worst,
        terminal: kl_divergence(marginal_law(process, span[1]), standard_law(len(spectrum))),
        energy: sum(ENERGY.evaluate(c_0=value, t_0=span[0], T=span[1]) for value in spectrum),
    }  # fmt: skip


def _settings() -> Iterator[dict[Any, float]]:
    """Hand-set models, and 1.1 times the score; epsilon is their largest relative error over the range, exact."""
    spatial = random_spatial_covariance(1)
    for kernel, steps in ((Exponential(4.0, 1.0), 1), (Exponential(4.0, 1.0), 2), (Polynomial(2.0, 1.5), 1)):
        process, span = GaussianProcess(6, kernel, spatial), (0.05, 3.0)
        model = construct(process, "preconditioned", steps, t_range=span)
        yield _setting(process, model, span, record_of(model).times)
    for kernel in (Exponential(4.0, 1.0), Polynomial(2.0, 1.5)):
        process = GaussianProcess(6, kernel, spatial)
        exact = process.exact_score()
        yield _setting(process, lambda x, at, exact=exact: 1.1 * exact(x, at), (0.05, 8.0), [0.05, 1.0, 8.0])


GUARANTEE = Claim(
    name="guarantee",
    title="A relative score error, root mean square, of epsilon or less at every t guarantees KL(p_t0 || q_t0) <= "
    "KL_T + epsilon^2 E/2.",
    statement=(sp.Le(kl, GUARANTEE_KL),),
    certificate=Sweep(
        _settings,
        "preconditioned DiTs of 1 and 2 applications, t from 0.05 to 3, and 1.1 times the score, t from 0.05 to 8;"
        " OU and polynomial, 6 frames",
    ),
    provenance="derived",
    bound=GUARANTEE_KL,
    assumptions=(sp.Gt(eps, 0),),
    mutants=(
        Mutant("without KL_T", (sp.Le(kl, eps**2 * energy / 2),)),
        Mutant("a tenth of the score error's part", (sp.Le(kl, terminal + eps**2 * energy / 20),)),
        Mutant("epsilon^3", (sp.Le(kl, terminal + eps**3 * energy / 2),)),
    ),
    steps=(
        ("Girsanov (claim girsanov) with E|s - s_hat|^2 <= epsilon^2 E|s|^2 at every t, and score-energy", None),
        ("Pinsker and Bretagnolle-Huber make a total variation of it", None),
    ),
)

CLAIMS = (ENERGY, GUARANTEE)
