"""Distances between Gaussian laws, what KL says of total variation, and what starting and stopping the sampler
costs."""

from typing import Any

import sympy as sp

from theory.certify import Each, Identity, Increasing, Reals, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import NOTATION, Letters, T, clean, mu0, t

__all__ = ["CLAIMS", "gaussian_kl"]

LETTERS = Letters("distances", NOTATION)
HALF = sp.Rational(1, 2)
lam0, x, z, m1, m2 = LETTERS.symbols({
    "lambda_0": "an eigenvalue of the data's covariance", "x": "excess of an eigenvalue: c_T - 1, or c_t0/c_0 - 1",
    "zeta": "a standard normal value", "m_1": "mean of p", "m_2": "mean of q",
})  # fmt: skip
s1, s2 = LETTERS.symbols({
    "s_p": "standard deviation of p", "s_q": "standard deviation of q",
}, positive=True)  # fmt: skip


def _mean(of: Any) -> Any:
    """The expectation over zeta of a polynomial in it."""
    density = sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)
    return sum(
        value * sp.Integral(z**power * density, (z, -sp.oo, sp.oo)) for (power,), value in sp.Poly(of, z).terms()
    )


def gaussian_kl(variance: Any, mean: Any, other: Any = 1) -> Any:
    """KL(N(m, v) || N(0, other))."""
    return (variance / other - 1 - sp.log(variance / other) + mean**2 / other) / 2


def _gaussian_kl(one: Any = 1, exchanged: bool = False) -> Statement:
    value = m1 + s1 * z
    log_p, log_q = -(z**2) / 2 - sp.log(s1), -((value - m2) ** 2) / (2 * s2**2) - sp.log(s2)
    v, w = (s2**2, s1**2) if exchanged else (s1**2, s2**2)
    return (equal(_mean(log_p - log_q), (v / w - one - sp.log(v / w) + (m1 - m2) ** 2 / w) / 2),)


def _logarithms(difference: Any) -> Any:
    return sp.simplify(sp.expand_log(sp.expand(difference.doit()), force=True))


GAUSSIAN_KL = Claim(
    name="gaussian-kl",
    title="KL(p || q) of two Gaussians is [tr Q^-1 P - n - log det Q^-1 P + (m_1 - m_2)'Q^-1 (m_1 - m_2)]/2.",
    statement=_gaussian_kl(),
    certificate=Identity(reduce=_logarithms),
    provenance="published",
    source="any text on information theory",
    mutants=(Mutant("q and p exchanged", _gaussian_kl(exchanged=True)), Mutant("without the -1", _gaussian_kl(one=0))),
    steps=(
        ("KL is the mean over p of log p - log q; with X = m_1 + s_p zeta its terms are moments of zeta", None),
        ("For n values: an affine map changes no KL, and one makes Q = I and P diagonal, a sum over entries", None),
    ),
    scope="reduced for n = 1; the second step carries it to n.",
    true_variants=dict.fromkeys(("power -1 for -2 of s_q", "-1/2 times 0.5"), "in a term of an odd moment, which is 0"),
)


correlation = LETTERS.define("rho", "correlation of a coupling")


def _w2(value: Any = (m1 - m2) ** 2 + (s1 - s2) ** 2) -> Statement:
    return (
        equal(_mean((m1 + s1 * z - m2 - s2 * z) ** 2), value),
        sp.Le((s1 - s2) ** 2, s1**2 + s2**2 - 2 * correlation * s1 * s2),
    )


