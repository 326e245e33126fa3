"""From sizes to samples: parameters, covering numbers, and the exponents of the total-variation rate."""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from theory.certify import Identity, Reals, Sweep, equal
from theory.claim import Claim, Mutant, Statement
from theory.rates import LETTERS as RATES
from theory.rates import SOLVERS, Rate, covering, imputation_rate, kappa, n, total_variation
from theory.symbols import BLOCKS as L
from theory.symbols import HEADS as M
from theory.symbols import HIDDEN as H
from theory.symbols import SIZES, Letters, N, d, p
from theory.symbols import WIDTH as D
from unrolled.models.relu import ReluTransformer, ReluTransformerConfig

__all__ = ["CLAIMS"]

LETTERS = Letters("estimation", RATES, SIZES)
count = LETTERS.define("P", "parameters of the model")
features = LETTERS.define("n_phi", "time features", integer=True, positive=True)


def _counted() -> Iterator[dict[Any, float]]:
    for length, dim, width, blocks, heads, hidden, rates in (
        (4, 1, 6, 1, 1, 2, 0),
        (8, 2, 9, 3, 2, 5, 1),
        (5, 3, 12, 2, 4, 7, 2),
    ):
        config = ReluTransformerConfig(
            length=length,
            dim=dim,
            width=width,
            heads=(heads,) * blocks,
            hidden=(hidden,) * blocks,
            rates=(1.0,) * rates,
        )
        parameters = sum(weight.numel() for weight in ReluTransformer(config).parameters())
        yield {
            N: length, d: dim, D: width, L: blocks, M: heads, H: hidden, features: 3 + rates, count: parameters,
        }  # fmt: skip


def _parameters(matrices: int = 3) -> Statement:
    blocks = L * (matrices * M * D**2 + 2 * D * H + H + D)
    return (equal(count, blocks + D * (N + 2 * d + features)),)


PARAMETERS = Claim(
    name="parameter-count",
    title="T(D, L, M, B, R) has L (3 M D^2 + 2 D H + H + D) parameters in blocks and D (N + 2d + n_phi) in encoder "
    "and decoder.",
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

a1, a2, b1, b2, lip, gain, gap, middle = LETTERS.symbols({
    "y_1": "a state", "y_2": "a perturbed state", "f_1": "a block at it", "f_2": "another block at the other",
    "Lambda": "Lipschitz constant of a block", "delta_w": "distance of the two blocks at one state",
    "gap": "|y_1 - y_2|", "f_3": "the first block at the perturbed state",
})  # fmt: skip


def _perturbation(spread: Any = lip * gap + gain) -> Statement:
    return (sp.Le(sp.Abs(b1 - b2), spread),)


PERTURBATION_DOMAIN = (sp.Le(sp.Abs(b1 - middle), lip * gap), sp.Le(sp.Abs(middle - b2), gain), sp.Ge(gap, 0))
PERTURBATION = Claim(
    name="perturbation-recursion",
    title="Blocks that are off by delta_w each leave an error that obeys gap_{k+1} <= Lambda gap_k + delta_w: the log "
    "covering number takes one more L.",
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
        ("So the outputs of two networks differ by at most delta_w (Lambda^L - 1)/(Lambda - 1)", None),
        ("A cover of precision epsilon needs weights to precision epsilon Lambda^-L: L log Lambda + log(1/epsilon) "
         "digits each", None),
        ("Times the L M D^2 parameters this is of the order", L**2 * M * D**2),
    ),
)  # fmt: skip


capacity = LETTERS.define("A", "D^2 L^2 of the construction", positive=True)


def _tradeoff(lags: Any = (kappa**2 * n / capacity) ** (1 / (2 * p - 1)), power: int = 2) -> Statement:
    """The two parts of the relative score error, squared: capacity J/n and (kappa J^(1-p))^2."""
    return (equal(capacity * lags / n, (kappa * lags ** (1 - p)) ** power),)


def _powers(difference: Any) -> Any:
    return sp.simplify(sp.powsimp(sp.powdenest(sp.expand_power_base(difference, force=True), force=True), force=True))


TRADEOFF = Claim(
    name="rate-balance",
    title="For polynomial decay J = (kappa^2 n/(D^2 L^2))^(1/(2p-1)) lags balance estimation, D^2 L^2 J/n, and "
    "truncation, (kappa J^(1-p))^2.",
    statement=_tradeoff(),
    certificate=Identity(reduce=_powers),
    provenance="derived",
    bound=(kappa**2 * n / capacity) ** (1 / (2 * p - 1)),
    assumptions=(sp.Gt(p, 1),),
    mutants=(
        Mutant("J = (n/(D^2 L^2))^(1/(2p-1))", _tradeoff((n / capacity) ** (1 / (2 * p - 1)))),
        Mutant("tail not squared", _tradeoff(power=1)),
    ),
    steps=(
        (
            "delta falls like J^(1-p) (tail-polynomial), and moves the score by kappa delta of itself "
            "(truncation-solution)",
            None,
        ),
        ("Both parts are relative to E|s|^2, of order N d kappa", None),
    ),
)


