"""The temporal kernels are mixtures of Gaussians: what makes them covariances, and what softmax heads can hold."""

from typing import Any

import sympy as sp

from theory.certify import Each, Identity, Increasing, Reals, equal
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
nu, moved = LETTERS.symbols({
    "nu": "smoothness of a Matern kernel", "tau": "b r^2",
}, positive=True)  # fmt: skip
Z = sp.sqrt(2 * nu) * r / ell


def _matern(rate: Any = nu / (2 * ell**2), power: Any = nu) -> Statement:
    """The integrand over b with its density, at b = tau/r^2, is that of the Bessel function, times what is before it:
    K_nu(z) = (z/2)^nu/2 times the integral of tau^(-nu-1) exp(-tau - z^2/(4 tau)) over tau > 0."""
    density = rate**nu / sp.gamma(nu) * b ** (-nu - 1) * sp.exp(-rate / b)
    substituted = (sp.exp(-b * r**2) * density).subs(b, moved / r**2) / r**2
    bessel = (Z / 2) ** nu / 2 * moved ** (-nu - 1) * sp.exp(-moved - Z**2 / (4 * moved))
    return (equal(substituted, 2 ** (1 - power) / sp.gamma(nu) * Z**power * bessel),)


def _powers(difference: Any) -> Any:
    return sp.simplify(sp.powsimp(sp.expand_power_base(sp.powsimp(difference), force=True), force=True))


MATERN = Claim(
    name="mixture-matern",
    title="Matern(ell, nu), 2^(1-nu)/Gamma(nu) z^nu K_nu(z), is a mixture of Gaussians, where b has the law inverse "
    "Gamma(nu, nu/(2 ell^2)).",
    statement=_matern(),
    certificate=Identity(reduce=_powers),
    provenance="derived",
    mutants=(
        Mutant("rate nu/ell^2", _matern(nu / ell**2)),
        Mutant("rate 1/(2 ell^2)", _matern(1 / (2 * ell**2))),
        Mutant("z^(nu - 1/2)", _matern(power=nu - sp.Rational(1, 2))),
    ),
    steps=(("The integral over tau of the right side has the Bessel function in it (DLMF 10.32.10), with z", Z),),
    scope="the integrands are equal for every nu; that the integral over tau is the Bessel function is DLMF 10.32.10.",
)

q, x = LETTERS.symbols({
    "q": "half the power of an exponential kernel", "x": "a squared distance, in squared lengthscales",
}, positive=True)  # fmt: skip
n, k = LETTERS.symbols({
    "n": "order of a derivative", "k": "number of a term of it",
}, integer=True, nonnegative=True)  # fmt: skip


def _monotone(kept: Any = n - q * k, gained: Any = q) -> Statement:
    """Minus the derivative of a term e^(-x^q) x^(qk - n) is two such terms, with n + 1; their factors."""
    term = sp.exp(-(x**q)) * x ** (q * k - n)
    after = sp.exp(-(x**q)) * (gained * x ** (q * (k + 1) - n - 1) + kept * x ** (q * k - n - 1))
    return (equal(-sp.Derivative(term, x), after), sp.Ge(kept, 0))


def _power_reduce(difference: Any) -> Any:
    return sp.simplify(sp.powsimp(sp.expand(difference)))


COMPLETELY_MONOTONE = Claim(
    name="exponential-completely-monotone",
    title="exp(-x^q) is completely monotone for 0 < q <= 1, hence exp(-(r/ell)^p), p = 2q <= 2, a mixture of "
    "Gaussians.",
    statement=_monotone(),
    certificate=Each((Identity(reduce=_power_reduce), Reals())),
    provenance="published",
    source="Schoenberg, Ann. Math. 39, 1938, theorem 2",
    assumptions=(sp.Le(q, 1), sp.Le(k, n)),
    mutants=(
        Mutant("q up to 2, power up to 4", assumptions=(sp.Le(q, 2), sp.Le(k, n))),
        Mutant("more terms than the order", assumptions=(sp.Le(q, 1), sp.Le(k, n + 1))),
        Mutant("n - k for n - q k", _monotone(kept=n - k)),
        Mutant("(n - q k)/2", _monotone(kept=(n - q * k) / 2)),
    ),
    steps=(
        ("(-1)^n times the n-th derivative is a sum of terms e^(-x^q) x^(qk - n) with k <= n: one more derivative takes"
         " each to two with k and k + 1 <= n + 1", q * x ** (q * (k + 1) - n - 1) + (n - q * k) * x ** (q * k - n - 1)),
        ("No factor is negative, so by induction no derivative has the wrong sign", None),
        ("That makes the function a mixture of exp(-b x) (Bernstein), with x = (r/ell)^2 of Gaussians", None),
    ),
    scope="the step of the induction; that a function with such derivatives is a mixture is Bernstein's theorem.",
)  # fmt: skip
apart, near, grown = LETTERS.symbols({
    "h": "distance of neighbouring frames, in lengthscales", "a": "h^p, small", "c": "2^p, above 4",
}, positive=True)  # fmt: skip


def _three_frames(weights: tuple[int, int, int] = (1, -2, 1)) -> Any:
    """x'Gamma x for three frames that are h apart."""
    x_ = sp.Matrix(weights)
    first, second = sp.exp(-(apart**p)), sp.exp(-((2 * apart) ** p))
    gamma = sp.Matrix([[1, first, second], [first, 1, first], [second, first, 1]])
    return (x_.T * gamma * x_)[0, 0]


NEAR = (grown - 4) / grown**2


def _power(weights: tuple[int, int, int] = (1, -2, 1), at: Any = NEAR, order: int = 2) -> Statement:
    """The form; the exponentials in it; and what it is below."""
    below = 1 - grown * near + (grown * near) ** 2 / order
    return (
        equal(_three_frames(weights), 6 - 8 * sp.exp(-(apart**p)) + 2 * sp.exp(-(2**p) * apart**p)),
        sp.Ge(sp.exp(-near) + near, 1), sp.Le(sp.exp(-near) + near, 1 + near**2 / order),
        sp.Lt((6 - 8 * (1 - near) + 2 * below).subs(near, at), 0),
    )  # fmt: skip


POWER = Claim(
    name="power-at-most-2",
    title="For power > 2 exp(-(r/ell)^p) is no covariance: three near frames have x'Gamma x < 0 for x = (1, -2, 1).",
    statement=_power(),
    certificate=Each((
        Identity(reduce=sp.expand), Increasing(near, 0, factor=sp.exp(near), order=2),
        Increasing(near, 0, factor=sp.exp(near), order=3), Reals(),
    )),
    provenance="published",
    source="Schoenberg, Ann. Math. 39, 1938",
    assumptions=(sp.Gt(grown, 4),),
    mutants=(
        Mutant("x = (1, -1, 1)", _power(weights=(1, -1, 1))),
        Mutant("frames of 2a", _power(at=2 * NEAR)),
        Mutant("e^-a <= 1 - a + a^2/3", _power(order=3)),
        Mutant("every power", assumptions=()),
    ),
    steps=(
        ("With a = h^p and c = 2^p the form is 6 - 8 e^-a + 2 e^(-ca), as (2h)^p = c a", None),
        ("e^-a >= 1 - a and e^(-ca) <= 1 - ca + (ca)^2/2: it is at most a (8 - 2c + c^2 a)", None),
        ("c > 4 for p > 2, and where a is", NEAR),
        ("it is at most a (4 - c) < 0", None),
    ),
)  # fmt: skip

CLAIMS = (POLYNOMIAL, LOGARITHMIC, ROUGH, LEVY, MATERN, COMPLETELY_MONOTONE, POWER)
