"""What the built models do, compared with what was predicted before they ran."""

from collections.abc import Callable, Iterator
from typing import Any

import sympy as sp
import torch

from theory.certify import Sweep
from theory.claim import Claim, Mutant, Statement
from theory.symbols import NOTATION, SPECTRUM, K, Letters
from unrolled.diffusion import add_noise, alpha
from unrolled.generated import relative_score_error
from unrolled.handset import construct, hidden_iterates
from unrolled.handset.iterates import reference_iterates
from unrolled.handset.truncation import truncate
from unrolled.kernels import Exponential, Logarithmic, Polynomial, TemporalKernel
from unrolled.models.record import ReluConstruction, record_of
from unrolled.process import GaussianProcess, random_spatial_covariance

__all__ = ["CLAIMS", "score_error_bound"]

LETTERS = Letters("predictions", NOTATION, SPECTRUM)
SEQUENCES = 6
T_RANGE = (0.01, 5.0)
KERNELS: tuple[TemporalKernel, ...] = (Exponential(4.0, 1.0), Polynomial(2.0, 1.5), Logarithmic(2.0, 1.0))
LOOSE = "the prediction is a bound with room, and its margin is printed"
deviation, predicted, relative, worst = LETTERS.symbols({
    "deviation": "largest distance of an iterate from the reference solver's, over the norm of the score",
    "predicted": "what the record in .construction predicts",
    "score error": "relative error of the score, root mean square",
    "worst": "largest relative error of the score of a sequence, in the norm of the statement",
}, nonnegative=True)  # fmt: skip
kappa_J = LETTERS.define("kappa_J", "condition number of the truncated covariance C_{t,J}")
expected = LETTERS.define(
    "expected", "root mean square error that the record in .construction expects", nonnegative=True
)
tail = LETTERS.define("r_J", "a_J/m_J, what the truncation changes the solution by", nonnegative=True)


def _process(kernel: TemporalKernel, length: int = 12, dim: int = 2) -> GaussianProcess:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(length, dim, generator=generator, dtype=torch.float64)
    return GaussianProcess(length, kernel, random_spatial_covariance(dim, 4.0, generator), mean)


