"""How many Gaussian widths hold every exponential: Levy's mixture, the error of its trapezoid rule, and the ends.

exp(-b s) is a mixture of the Gaussians exp(-u s^2). The trapezoid rule in v = log u takes widths that do not depend on
the rate b, and its error falls exponentially in 1/h. With F the Fourier transform of the integrand, Poisson's summation
formula says that the rule is off by the sum of F at 2 pi k/h over k other than 0.
"""

import math
from collections.abc import Iterator
from typing import Any

import mpmath
import sympy as sp
import torch

from theory.certify import Each, Identity, Increasing, Sweep, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import Letters
from unrolled.handset.gaussian_rule import trapezoid_rule

__all__ = ["CLAIMS"]

LETTERS = Letters("gaussian_widths")
b, s, u, h, z, theta = LETTERS.symbols({
    "b": "rate of an exponential", "s": "a distance", "u": "width parameter of a Gaussian exp(-u s^2)",
    "h": "step of the trapezoid rule in log u", "z": "b s", "theta": "angle by which the path of integration is moved",
}, positive=True)  # fmt: skip
x, frequency = LETTERS.symbols({"x": "log(2 s u/b)", "omega": "a frequency, 2 pi k/h"})
n = LETTERS.define("n", "harmonics that are summed", integer=True, nonnegative=True)
DENSITY = b / (2 * sp.sqrt(sp.pi)) * u ** sp.Rational(-3, 2) * sp.exp(-(b**2) / (4 * u))
"""Levy's law."""
WEIGHT = h * b / (2 * sp.sqrt(sp.pi * u)) * sp.exp(-(b**2) / (4 * u))
"""omega_m(b) at u = u_m, as the heads hold it."""


def _levy(
    density: Any = DENSITY, exponential: Any = None, weight: Any = WEIGHT, reached: Any = sp.exp(-(s**2) * u)
) -> Statement:
    held = sp.Integral(reached * density, (u, 0, sp.oo))
    return (equal(weight, h * u * DENSITY), equal(held, sp.exp(-b * s) if exponential is None else exponential))


def _integrated(difference: Any) -> Any:
    return sp.simplify(sp.powsimp(sp.expand_log(sp.simplify(difference)), force=True))


LEVY = Claim(
    name="levy-any-rate",
    title="For every rate exp(-b s) is the same Gaussians exp(-u s^2) mixed by Levy's law; a step h in log u gives "
    "width "
    "u the weight h b/(2 sqrt(pi u)) exp(-b^2/(4u)).",
    statement=_levy(),
    certificate=Identity(reduce=_integrated),
    provenance="published",
    source="Levy's stable law of index 1/2, Feller, An Introduction to Probability Theory II, sec. XIII.3",
    bound=WEIGHT,
    mutants=(
        Mutant("density without the 2", _levy(2 * DENSITY)),
        Mutant("density of another rate", _levy(DENSITY.subs(b, 2 * b))),
        Mutant("half the rate", _levy(exponential=sp.exp(-b * s / 2))),
        Mutant("a Gaussian on the right", _levy(exponential=sp.exp(-b * s**2))),
        Mutant("weight without u", _levy(weight=h * DENSITY)),
        Mutant("weight 1.1 times as large", _levy(weight=sp.Rational(11, 10) * WEIGHT)),
        Mutant("weight of u^(-3/2)", _levy(weight=WEIGHT / u)),
        Mutant("weight with exp(-b^2/(2u))", _levy(weight=WEIGHT * sp.exp(-(b**2) / (4 * u)))),
    ),
    steps=(("du = u dv for v = log u, so a step h in v counts the density times h u", h * u * DENSITY),),
)

COSINE = LETTERS.define("kappa_theta", "cos(theta)", positive=True)
p = LETTERS.define("p", "exp(-2 pi theta/h)", positive=True)


def _at(angle: Any) -> Any:
    """The real part of the exponent of exp(-x/2 - i omega x - z cosh x) on the path x - i theta."""
    point = x - sp.I * angle
    return sp.re(-z * sp.cosh(point) - (sp.Rational(1, 2) + sp.I * frequency) * point, evaluate=False)


