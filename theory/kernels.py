"""The temporal kernels are mixtures of Gaussians: what makes them covariances, and what softmax heads can hold."""

from typing import Any

import sympy as sp

from theory.certify import Balls, Each, Identity, Reals, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import LAGS, NOTATION, Letters, b, ell, p

__all__ = ["CLAIMS"]

LETTERS = Letters("kernels", NOTATION, LAGS)
r, u, y = LETTERS.symbols({
    "r": "distance in frames", "u": "(r/ell)^2", "y": "power of the inner polynomial kernel",
}, positive=True)  # fmt: skip
RASMUSSEN = "Rasmussen and Williams, Gaussian Processes for Machine Learning"


def _mixture(density: Any, kernel: Any) -> Statement:
    return (equal(sp.Integral(sp.exp(-b * r**2) * density, (b, 0, sp.oo)), kernel),)


def _polynomial(shape: Any = p / 2, rate: Any = ell**2) -> Statement:
    density = rate**shape * b ** (shape - 1) * sp.exp(-rate * b) / sp.gamma(shape)
    return _mixture(density, (1 + (r / ell) ** 2) ** (-p / 2))


def _integral_reduce(difference: Any) -> Any:
    return sp.simplify(sp.powsimp(sp.expand_log(sp.simplify(difference)), force=True))


POLYNOMIAL = Claim(
    name="mixture-polynomial",
    title="Polynomial(ell, p) is a mixture of Gaussians exp(-b r^2), where b has the law Gamma(p/2) with rate ell^2.",
    statement=_polynomial(),
    certificate=Identity(reduce=_integral_reduce),
    provenance="published",
    source=f"{RASMUSSEN}, eq. 4.19 and 4.20",
    mutants=(Mutant("Gamma(p)", _polynomial(shape=p)), Mutant("rate 1/ell^2", _polynomial(rate=ell**-2))),
)


def _logarithmic(power: Any = -p) -> Statement:
    density = y ** (p - 1) * sp.exp(-y) / sp.gamma(p)
    return (equal(sp.Integral(density * sp.exp(-y * sp.log(1 + u)), (y, 0, sp.oo)), (1 + sp.log(1 + u)) ** power),)


LOGARITHMIC = Claim(
    name="mixture-logarithmic",
    title="Logarithmic(ell, p) is a mixture, with power y of law Gamma(p), of the kernels (1+u)^-y, which are "
    "mixtures of Gaussians.",
    statement=_logarithmic(),
    certificate=Identity(reduce=_integral_reduce),
    provenance="derived",
    mutants=(Mutant("power -p/2", _logarithmic(-p / 2)), Mutant("power p", _logarithmic(p))),
    steps=(
        ("(1+u)^-y = exp(-y log(1+u)): the Laplace transform of Gamma(p) at log(1+u)", None),
        ("(1+u)^-y with u = (r/ell)^2 is Polynomial(ell, 2y), see mixture-polynomial", None),
    ),
)


def _rough(rate: Any = 1, power: Any = -p) -> Statement:
    density = y ** (p - 1) * sp.exp(-y) / sp.gamma(p)
    return (equal(sp.Integral(density * sp.exp(-rate * y * r / ell), (y, 0, sp.oo)), (1 + r / ell) ** power),)


ROUGH = Claim(
    name="mixture-rough-polynomial",
    title="RoughPolynomial(ell, p) is a mixture, with y of law Gamma(p), of the OU kernels exp(-y r/ell), which are "
    "mixtures of Gaussians.",
    statement=_rough(),
    certificate=Identity(reduce=_integral_reduce),
    provenance="derived",
    mutants=(Mutant("power -p/2", _rough(power=-p / 2)), Mutant("half the rate", _rough(rate=sp.Rational(1, 2)))),
    steps=(
        ("The Laplace transform of Gamma(p) at r/ell; exp(-y r/ell) is OU of lengthscale ell/y, see mixture-ou", None),
    ),
)


def _levy(constant: Any = 1 / (2 * ell * sp.sqrt(sp.pi)), power: Any = -sp.Rational(3, 2)) -> Statement:
    return _mixture(constant * b**power * sp.exp(-1 / (4 * ell**2 * b)), sp.exp(-r / ell))


LEVY = Claim(
    name="mixture-ou",
    title="OU, exp(-r/ell), is a mixture of Gaussians with b of Levy's law (4 pi ell^2)^{-1/2} b^{-3/2} e^{-1/(4 "
    "ell^2 b)}.",
    statement=_levy(),
    certificate=Identity(reduce=_integral_reduce),
    provenance="published",
    source="Levy's stable law of index 1/2, Feller, An Introduction to Probability Theory II, sec. XIII.3",
    mutants=(
        Mutant("without the 2", _levy(1 / (ell * sp.sqrt(sp.pi)))),
        Mutant("b^(-1/2)", _levy(power=-sp.Rational(1, 2))),
    ),
)
nu = LETTERS.define("nu", "smoothness of a Matern kernel", positive=True)


def _exponential_reduce(difference: Any) -> Any:
    """Half-integer Bessel functions come out as hyperbolic ones."""
    return sp.powsimp(sp.expand(difference.rewrite(sp.exp)))