GAUSSIAN_W2 = Claim(
    name="gaussian-w2",
    title="W2^2 of two Gaussians whose covariances commute is |m_1 - m_2|^2 + sum (s_p - s_q)^2 over common "
    "eigenvectors.",
    statement=_w2(),
    certificate=Each((Identity(), Reals())),
    provenance="published",
    source="Bhatia, Jain and Lim, Expo. Math. 37, 2019",
    assumptions=(sp.Le(correlation, 1),),
    mutants=(
        Mutant("s_p^2 + s_q^2, as if independent", _w2((m1 - m2) ** 2 + s1**2 + s2**2)),
        Mutant("correlations above 1", assumptions=(sp.Le(correlation, 2),)),
    ),
    steps=(
        ("The same zeta for both costs that much, so W2 is no more", None),
        (
            "Any coupling costs |m_1 - m_2|^2 + tr P + tr Q - 2 tr K, K its cross-covariance; in the common eigenbasis",
            None,
        ),
        ("K_ii <= s_p s_q by Cauchy and Schwarz, so none costs less", None),
    ),
    scope="reduced for one eigenvector; the general form of unrolled.gaussian is held against matrix roots by "
    "its test.",
)
P_A, MORE = LETTERS.symbols({
    "P_A": "probability of an event under p", "Delta": "how much likelier the event is under q",
})  # fmt: skip
Q_A = P_A + MORE
D = LETTERS.define("D_m", "distance of the means of two unit Gaussians, whose KL is D^2/2")
TV = sp.erf(D / (2 * sp.sqrt(2)))
TWO_POINT = P_A * sp.log(P_A / Q_A) + (1 - P_A) * sp.log((1 - P_A) / (1 - Q_A))
EVENT = (sp.Gt(P_A, 0), sp.Ge(MORE, 0), sp.Lt(Q_A, 1), sp.Ge(D, 0))
EVENT_STEPS = (
    ("TV is attained on the event where p > q or on its complement, and no event has a larger KL than p and q", None),
    ("so two-point laws suffice, P_A and Q_A = P_A + Delta, Delta > 0 by the complement; both sides are 0 at 0", None),
)


def _pinsker(binary: Any = 2, gaussian: Any = 2) -> Statement:
    return (sp.Ge(TWO_POINT, binary * MORE**2), sp.Le(TV, D / gaussian))


PINSKER = Claim(
    name="pinsker",
    title="TV <= sqrt(KL/2).",
    statement=_pinsker(),
    certificate=Each((
        Increasing(MORE, 0, factor=Q_A * (1 - Q_A)),
        Increasing(D, 0, factor=sp.sqrt(2 * sp.pi) * sp.exp(D**2 / 8), order=2),
    )),
    provenance="published",
    source="Cover and Thomas, Elements of Information Theory, 2nd ed., lemma 11.6.1",
    assumptions=EVENT,
    bound=sp.sqrt(D**2 / 4),
    mutants=(Mutant("sqrt(KL/4)", _pinsker(binary=4)), Mutant("for Gaussians sqrt(KL/4.5)", _pinsker(gaussian=3))),
    true_variants=dict.fromkeys(
        ("relation 2: right side times 0.9", "relation 2: 1/2 times 1.1"),
        "for two unit Gaussians TV is at most D/sqrt(2 pi), so that D/2 leaves a fifth",
    ),
    steps=(*EVENT_STEPS, ("and the slope in Delta of the difference has the sign of", 1 - 4 * Q_A * (1 - Q_A))),
    scope="the two-point laws, and two unit Gaussians as an instance; the first step is the data-processing "
    "inequality.",
)  # fmt: skip


NEARLY_APART = {P_A: sp.Rational(1, 10**9), MORE: 1 - sp.Rational(1, 10**6)}
"""Where the two laws hardly overlap, and the inequality is nearly tight."""


def _bretagnolle(power: int = 2) -> Statement:
    return (sp.Ge(TWO_POINT, -sp.log(1 - MORE**power)),)


BRETAGNOLLE = Claim(
    name="bretagnolle-huber",
    title="TV <= sqrt(1 - exp(-KL)); this says something however large KL is.",
    statement=_bretagnolle(),
    certificate=Increasing(MORE, 0, factor=Q_A * (1 - Q_A) * (1 - MORE**2), probes=(NEARLY_APART,)),
    provenance="published",
    source="Bretagnolle and Huber, Z. Wahrscheinlichkeitstheorie 47, 1979",
    assumptions=EVENT[:-1],
    bound=sp.sqrt(1 - sp.exp(-(D**2) / 2)),
    mutants=(Mutant("without the root", _bretagnolle(power=1)),),
    steps=(*EVENT_STEPS, ("and the slope's sign is that of 1 - Delta^2 - 2 Q_A (1 - Q_A) >= (1 - Q_A)^2", None)),
    scope="the two-point laws; the first step is the data-processing inequality.",
)


def _terminal(center: Any = 1, power: Any = 1) -> Statement:
    excess, mean = sp.exp(-T) * (lam0 - center), sp.exp(-T * power) * mu0**2
    variance = sp.exp(-T) * lam0 + 1 - sp.exp(-T)
    closed = (x - sp.log(1 + x)) / 2 + mean / 2
    return (equal(gaussian_kl(variance, sp.exp(-T / 2) * mu0), closed.subs(x, excess)),)


