"""What a truncated covariance leaves out: tails of the three decays, and how many lags an error asks for."""

from typing import Any

import sympy as sp

from theory.certify import Balls, Identity, Increasing, Reals, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import LAGS, NOTATION, SPECTRUM, J, Letters, N, a_J, ell, gamma, l, m, p, rho, total

__all__ = ["CLAIMS"]

LETTERS = Letters("truncation", NOTATION, SPECTRUM, LAGS)
i = LETTERS.define("i", "a running index", integer=True, nonnegative=True)
X: Any = sp.IndexedBase("x", real=True)
LETTERS.name({X.label: "a vector of one value for each frame"})


def _row_sum(sign: int = -1, doubled: int = 2) -> Statement:
    """delta |x|^2 -+ x'(Gamma - Gamma_J)x as a sum of squares, for N frames and J kept lags."""
    norm = total(X[i] ** 2, (i, 0, N - 1))
    form = doubled * total(gamma(l) * total(X[i] * X[i + l], (i, 0, N - 1 - l)), (l, J, N - 1))
    tail = 2 * total(gamma(l), (l, J, N - 1))
    squares = total((X[i] - X[i + l]) ** 2, (i, 0, N - 1 - l))
    ends = total(X[i] ** 2, (i, 0, l - 1)) + total(X[i] ** 2, (i, N - l, N - 1))
    return (equal(tail * norm + sign * form, total(gamma(l) * (squares + ends), (l, J, N - 1))),)


NORM = Claim(
    name="truncation-norm",
    title="|Gamma - Gamma_J| <= delta = 2 sum of gamma(l) over l = J..N-1, in the 2-norm.",
    statement=_row_sum(),
    certificate=Identity(tuple({N: n, J: j} for n in (2, 3, 4, 5) for j in range(1, n)), reduce=sp.expand),
    provenance="derived",
    mutants=(
        Mutant("one side of the diagonal", _row_sum(doubled=1)),
        Mutant("form of the other sign", _row_sum(sign=1)),
    ),
    steps=(
        (
            "delta |x|^2 - x'(Gamma - Gamma_J)x is a sum of gamma(l) times squares (x_i - x_{i+l})^2 and squares "
            "at the "
            "ends",
            None,
        ),
        ("With (x_i + x_{i+l})^2 the other sign; gamma >= 0, so |x'(Gamma - Gamma_J)x| <= delta |x|^2", None),
        ("Gamma - Gamma_J is symmetric: its 2-norm is the largest |x'(Gamma - Gamma_J)x| over |x| = 1", None),
    ),
    scope="reduced for N = 2..5 and every J; the squares are the same for all sizes.",
)


def _geometric(closed: Any) -> Statement:
    """F(N+1) - F(N) is the next term, and F(J) = 0: induction over N."""
    return (equal(closed.subs(N, N + 1) - closed, 2 * rho**N), equal(sp.Subs(closed, N, J), 0))


GEOMETRIC = 2 * (rho**J - rho**N) / (1 - rho)
TAIL_OU = Claim(
    name="tail-ou",
    title="For OU delta = 2 (rho^J - rho^N)/(1 - rho) exactly, rho = e^(-1/ell).",
    statement=_geometric(GEOMETRIC),
    certificate=Identity(reduce=sp.simplify),
    provenance="derived",
    bound=GEOMETRIC,
    mutants=(
        Mutant("one side", _geometric(GEOMETRIC / 2)),
        Mutant("from lag J+1", _geometric(2 * (rho ** (J + 1) - rho**N) / (1 - rho))),
    ),
    steps=(("Induction over N for every J: the closed form is 0 at N = J and grows by 2 rho^N", None),),
)


def _tail(ratio: Any) -> Any:
    """Half of delta over gamma(J); `ratio` is gamma(l)/gamma(J), written so that intervals of it stay narrow."""
    return 1 + total(ratio, (l, J + 1, N - 1))


SIZES = ((32, 4), (64, 16))


def _at(*powers: Any) -> tuple[dict[Any, Any], ...]:
    return tuple({N: n, J: j, p: sp.Rational(power)} for n, j in SIZES for power in powers)


COMPARISON = (
    "decided for N, J = 32, 4 and 64, 16 and three powers; that a decreasing sum is below its integral is general."
)
EXPONENTIAL_RATIO = sp.exp((J**p - l**p) / ell**p)
EXPONENTIAL_INTEGRAL = ell / p * sp.uppergamma(1 / p, (J / ell) ** p)


def _exponential(first: Any = 1, factor: Any = 1) -> Statement:
    return (sp.Lt(_tail(EXPONENTIAL_RATIO), first + factor * EXPONENTIAL_INTEGRAL * sp.exp((J / ell) ** p)),)