def _fourier(
    half: Any = sp.Rational(1, 2), fall: Any = -frequency * theta, waist: Any = sp.cos(theta), root: Any = None,
    series: Any = None, scale: Any = 2 * sp.pi,
) -> Statement:  # fmt: skip
    """Substitution; modulus on the moved path; what is left is Levy's integral for z cos(theta); harmonics add up."""
    substituted = (h * u * DENSITY / h * sp.exp(-u * s**2)).subs(u, b / (2 * s) * sp.exp(x))
    series = p * (1 - p**n) / (1 - p) if series is None else series
    root = 1 / sp.sqrt(COSINE) if root is None else root
    return (
        equal(substituted, sp.sqrt(b * s / scale) * sp.exp(-half * x - b * s * sp.cosh(x))),
        equal(_at(theta), -x / 2 - z * waist * sp.cosh(x) + fall),
        equal(sp.sqrt(z / (2 * sp.pi)), root * sp.sqrt(z * COSINE / (2 * sp.pi))),
        equal(series.subs(n, n + 1) - series, p ** (n + 1)), equal(series.subs(n, 0), 0),
    )  # fmt: skip


CLOSED = 2 * sp.exp(-z * sp.cos(theta)) / (sp.sqrt(sp.cos(theta)) * (sp.exp(2 * sp.pi * theta / h) - 1))


def _expanded(difference: Any) -> Any:
    return sp.simplify(sp.powsimp(sp.expand(sp.expand(difference.rewrite(sp.exp), complex=True))))


FOURIER = Claim(
    name="trapezoid-fourier",
    title="The trapezoid rule in log u is off by at most 2 e^(-z cos theta)/(cos(theta)^(1/2) (e^(2 pi theta/h) - 1)) "
    "for z = b s and every theta in (0, pi/2): absolute, and exponentially small in 1/h.",
    statement=_fourier(),
    certificate=Identity(reduce=_expanded),
    provenance="derived",
    bound=CLOSED,
    mutants=(
        Mutant("without the factor u^(1/2) of log u", _fourier(half=-sp.Rational(1, 2))),
        Mutant("e^(-x) for e^(-x/2)", _fourier(half=1)),
        Mutant("z/pi for z/(2 pi)", _fourier(scale=sp.pi)),
        Mutant("harmonics that grow", _fourier(fall=frequency * theta)),
        Mutant("half the angle", _fourier(fall=-frequency * theta / 2)),
        Mutant("a path of cos(theta)^2", _fourier(waist=sp.cos(theta) ** 2)),
        Mutant("a path of no waist", _fourier(waist=sp.Integer(1))),
        Mutant("without the root of the cosine", _fourier(root=sp.Integer(1))),
        Mutant("a series that starts at 1", _fourier(series=(1 - p**n) / (1 - p))),
        Mutant("the first harmonic alone", _fourier(series=p)),
    ),
    steps=(
        ("With u = (b/2s) e^x the integrand over log u is sqrt(z/(2 pi)) e^(-x/2 - z cosh x)", None),
        ("Its Fourier transform at omega is sqrt(2z/pi) K_(1/2 + i omega)(z), up to a phase (DLMF 10.32.9)", None),
        ("Poisson's summation formula: the rule is off by the sum of its values at omega = 2 pi k/h, k other than 0",
         None),
        ("The path moved to x - i theta, |theta| < pi/2, where the integrand is analytic and falls at both ends: the"
         " modulus of the integrand is e^(-omega theta) times that for z cos(theta), up to a factor, whose integral is"
         " e^(-z cos theta) by levy-any-rate", sp.exp(-frequency * theta - z * sp.cos(theta)) / sp.sqrt(sp.cos(theta))),
        ("The harmonics k and -k, summed over k, are a geometric series in p with limit p/(1-p)", CLOSED),
    ),
    scope="the identities are reduced for all values; that the path may be moved and that Poisson's formula applies, "
    "for an analytic integrand with double exponential decay, is in words. trapezoid-error measures the whole.",
)  # fmt: skip

error, harmonics, first = LETTERS.symbols({
    "e": "largest error of the rule over phases of its grid, at one z",
    "S": "sum of |K_(1/2 + 2 pi i k/h)(z)| over k = 1, 2, ..", "K_1": "its first term",
}, nonnegative=True)  # fmt: skip
PHASES, NEGLIGIBLE = 8, 1e-9
WORST = 0.91
"""z over 2 pi/h at which the error is largest for a step of 1/4."""


