"""From sizes to samples: parameters, covering numbers, and the exponents of the total-variation rate."""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from theory.certify import Identity, Reals, Sweep, equal
from theory.claim import Claim, Mutant, Statement
from theory.rates import SOLVERS, Rate, covering, imputation_rate, total_variation
from theory.rates import J as LAGS
from theory.rates import N as FRAMES
from theory.rates import d as DIM
from theory.rates import kappa as KAPPA
from theory.rates import n as SAMPLES
from theory.rates import p as POWER
from theory.symbols import BLOCKS as L
from theory.symbols import HEADS as M
from theory.symbols import HIDDEN as H
from theory.symbols import MEANING, N, d, define
from theory.symbols import WIDTH as D
from unrolled.relu_transformer import ReluTransformer, ReluTransformerConfig

__all__ = ["CLAIMS"]

MEANING.update({SAMPLES: "training sequences", LAGS: "lags kept", FRAMES: "frames", DIM: "values of a frame",
                KAPPA: "condition number", POWER: "power of a polynomial decay"})  # fmt: skip
count = define("P", "parameters of the model")
features = define("n_phi", "time features", integer=True, positive=True)


def _counted() -> Iterator[dict[Any, float]]:
    for length, dim, width, blocks, heads, hidden, rates in ((4, 1, 6, 1, 1, 2, 0), (8, 2, 9, 3, 2, 5, 1), (5, 3, 12, 2, 4, 7, 2)):
        config = ReluTransformerConfig(
            length=length, dim=dim, width=width, heads=(heads,) * blocks, hidden=(hidden,) * blocks, rates=(1.0,) * rates
        )
        parameters = sum(each.numel() for each in ReluTransformer(config).parameters())
        yield {
            N: length, d: dim, D: width, L: blocks, M: heads, H: hidden, features: 3 + rates, count: parameters,
        }  # fmt: skip


def _parameters(matrices: int = 3) -> Statement:
    blocks = L * (matrices * M * D**2 + 2 * D * H + H + D)
    return (equal(count, blocks + D * (N + 2 * d + features)),)


PARAMETERS = Claim(
    name="parameter-count",
    title="T(D, L, M, B, R) has L (3 M D^2 + 2 D H + H + D) parameters in blocks and D (N + 2d + n_phi) in encoder and decoder.",
    statement=_parameters(),
    certificate=Sweep(_counted, "three configurations of the class itself"),
    provenance="derived",
    bound=_parameters()[0].rhs,
    mutants=(
        Mutant("two matrices per head", _parameters(2)),
        Mutant("no encoder", (equal(count, L * (3 * M * D**2 + 2 * D * H + H + D)),)),
    ),
    steps=(("So the log covering number, parameters times the log of their precision, is of order", L * M * D**2 * L),),
)

a1, a2, b1, b2, lip, gain, gap = (define(name, meaning) for name, meaning in (
    ("y_1", "a state"), ("y_2", "a perturbed state"), ("f_1", "a block at it"), ("f_2", "another block at the other"),
    ("Lambda", "Lipschitz constant of a block"), ("delta_w", "distance of the two blocks at one state"), ("gap", "|y_1 - y_2|"),
))  # fmt: skip
middle = define("f_3", "the first block at the perturbed state")


def _perturbation(spread: Any = lip * gap + gain) -> Statement:
    return (sp.Le(sp.Abs(b1 - b2), spread),)


PERTURBATION_DOMAIN = (sp.Le(sp.Abs(b1 - middle), lip * gap), sp.Le(sp.Abs(middle - b2), gain), sp.Ge(gap, 0))
PERTURBATION = Claim(
    name="perturbation-recursion",
    title="Weights off by delta in every block leave an error that obeys gap' <= Lambda gap + delta: the log covering number takes one more L.",
    statement=_perturbation(),
    certificate=Reals(),
    provenance="derived",
    assumptions=PERTURBATION_DOMAIN,
    bound=lip * gap + gain,
    mutants=(
        Mutant("without the block's own error", _perturbation(lip * gap)),
        Mutant("without the Lipschitz bound", assumptions=PERTURBATION_DOMAIN[1:]),
    ),
    steps=(
        ("So the outputs of two networks differ by at most delta (Lambda^L - 1)/(Lambda - 1)", None),
        ("A cover of precision epsilon needs weights to precision epsilon Lambda^-L: L log Lambda + log(1/epsilon) digits each", None),
        ("Times the L M D^2 parameters this is of the order", L**2 * M * D**2),
    ),
)  # fmt: skip


def _tradeoff(exponent: Any = 1 / (2 * POWER - 1)) -> Statement:
    """J/n and J^(2(1-p)) at the J of polynomial decay, and where their sum is stationary up to a constant."""
    lags = SAMPLES**exponent
    return (equal(lags / SAMPLES, lags ** (2 * (1 - POWER))),)


def _powers(difference: Any) -> Any:
    return sp.simplify(sp.powsimp(sp.powdenest(difference, force=True), force=True))