TAIL_EXPONENTIAL = Claim(
    name="tail-exponential",
    title="For Exponential(ell, p) delta <= 2 gamma(J) + 2 (ell/p) Gamma(1/p, (J/ell)^p), whatever N.",
    statement=_exponential(),
    certificate=Balls({ell: (2, 16)}, _at("1/2", 1, 2)),
    provenance="derived",
    bound=2 * sp.exp(-((J / ell) ** p)) + 2 * EXPONENTIAL_INTEGRAL,
    assumptions=(sp.Le(p, 2),),
    mutants=(
        Mutant("without gamma(J)", _exponential(first=0)),
        Mutant("without ell/p", _exponential(factor=p / ell)),
    ),
    steps=(
        (
            "Over gamma(J); gamma decreases, so each term but the first is below the integral over the unit before it",
            None,
        ),
        ("The integral from J on, with z = (x/ell)^p, is an incomplete Gamma function", EXPONENTIAL_INTEGRAL),
    ),
    scope=COMPARISON,
)

POLYNOMIAL_RATIO = ((ell**2 + J**2) / (ell**2 + l**2)) ** (p / 2)
POLYNOMIAL_INTEGRAL = ell**p * J ** (1 - p) / (p - 1)


def _polynomial(first: Any = 1, factor: Any = 1) -> Statement:
    integral = J ** (1 - p) / (p - 1) * (ell**2 + J**2) ** (p / 2)
    return (sp.Lt(_tail(POLYNOMIAL_RATIO), first + factor * integral),)


TAIL_POLYNOMIAL = Claim(
    name="tail-polynomial",
    title="For Polynomial(ell, p), p > 1, delta <= 2 gamma(J) + 2 ell^p J^(1-p)/(p-1), whatever N.",
    statement=_polynomial(),
    certificate=Balls({ell: (1, 16)}, _at("5/4", 2, 4)),
    provenance="derived",
    bound=2 * (1 + (J / ell) ** 2) ** (-p / 2) + 2 * POLYNOMIAL_INTEGRAL,
    assumptions=(sp.Gt(p, 1),),
    mutants=(
        Mutant("without gamma(J)", _polynomial(first=0)),
        Mutant("times (p-1)^2", _polynomial(factor=(p - 1) ** 2)),
        Mutant("J^(-p)", _polynomial(factor=1 / J)),
    ),
    steps=(("gamma(x) <= (ell/x)^p, whose integral from J on is", POLYNOMIAL_INTEGRAL),),
    scope=COMPARISON,
)

HEAVY_INTEGRAL = ell**p * (N ** (1 - p) - J ** (1 - p)) / (1 - p)


def _heavy(factor: Any = 1) -> Statement:
    integral = (N ** (1 - p) - J ** (1 - p)) / (1 - p) * (ell**2 + J**2) ** (p / 2)
    return (sp.Lt(_tail(POLYNOMIAL_RATIO), 1 + factor * integral),)


def _harmonic(factor: Any = 1) -> Statement:
    return (sp.Lt(_tail(POLYNOMIAL_RATIO), 1 + factor * sp.log(N / J) * sp.sqrt(ell**2 + J**2)),)


TAIL_HARMONIC = Claim(
    name="tail-polynomial-harmonic",
    title="For Polynomial(ell, 1) delta <= 2 gamma(J) + 2 ell log(N/J).",
    statement=_harmonic(),
    certificate=Balls({ell: (1, 16)}, _at(1)),
    provenance="derived",
    bound=2 * (1 + (J / ell) ** 2) ** (-sp.Rational(1, 2)) + 2 * ell * sp.log(N / J),
    assumptions=(sp.Eq(p, 1),),
    mutants=(Mutant("half the logarithm", _harmonic(sp.Rational(1, 2))), Mutant("without the logarithm", _harmonic(0))),
    steps=(("gamma(x) <= ell/x, whose integral from J to N is", ell * sp.log(N / J)),),
    scope="decided for N, J = 32, 4 and 64, 16; that a decreasing sum is below its integral is general.",
)
TAIL_HEAVY = Claim(
    name="tail-polynomial-heavy",
    title="For Polynomial(ell, p), p < 1, delta <= 2 gamma(J) + 2 ell^p (N^(1-p) - J^(1-p))/(1-p): it grows with N.",
    statement=_heavy(),
    certificate=Balls({ell: (1, 16)}, _at("1/4", "1/2", "3/4")),
    provenance="derived",
    bound=2 * (1 + (J / ell) ** 2) ** (-p / 2) + 2 * HEAVY_INTEGRAL,
    assumptions=(sp.Lt(p, 1),),
    mutants=(Mutant("without 1/(1-p)", _heavy(1 - p)), Mutant("a quarter of the integral", _heavy(sp.Rational(1, 4)))),
    steps=(("gamma(x) <= (ell/x)^p, whose integral from J to N is", HEAVY_INTEGRAL),),
    scope=COMPARISON,
)