def _error(step: float, product: float) -> float:
    """Largest error over rates of one z = b s, s = 1 shifted by parts of a step; 50 digits."""
    with mpmath.workdps(50):
        exact, worst = mpmath.exp(-mpmath.mpf(product)), mpmath.mpf(0)
        for phase in range(PHASES):
            distance = mpmath.exp(mpmath.mpf(step) * phase / PHASES / 2)  # s^2 moves by a part of a step
            rate, centre = product / distance, mpmath.log(product / (2 * distance**2)) / step
            reach = math.ceil(math.log(8e3 / product + 4) / step) + 2
            widths = [mpmath.exp(step * m) for m in range(int(centre) - reach, int(centre) + reach)]
            terms = (
                step * rate / (2 * mpmath.sqrt(mpmath.pi * width))
                * mpmath.exp(-(rate**2) / (4 * width) - width * distance**2)
                for width in widths
            )  # fmt: skip
            worst = max(worst, abs(mpmath.fsum(terms) - exact))
        return float(worst)


def _errors() -> Iterator[dict[Any, float]]:
    for step in (0.25, 0.35, 0.5, 0.7, 1.0):
        for product in (0.01, 2.0, WORST * 2 * math.pi / step, 40.0):
            sizes: list[float] = []
            while not sizes or sizes[-1] > NEGLIGIBLE * sizes[0]:
                order = 0.5 + 2j * mpmath.pi * (len(sizes) + 1) / step
                sizes.append(float(abs(mpmath.besselk(order, product))))
            saddle = 2 * math.pi / (step * product)  # the path through it is best where it is below 1
            yield {
                h: step, z: product, error: _error(step, product), harmonics: math.fsum(sizes), first: sizes[0],
                theta: math.asin(saddle) if saddle < 1 else math.atan(4 * math.pi / step),
            }  # fmt: skip


HEIGHT = 6
"""Error over e^(-pi^2/h), at most, for steps from 1/4 to 1. It is largest where z is near 2 pi/h, and grows slowly as h
falls: 5.76 at 1/4."""


def _bessel(
    factor: Any = 2, power: Any = sp.Rational(1, 2), summed: Any = harmonics, closed: Any = None, least: Any = 0.9,
    top: Any = HEIGHT,
) -> Statement:  # fmt: skip
    size = factor * (2 * z / sp.pi) ** power
    return (
        sp.Le(error, size * summed), sp.Ge(error, least * 2 * sp.sqrt(2 * z / sp.pi) * first),
        sp.Le(error, CLOSED if closed is None else closed),
        sp.Le(error, top * sp.exp(-(sp.pi**2) / h)),
    )  # fmt: skip


TRAPEZOID = Claim(
    name="trapezoid-error",
    title="The rule of step h is off by 2 (2z/pi)^(1/2) sum_k |K_(1/2 + 2 pi i k/h)(z)|, z = b s, absolutely, and this "
    "is attained; for h from 1/4 to 1 it is at most 6 e^(-pi^2/h).",
    statement=_bessel(),
    certificate=Sweep(
        _errors, "h = 0.25, 0.35, 0.5, 0.7, 1, z = 0.01, 2, 1.82 pi/h, 40, 8 phases, in 50 digits", rtol=1e-6
    ),
    provenance="derived",
    bound=CLOSED,
    assumptions=(sp.Ge(h, sp.Rational(1, 4)), sp.Le(h, 1)),
    mutants=(
        Mutant("nine tenths of it", _bessel(factor=sp.Rational(9, 5))),
        Mutant("without the 2", _bessel(factor=1)),
        Mutant("z for its root", _bessel(power=1)),
        Mutant("the first harmonic alone", _bessel(summed=first)),
        Mutant("without the root of z", _bessel(power=0)),
        Mutant("2 sqrt 2 at every z", _bessel(top=2 * sp.sqrt(2))),
        Mutant("4 sqrt 2 at every step", _bessel(top=4 * sp.sqrt(2))),
        Mutant("relative to e^(-z)", _bessel(factor=2 * sp.exp(-z))),
        Mutant("attained three times over", _bessel(least=3)),
        Mutant("the closed bound at half the step", _bessel(closed=CLOSED.subs(h, h / 2))),
        Mutant("the closed bound with e^(-z)", _bessel(closed=CLOSED * sp.exp(-z))),
        Mutant("nine tenths of the closed bound", _bessel(closed=CLOSED * sp.Rational(9, 10))),
    ),
    steps=(
        ("For small z the first harmonic is the whole, trapezoid-fourier", 2 * sp.sqrt(2) * sp.exp(-(sp.pi**2) / h)),
        (
            "The closed bound is that of trapezoid-fourier: at the angle of the saddle, sin(theta) = 2 pi/(h z), where "
            "z > 2 pi/h, and otherwise at the angle that is best for small z",
            sp.atan(4 * sp.pi / h),
        ),
    ),
)

