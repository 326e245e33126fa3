"""What a relative score error guarantees about the samples.

`python -m theory.guarantee` prints the whole chain for a process, from the sizes of a model to total variation.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import sympy as sp

from theory.certify import Identity, Sweep, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import NOTATION, Letters, T, clean, eps, t, t0
from unrolled.cli import module_app, print_table, run_app
from unrolled.diffusion import ScoreModel
from unrolled.gaussian import GaussianLaw, kl_divergence
from unrolled.generated import generated_law, marginal_law, relative_score_error, score_error, standard_law
from unrolled.handset import construct
from unrolled.kernels import Exponential, Polynomial
from unrolled.models.record import record_of
from unrolled.options import ProcessOptions
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

kl, terminal, energy, path = LETTERS.symbols({
    "KL": "KL(p_t0 || q_t0) of the generated samples", "KL_T": "KL(p_T || the law from which sampling starts)",
    "E": "integral of E|s|^2 over [t_0, T], see score-energy", "int_error": "integral of E|s - s_hat|^2 over [t_0, T]",
}, nonnegative=True)  # fmt: skip
GUARANTEE_KL = terminal + eps**2 * energy / 2


def _setting(
    process: GaussianProcess, model: ScoreModel, span: tuple[float, float], times: Sequence[float],
    start: GaussianLaw | None = None,
) -> dict[Any, float]:  # fmt: skip
    worst = max(relative_score_error(model, process, time) for time in times)
    spectrum = (process.temporal_eigen[0][:, None] * process.spatial_eigen[0]).flatten().tolist()
    generated = generated_law(model, process.length, process.dim, span, start=start, rtol=1e-8)
    return {
        kl: kl_divergence(marginal_law(process, span[0]), generated), eps: worst,
        terminal: kl_divergence(marginal_law(process, span[1]), start or standard_law(len(spectrum))),
        energy: sum(ENERGY.evaluate(c_0=value, t_0=span[0], T=span[1]) for value in spectrum),
        path: score_error(model, process, span)[0],
    }  # fmt: skip


def _settings() -> Iterator[dict[Any, float]]:
    """Hand-set models, 1.1 times the score, and the score of other data over a range in which its relative error hardly
    changes, started from their law: nearly tight. epsilon is the largest relative error over the range, exact."""
    spatial = random_spatial_covariance(1)
    for kernel, steps in ((Exponential(4.0, 1.0), 1), (Exponential(4.0, 1.0), 2), (Polynomial(2.0, 1.5), 1)):
        process, span = GaussianProcess(6, kernel, spatial), (0.05, 3.0)
        model = construct(process, "preconditioned", steps, t_range=span)
        yield _setting(process, model, span, record_of(model).times)
    for kernel in (Exponential(4.0, 1.0), Polynomial(2.0, 1.5)):
        process = GaussianProcess(6, kernel, spatial)
        exact = process.exact_score()
        yield _setting(process, lambda x, at, exact=exact: 1.1 * exact(x, at), (0.05, 8.0), [0.05, 1.0, 8.0])
    for size, other in ((100.0, 150.0), (150.0, 50.0)):  # relative errors of 1/3 and of 2
        process, rival = (GaussianProcess(2, Exponential(2), [[value]]) for value in (size, other))
        span = (0.01, 0.5)
        yield _setting(process, rival.exact_score(), span, span, marginal_law(rival, span[1]))


def _guarantee(bound: Any = GUARANTEE_KL) -> Statement:
    return (sp.Le(path, eps**2 * energy), sp.Le(kl, bound))


GUARANTEE = Claim(
    name="guarantee",
    title="A relative score error, root mean square, of epsilon or less at every t guarantees KL(p_t0 || q_t0) <= "
    "KL_T + epsilon^2 E/2.",
    statement=_guarantee(),
    certificate=Sweep(
        _settings,
        "preconditioned DiTs of 1 and 2 applications, t from 0.05 to 3, and 1.1 times the score, t from 0.05 to 8;"
        " OU and polynomial, 6 frames; the score of other data, off by a third and by twice its size, nearly tight",
        1e-6,
    ),
    provenance="derived",
    bound=GUARANTEE_KL,
    assumptions=(sp.Gt(eps, 0),),
    mutants=(
        Mutant("without KL_T", _guarantee(eps**2 * energy / 2)),
        Mutant("half the score error's part", _guarantee(terminal + eps**2 * energy / 4)),
        Mutant("epsilon^3", _guarantee(terminal + eps**3 * energy / 2)),
    ),
    steps=(
        ("Girsanov (claim girsanov) with E|s - s_hat|^2 <= epsilon^2 E|s|^2 at every t, and score-energy", None),
        ("Pinsker and Bretagnolle-Huber make a total variation of it", None),
    ),
)

CLAIMS = (ENERGY, GUARANTEE)


def guarantee(*, process: ProcessOptions = ProcessOptions(), eta: float = 0.1) -> None:
    """Which sizes of a hand-set model and of the sampler guarantee a total variation of eta?

    Example: `python -m theory.guarantee --temporal exponential --lengthscale 8 --length 64 --eta 0.1`

    The answer is K, J, T, t_0 and the number of steps of the sampler, and every link of the chain from them to the
    total variation between the data and the samples: a bound, never less than the truth.

    Parameters
    ----------
    eta
        Total variation to guarantee, in (0, 1).
    """
    from theory.chain import chain  # which asks the registry for the claims, those of this file among them

    data = process.process()
    links = chain(data, eta)
    print_table(
        f"{data}: a ReLU transformer that runs Chebyshev, and the sampler of the SDE with steps even in log t",
        ("size", "value"),
        [
            ("lags kept, J", str(links.lags)), ("steps of the solver, K", str(links.iterations)),
            ("start of the sampler, T", f"{links.T:.3g}"), ("its end, t_0", f"{links.t0:.3g}"),
            ("its steps", str(links.steps)),
        ],
    )  # fmt: skip
    rows = [
        ("relative score error (score-error-budget)", links.score_error),
        ("KL(p_T || N(0, I)) (terminal-kl-bound)", links.terminal),
        ("steps of the sampler (frozen-score)", links.discretisation),
        ("error of the score (girsanov-discretised)", links.score),
        ("KL(p_t0 || samples), the sum of the last three", links.kl),
        ("KL(p_t0 || p_0) (early-stopping-kl)", links.early),
        ("TV(p_0, samples) (pinsker, twice)", links.total_variation),
    ]
    print_table("each link at most", ("link", "bound"), [(words, f"{bound:.3g}") for words, bound in rows])


app = module_app("theory.guarantee", guarantee)

if __name__ == "__main__":
    run_app(app)