def _matern(rate: Any = nu / (2 * ell**2)) -> Statement:
    """For the half-integers, whose kernels are elementary: law of b inverse Gamma(nu, rate)."""
    z = sp.sqrt(2 * nu) * r / ell
    density = rate**nu / sp.gamma(nu) * b ** (-nu - 1) * sp.exp(-rate / b)
    elementary = sp.Piecewise(
        (sp.exp(-z), sp.Eq(nu, sp.Rational(1, 2))), ((1 + z) * sp.exp(-z), sp.Eq(nu, sp.Rational(3, 2))),
        ((1 + z + z**2 / 3) * sp.exp(-z), sp.Eq(nu, sp.Rational(5, 2))),
    )  # fmt: skip
    return _mixture(density, elementary)


MATERN = Claim(
    name="mixture-matern",
    title="Matern(ell, nu) is a mixture of Gaussians, where b has the law inverse Gamma(nu, nu/(2 ell^2)).",
    statement=_matern(),
    certificate=Identity(tuple({nu: sp.Rational(k, 2)} for k in (1, 3, 5)), reduce=_exponential_reduce),
    provenance="derived",
    mutants=(Mutant("rate nu/ell^2", _matern(nu / ell**2)), Mutant("rate 1/(2 ell^2)", _matern(1 / (2 * ell**2)))),
    scope="reduced for nu = 1/2, 3/2, 5/2; the general integral is that of the Bessel function K_nu (Gradshteyn "
    "3.471.9).",
)

q, v = LETTERS.symbols({
    "q": "half the power of an exponential kernel", "v": "x^q, >= 0",
})  # fmt: skip


def _derivative_factors(count: int) -> list[Any]:
    """(-1)^n (d/dx)^n exp(-x^q) = exp(-v) x^-n P_n(q, v), v = x^q: P_{n+1} = (n + q v) P_n - q v dP_n/dv."""
    factors: list[Any] = [sp.Integer(1)]
    for order in range(count):
        last = factors[-1]
        factors.append(sp.expand((order + q * v) * last - q * v * sp.diff(last, v)))
    return factors[1:]


COMPLETELY_MONOTONE = Claim(
    name="exponential-completely-monotone",
    title="exp(-x^q) is completely monotone for 0 < q <= 1, hence exp(-(r/ell)^p), p = 2q <= 2, a mixture of "
    "Gaussians.",
    statement=tuple(sp.Ge(factor, 0) for factor in _derivative_factors(4)),
    certificate=Reals(),
    provenance="published",
    source="Schoenberg, Ann. Math. 39, 1938, theorem 2",
    assumptions=(sp.Lt(0, q), sp.Le(q, 1), sp.Ge(v, 0)),
    mutants=(
        Mutant("q up to 2, power up to 4", assumptions=(sp.Lt(0, q), sp.Le(q, 2), sp.Ge(v, 0))),
        Mutant("q below 0", assumptions=(sp.Le(q, 1), sp.Ge(v, 0))),
    ),
    steps=(
        ("(-1)^n times the n-th derivative is exp(-v) x^-n P_n with v = x^q, where P_1 is", _derivative_factors(1)[0]),
        ("P_2", _derivative_factors(2)[1]),
        (
            "P_n >= 0 for all n makes the function a mixture of exp(-b x) (Bernstein), with x = (r/ell)^2 of Gaussians",
            None,
        ),
    ),
    true_variants=dict.fromkeys(
        ("relation 2: 2 times 0.9", "relation 3: power 1 for 2 of v", "relation 4: 4 times 0.5"),
        "a polynomial that is positive with room",
    ),
    scope="signs of the first four derivatives by z3; all of them by composition, x^q having completely monotone "
    "derivative.",
)
SMALL = sp.Rational(1, 20)


def _second_difference(lag: Any) -> Any:
    """x'Gamma x for x = (1, -2, 1) on three frames that far apart, in lengthscales."""
    return 6 - 8 * sp.exp(-(lag**p)) + 2 * sp.exp(-((2 * lag) ** p))


def _power(above: bool = True) -> Statement:
    x_ = sp.Matrix([1, -2, 1])
    first, second = sp.exp(-(SMALL**p)), sp.exp(-((2 * SMALL) ** p))
    gamma = sp.Matrix([[1, first, second], [first, 1, first], [second, first, 1]])
    form = (x_.T * gamma * x_)[0, 0]
    value = _second_difference(SMALL)
    return (equal(form, value), sp.Lt(value, 0) if above else sp.Gt(value, 0))


POWER = Claim(
    name="power-at-most-2",
    title="For power > 2 exp(-(r/ell)^p) is no covariance: three near frames have x'Gamma x < 0 for x = (1, -2, 1).",
    statement=_power(),
    certificate=Each((Identity(reduce=sp.expand), Balls({p: ("2.1", "8")}))),
    provenance="published",
    source="Schoenberg, Ann. Math. 39, 1938",
    assumptions=(sp.Ge(p, sp.Rational(21, 10)), sp.Le(p, 8)),
    scope="frames ell/20 apart serve every power from 2.1 to 8; nearer to 2 they must be nearer: for any p > 2 a "
    "small h does.",
    mutants=(
        Mutant("positive instead", _power(above=False)),
        Mutant("x = (1, -1, 1)", (equal(_power()[0].lhs, 3 - 4 * sp.exp(-(SMALL**p)) + 2 * sp.exp(-((2 * SMALL) ** p))),
                                  _power()[1])),
    ),
    steps=(
        ("For small h, x'Gamma x is near 8 h^p - 2 (2h)^p = 2 h^p (4 - 2^p), negative for p > 2", None),
        ("With frames h = ell/20 apart the form is", _second_difference(SMALL)),
    ),
)  # fmt: skip

CLAIMS = (POLYNOMIAL, LOGARITHMIC, ROUGH, LEVY, MATERN, COMPLETELY_MONOTONE, POWER)
