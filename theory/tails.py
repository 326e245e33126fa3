"""Tails: what a covariance cut off at J lags leaves out, for every kernel of the project."""

from typing import Any

import sympy as sp

from theory.certify import Decreasing, Each, Identity, Increasing, Induction, IntegralTest, Reals, Signs, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import LAGS, NOTATION, J, Letters, N, ell, l, p, rho, total
from theory.truncation import BACKWARDS, INSIDE

__all__ = ["CLAIMS"]

LETTERS = Letters("tails", NOTATION, LAGS)


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
    certificate=IntegralTest(
        index=l,
        integral=-EXPONENTIAL_INTEGRAL.subs(J, l),
        probes=(*_probe(60, 2, 1, 300), *_probe(5, sp.Rational(1, 2), 1, 300)),
    ),
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
    true_variants={"without J < N": BACKWARDS},
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
        index=l,
        integral=-POLYNOMIAL_INTEGRAL.subs(J, l),
        ratio=BELOW_POWER,
        probes=(*_probe(1, 4, 20, 160), *_probe(sp.Rational(1, 100), 100, 1, 2)),
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
    true_variants={"without J < N": BACKWARDS},
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
    true_variants={"without J < N": f"{BACKWARDS}; so does N - J, and the terms still lie between"},
)
v, y = LETTERS.symbols({"v": "a lag in lengthscales", "y": "(1 + v)^(1/p)"})


def _diverges(power: int = 2, root: Any = y - 1) -> Statement:
    return (sp.Le(1 + v**2, (1 + v) ** power), sp.Le(sp.log(y), root))


DIVERGES = Claim(
    name="tail-logarithmic-diverges",
    title="1 + log(1 + v^2) <= 1 + 2p ((1+v)^(1/p) - 1): the tail of a logarithmic kernel of any power exceeds that of "
    "a multiple of 1/(1+v), whose sum diverges.",
    statement=_diverges(),
    certificate=Each((Reals(), Increasing(y, 1))),
    provenance="derived",
    assumptions=(sp.Ge(v, 0), sp.Ge(y, 1)),
    mutants=(
        Mutant("1 + v for its square", _diverges(power=1)),
        Mutant("(y - 1)/2", _diverges(root=(y - 1) / 2)),
        Mutant("y - 2", _diverges(root=y - 2)),
    ),
    steps=(
        ("log(1 + v^2) <= 2 log(1 + v) = 2p log y, and log y <= y - 1", 1 + 2 * p * (y - 1)),
        ("which is at most (1 + 2p) y, so that gamma is at least (1 + 2p)^(-p)/(1 + v)", None),
    ),
    true_variants={"relation 1: 2 times 0.5": "(1 + v)^2 exceeds 1 + v too"},
    scope="the two inequalities; the steps put them together.",
)

nu = LETTERS.define("nu", "smoothness of a Matern kernel", positive=True)


def _bessel(lag: Any, more: int = 0, power: Any = nu) -> Any:
    """z^nu K_(nu + more)(z) with the factor of a Matern kernel, at z = sqrt(2 nu) lag/ell."""
    z = sp.sqrt(2 * nu) * lag / ell
    return 2 ** (1 - nu) / sp.gamma(nu) * z**power * sp.besselk(nu + more, z)


def _recurrence(expression: Any) -> Any:
    """Bessel functions of orders above nu through those of nu and nu - 1: K_(m+1) = K_(m-1) + 2m/z K_m."""
    for above in (2, 1):
        expression = expression.replace(
            lambda part, above=above: isinstance(part, sp.besselk) and part.order == nu + above,
            lambda part: (
                sp.besselk(part.order - 2, part.argument)
                + 2 * (part.order - 1) / part.argument * sp.besselk(part.order - 1, part.argument)
            ),
        )
    return sp.simplify(sp.expand(expression))


MATERN_INTEGRAL = ell / sp.sqrt(2 * nu) * _bessel(J, more=1)


def _matern(integral: Any = MATERN_INTEGRAL, first: Any = 2) -> Statement:
    kernel = _bessel(l)
    return (sp.Le(_delta(kernel), first * kernel.subs(l, J) + 2 * integral),)


TAIL_MATERN = Claim(
    name="tail-matern",
    title="For Matern(ell, nu) delta <= 2 gamma(J) + 2 ell/sqrt(2 nu) 2^(1-nu)/Gamma(nu) z^nu K_(nu+1)(z), z = sqrt(2 "
    "nu) J/ell, whatever N.",
    statement=_matern(),
    certificate=IntegralTest(
        index=l,
        integral=-MATERN_INTEGRAL.subs(J, l),
        more=_bessel(l, more=1, power=nu - 1),
        reduce=_recurrence,
        end=Signs(sp.expand),
        probes=(
            {ell: sp.Integer(10), nu: sp.Rational(1, 2), J: sp.Integer(200), N: sp.Integer(300)},
            {ell: sp.Rational(1, 100), nu: sp.Rational(3, 2), J: sp.Integer(1), N: sp.Integer(2)},
        ),
    ),
    provenance="derived",
    assumptions=INSIDE,
    mutants=(
        Mutant("without gamma(J)", _matern(first=0)),
        Mutant("K_nu for K_(nu+1)", _matern(ell / sp.sqrt(2 * nu) * _bessel(J))),
        Mutant("without 1/sqrt(2 nu)", _matern(MATERN_INTEGRAL * sp.sqrt(2 * nu) / 2)),
        Mutant("half of the integral", _matern(MATERN_INTEGRAL / 2)),
    ),
    steps=(
        ("The slope of z^nu K_nu is -z^nu K_(nu-1): gamma decreases, so each term but the first is below the integral"
         " over the unit before it", None),
        ("The slope of -z^nu K_(nu+1) is z^nu K_nu + z^(nu-1) K_(nu+1), more than z^nu K_nu", None),
        ("so the integral of gamma from J on is at most", MATERN_INTEGRAL),
    ),
    true_variants={"without J < N": BACKWARDS},
)  # fmt: skip

CLAIMS = (
    TAIL_OU, TAIL_EXPONENTIAL, TAIL_POLYNOMIAL, TAIL_HARMONIC, TAIL_HEAVY, TAIL_ROUGH, TAIL_ROUGH_HARMONIC,
    TAIL_LOGARITHMIC, DIVERGES, TAIL_MATERN,
)  # fmt: skip
