"""From sizes to samples: parameters, covering numbers, and the exponents of the total-variation rate."""

from collections.abc import Iterator, Mapping
from typing import Any

import sympy as sp

from theory.certify import Each, Identity, Reals, Sweep, equal
from theory.claim import Claim, Mutant, Statement
from theory.convergence import CHEBYSHEV_STEPS as DEPTH_OF_CHEBYSHEV
from theory.convergence import GD_STEPS as DEPTH_OF_GD
from theory.rates import LETTERS as RATES
from theory.rates import SOLVERS, Sizes, covering, imputation_rate, kappa, n, total_variation
from theory.sizes import CLAIMS as BUILT
from theory.sizes import distinct
from theory.symbols import BLOCKS as L
from theory.symbols import HEADS as M
from theory.symbols import HIDDEN as H
from theory.symbols import SIZES, J, K, Letters, N, d, eps, p
from theory.symbols import WIDTH as D
from theory.symbols import kappa as CONDITION
from unrolled.models.relu import ReluTransformer, ReluTransformerConfig

__all__ = ["CLAIMS"]

LETTERS = Letters("estimation", RATES, SIZES)
GD_STEPS, CHEBYSHEV_STEPS = (steps.subs(CONDITION, kappa) for steps in (DEPTH_OF_GD, DEPTH_OF_CHEBYSHEV))
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


REST = L**2 * (2 * D * H + H + D) + L * D * (N + 2 * d + features)
"""What the log covering number has beside the heads: neither D^2 for H of order d, nor M."""


def _covering(order: Any = covering(Sizes(D, L, M)), rest: Any = REST) -> Statement:
    """Parameters times the L of their digits."""
    return (equal(_parameters()[0].rhs * L, 3 * order + rest),)


COVERING = Claim(
    name="covering-number",
    title="The log covering number of T(D, L, M, B, R), L digits for each parameter, is 3 D^2 M L^2 and terms of lower "
    "order in D and M: of order D^2 M L^2.",
    statement=_covering(),
    certificate=Identity(),
    provenance="published",
    source="arXiv 2510.02216",
    bound=covering(Sizes(D, L, M)),
    mutants=(
        Mutant("D^2 M L", _covering(D**2 * M * L)),
        Mutant("D M L^2", _covering(D * M * L**2)),
        Mutant("without the rest", _covering(rest=0)),
    ),
    steps=(
        ("Parameters by parameter-count; digits by perturbation-recursion, of order L log Lambda", None),
        ("The rest has no factor M, and no D^2 where H is of order d", REST),
    ),
    scope="up to the logarithms of Lambda, B, R and of the precision.",
)

lip, gain, power = LETTERS.symbols({
    "Lambda": "Lipschitz constant of a block", "delta_w": "distance of two blocks at one state", "w": "Lambda^L",
}, positive=True)  # fmt: skip
GAP = gain * (lip**L - 1) / (lip - 1)


def _perturbation(gap: Any = GAP, digits: Any = power) -> Statement:
    """A gap that starts at 0, grows by Lambda and by delta_w in every block; and its factor below Lambda^L."""
    return (
        equal(gap.subs(L, L + 1), lip * gap + gain), equal(sp.Subs(gap, L, 0), 0),
        sp.Le((power - 1) / (lip - 1), digits),
    )  # fmt: skip


PERTURBATION = Claim(
    name="perturbation-recursion",
    title="Outputs of two networks whose blocks are delta_w apart differ by at most delta_w (Lambda^L - 1)/(Lambda - "
    "1): weights need L log Lambda more digits than the output.",
    statement=_perturbation(),
    certificate=Each((Identity(reduce=sp.simplify), Identity(), Reals())),
    provenance="derived",
    assumptions=(sp.Ge(lip, 2),),
    bound=GAP,
    mutants=(
        Mutant("delta_w Lambda^L", _perturbation(gain * lip**L)),
        Mutant("digits of Lambda^(L/2)", _perturbation(digits=sp.sqrt(power))),
    ),
    steps=(
        ("One block: |f(y) - g(y')| <= |f(y) - f(y')| + |f(y') - g(y')| <= Lambda |y - y'| + delta_w", None),
        ("So the gap after k + 1 blocks is Lambda times that after k, plus delta_w, from 0 on", GAP),
        ("A cover of precision epsilon needs weights to precision epsilon Lambda^-L: L log Lambda + log(1/epsilon) "
         "digits each", None),
    ),
)  # fmt: skip


capacity = LETTERS.define("A", "D^2 L^2 of the construction", positive=True)


def _tradeoff(lags: Any = (kappa**2 * n / capacity) ** (1 / (2 * p - 1)), power: int = 2) -> Statement:
    """The two parts of the relative score error, squared: capacity J/n and (kappa J^(1-p))^2."""
    return (equal(capacity * lags / n, (kappa * lags ** (1 - p)) ** power),)


def _powers(difference: Any) -> Any:
    return sp.simplify(sp.powsimp(sp.powdenest(sp.expand_power_base(difference, force=True), force=True), force=True))


LAGS_BALANCED = (kappa**2 * n / capacity) ** (1 / (2 * p - 1))