ROUGH_RATIO = ((ell + J) / (ell + l)) ** p
ROUGH_INTEGRAL = ell / (p - 1) * ((1 + J / ell) ** (1 - p) - (1 + N / ell) ** (1 - p))
ROUGH_HARMONIC_INTEGRAL = ell * sp.log((ell + N) / (ell + J))


def _rough(first: Any = 1, factor: Any = 1) -> Statement:
    """Over gamma(J), as every tail here."""
    integral = ((ell + J) - (ell + N) * ((ell + J) / (ell + N)) ** p) / (p - 1)
    return (sp.Lt(_tail(ROUGH_RATIO), first + factor * integral),)


def _rough_harmonic(factor: Any = 1) -> Statement:
    return (sp.Lt(_tail(ROUGH_RATIO), 1 + factor * (ell + J) * sp.log((ell + N) / (ell + J))),)


TAIL_ROUGH = Claim(
    name="tail-rough-polynomial",
    title="For RoughPolynomial(ell, p), p not 1, delta <= 2 gamma(J) + 2 ell/(p-1) ((1+J/ell)^(1-p) - "
    "(1+N/ell)^(1-p)).",
    statement=_rough(),
    certificate=Balls({ell: (1, 16)}, _at("1/4", "3/4", "5/4", 4)),
    provenance="derived",
    bound=2 * (1 + J / ell) ** (-p) + 2 * ROUGH_INTEGRAL,
    assumptions=(sp.Ne(p, 1),),
    mutants=(
        Mutant("without gamma(J)", _rough(first=0)),
        Mutant("times |p-1|", _rough(factor=sp.Abs(p - 1))),
        Mutant("a quarter of the integral", _rough(factor=sp.Rational(1, 4))),
    ),
    steps=(("gamma decreases; its integral from J to N is", ROUGH_INTEGRAL),),
    scope=COMPARISON.replace("three", "four"),
)
TAIL_ROUGH_HARMONIC = Claim(
    name="tail-rough-polynomial-harmonic",
    title="For RoughPolynomial(ell, 1) delta <= 2 gamma(J) + 2 ell log((ell+N)/(ell+J)).",
    statement=_rough_harmonic(),
    certificate=Balls({ell: (1, 16)}, _at(1)),
    provenance="derived",
    bound=2 / (1 + J / ell) + 2 * ROUGH_HARMONIC_INTEGRAL,
    assumptions=(sp.Eq(p, 1),),
    mutants=(
        Mutant("half the logarithm", _rough_harmonic(sp.Rational(1, 2))),
        Mutant("without the logarithm", _rough_harmonic(0)),
    ),
    steps=(("gamma decreases; its integral from J to N is", ROUGH_HARMONIC_INTEGRAL),),
    scope="decided for N, J = 32, 4 and 64, 16; that a decreasing sum is below its integral is general.",
)

LOGARITHMIC_RATIO = ((1 + sp.log(1 + (J / ell) ** 2)) / (1 + sp.log(1 + (l / ell) ** 2))) ** p
LOGARITHMIC_BOUND = (N - J) * (1 + sp.log(1 + (J / ell) ** 2)) ** (-p)


def _logarithmic(above: Any = 1, below: Any = LOGARITHMIC_RATIO.subs(l, N)) -> Statement:
    return (sp.Lt(_tail(LOGARITHMIC_RATIO), above * (N - J)), sp.Gt(_tail(LOGARITHMIC_RATIO), below * (N - J)))


TAIL_LOGARITHMIC = Claim(
    name="tail-logarithmic",
    title="For Logarithmic(ell, p) 2 (N - J) gamma(N) <= delta <= 2 (N - J) gamma(J): of order N up to a power "
    "of log N.",
    statement=_logarithmic(),
    certificate=Balls({ell: (1, 16)}, _at("1/2", 1, 2)),
    provenance="derived",
    bound=2 * LOGARITHMIC_BOUND,
    mutants=(
        Mutant("half of it", _logarithmic(above=sp.Rational(1, 2))),
        Mutant("gamma(J) from below", _logarithmic(below=1)),
    ),
    steps=(
        ("gamma decreases: each of the N - J terms lies between gamma(N) and gamma(J)", None),
        (
            "gamma(N)/gamma(J) falls like a power of log N only: cutting off a share of the lags leaves that share of "
            "delta",
            LOGARITHMIC_RATIO.subs(l, N),
        ),
    ),
    scope="decided for N, J = 32, 4 and 64, 16 and three powers; that gamma decreases is general.",
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