def _published(claimed: Any = sp.sqrt(N * d**2 * kappa**5 / n)) -> Statement:
    return (equal(imputation_rate().expression, claimed),)


IMPUTATION = Claim(
    name="rate-imputation",
    title="Width d, 4N heads, kappa^2 blocks (two nested gradient descents) and a loss of range kappa give sqrt(N "
    "d^2 kappa^5/n).",
    statement=_published(),
    certificate=Identity(reduce=_powers),
    provenance="published",
    source="arXiv 2510.02216, E[TV] = O~(sqrt(H d^2 kappa^5/n)) for sequences of length H",
    bound=imputation_rate().expression,
    mutants=(
        Mutant("one gradient descent", _published(sp.sqrt(N * d**2 * kappa**3 / n))),
        Mutant("width N d", _published(sp.sqrt(N**3 * d**2 * kappa**5 / n))),
    ),
    steps=(
        ("Blocks: kappa outer steps of kappa inner ones each, so L^2 is of order", kappa**4),
        ("Log covering number D^2 M L^2", d**2 * N * kappa**4),
        ("Times the range kappa of the loss, over n", N * d**2 * kappa**5 / n),
    ),
    scope="that the nesting gives kappa^4 and the loss of one value kappa is our reading of its sizes; the paper may"
    " split kappa^5 otherwise. Our own chain, for the loss of a whole sequence, has N d more under the root.",
)


SEQUENCE = N * d
"""Values of a sequence."""


def _ours(**changed: Any) -> Statement:
    """Squared rates of the solvers at exponential decay, and of conjugate gradient at the other two."""
    lags = (kappa * n / d**2) ** (1 / (2 * p - 1))
    claimed = {
        ("gradient descent", "exponential"): SEQUENCE * d**2 * kappa**3 / n,
        ("Chebyshev", "exponential"): SEQUENCE * kappa**3 / n,
        ("conjugate gradient", "exponential"): SEQUENCE * d**2 * kappa**2 / n,
        ("conjugate gradient", "polynomial"): SEQUENCE * kappa**2 * d**2 / n * lags,
        ("conjugate gradient", "logarithmic"): SEQUENCE * N * d**2 * kappa**2 / n,
    }  # fmt: skip
    return tuple(
        equal(
            total_variation(solver, decay).expression,
            sp.sqrt(changed.get(decay if solver[0] == "c" else solver, value)),
        )
        for (solver, decay), value in claimed.items()
    )


OURS = Claim(
    name="rate-solvers",
    title="TV^2 n/(N d) is of order d^2 kappa^3 J with gradient descent, kappa^3 J with Chebyshev, d^2 kappa^2 J "
    "with conjugate gradient.",
    statement=_ours(),
    certificate=Identity(reduce=_powers),
    provenance="derived",
    bound=total_variation("conjugate gradient", "polynomial").expression,
    mutants=(
        Mutant("gradient descent as deep as conjugate gradient",
               _ours(**{"gradient descent": SEQUENCE * d**2 * kappa**2 / n})),
        Mutant("polynomial decay at the parametric rate", _ours(polynomial=SEQUENCE * d**2 * kappa**2 / n)),
        Mutant("logarithmic decay without its N lags", _ours(logarithmic=SEQUENCE * d**2 * kappa**2 / n)),
    ),
    steps=(
        ("Log covering number of gradient descent", covering(SOLVERS["gradient descent"])),
        ("of Chebyshev, whose step sizes take channels, where sqrt(kappa) exceeds d", covering(SOLVERS["Chebyshev"])),
        ("of conjugate gradient", covering(SOLVERS["conjugate gradient"])),
        ("times the range N d kappa of the loss, over n; J is 1 (times log n), that of rate-balance, or N", None),
    ),
    scope="ReLU models, up to constants and logarithms; upper bounds from the sizes, not minimax rates. The "
    "preconditioned"
    " DiT is not in the class, and its depth at a fixed error, not as n grows, is what does not depend on kappa "
    "(measured).",
)  # fmt: skip


def _parametric() -> Statement:
    limit = Rate.of(total_variation("conjugate gradient", "polynomial").expression).n
    return (equal(sp.Limit(limit, p, sp.oo), -sp.Rational(1, 2)), equal(sp.Limit(limit, p, 1, "+"), 0))


LIMITS = Claim(
    name="rate-polynomial-limits",
    title="The exponent of n for polynomial decay, -(p-1)/(2p-1), runs from 0 at p = 1 to the parametric -1/2.",
    statement=_parametric(),
    certificate=Identity(),
    provenance="derived",
    bound=-(p - 1) / (2 * p - 1),
    assumptions=(sp.Gt(p, 1),),
    mutants=(
        Mutant("to -1", (equal(sp.Limit(_parametric()[0].lhs.args[0], p, sp.oo), -1),)),
        Mutant("from -1/2", (equal(sp.Limit(_parametric()[0].lhs.args[0], p, 1, "+"), -sp.Rational(1, 2)),)),
    ),
)

CLAIMS = (PARAMETERS, PERTURBATION, TRADEOFF, IMPUTATION, OURS, LIMITS)