def _state(process: GaussianProcess, t: float, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x0 = process.sample(SEQUENCES, generator)
    return add_noise(x0, t, torch.randn(x0.shape, generator=generator, dtype=torch.float64)).to(dtype)


@torch.no_grad()
def _score(model: torch.nn.Module, x: torch.Tensor, t: float) -> torch.Tensor:
    """The model without gradients; a decorator on the generators below would end at their first yield."""
    return model(x, t)


def _deviations(model: str) -> Callable[[], Iterator[dict[Any, float]]]:
    """Both dtypes, both affine solvers, three kernels, the times of the record."""

    def points() -> Iterator[dict[Any, float]]:
        for kernel in KERNELS:
            process = _process(kernel)
            for algorithm in ("gradient_descent", "chebyshev"):
                for dtype in (torch.float64, torch.float32):
                    built = construct(process, algorithm, 6, model=model, t_range=T_RANGE, dtype=dtype)
                    record = record_of(built)
                    for k in range(0, len(record.times), 16):
                        t = record.times[k]
                        x = _state(process, t, dtype)
                        expected = reference_iterates(record, process, x, t)
                        iterates = hidden_iterates(built, process, x, t)
                        size = process.score(x.double(), t).norm()
                        gap = max(
                            float((a.double() - b).norm() / size) for a, b in zip(iterates, expected, strict=True)
                        )
                        yield {deviation: gap, predicted: record.predicted_error[k]}

    return points


def _within(factor: float = 1.0) -> Statement:
    return (sp.Le(deviation, sp.Float(factor) * predicted),)


def _deviation_claim(model: str, words: str) -> Claim:
    return Claim(
        name=f"deviation-{model}",
        title=f"The iterates in the stream of a {words} stay as near to the reference solver's as its record predicts.",
        statement=_within(),
        certificate=Sweep(
            _deviations(model),
            "three kernels, gradient descent and Chebyshev, 12 frames, d = 2, K = 6, t = 0.01, 0.22, 5, float64 "
            "and float32",
        ),
        provenance="derived",
        bound=predicted,
        mutants=(Mutant("a thousandth of it", _within(1e-3)), Mutant("a hundredth of it", _within(1e-2))),
        true_variants=dict.fromkeys(
            ("right side times 0.9", "right side times 0.5", "deviation times 1.1"), LOOSE
        ),
        steps=(("See unrolled/handset/predict.py: exact root mean squares to first order, rounding modelled as"
                " white, times 2", None),),
        scope="a prediction, since rounding is modelled; the largest ratio is what float32 leaves unused.",
    )  # fmt: skip


def _preconditioned() -> Iterator[dict[Any, float]]:
    for kernel in KERNELS:
        process = _process(kernel)
        for steps in (1, 2):
            built = construct(process, "preconditioned", steps, t_range=T_RANGE)
            record = record_of(built)
            for k in range(0, len(record.times), 8):
                t = record.times[k]
                yield {relative: relative_score_error(built, process, t), expected: record.predicted_error[k]}


def _expected(factor: sp.Expr = sp.Rational(101, 100)) -> Statement:
    return (sp.Le(relative, factor * expected), sp.Ge(relative, expected / factor))


EXPECTED = Claim(
    name="preconditioned-expected",
    title="The root mean square error of a preconditioned DiT agrees with what its record expects to 1 %; its affine "
    "map gives it exactly.",
    statement=_expected(),
    certificate=Sweep(
        _preconditioned, "three kernels, 12 frames, d = 2, 1 and 2 applications, five t from 0.01 to 5, float64",
    ),
    provenance="derived",
    bound=expected,
    mutants=(
        Mutant("half of it", (sp.Le(relative, expected / 2),)),
        Mutant("twice as much", (sp.Ge(relative, 2 * expected),)),
    ),
    steps=(
        ("The error of the score is E_j y_1 with E_j = E_{j-1} - Q_j C E_{j-1}/sigma^2 and y_1 of covariance "
         "C_t", None),
        ("so its mean square is |E_j C^(1/2)|_F^2, over that of the score, tr C^{-1}", None),
    ),
)  # fmt: skip


def score_error_bound(tail_share: Any, condition: Any, steps: Any, off: Any = 0) -> Any:
    """Relative error of the score: truncation, then what K steps leave, then what the model is off."""
    q = (sp.sqrt(condition) - 1) / (sp.sqrt(condition) + 1)
    return tail_share + (1 + tail_share) * 2 * q**steps / (1 + q ** (2 * steps)) + off


def _hardest(process: GaussianProcess, t: float) -> torch.Tensor:
    """A state off the mean by the eigenvector of C_t of the smallest eigenvalue, where Chebyshev leaves the most."""
    _, vectors = torch.linalg.eigh(process.noisy_covariance(t))
    return (alpha(t) * process.mean + vectors[:, 0].reshape(process.mean.shape))[None]


def _budget_points() -> Iterator[dict[Any, float]]:
    """Short kernels, so that J < N, and a long one with J = N; every sequence by itself, and the hardest one."""
    for kernel in (Exponential(0.7, 1.0), Exponential(2.0, 1.0), Polynomial(1.0, 3.0), Exponential(8.0, 1.0)):
        process = _process(kernel, length=24 if kernel.lengthscale < 8 else 6)
        for steps in (2, 8):
            built = construct(process, "chebyshev", steps, model="relu", t_range=T_RANGE)
            record = record_of(built, ReluConstruction)
            covariance = truncate(process, record.truncation, T_RANGE[0])
            for k in range(0, len(record.times), 8):
                t = record.times[k]
                x = torch.cat([_state(process, t, torch.float64), _hardest(process, t)])
                exact = process.score(x, t)
                error = (_score(built, x, t) - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
                low, high = covariance.extreme_eigenvalues(t)
                yield {
                    worst: float(error.max()), tail: record.truncation_error[k], kappa_J: high / low, K: steps,
                    predicted: record.predicted_error[k],
                }  # fmt: skip


def _budget(**changes: Any) -> Statement:
    given = {"tail_share": tail, "condition": kappa_J, "steps": K, "off": predicted, **changes}
    return (sp.Le(worst, score_error_bound(**given)),)


BUDGET = Claim(
    name="score-error-budget",
    title="Relative score error <= r + (1 + r) 2q^K/(1+q^2K) + deviation, r = a_J/m_J, q of kappa_J, "
    "the truncated covariance's.",
    statement=_budget(),
    certificate=Sweep(
        _budget_points,
        "three kernels, 24 frames, J < N, and OU, 6 frames, J = N; d = 2, K = 2 and 8, five t from 0.01 to 5, random"
        " states and the hardest one, float64",
    ),
    provenance="derived",
    assumptions=(sp.Ge(kappa_J, 1),),
    mutants=(
        Mutant("without the solver's part", (sp.Le(worst, tail + predicted),)),
        Mutant("twice the steps", _budget(steps=2 * K)),
        Mutant("kappa^(1/4)", _budget(condition=sp.sqrt(kappa_J))),
    ),
    steps=(
        ("s_J is the solution of the truncated system: |s_J - s| <= r |s| (truncation-solution)", None),
        ("K steps leave q_K |s_J| <= q_K (1 + r) |s| (chebyshev-value)", None),
        ("The model is off from the solver by its deviation (deviation-relu); add the three", None),
    ),
)


def _cg_points() -> Iterator[dict[Any, float]]:
    for kernel in (Exponential(4.0, 1.0), Polynomial(2.0, 1.5)):
        process = _process(kernel, length=8, dim=1)
        for steps in (2, 4):
            built = construct(process, "conjugate_gradient", steps, model="relu", t_range=T_RANGE)
            record = record_of(built, ReluConstruction)
            covariance = truncate(process, record.truncation, T_RANGE[0])
            for k in range(0, len(record.times), 8):
                t = record.times[k]
                x = _state(process, t, torch.float64)
                dense = alpha(t) ** 2 * (torch.kron(covariance.temporal, process.spatial_covariance))
                dense = dense + (1 - alpha(t) ** 2) * torch.eye(len(dense), dtype=torch.float64)
                exact = -torch.linalg.solve(dense, (x - alpha(t) * process.mean).flatten(1).T).T
                gap = _score(built, x, t).flatten(1) - exact
                norms = [((vectors @ dense) * vectors).sum(dim=1).sqrt() for vectors in (gap, exact)]
                yield {worst: float((norms[0] / norms[1]).max()), predicted: record.predicted_error[k]}


def _cg(factor: Any = 1) -> Statement:
    return (sp.Le(worst, factor * predicted),)


CG = Claim(
    name="conjugate-gradient-predicted",
    title="Conjugate gradient in the forward pass stays within its record: the Chebyshev bound in the C-norm "
    "plus rounding.",
    statement=_cg(),
    certificate=Sweep(_cg_points, "two kernels, 8 frames, d = 1, K = 2 and 4, five t from 0.01 to 5, float64"),
    provenance="derived",
    bound=predicted,
    mutants=(Mutant("a tenth of it", _cg(sp.Rational(1, 10))), Mutant("its square", (sp.Le(worst, predicted**2),))),
    true_variants=dict.fromkeys(("right side times 0.9", "worst times 1.1"), LOOSE),
)

CLAIMS = (
    _deviation_claim("dit", "hand-set DiT"), _deviation_claim("relu", "hand-set ReLU transformer"), EXPECTED, BUDGET,
    CG,
)  # fmt: skip