TERMINAL = Claim(
    name="terminal-kl",
    title="KL(p_T || N(0, I)) is half the sum of x - log(1+x) over x = e^-T (lambda_0 - 1), plus e^-T |mu|^2/2.",
    statement=_terminal(),
    certificate=Identity(),
    provenance="derived",
    assumptions=(sp.Ge(lam0, 0),),
    mutants=(
        Mutant("x = e^-T lambda_0", _terminal(center=0)),
        Mutant("alpha_T |mu|^2", _terminal(power=HALF)),
    ),
    steps=(
        ("C_T has the eigenvalues 1 + x, the mean is alpha_T mu: gaussian-kl, with", sp.Eq(x, sp.exp(-T) * (lam0 - 1))),
    ),
)
y, a = LETTERS.symbols({
    "y": "lack of an eigenvalue: 1 - c_T, or 1 - c_t0/c_0", "a_T": "alpha_T^2 = e^-T",
})  # fmt: skip
EXCESS = a * (lam0 - 1)


def _terminal_bound(above: Any = x**2 / 2, below: Any = y**2 / (2 * (1 - y)), floor: Any = 1 - a) -> Statement:
    return (
        sp.Le(x - sp.log(1 + x), above),
        sp.Le(-y - sp.log(1 - y), below),
        sp.Le(EXCESS**2 / 2 * sp.Max(1, 1 / (1 + EXCESS)), EXCESS**2 / (2 * floor)),
    )


TERMINAL_DOMAIN = (sp.Ge(x, 0), sp.Ge(y, 0), sp.Lt(y, 1), sp.Lt(0, a), sp.Lt(a, 1), sp.Ge(lam0, 0))
TERMINAL_BOUND = Claim(
    name="terminal-kl-bound",
    title="KL(p_T || N(0, I)) <= e^-2T/(1 - e^-T) sum (lambda_0 - 1)^2/4 + e^-T |mu|^2/2.",
    statement=_terminal_bound(),
    certificate=Each((Increasing(x, 0, factor=1 + x), Increasing(y, 0, factor=(1 - y) ** 2), Reals())),
    provenance="derived",
    assumptions=TERMINAL_DOMAIN,
    bound=sp.exp(-2 * T) * (lam0 - 1) ** 2 / (4 * (1 - sp.exp(-T))) + sp.exp(-T) * mu0**2 / 2,
    mutants=(
        Mutant("x^2/4", _terminal_bound(above=x**2 / 4)),
        Mutant("y^2/2 below 1 too", _terminal_bound(below=y**2 / 2)),
        Mutant("without 1 - e^-T", _terminal_bound(floor=1)),
        Mutant("without lambda_0 >= 0", assumptions=TERMINAL_DOMAIN[:-1]),
    ),
    steps=(
        ("For x >= 0 both sides of the first are 0 at 0, and the slope of the difference is", x**2 / (1 + x)),
        ("For x = -y < 0 the same of the second, with the slope", y**2 / (2 * (1 - y) ** 2)),
        ("An eigenvalue 1 + x of C_T is 1 - e^-T at least, since lambda_0 >= 0", None),
    ),
)  # fmt: skip
alpha0, v0 = LETTERS.symbols({
    "alpha_0": "alpha_t at the time t_0 where sampling stops",
    "v_0": "root of an eigenvalue of the data's covariance",
})  # fmt: skip
STOPPED = sp.sqrt(alpha0**2 * v0**2 + 1 - alpha0**2)


def _early(noise: Any = 1 - alpha0**2, order: int = 2) -> Statement:
    return (
        sp.Le((STOPPED - v0) ** 2, (1 - alpha0) ** 2 * v0**2 + noise),
        equal((STOPPED - v0) * (STOPPED + v0), (1 - alpha0**2) * (1 - v0**2)),
        sp.Le(v0**2 * (STOPPED - v0) ** 2, (1 - alpha0**2) ** order * (1 - v0**2) ** 2),
    )