def _exponent(claimed: Any = -(p - 1) / (2 * p - 1), end: Any = -sp.Rational(1, 2)) -> Statement:
    """The exponent of n in the root of the balanced error, and its limits for slow and fast decay."""
    squared = capacity * LAGS_BALANCED / n
    return (
        equal(n * sp.diff(sp.log(squared), n) / 2, claimed),
        equal(sp.Limit(claimed, p, sp.oo), end), equal(sp.Limit(claimed, p, 1, "+"), 0),
        sp.And(sp.Lt(0, 1 / (2 * p - 1)), sp.Lt(1 / (2 * p - 1), 1)),
    )  # fmt: skip


TRADEOFF = Claim(
    name="rate-balance",
    title="For polynomial decay J = (kappa^2 n/(D^2 L^2))^(1/(2p-1)) lags balance estimation, D^2 L^2 J/n, and "
    "truncation, (kappa J^(1-p))^2; the exponent of n, -(p-1)/(2p-1), runs from 0 at p = 1 to the parametric -1/2.",
    statement=(*_tradeoff(), *_exponent()),
    certificate=Each((Identity(reduce=_powers), Identity(reduce=sp.simplify), Identity(), Identity(), Reals())),
    provenance="derived",
    bound=LAGS_BALANCED,
    assumptions=(sp.Gt(p, 1),),
    mutants=(
        Mutant("J = (n/(D^2 L^2))^(1/(2p-1))", (*_tradeoff((n / capacity) ** (1 / (2 * p - 1))), *_exponent())),
        Mutant("tail not squared", (*_tradeoff(power=1), *_exponent())),
        Mutant("exponent -(p-1)/(2p)", (*_tradeoff(), *_exponent(-(p - 1) / (2 * p)))),
        Mutant("to -1", (*_tradeoff(), *_exponent(end=-1))),
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


def _exact(claim: Claim, letter: Any, steps: Any) -> Any:
    """A size of a built model with J < N and one step size for gradient descent, in kappa."""
    (size,) = (relation.rhs for relation in claim.statement if relation.lhs == letter)
    if letter == M:
        size = size.subs(N, J + 1)  # truncated
        size = size.subs(J, J + 2) if size.has(sp.Max) else size  # and with more than one lag
    return size.subs(distinct, steps if "chebyshev" in claim.name else 1).subs(K, steps)


RELU_GD, RELU_CHEBYSHEV, RELU_CG, RELU_PUBLISHED = BUILT
EXACT = {"gradient descent": RELU_GD, "Chebyshev": RELU_CHEBYSHEV, "conjugate gradient": RELU_CG}
STEPS = {"gradient descent": GD_STEPS, "Chebyshev": CHEBYSHEV_STEPS, "conjugate gradient": CHEBYSHEV_STEPS}
GROWING = {"gradient descent": (d, kappa, J), "Chebyshev": (kappa, kappa, J), "conjugate gradient": (d, kappa, J)}
"""Letters that D, L and M grow with."""


def _orders(orders: Mapping[str, Sizes] = SOLVERS) -> Statement:
    """Exact sizes over their orders have a limit that is neither 0 nor infinite."""
    limits = {
        "gradient descent": (5, sp.log(1 / eps), 1), "Chebyshev": (sp.log(2 / eps) / 2, sp.log(2 / eps), 1),
        "conjugate gradient": (7, 11 * sp.log(2 / eps) / 2, 1),
    }  # fmt: skip
    return tuple(
        equal(sp.Limit(_exact(EXACT[solver], letter, STEPS[solver]) / order, growing, sp.oo), limit)
        for solver, sizes in orders.items()
        for letter, order, growing, limit in zip(
            (D, L, M), (sizes.D, sizes.L, sizes.M), GROWING[solver], limits[solver], strict=True
        )
    )


ORDERS = Claim(
    name="rate-sizes",
    title="The sizes from which rates follow are those of the built models (sizes-relu-..) at the depths of gd-depth "
    "and chebyshev-depth: D, L, M of order d, kappa, J; sqrt(kappa), sqrt(kappa), J; d, sqrt(kappa), J.",
    statement=_orders(),
    certificate=Identity(),
    provenance="derived",
    mutants=(
        Mutant("gradient descent at the depth of Chebyshev",
               _orders({"gradient descent": Sizes(d, sp.sqrt(kappa), J)})),
        Mutant("Chebyshev of width d", _orders({"Chebyshev": Sizes(d, sp.sqrt(kappa), J)})),
        Mutant("one head", _orders({"conjugate gradient": Sizes(d, sp.sqrt(kappa), sp.Integer(1))})),
    ),
    steps=(("A limit of an exact size over its order, as the letter of the order grows", None),),
    scope="the width of Chebyshev is of order sqrt(kappa) where that exceeds d; logarithms of 1/epsilon are constants.",
)  # fmt: skip


def _published(claimed: Any = sp.sqrt(N * d**2 * kappa**5 / n), heads: int = 4) -> Statement:
    """Width and heads of the published modules, built here, and the rate that the nested sizes give."""
    return (
        equal(sp.Limit(_exact(RELU_PUBLISHED, D, GD_STEPS) / d, d, sp.oo), 9),
        equal(_exact(RELU_PUBLISHED, M, GD_STEPS), heads * J),
        equal(imputation_rate().expression, claimed),
    )


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
        Mutant("a head for each lag", _published(heads=1)),
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


CLAIMS = (PARAMETERS, PERTURBATION, COVERING, TRADEOFF, ORDERS, IMPUTATION, OURS)
