"""A covariance cut off at J lags: how far it moves, and how many lags an error asks for. Its tails are in
theory/tails.py."""

from typing import Any

import sympy as sp

from theory.certify import Each, Identity, Induction, Reals, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import LAGS, NOTATION, SPECTRUM, J, Letters, N, a_J, ell, gamma, l, m, total

__all__ = ["BACKWARDS", "CLAIMS", "INSIDE"]

LETTERS = Letters("truncation", NOTATION, SPECTRUM, LAGS)
i = LETTERS.define("i", "a running index", integer=True, nonnegative=True)
X: Any = sp.IndexedBase("x", real=True)
LETTERS.name({X.label: "a vector of one value for each frame"})


f = sp.Function("f", real=True)
size = LETTERS.define("|x|^2", "sum of the squares of x", nonnegative=True)
LETTERS.name({f: "f(l), the sum of x_i x_{i+l} over i"})
INSIDE = (sp.Lt(J, N),)


BACKWARDS = "from J = N on nothing is cut off: the sum is empty, or runs backwards and counts negatively"


def _squares(sign: int, doubled: int = 2, ends: int = 1) -> Any:
    """For one lag l >= 1: 2|x|^2 +- 2f(l) as a sum of squares."""
    norm = total(X[i] ** 2, (i, 0, N - 1))
    form = total(X[i] * X[i + l], (i, 0, N - 1 - l))
    squares = total((X[i] + sign * X[i + l]) ** 2, (i, 0, N - 1 - l))
    outside = total(X[i] ** 2, (i, 0, l - 1)) + total(X[i] ** 2, (i, N - l, N - 1))
    return equal(squares + ends * outside, 2 * norm + sign * doubled * form)


def _weighted(sign: int, delta: Any) -> Any:
    """delta |x|^2 +- x'(Gamma - Gamma_J)x as a sum over lags."""
    form = 2 * total(gamma(l) * f(l), (l, J, N - 1))
    return equal(delta * size + sign * form, total(gamma(l) * (2 * size + 2 * sign * f(l)), (l, J, N - 1)))


def _row_sum(sign: int = -1, factor: Any = 2, **changes: int) -> Statement:
    delta = factor * total(gamma(l), (l, J, N - 1))
    return (_squares(sign, **changes), _squares(-sign, **changes), _weighted(sign, delta), _weighted(-sign, delta))


NORM = Claim(
    name="truncation-norm",
    title="|Gamma - Gamma_J| <= delta = 2 sum of gamma(l) over l = J..N-1, in the 2-norm.",
    statement=_row_sum(),
    certificate=Each((Induction(N, l), Induction(N, l), Induction(N, J), Induction(N, J))),
    provenance="derived",
    assumptions=(*INSIDE, sp.Le(l, N)),
    mutants=(
        Mutant("one side of the diagonal", _row_sum(factor=1)),
        Mutant("without the ends", _row_sum(ends=0)),
        Mutant("once the form", _row_sum(doubled=1)),
    ),
    steps=(
        ("gamma >= 0 and the squares are not negative, so |x'(Gamma - Gamma_J)x| <= delta |x|^2", None),
        ("Gamma - Gamma_J is symmetric: its 2-norm is the largest |x'(Gamma - Gamma_J)x| over |x| = 1", None),
    ),
    scope="the two steps of the derivation; the identities hold for every N, J and kernel.",
    true_variants={"without J < N": BACKWARDS, "without l <= N": BACKWARDS},
)


w, tail = LETTERS.symbols({
    "w": "p - 1, for a polynomial kernel whose tail is finite", "delta_J": "tail asked for",
}, positive=True)  # fmt: skip
LAGS_OU = ell * sp.log(2 / (tail * (1 - sp.exp(-1 / ell))))
LAGS_POLYNOMIAL = 1 + (2 * ell ** (1 + w) / (w * tail)) ** (1 / w)


def _lags(ou: Any = LAGS_OU, polynomial: Any = LAGS_POLYNOMIAL) -> Statement:
    """Infinite tails at these J, real now: geometric, and the integral from J - 1 on."""
    ou, polynomial = sp.UnevaluatedExpr(ou), sp.UnevaluatedExpr(polynomial)
    return (
        equal(2 * sp.exp(-ou / ell) / (1 - sp.exp(-1 / ell)), tail),
        equal(2 * ell ** (1 + w) * (polynomial - 1) ** (-w) / w, tail),
    )


def _reduce_lags(difference: Any) -> Any:
    """Powers of positive numbers combine."""
    denested: Any = sp.powdenest(sp.expand_log(sp.simplify(difference), force=True), force=True)
    return sp.simplify(denested)


LAGS_NEEDED = Claim(
    name="lags-needed",
    title="delta is reached at J = ell log(2/(delta (1-rho))) lags for OU, J = 1 + (2 ell^p/((p-1) delta))^(1/(p-1)) "
    "for p > 1.",
    statement=_lags(),
    certificate=Identity(reduce=_reduce_lags),
    provenance="derived",
    bound=LAGS_OU,
    mutants=(
        Mutant("half the lags for OU", _lags(ou=LAGS_OU / 2)),
        Mutant("exponent 1/p", _lags(polynomial=1 + (2 * ell ** (1 + w) / (w * tail)) ** (1 / (1 + w)))),
    ),
    steps=(
        ("Put J into the infinite tail 2 rho^J/(1-rho), or into the integral of 2 (ell/x)^p from J - 1 on", None),
        ("So lags grow like log(1/delta) for OU, like (log 1/delta)^(1/p) for Exponential(p), like delta^(-1/(p-1)) for"
         " polynomial decay; logarithmic decay takes all N", None),
    ),
)  # fmt: skip

mJ = LETTERS.define("m_J", "smallest eigenvalue of C_{t,J}")
ADMISSIBLE = Claim(
    name="truncation-admissible",
    title="The default J, a_J <= m/10, leaves C_{t,J} positive definite with m_J >= 9 m/10 and its score within 1/9 "
    "of the true one.",
    statement=(sp.Ge(mJ, sp.Rational(9, 10) * m), sp.Le(a_J / mJ, sp.Rational(1, 9))),
    certificate=Reals(),
    provenance="derived",
    assumptions=(sp.Lt(0, m), sp.Ge(a_J, 0), sp.Le(a_J, m / 10), sp.Ge(mJ, m - a_J)),
    mutants=(
        Mutant("within 1/10", (sp.Le(a_J / mJ, sp.Rational(1, 10)),)),
        Mutant("a_J <= m/2", assumptions=(sp.Lt(0, m), sp.Ge(a_J, 0), sp.Le(a_J, m / 2), sp.Ge(mJ, m - a_J))),
        Mutant("without Weyl's inequality", assumptions=(sp.Lt(0, m), sp.Ge(a_J, 0), sp.Le(a_J, m / 10))),
    ),
    steps=(("Weyl: m_J >= m - a_J; then truncation-solution with a_J/m_J", None),),
    true_variants={"without a_J >= 0": "a_J is a bound on a norm; if it could be negative, m_J would be larger still"},
)

CLAIMS = (NORM, LAGS_NEEDED, ADMISSIBLE)