EARLY_DOMAIN = (sp.Ge(v0, 0), sp.Ge(alpha0, 0), sp.Le(alpha0, 1))
EARLY = Claim(
    name="early-stopping-w2",
    title="Stopping at t_0: W2^2(p_0, p_t0) <= (1 - alpha)^2 (|mu|^2 + tr C_0) + n sigma^2; order t_0^2 if C_0 > 0.",
    statement=_early(),
    certificate=Each((Reals(), Identity(), Reals())),
    provenance="derived",
    assumptions=EARLY_DOMAIN,
    bound=(1 - sp.exp(-t / 2)) ** 2 * (lam0 + mu0**2) + 1 - sp.exp(-t),
    mutants=(
        Mutant("without n sigma^2", _early(noise=0)),
        Mutant("order t_0^3", _early(order=3)),
        Mutant("without alpha <= 1", assumptions=EARLY_DOMAIN[:-1]),
    ),
    steps=(
        ("C_t commutes with C_0: by gaussian-w2 an eigenvector adds (1 - alpha)^2 mu_0^2 and", (STOPPED - v0) ** 2),
        ("The coupling X_t = alpha X_0 + sigma Z costs the right side of the first", None),
        ("The second, over the sum, leaves (1 - alpha^2)|1 - lambda_0|/v_0 at most: order t_0, unless v_0 = 0", None),
        ("where it is sigma itself, of order sqrt(t_0): smooth kernels, whose eigenvalues vanish, pay that", None),
    ),
)
FADED = (1 - sp.exp(-t)) * (1 - clean) / clean
"""c_t0/c_0 - 1: what the noise at t_0 adds to an eigenvalue of the data, relative to it."""
SHIFTED = (1 - sp.exp(-t / 2)) ** 2 * mu0**2 / (2 * clean)


def _early_kl(
    above: Any = x**2 / 2, below: Any = y**2 / (2 * (1 - y)), factor: int = 1, mean: Any = SHIFTED
) -> Statement:
    """The divergence in the relative change; its bounds for an eigenvalue that grows or shrinks; in one formula."""
    noisy = sp.exp(-t) * clean + 1 - sp.exp(-t)
    change = factor * FADED
    return (
        equal(gaussian_kl(noisy, (sp.exp(-t / 2) - 1) * mu0, clean), (change - sp.log(1 + change)) / 2 + mean),
        sp.Le(x - sp.log(1 + x), above), sp.Le(-y - sp.log(1 - y), below),
        sp.Le(above / 2, _one_formula(x)), sp.Le(below / 2, _one_formula(-y)),
    )  # fmt: skip


def _one_formula(change: Any) -> Any:
    return change**2 / 4 * sp.Max(1, 1 / (1 + change))


EARLY_KL = Claim(
    name="early-stopping-kl",
    title="Stopping at t_0: KL(p_t0 || p_0) is at most the sum of y^2/4 max(1, 1/(1+y)) + (1-alpha)^2 mu_0^2/(2 c_0) "
    "over eigenvectors, y = (1-e^-t0)(1-c_0)/c_0.",
    statement=_early_kl(),
    certificate=Each((
        Identity(reduce=_logarithms), Increasing(x, 0, factor=1 + x), Increasing(y, 0, factor=(1 - y) ** 2), Reals(),
        Reals(),
    )),
    provenance="derived",
    assumptions=(sp.Ge(x, 0), sp.Ge(y, 0), sp.Lt(y, 1)),
    bound=_one_formula(FADED) + SHIFTED,
    mutants=(
        Mutant("x^2/4", _early_kl(above=x**2 / 4)),
        Mutant("y^2/2 below 0 too", _early_kl(below=y**2 / 2)),
        Mutant("twice the change", _early_kl(factor=2)),
        Mutant("without the mean", _early_kl(mean=0)),
    ),
    steps=(
        ("p_t0 has variance c_t0 = c_0 (1 + y) and its mean is (1 - alpha) mu_0 off: gaussian-kl, with y", FADED),
        ("For y = x >= 0 and y = -y' < 0 the divergence is bounded as in terminal-kl-bound", None),
        ("It is KL(p_t0 || p_0), not the other way round; total variation is the same both ways", None),
    ),
)  # fmt: skip
CLAIMS = (GAUSSIAN_KL, GAUSSIAN_W2, PINSKER, BRETAGNOLLE, TERMINAL, TERMINAL_BOUND, EARLY, EARLY_KL)