delta, ell, lam, y = LETTERS.symbols({
    "delta": "error at which the ends are cut off", "ell": "lengthscale, so that every rate is at least 1/ell",
    "lambda": "log(1/delta)", "y": "2 u/b^2 or its inverse, at least 1",
}, positive=True)  # fmt: skip
k = LETTERS.define("k", "widths beyond an end", nonnegative=True)


def _ends(
    peak: Any = y - 1, inverse: Any = 1 - 1 / y, growth: Any = h * k, low: Any = 1 / (4 * ell**2 * lam)
) -> Statement:
    """log v <= v - 1 at v = y and at v = 1/y; e^(hk) >= 1 + hk; the range of log u; the weight at its peak."""
    width = b**2 / (2 * y)
    return (
        sp.Le(sp.log(y), peak), sp.Ge(sp.log(y), inverse), sp.Le(sp.log(1 + h * k), growth),
        equal(sp.log(lam / low), 2 * sp.log(2 * ell) + 2 * sp.log(lam)),
        equal(WEIGHT.subs(u, width) ** 2, h**2 / (2 * sp.pi) * y * sp.exp(-y)),
    )  # fmt: skip


def _logarithms(difference: Any) -> Any:
    return sp.simplify(sp.expand_log(sp.powsimp(difference, force=True), force=True))


LEFT_OUT = sp.Rational(1, 1) * h * delta * (
    1 / (sp.sqrt(2 * sp.pi * sp.E) * (1 - delta**h))
    + sp.sqrt(sp.log(1 / delta) / sp.pi) / (1 - delta**h * sp.exp(h / 2))
)  # fmt: skip
"""What the widths above lambda and below 1/(4 ell^2 lambda) would add at distances >= 1."""
ENDS = Claim(
    name="widths-left-out",
    title="Widths above lambda = log(1/delta) and below 1/(4 ell^2 lambda) add at most h delta (1/(2 pi e)^(1/2)/(1 - "
    "delta^h) + (lambda/pi)^(1/2)/(1 - delta^h e^(h/2))) at distances >= 1, for every rate >= 1/ell.",
    statement=_ends(),
    certificate=Each((Increasing(y, 1), Increasing(y, 1), Increasing(k, 0), Identity(reduce=_logarithms), Identity())),
    provenance="derived",
    bound=LEFT_OUT,
    assumptions=(sp.Ge(y, 1),),
    mutants=(
        Mutant("log y <= (y - 1)/2", _ends(peak=(y - 1) / 2)),
        Mutant("log y <= 0.9 (y - 1)", _ends(peak=sp.Rational(9, 10) * (y - 1))),
        Mutant("log y >= y - 1", _ends(inverse=y - 1)),
        Mutant("log y >= 2 (1 - 1/y)", _ends(inverse=2 * (1 - 1 / y))),
        Mutant("1 + hk <= e^(hk/2)", _ends(growth=h * k / 2)),
        Mutant("1 + hk <= e^(0.9 hk)", _ends(growth=sp.Rational(9, 10) * h * k)),
        Mutant("lowest width 1/(4 ell lambda)", _ends(low=1 / (4 * ell * lam))),
        Mutant("lowest width 1/(2 ell^2 lambda)", _ends(low=1 / (2 * ell**2 * lam))),
        Mutant("lowest width 1/(4 ell^2)", _ends(low=1 / (4 * ell**2))),
    ),
    steps=(
        ("With y = b^2/(2u) the squared weight is h^2/(2 pi) y e^(-y), and log y <= y - 1: the weight is at most",
         h / sp.sqrt(2 * sp.pi * sp.E)),
        ("The k-th width above lambda is at least lambda e^(hk) >= lambda (1 + hk), and its Gaussian at distances >= "
         "1 at"
         " most delta^(1+hk)", None),
        ("The k-th width below has y/2 >= lambda e^(hk), where the weight falls in y and is at most h (lambda/pi)^(1/2)"
         " e^(hk/2) delta^(1+hk)", None),
        ("Both are geometric series in k", LEFT_OUT),
    ),
    true_variants={"without y >= 1": "log y <= y - 1 and log y >= 1 - 1/y hold for every y > 0"},
    scope="the steps' inequalities and identities are proved for all values; adding them up is in words, for delta < "
    "e^(-1/2). widths-count measures the whole.",
)  # fmt: skip

