"""What a truncated covariance leaves out: tails of the three decays, and how many lags an error asks for."""

from typing import Any

import sympy as sp

from theory.certify import (
    Decreasing,
    Each,
    Identity,
    Increasing,
    Induction,
    IntegralTest,
    Reals,
    Signs,
    equal,
)
from theory.claim import Claim, Mutant, Statement
from theory.symbols import LAGS, NOTATION, SPECTRUM, J, Letters, N, a_J, ell, gamma, l, m, p, rho, total

__all__ = ["CLAIMS"]

LETTERS = Letters("truncation", NOTATION, SPECTRUM, LAGS)
i = LETTERS.define("i", "a running index", integer=True, nonnegative=True)
X: Any = sp.IndexedBase("x", real=True)
LETTERS.name({X.label: "a vector of one value for each frame"})


f = sp.Function("f", real=True)
size = LETTERS.define("|x|^2", "sum of the squares of x", nonnegative=True)
LETTERS.name({f: "f(l), the sum of x_i x_{i+l} over i"})
INSIDE = (sp.Lt(J, N),)


BACKWARDS = "a sum that runs backwards counts negatively, so that it holds there too"


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


def _geometric(closed: Any) -> Statement:
    return (equal(2 * total(rho**l, (l, J, N - 1)), closed),)


GEOMETRIC = 2 * (rho**J - rho**N) / (1 - rho)
TAIL_OU = Claim(
    name="tail-ou",
    title="For OU delta = 2 (rho^J - rho^N)/(1 - rho) exactly, rho = e^(-1/ell).",
    statement=_geometric(GEOMETRIC),
    certificate=Induction(N, J, base=Identity(reduce=sp.simplify), step=Identity(reduce=sp.simplify)),
    provenance="derived",
    assumptions=INSIDE,
    bound=GEOMETRIC,
    true_variants={"without J < N": BACKWARDS},
    mutants=(
        Mutant("one side", _geometric(GEOMETRIC / 2)),
        Mutant("from lag J+1", _geometric(2 * (rho ** (J + 1) - rho**N) / (1 - rho))),
    ),
    steps=(("The closed form is 0 at N = J and grows by 2 rho^N", None),),
)


def _logarithms(difference: Any) -> Any:
    return sp.simplify(sp.expand_log(difference, force=True))


def _probe(lengthscale: Any, power: Any, lags: int, length: int) -> tuple[dict[Any, Any], ...]:
    """Where terms change little from one to the next, so that a sum is nearly its integral."""
    return ({ell: sp.sympify(lengthscale), p: sp.sympify(power), J: sp.Integer(lags), N: sp.Integer(length)},)


def _delta(kernel: Any) -> Any:
    """delta with its first lag apart."""
    return 2 * kernel.subs(l, J) + 2 * total(kernel, (l, J + 1, N - 1))


EXPONENTIAL = sp.exp(-((l / ell) ** p))
EXPONENTIAL_INTEGRAL = ell / p * sp.uppergamma(1 / p, (J / ell) ** p)


def _exponential(first: Any = 2, integral: Any = 2 * EXPONENTIAL_INTEGRAL) -> Statement:
    return (sp.Le(_delta(EXPONENTIAL), first * EXPONENTIAL.subs(l, J) + integral),)


TAIL_EXPONENTIAL = Claim(
    name="tail-exponential",
    title="For Exponential(ell, p) delta <= 2 gamma(J) + 2 (ell/p) Gamma(1/p, (J/ell)^p), whatever N.",
    statement=_exponential(),
    certificate=IntegralTest(index=l, integral=-EXPONENTIAL_INTEGRAL.subs(J, l), probes=_probe(60, 2, 1, 300)),
    provenance="derived",
    assumptions=INSIDE,
    mutants=(
        Mutant("without gamma(J)", _exponential(first=0)),
        Mutant("without ell/p", _exponential(integral=2 * p / ell * EXPONENTIAL_INTEGRAL)),
    ),
    steps=(
        (
            "gamma decreases, so each term but the first is below the integral over the unit before it",
            None,
        ),
        ("The integral from J on, with z = (x/ell)^p, is an incomplete Gamma function", EXPONENTIAL_INTEGRAL),
    ),
)

POLYNOMIAL = (1 + (l / ell) ** 2) ** (-p / 2)
BELOW_POWER = ((l / ell) ** 2 / (1 + (l / ell) ** 2), p / 2)
"""gamma = (ell/l)^p times this base to this power."""
POLYNOMIAL_INTEGRAL = ell**p * J ** (1 - p) / (p - 1)


