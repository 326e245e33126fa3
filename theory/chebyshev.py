"""Chebyshev polynomials: the step sizes, what they leave, and why no polynomial of the same degree does better."""

from typing import Any

import sympy as sp

from theory.certify import Each, Identity, Induction, Reals, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import NOTATION, SPECTRUM, K, L, Letters, kappa, lam, m

__all__ = ["CLAIMS"]

LETTERS = Letters("chebyshev", NOTATION, SPECTRUM)
SAAD = "Saad, Iterative Methods for Sparse Linear Systems, 2nd ed."
ROOT = LETTERS.define("k", "root of the condition number", positive=True)
RATE = (kappa - 1) / (kappa + 1)
theta, c = LETTERS.symbols({"theta": "an angle", "c": "a node, a zero of T_K"})
i = LETTERS.define("i", "a running index", integer=True, nonnegative=True)
NODE = sp.cos(sp.pi * (2 * i + 1) / (2 * K))


def _reduce_trigonometric(difference: Any) -> Any:
    return sp.simplify(sp.expand_trig(sp.expand(difference)))


TRIGONOMETRIC = Identity(reduce=_reduce_trigonometric)


def _chebyshev_zeros(shift: int = 1, factor: Any = K) -> Statement:
    node = sp.UnevaluatedExpr(sp.pi * (2 * i + shift) / (2 * K))
    return (equal(sp.chebyshevt(K, sp.cos(theta)), sp.cos(factor * theta)), equal(sp.cos(K * node), 0))


ZEROS = Claim(
    name="chebyshev-zeros",
    title="T_K(cos theta) = cos K theta, which vanishes at the nodes cos(pi(2i+1)/(2K)).",
    statement=_chebyshev_zeros(),
    certificate=Each((Induction(K, 0, step=TRIGONOMETRIC), TRIGONOMETRIC)),
    provenance="published",
    source=f"{SAAD}, sec. 6.11.1",
    mutants=(
        Mutant("nodes cos(pi i/K)", _chebyshev_zeros(shift=0)),
        Mutant("cos((K+1) theta)", _chebyshev_zeros(factor=K + 1)),
    ),
    steps=(("T_0 = 1, T_1 = x and T_{K+1} = 2 x T_K - T_{K-1}, which cos K theta obeys with x = cos theta", None),),
)
MIDDLE, HALF = (L + m) / 2, (L - m) / 2
OUTSIDE = (L + m) / (L - m)
"""Where lambda = 0 lies when [m, L] is mapped onto [1, -1]."""
DOMAIN = (sp.Lt(0, m), sp.Lt(m, L))


def _residual(sign: int = 1, mirrored: int = -1) -> Statement:
    """The factor of one step; nodes come in pairs; no step size is infinite."""
    mapped = (L + m - sign * 2 * lam) / (L - m)
    return (
        equal(1 - lam / (MIDDLE + HALF * c), (mapped + c) / (OUTSIDE + c)),
        equal(sp.cos(sp.pi * (2 * (K - 1 - i) + 1) / (2 * K)), mirrored * NODE),
        sp.Gt(OUTSIDE + c, 0),
    )


RESIDUAL = Claim(
    name="chebyshev-residual",
    title="K steps with the reciprocals of the nodes on [m, L] leave T_K((L+m-2 lambda)/(L-m))/T_K((L+m)/(L-m)) of "
    "an error.",
    statement=_residual(),
    certificate=Each((Identity(), TRIGONOMETRIC, Reals())),
    provenance="published",
    source=f"{SAAD}, sec. 12.3.2",
    assumptions=(*DOMAIN, sp.Gt(c, -1)),
    mutants=(
        Mutant("sign of lambda", _residual(sign=-1)),
        Mutant("nodes of one sign", _residual(mirrored=1)),
    ),
    steps=(
        ("A step with the reciprocal of a node takes the factor", (L + m - 2 * lam) / (L - m) + c),
        ("over its value at lambda = 0, and with every node c its opposite is one", None),
        ("so the product vanishes where T_K does (chebyshev-zeros), at K places, and is 1 at lambda = 0", None),
    ),
    scope="a polynomial of degree K is determined by its K different zeros and its value at lambda = 0.",
)


