"""Chebyshev polynomials: the step sizes, what they leave, and why no polynomial of the same degree does better."""

from typing import Any

import sympy as sp

from theory.certify import Identity, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import NOTATION, SPECTRUM, K, L, Letters, kappa, lam, m

__all__ = ["CLAIMS"]

LETTERS = Letters("chebyshev", NOTATION, SPECTRUM)
SAAD = "Saad, Iterative Methods for Sparse Linear Systems, 2nd ed."
ROOT = LETTERS.define("k", "root of the condition number", positive=True)
RATE = (kappa - 1) / (kappa + 1)
theta = LETTERS.define("theta", "an angle")
k = LETTERS.define("i", "a running index", integer=True, nonnegative=True)
NODE = sp.cos(sp.pi * (2 * k + 1) / (2 * K))


def _chebyshev_zeros(shift: int = 1, coefficient: int = 2) -> Statement:
    recurrence = coefficient * sp.cos(theta) * sp.cos(K * theta) - sp.cos((K - 1) * theta)
    return (
        equal(sp.expand_trig(sp.cos((K + 1) * theta)), sp.expand_trig(recurrence)),
        equal(sp.cos(K * (sp.pi * (2 * k + shift) / (2 * K))), 0),
    )


def _reduce_trigonometric(difference: Any) -> Any:
    return sp.simplify(sp.expand_trig(sp.expand(difference)))


ZEROS = Claim(
    name="chebyshev-zeros",
    title="T_K(cos theta) = cos K theta obeys the recurrence of T_K, and vanishes at the nodes cos(pi(2i+1)/(2K)).",
    statement=_chebyshev_zeros(),
    certificate=Identity(reduce=_reduce_trigonometric),
    provenance="published",
    source=f"{SAAD}, sec. 6.11.1",
    mutants=(
        Mutant("nodes cos(pi i/K)", _chebyshev_zeros(shift=0)),
        Mutant("recurrence without the 2", _chebyshev_zeros(coefficient=1)),
    ),
    steps=(
        ("T_0 = 1, T_1 = x and T_{K+1} = 2 x T_K - T_{K-1}: cos K theta starts so and obeys the same recurrence", None),
        ("Its K zeros are all zeros of a polynomial of degree K", NODE),
    ),
)


def _residual(sign: int = 1) -> Statement:
    middle, half = (L + m) / 2, (L - m) / 2
    product = sp.Product(1 - lam / (middle + half * NODE), (k, 0, K - 1))
    scaled = (L + m - sign * 2 * lam) / (L - m)
    return (equal(product, sp.chebyshevt(K, scaled) / sp.chebyshevt(K, (L + m) / (L - m))),)


def _reduce_surd(difference: Any) -> Any:
    """The numerator, expanded: square roots of integers among the coefficients then multiply out."""
    return sp.expand(sp.fraction(sp.together(difference))[0])


RESIDUAL = Claim(
    name="chebyshev-residual",
    title="K steps with the reciprocals of the nodes on [m, L] leave T_K((L+m-2 lambda)/(L-m))/T_K((L+m)/(L-m)) of "
    "an error.",
    statement=_residual(),
    certificate=Identity(tuple({K: steps} for steps in (1, 2, 3)), reduce=_reduce_surd),
    provenance="published",
    source=f"{SAAD}, sec. 12.3.2",
    mutants=(
        Mutant("sign of lambda", _residual(sign=-1)),
        Mutant("half the polynomial's argument", (equal(_residual()[0].lhs, _residual()[0].rhs.subs(lam, lam / 2)),)),
    ),
    steps=(
        (
            "Both sides are polynomials in lambda of degree K, 1 at lambda = 0, with the same zeros (chebyshev-zeros)",
            None,
        ),
    ),
    scope="reduced for K = 1, 2, 3; equal zeros and equal value at 0 decide it for every K.",
)


def _chebyshev_value(numerator: int = 2) -> Statement:
    q = (ROOT - 1) / (ROOT + 1)
    return (
        equal((q + 1 / q) / 2, (ROOT**2 + 1) / (ROOT**2 - 1)),
        equal(sp.chebyshevt(K, (ROOT**2 + 1) / (ROOT**2 - 1)) * numerator * q**K, 1 + q ** (2 * K)),
    )


VALUE = Claim(
    name="chebyshev-value",
    title="1/T_K((kappa+1)/(kappa-1)) = 2 q^K/(1 + q^(2K)) with q = (sqrt(kappa)-1)/(sqrt(kappa)+1).",
    statement=_chebyshev_value(),
    certificate=Identity(tuple({K: steps} for steps in range(1, 9))),
    provenance="published",
    source=f"{SAAD}, sec. 6.11.3",
    mutants=(
        Mutant("without the 2", _chebyshev_value(numerator=1)),
        Mutant("q = (kappa-1)/(kappa+1)", (equal((RATE + 1 / RATE) / 2, (kappa + 1) / (kappa - 1)),)),
    ),
    steps=(
        ("T_K((z + 1/z)/2) = (z^K + z^-K)/2, by the recurrence; here z = 1/q, since (q + 1/q)/2 is",
         (kappa + 1) / (kappa - 1)),
    ),
    scope="reduced for K = 1..8; the recurrence carries it to every K.",
)  # fmt: skip


def _lagrange(degree: int, sign: int = 1) -> Statement:
    """sum_j |l_j(0)| = T_K((L+m)/(L-m)) for the Lagrange polynomials of the K+1 extrema on [m, L]."""
    points = [(L + m) / 2 - (L - m) / 2 * sp.cos(sp.pi * j / degree) for j in range(degree + 1)]
    total = sp.Integer(0)
    for j, point in enumerate(points):
        others = [other for i, other in enumerate(points) if i != j]
        total += (-1 if sign > 0 else 1) ** j * sp.Mul(*(other / (other - point) for other in others))
    return (equal(total, sp.chebyshevt(degree, (L + m) / (L - m))),)


def _optimality(sign: int = 1) -> Statement:
    return tuple(equation for degree in (1, 2, 3, 4) for equation in _lagrange(degree, sign))


OPTIMALITY = Claim(
    name="chebyshev-optimal",
    title="On the K+1 extrema of T_K over [m, L] every polynomial with p(0) = 1 of degree K has |p| >= "
    "1/T_K((L+m)/(L-m)) somewhere.",
    statement=_optimality(),
    certificate=Identity(reduce=_reduce_surd),
    provenance="published",
    source="Nemirovsky and Yudin, Problem Complexity and Method Efficiency in Optimization, 1983",
    mutants=(
        Mutant("weights that do not alternate", _optimality(sign=-1)),
        Mutant("T_K(kappa)", (equal(_lagrange(2)[0].lhs, sp.chebyshevt(2, L / m)),)),
    ),
    steps=(
        ("Interpolate p at the extrema: 1 = p(0) = sum_j l_j(0) p(lambda_j)", None),
        ("0 lies left of all of them, so l_j(0) has the sign (-1)^j, and 1 <= max|p| sum_j |l_j(0)|", None),
        ("That sum is the value at 0 of the polynomial that is (-1)^j there", sp.chebyshevt(K, (L + m) / (L - m))),
        ("So a matrix with these eigenvalues defeats every fixed polynomial; a given C may be easier (cg-ends)", None),
    ),
    scope="reduced for K = 1..4; the third step is general.",
)

CLAIMS = (ZEROS, RESIDUAL, VALUE, OPTIMALITY)