count, held = LETTERS.symbols({
    "K": "widths e^(hm) between 1/(4 ell^2 lambda) and lambda",
    "e_K": "largest error at distances 1, 1.5, .. of what they hold",
})  # fmt: skip


def _counted() -> Iterator[dict[Any, float]]:
    for lengthscale in (0.5, 8.0, 300.0):
        for least in (1e-2, 1e-4, 1e-8):
            step, cut = math.pi**2 / math.log(HEIGHT / least), math.log(1 / least)
            rule = trapezoid_rule(step, 1 / (4 * lengthscale**2 * cut), cut)
            rate = torch.logspace(-math.log10(lengthscale), 2, 120, dtype=torch.float64).clamp(min=1 / lengthscale)
            distance = 1 + 0.5 * torch.logspace(-2, math.log10(40 * lengthscale), 160, dtype=torch.float64).round()
            exact = torch.exp(-rate[:, None] * distance)
            worst = float((rule.weights(rate) @ rule.gaussians(distance) - exact).abs().max())
            yield {delta: least, ell: lengthscale, h: step, count: len(rule.widths), held: worst}


HARMONIC = HEIGHT / delta
"""Its logarithm is pi^2/h."""


def _widths(step: Any = None, most: Any = None, whole: Any = delta + LEFT_OUT, fewest: Any = 0) -> Statement:
    given = sp.pi**2 / sp.log(HARMONIC) if step is None else step
    span = (2 * sp.log(2 * ell) + 2 * sp.log(sp.log(1 / delta))) / h
    return (
        equal(h, given), sp.Le(count, 1 + span if most is None else most), sp.Ge(count + 1, span + fewest),
        sp.Le(held, whole),
    )  # fmt: skip


COUNT = Claim(
    name="widths-count",
    title="K <= 1 + (2 log(2 ell) + 2 log log(1/delta)) log(6/delta)/pi^2 widths hold every exponential of "
    "rate >= "
    "1/ell at distances >= 1 to delta and what the ends leave out: logarithms alone, and no condition number.",
    statement=_widths(),
    certificate=Sweep(_counted, "ell = 0.5, 8, 300, delta = 1e-2, 1e-4, 1e-8, 120 rates, 160 distances", rtol=1e-9),
    provenance="derived",
    assumptions=(sp.Le(delta, sp.Rational(1, 100)), sp.Ge(ell, sp.Rational(1, 2))),
    bound=1 + (2 * sp.log(2 * ell) + 2 * sp.log(sp.log(1 / delta))) * sp.log(HARMONIC) / sp.pi**2,
    mutants=(
        Mutant("h = pi/log(6/delta)", _widths(step=sp.pi / sp.log(HARMONIC))),
        Mutant("h = pi^2/log(1/delta)", _widths(step=sp.pi**2 / sp.log(1 / delta))),
        Mutant("log ell once", _widths(most=1 + (sp.log(2 * ell) + 2 * sp.log(sp.log(1 / delta))) / h)),
        Mutant("without log log", _widths(most=1 + 2 * sp.log(2 * ell) / h)),
        Mutant("two widths fewer", _widths(most=-1 + (2 * sp.log(2 * ell) + 2 * sp.log(sp.log(1 / delta))) / h)),
        Mutant("more widths than the range has", _widths(fewest=2)),
        Mutant("error delta/100", _widths(whole=delta / 100)),
        Mutant("error delta^2", _widths(whole=delta**2)),
        Mutant("error of the ends, delta/30 of it", _widths(whole=LEFT_OUT / 30)),
    ),
    steps=(
        ("trapezoid-error at this h is delta, and widths-left-out is the rest", sp.pi**2 / sp.log(HARMONIC)),
        ("Every rate of B exceeds 1/ell, as r < rho (images-positive), and distance 0 is exact: the rest of the mixture"
         " there goes to the identity and to the end frames", None),
        ("The score needs B to about epsilon tau, so delta is about epsilon t_0: the price is in the smallest t", None),
    ),
    true_variants={
        "relation 4: right side times 0.9": "at these steps the rule is off by 0.86 of delta at most: 6 is the factor "
        "of a step of 1/4",
    },
)  # fmt: skip

CLAIMS = (LEVY, FOURIER, TRAPEZOID, ENDS, COUNT)