def _polynomial(integral: Any, first: Any = 2, power: Any = p) -> Statement:
    kernel = POLYNOMIAL.subs(p, power)
    return (sp.Le(_delta(kernel), first * kernel.subs(l, J) + 2 * integral),)


TAIL_POLYNOMIAL = Claim(
    name="tail-polynomial",
    title="For Polynomial(ell, p), p > 1, delta <= 2 gamma(J) + 2 ell^p J^(1-p)/(p-1), whatever N.",
    statement=_polynomial(POLYNOMIAL_INTEGRAL),
    certificate=IntegralTest(
        index=l, integral=-POLYNOMIAL_INTEGRAL.subs(J, l), ratio=BELOW_POWER, probes=_probe(1, 4, 100, 800)
    ),
    provenance="derived",
    assumptions=(*INSIDE, sp.Gt(p, 1)),
    mutants=(
        Mutant("without gamma(J)", _polynomial(POLYNOMIAL_INTEGRAL, first=0)),
        Mutant("times (p-1)^2", _polynomial(POLYNOMIAL_INTEGRAL * (p - 1) ** 2)),
        Mutant("J^(-p)", _polynomial(POLYNOMIAL_INTEGRAL / J)),
        Mutant("without p > 1", assumptions=INSIDE),
    ),
    steps=(("gamma(x) <= (ell/x)^p, whose integral from J on is", POLYNOMIAL_INTEGRAL),),
)

HEAVY_INTEGRAL = ell**p * ((N - 1) ** (1 - p) - J ** (1 - p)) / (1 - p)
HARMONIC_INTEGRAL = ell * sp.log((N - 1) / J)
TAIL_HARMONIC = Claim(
    name="tail-polynomial-harmonic",
    title="For Polynomial(ell, 1) delta <= 2 gamma(J) + 2 ell log((N-1)/J).",
    statement=_polynomial(HARMONIC_INTEGRAL, power=1),
    certificate=IntegralTest(
        index=l,
        integral=ell * sp.log(l),
        ratio=(BELOW_POWER[0], sp.Rational(1, 2)),
        end=Signs(_logarithms),
        probes=_probe(sp.Rational(1, 2), 1, 20, 400),
    ),
    provenance="derived",
    assumptions=INSIDE,
    mutants=(
        Mutant("half the logarithm", _polynomial(HARMONIC_INTEGRAL / 2, power=1)),
        Mutant("without the logarithm", _polynomial(0, power=1)),
    ),
    steps=(("gamma(x) <= ell/x, whose integral from J to N - 1 is", HARMONIC_INTEGRAL),),
)
TAIL_HEAVY = Claim(
    name="tail-polynomial-heavy",
    title="For Polynomial(ell, p), p < 1, delta <= 2 gamma(J) + 2 ell^p ((N-1)^(1-p) - J^(1-p))/(1-p): it grows "
    "with N.",
    statement=_polynomial(HEAVY_INTEGRAL),
    certificate=IntegralTest(
        index=l,
        integral=ell**p * l ** (1 - p) / (1 - p),
        ratio=BELOW_POWER,
        probes=_probe(sp.Rational(1, 2), sp.Rational(1, 2), 20, 400),
    ),
    provenance="derived",
    assumptions=(*INSIDE, sp.Lt(p, 1)),
    mutants=(
        Mutant("without 1/(1-p)", _polynomial(HEAVY_INTEGRAL * (1 - p))),
        Mutant("a quarter of the integral", _polynomial(HEAVY_INTEGRAL / 4)),
    ),
    steps=(("gamma(x) <= (ell/x)^p, whose integral from J to N - 1 is", HEAVY_INTEGRAL),),
)

ROUGH = (1 + l / ell) ** (-p)
ROUGH_INTEGRAL = ell / (p - 1) * ((1 + J / ell) ** (1 - p) - (1 + (N - 1) / ell) ** (1 - p))
ROUGH_HARMONIC_INTEGRAL = ell * sp.log((ell + N - 1) / (ell + J))


def _rough(integral: Any, first: Any = 2, power: Any = p) -> Statement:
    kernel = ROUGH.subs(p, power)
    return (sp.Le(_delta(kernel), first * kernel.subs(l, J) + 2 * integral),)