q = LETTERS.define("q", "(sqrt(kappa)-1)/(sqrt(kappa)+1)", positive=True)


def _chebyshev_value(numerator: int = 2, rate: Any = (ROOT - 1) / (ROOT + 1)) -> Statement:
    """Where q comes from, and T_K at that point in q."""
    return (
        equal((rate + 1 / rate) / 2, (ROOT**2 + 1) / (ROOT**2 - 1)),
        equal(sp.chebyshevt(K, (q + 1 / q) / 2), (1 + q ** (2 * K)) / (numerator * q**K)),
    )


VALUE = Claim(
    name="chebyshev-value",
    title="1/T_K((kappa+1)/(kappa-1)) = 2 q^K/(1 + q^(2K)) with q = (sqrt(kappa)-1)/(sqrt(kappa)+1).",
    statement=_chebyshev_value(),
    certificate=Each((Identity(), Induction(K, 0, step=Identity(reduce=sp.simplify)))),
    provenance="published",
    source=f"{SAAD}, sec. 6.11.3",
    mutants=(
        Mutant("without the 2", _chebyshev_value(numerator=1)),
        Mutant("q = (kappa-1)/(kappa+1)", _chebyshev_value(rate=(ROOT**2 - 1) / (ROOT**2 + 1))),
    ),
    steps=(
        ("T_K((z + 1/z)/2) = (z^K + z^-K)/2, by the recurrence; here z = 1/q, since (q + 1/q)/2 is",
         (kappa + 1) / (kappa - 1)),
    ),
)  # fmt: skip


def _optimality(sign: int = -1, shift: int = 0) -> Statement:
    """At the K+1 extrema T_K is +-1 in turn; they lie in [m, L] and 0 does not."""
    angle = sp.UnevaluatedExpr(sp.pi * i / K)
    extremum = MIDDLE - HALF * c
    return (
        equal(sp.cos((K + shift) * angle), sign**i),
        equal((L + m - 2 * extremum) / (L - m), c),
        sp.And(sp.Le(m, extremum), sp.Le(extremum, L)),
        sp.Gt(OUTSIDE, 1),
    )


OPTIMALITY = Claim(
    name="chebyshev-optimal",
    title="On the K+1 extrema of T_K over [m, L] every polynomial with p(0) = 1 of degree K has |p| >= "
    "1/T_K((L+m)/(L-m)) somewhere.",
    statement=_optimality(),
    certificate=Each((TRIGONOMETRIC, Identity(), Reals(), Reals())),
    provenance="published",
    source="Nemirovsky and Yudin, Problem Complexity and Method Efficiency in Optimization, 1983",
    assumptions=(*DOMAIN, sp.Ge(c, -1), sp.Le(c, 1)),
    mutants=(
        Mutant("extrema of one sign", _optimality(sign=1)),
        Mutant("extrema of T_{K+1}", _optimality(shift=1)),
    ),
    steps=(
        ("Let r(lambda) = T_K(mapped lambda)/T_K(mapped 0), which is +-1/T_K(mapped 0) in turn at the extrema", None),
        ("If |p| were smaller at all of them, r - p would change its sign K times in [m, L]", None),
        ("and vanish at lambda = 0 too, outside of [m, L]: K+1 zeros", None),
        ("So a matrix with these eigenvalues defeats every fixed polynomial; a given C may be easier (cg-ends)", None),
    ),
    scope="a polynomial of degree K with K + 1 zeros is 0, so that r = p, which is not smaller.",
)

CLAIMS = (ZEROS, RESIDUAL, VALUE, OPTIMALITY)