TRADEOFF = Claim(
    name="rate-balance",
    title="For polynomial decay J = n^(1/(2p-1)) lags make the estimation error J/n equal to the squared tail J^(2(1-p)).",
    statement=_tradeoff(),
    certificate=Identity(reduce=_powers),
    provenance="derived",
    bound=SAMPLES ** (1 / (2 * POWER - 1)),
    assumptions=(sp.Gt(POWER, 1),),
    mutants=(Mutant("J = n^(1/(2p))", _tradeoff(1 / (2 * POWER))), Mutant("J = n^(1/(p-1))", _tradeoff(1 / (POWER - 1)))),
    steps=(("delta falls like J^(1-p) (tail-polynomial); the squared score error takes its square (truncation-solution)", None),),
)


def _published(claimed: Any = sp.sqrt(FRAMES * DIM**2 * KAPPA**5 / SAMPLES)) -> Statement:
    return (equal(imputation_rate().expression, claimed),)


IMPUTATION = Claim(
    name="rate-imputation",
    title="Width d, 4N heads, kappa^2 blocks (two nested gradient descents) and a loss of range kappa give sqrt(N d^2 kappa^5/n).",
    statement=_published(),
    certificate=Identity(reduce=_powers),
    provenance="published",
    source="arXiv 2510.02216, E[TV] = O~(sqrt(H d^2 kappa^5/n)) for sequences of length H",
    bound=imputation_rate().expression,
    mutants=(
        Mutant("one gradient descent", _published(sp.sqrt(FRAMES * DIM**2 * KAPPA**3 / SAMPLES))),
        Mutant("width N d", _published(sp.sqrt(FRAMES**3 * DIM**2 * KAPPA**5 / SAMPLES))),
    ),
    steps=(
        ("Blocks: kappa outer steps of kappa inner ones each, so L^2 is of order", KAPPA**4),
        ("Log covering number D^2 M L^2", DIM**2 * FRAMES * KAPPA**4),
        ("Times the range kappa of the loss, over n", FRAMES * DIM**2 * KAPPA**5 / SAMPLES),
    ),
    scope="that the nesting gives kappa^4 and the loss kappa is our reading of its sizes; the paper may split kappa^5 otherwise.",
)


def _ours(**changed: Any) -> Statement:
    """Squared rates of the four solvers at exponential decay, and of Chebyshev at the other two."""
    claimed = {
        "gd": DIM**2 * KAPPA**3 / SAMPLES, "chebyshev": DIM**2 * KAPPA**2 / SAMPLES, "preconditioned": DIM**2 * KAPPA / SAMPLES,
        "polynomial": DIM**2 * KAPPA**2 * SAMPLES ** (1 / (2 * POWER - 1) - 1),
        "logarithmic": FRAMES * DIM**2 * KAPPA**2 / SAMPLES, **changed,
    }  # fmt: skip
    found = {
        "gd": total_variation("gradient descent", "exponential"), "chebyshev": total_variation("Chebyshev", "exponential"),
        "preconditioned": total_variation("preconditioned", "exponential"),
        "polynomial": total_variation("Chebyshev", "polynomial"), "logarithmic": total_variation("Chebyshev", "logarithmic"),
    }  # fmt: skip
    return tuple(equal(found[name].expression, sp.sqrt(value)) for name, value in claimed.items())


OURS = Claim(
    name="rate-solvers",
    title="TV^2 n is of order d^2 kappa^3 J with gradient descent, d^2 kappa^2 J with Chebyshev, d^2 kappa with fitted inverses.",
    statement=_ours(),
    certificate=Identity(reduce=_powers),
    provenance="derived",
    bound=total_variation("Chebyshev", "polynomial").expression,
    mutants=(
        Mutant("Chebyshev as deep as gradient descent", _ours(chebyshev=DIM**2 * KAPPA**3 / SAMPLES)),
        Mutant("polynomial decay at the parametric rate", _ours(polynomial=DIM**2 * KAPPA**2 / SAMPLES)),
        Mutant("logarithmic decay without N", _ours(logarithmic=DIM**2 * KAPPA**2 / SAMPLES)),
    ),
    steps=(
        ("Log covering number of gradient descent", covering(SOLVERS["gradient descent"])),
        ("of Chebyshev", covering(SOLVERS["Chebyshev"])),
        ("J is 1 (times log n), n^(1/(2p-1)) or N for exponential, polynomial, logarithmic decay", None),
    ),
    scope="up to constants and logarithms, with J of rate-balance; upper bounds from the sizes, not minimax rates.",
)


def _parametric() -> Statement:
    limit = Rate.of(total_variation("Chebyshev", "polynomial").expression).n
    return (equal(sp.Limit(limit, POWER, sp.oo), -sp.Rational(1, 2)), equal(sp.Limit(limit, POWER, 1, "+"), 0))


LIMITS = Claim(
    name="rate-polynomial-limits",
    title="The exponent of n for polynomial decay, -(p-1)/(2p-1), runs from 0 at p = 1 to the parametric -1/2.",
    statement=_parametric(),
    certificate=Identity(),
    provenance="derived",
    bound=-(POWER - 1) / (2 * POWER - 1),
    assumptions=(sp.Gt(POWER, 1),),
    mutants=(
        Mutant("to -1", (equal(sp.Limit(_parametric()[0].lhs.args[0], POWER, sp.oo), -1),)),
        Mutant("from -1/2", (equal(sp.Limit(_parametric()[0].lhs.args[0], POWER, 1, "+"), -sp.Rational(1, 2)),)),
    ),
)

CLAIMS = (PARAMETERS, PERTURBATION, TRADEOFF, IMPUTATION, OURS, LIMITS)