TAIL_ROUGH = Claim(
    name="tail-rough-polynomial",
    title="For RoughPolynomial(ell, p), p not 1, delta <= 2 gamma(J) + 2 ell/(p-1) ((1+J/ell)^(1-p) - "
    "(1+(N-1)/ell)^(1-p)).",
    statement=_rough(ROUGH_INTEGRAL),
    certificate=IntegralTest(index=l, integral=-ell / (p - 1) * (1 + l / ell) ** (1 - p), probes=_probe(30, 2, 1, 400)),
    provenance="derived",
    assumptions=(*INSIDE, sp.Ne(p, 1)),
    mutants=(
        Mutant("without gamma(J)", _rough(ROUGH_INTEGRAL, first=0)),
        Mutant("times |p-1|", _rough(ROUGH_INTEGRAL * sp.Abs(p - 1))),
        Mutant("a quarter of the integral", _rough(ROUGH_INTEGRAL / 4)),
    ),
    steps=(("gamma decreases; its integral from J to N - 1 is", ROUGH_INTEGRAL),),
)
TAIL_ROUGH_HARMONIC = Claim(
    name="tail-rough-polynomial-harmonic",
    title="For RoughPolynomial(ell, 1) delta <= 2 gamma(J) + 2 ell log((ell+N-1)/(ell+J)).",
    statement=_rough(ROUGH_HARMONIC_INTEGRAL, power=1),
    certificate=IntegralTest(
        index=l, integral=ell * sp.log(ell + l), end=Signs(_logarithms), probes=_probe(30, 1, 1, 400)
    ),
    provenance="derived",
    assumptions=INSIDE,
    mutants=(
        Mutant("half the logarithm", _rough(ROUGH_HARMONIC_INTEGRAL / 2, power=1)),
        Mutant("without the logarithm", _rough(0, power=1)),
    ),
    steps=(("gamma decreases; its integral from J to N - 1 is", ROUGH_HARMONIC_INTEGRAL),),
)

LOGARITHMIC = (1 + sp.log(1 + (l / ell) ** 2)) ** (-p)
LOGARITHMIC_BOUND = 2 * (N - J) * LOGARITHMIC.subs(l, J)


def _logarithmic(above: Any = 1, below: Any = 1, at: Any = N - 1) -> Statement:
    delta = 2 * total(LOGARITHMIC, (l, J, N - 1))
    return (sp.Le(delta, above * LOGARITHMIC_BOUND), sp.Ge(delta, below * 2 * (N - J) * LOGARITHMIC.subs(l, at)))


TAIL_LOGARITHMIC = Claim(
    name="tail-logarithmic",
    title="For Logarithmic(ell, p) 2 (N - J) gamma(N-1) <= delta <= 2 (N - J) gamma(J): of order N up to a power "
    "of log N.",
    statement=_logarithmic(),
    certificate=Decreasing(),
    provenance="derived",
    assumptions=INSIDE,
    mutants=(
        Mutant("half of it", _logarithmic(above=sp.Rational(1, 2))),
        Mutant("gamma(J) from below", _logarithmic(at=J)),
    ),
    steps=(
        ("gamma decreases: each of the N - J terms lies between gamma(N-1) and gamma(J)", None),
        (
            "gamma(N)/gamma(J) falls like a power of log N only: cutting off a share of the lags leaves that share of "
            "delta",
            LOGARITHMIC.subs(l, N) / LOGARITHMIC.subs(l, J),
        ),
    ),
)
v = LETTERS.define("v", "a lag in lengthscales")


def _diverges(bound: Any = v) -> Statement:
    return (sp.Le(sp.log(1 + v**2), bound),)


DIVERGES = Claim(
    name="tail-logarithmic-diverges",
    title="1 + log(1 + v^2) <= 1 + v: with p = 1 the tail of a logarithmic kernel exceeds that of 1/(1+v), whose sum "
    "diverges.",
    statement=_diverges(),
    certificate=Increasing(v, 0, factor=1 + v**2),
    provenance="derived",
    assumptions=(sp.Ge(v, 0),),
    mutants=(Mutant("v/2", _diverges(v / 2)), Mutant("v^2/2", _diverges(v**2 / 2))),
    steps=(("Equal at v = 0; the derivative of v - log(1+v^2) is (1-v)^2/(1+v^2)", None),),
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
)

CLAIMS = (
    NORM, TAIL_OU, TAIL_EXPONENTIAL, TAIL_POLYNOMIAL, TAIL_HARMONIC, TAIL_HEAVY, TAIL_ROUGH, TAIL_ROUGH_HARMONIC,
    TAIL_LOGARITHMIC, DIVERGES,
    LAGS_NEEDED, ADMISSIBLE,
)  # fmt: skip
