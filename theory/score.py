"""The score of a Gaussian process: a linear system, how hard it is, and what its solution looks like."""

from typing import Any

import sympy as sp

from theory.certify import Each, Identity, Induction, Reals, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import LAGS, NOTATION, SPECTRUM, Letters, N, a, clean, d, kappa, rho, t, tau, total

__all__ = ["CLAIMS"]

LETTERS = Letters("score", NOTATION, SPECTRUM, LAGS)
n = LETTERS.define("n", "dimension of a vector", integer=True, positive=True)
alpha = LETTERS.define("alpha", "alpha_t = e^(-t/2)", positive=True)
C = sp.MatrixSymbol("C", n, n)
x, h, s, mu = (sp.MatrixSymbol(name, n, 1) for name in ("x", "h", "s", "mu"))
LETTERS.name({
    C: "covariance of X_t", x: "a state", h: "a displacement of it", s: "any vector", mu: "mean of the data",
})  # fmt: skip
HALF = sp.Rational(1, 2)


def _log_density(at: Any) -> Any:
    """The log-density of N(alpha mu, C), up to a constant."""
    return -(at - alpha * mu).T * C.inv() * (at - alpha * mu) / 2


def _score(factor: Any = 1, curvature: Any = HALF) -> Statement:
    claimed = -factor * h.T * C.inv() * (x - alpha * mu) - curvature * h.T * C.inv() * h
    return (equal(_log_density(x + h) - _log_density(x), claimed),)


SCORE = Claim(
    name="score-formula",
    title="The score of N(alpha mu, C) is -C^{-1}(x - alpha mu): over a step h the log-density moves by h'score - "
    "h'C^{-1}h/2.",
    statement=_score(),
    certificate=Identity(symmetric=(C,)),
    provenance="published",
    source="any text on Gaussian laws",
    mutants=(
        Mutant("twice the score", _score(factor=2)),
        Mutant("curvature without the half", _score(curvature=1)),
        Mutant("curvature 1/2 + (n-1)(n-2), right for n = 1 and 2", _score(curvature=HALF + (n - 1) * (n - 2))),
    ),
    steps=(
        ("The log-density is a quadratic form, up to a constant", _log_density(x)),
        ("Its increment over h has a part linear in h, h' times the gradient, and a quadratic one", None),
    ),
)


def _objective(at: Any) -> Any:
    return at.T * C * at / 2 + at.T * (x - alpha * mu)


def _variational(half: Any = HALF, sign: int = -1) -> Statement:
    exact = sign * C.inv() * (x - alpha * mu)
    return (equal(_objective(s) - _objective(exact), half * (s - exact).T * C * (s - exact)),)


VARIATIONAL = Claim(
    name="score-variational",
    title="The score minimises s'Cs/2 + s'(x - alpha mu): the excess of any s is half its squared C-distance from "
    "the score.",
    statement=_variational(),
    certificate=Identity(symmetric=(C,)),
    provenance="published",
    source="Saad, Iterative Methods for Sparse Linear Systems, sec. 5.3.1",
    mutants=(
        Mutant("excess without the half", _variational(half=1)),
        Mutant("score of the wrong sign", _variational(sign=1)),
    ),
    steps=(
        ("Complete the square in", _objective(s)),
        ("C is positive definite, so the excess is >= 0, and 0 at the score only", None),
    ),
)


def _marginal(noise: Any = 1 - sp.exp(-t)) -> Statement:
    c = sp.exp(-t) * clean + noise
    return (equal(sp.Derivative(c, t), 1 - c), equal(sp.Subs(c, t, 0), clean))


MARGINAL = Claim(
    name="forward-marginal",
    title="dX = -X/2 dt + dW takes each eigenvalue c_0 of the data's covariance to alpha_t^2 c_0 + sigma_t^2, "
    "sigma_t^2 = 1 - e^-t.",
    statement=_marginal(),
    certificate=Identity(),
    provenance="published",
    source="Uhlenbeck and Ornstein, Phys. Rev. 36, 1930",
    mutants=(
        Mutant("sigma^2 = 1 - e^(-2t)", _marginal(1 - sp.exp(-2 * t))),
        Mutant("noise that starts at 1", _marginal(sp.Integer(1))),
    ),
    steps=(
        ("Ito: in each eigendirection the variance c obeys dc/dt = 1 - c, with c = c_0 at t = 0", None),
        ("The solution is", sp.exp(-t) * clean + 1 - sp.exp(-t)),
    ),
)

indexed: list[Any] = [sp.IndexedBase(name, real=True) for name in ("Gamma", "Sigma", "V")]
G, S, V = indexed
LETTERS.name({
    G.label: "temporal covariance", S.label: "spatial covariance", V.label: "a sequence, frames as rows",
})  # fmt: skip
frame, other, channel, value = LETTERS.symbols({
    "i": "a frame", "j": "a frame", "k": "a value of a frame", "r": "a value of a frame",
}, integer=True, nonnegative=True)  # fmt: skip


def _kronecker(second: Any = S[channel, value], exchanged: bool = False) -> Statement:
    """Row (i, k) of the product of Gamma x Sigma and vec V, and entry (i, k) of Gamma V Sigma'."""
    at = V[value, other] if exchanged else V[other, value]
    left = total(total(G[frame, other] * S[channel, value] * at, (value, 0, d - 1)), (other, 0, N - 1))
    mapped = total(G[frame, other] * V[other, value], (other, 0, N - 1))
    return (equal(left, total(mapped * second, (value, 0, d - 1))),)


KRONECKER = Claim(
    name="kronecker-product",
    title="(Gamma x Sigma) vec V = vec(Gamma V Sigma') in row-major order: attention over frames, then a map of "
    "channels.",
    statement=_kronecker(),
    certificate=Induction(N, 0),
    provenance="published",
    source="Horn and Johnson, Topics in Matrix Analysis, lemma 4.3.1",
    mutants=(
        Mutant("V transposed", _kronecker(exchanged=True)),
        Mutant("Sigma for Sigma', which differ unless it is symmetric", _kronecker(S[value, channel])),
    ),
    steps=(("Entry ((i, k), (j, r)) of Gamma x Sigma is Gamma_ij Sigma_kr, and (Gamma V Sigma')_ik is the right side",
            None),),
)  # fmt: skip


def _rescaled(shift: Any = sp.exp(t) - 1) -> Statement:
    return (equal(sp.exp(-t) * clean + 1 - sp.exp(-t), sp.exp(-t) * (clean + shift)),)


RESCALED = Claim(
    name="covariance-rescaled",
    title="C_t = alpha_t^2 (Gamma x Sigma + tau I) with tau = e^t - 1: t enters as one factor and one shift.",
    statement=_rescaled(),
    certificate=Identity(),
    provenance="derived",
    mutants=(Mutant("tau = e^t", _rescaled(sp.exp(t))), Mutant("tau = t, its first order", _rescaled(t))),
)


def _noisy(gamma: Any, sigma: Any, at: Any) -> Any:
    """Eigenvalue of C_t where alpha_t^2 = at."""
    return at * gamma * sigma + 1 - at


a_s, g1, gN, s1, sd = LETTERS.symbols({
    "a_s": "alpha_s^2 at a time s before t", "g_1": "smallest eigenvalue of Gamma",
    "g_N": "largest eigenvalue of Gamma", "s_1": "smallest eigenvalue of Sigma", "s_d": "largest eigenvalue of Sigma",
})  # fmt: skip
MONOTONE_DOMAIN = (sp.Lt(0, g1), sp.Le(g1, gN), sp.Lt(0, s1), sp.Le(s1, sd), sp.Lt(0, a), sp.Le(a, a_s), sp.Le(a_s, 1))


def _kappa(at: Any) -> Any:
    return _noisy(gN, sd, at) / _noisy(g1, s1, at)


MONOTONE = Claim(
    name="kappa-monotone",
    title="kappa_t does not grow with t: noise can only make the system easier.",
    statement=(sp.Le(_kappa(a), _kappa(a_s)),),
    certificate=Reals(),
    provenance="derived",
    assumptions=MONOTONE_DOMAIN,
    mutants=(
        Mutant("kappa grows with t", (sp.Ge(_kappa(a), _kappa(a_s)),)),
        Mutant("without alpha_t <= 1", assumptions=MONOTONE_DOMAIN[:-1]),
        Mutant("without Sigma > 0", assumptions=(*MONOTONE_DOMAIN[:2], *MONOTONE_DOMAIN[3:])),
    ),
    steps=(("With a = alpha_t^2, which falls as t grows,", equal(kappa, _kappa(a))),),
)
BOUND_DOMAIN = (sp.Lt(0, g1), sp.Le(g1, gN), sp.Lt(0, s1), sp.Le(s1, sd), sp.Lt(0, a), sp.Le(a, 1))
KAPPA_BOUND = Claim(
    name="kappa-bound",
    title="kappa_t <= kappa(Gamma) kappa(Sigma) at every t, if both are positive definite.",
    statement=(sp.Le(_kappa(a), gN * sd / (g1 * s1)),),
    certificate=Reals(),
    provenance="derived",
    assumptions=BOUND_DOMAIN,
    mutants=(
        Mutant("kappa(Gamma) alone", (sp.Le(_kappa(a), gN / g1),)),
        Mutant("without g_1 > 0", assumptions=BOUND_DOMAIN[1:]),
    ),
    steps=(("kappa_t is largest at t = 0 (kappa-monotone), where it is", gN * sd / (g1 * s1)),),
)
NOISE_DOMAIN = (sp.Le(0, g1), sp.Le(g1, gN), sp.Le(0, s1), sp.Le(s1, sd), sp.Lt(0, tau))
KAPPA_NOISE = Claim(
    name="kappa-noise",
    title="kappa_t <= 1 + |Gamma| |Sigma|/tau, whatever the smallest eigenvalues are: Gamma may be singular.",
    statement=(sp.Le((gN * sd + tau) / (g1 * s1 + tau), 1 + gN * sd / tau),),
    certificate=Reals(),
    provenance="derived",
    assumptions=NOISE_DOMAIN,
    mutants=(
        Mutant("without the 1", (sp.Le((gN * sd + tau) / (g1 * s1 + tau), gN * sd / tau),)),
        Mutant("without g_1 >= 0", assumptions=NOISE_DOMAIN[1:]),
    ),
)


data = sp.MatrixSymbol("C_0", n, n)
LETTERS.name({data: "covariance of the data"})


def _posterior(sign: int = 1) -> Statement:
    noisy = alpha**2 * data + (1 - alpha**2) * sp.Identity(n)
    score = -noisy.inv() * x
    return (equal(alpha * data * noisy.inv() * x, (x + sign * (1 - alpha**2) * score) / alpha),)


POSTERIOR = Claim(
    name="posterior-mean",
    title="Tweedie: E[X_0 | X_t = x] = (x + sigma_t^2 score)/alpha_t, for zero mean alpha C_0 C_t^{-1} x.",
    statement=_posterior(),
    certificate=Identity(symmetric=(data,)),
    provenance="published",
    source="Efron, J. Amer. Stat. Assoc. 106, 2011, eq. 1.4",
    mutants=(
        Mutant("score of the wrong sign", _posterior(sign=-1)),
        Mutant("twice the score", _posterior(sign=2)),
    ),
)


def _ou_precision(corner: Any = 1, neighbour: Any = -rho, inner: Any = 1 + rho**2) -> Statement:
    """Row k frames from a column of (1 - rho^2) times the inverse, k = 0 and k >= 1; then from its first column."""
    return (
        equal(inner + 2 * rho * neighbour, 1 - rho**2),
        equal(rho ** (frame - 1) * neighbour + rho**frame * inner + rho ** (frame + 1) * neighbour, 0),
        equal(corner + rho * neighbour, 1 - rho**2),
        equal(rho**frame * corner + rho ** (frame - 1) * neighbour, 0),
    )


OU_PRECISION = Claim(
    name="ou-precision",
    title="The inverse of the OU covariance rho^|i-j| is tridiagonal: at t -> 0 the score looks at the two "
    "neighbours only.",
    statement=_ou_precision(),
    certificate=Identity(reduce=sp.simplify),
    provenance="published",
    source="Rue and Held, Gaussian Markov Random Fields, sec. 1.1",
    mutants=(
        Mutant("ends like the middle", _ou_precision(corner=1 + rho**2)),
        Mutant("neighbours of the wrong sign", _ou_precision(neighbour=rho)),
    ),
    steps=(
        ("(1 - rho^2) times the inverse has 1 + rho^2 on its diagonal, 1 at both ends, and -rho beside it", None),
        ("A row of the covariance times a column of it: in the same place, or i frames away", None),
    ),
    scope="that these are all rows and columns: the first and the last column are mirror images.",
)

q = LETTERS.define("q", "correlation of neighbours in the inverse", positive=True)
w = LETTERS.define("w", "2 cos of the frequency")
TAU_OF_Q = (1 - rho**2) / (rho * (q + 1 / q - rho - 1 / rho))


def _ou_inverse(amplitude: Any = (1 - rho**2) * q / (rho * (1 - q**2))) -> Statement:
    kernel = (1 - rho**2) / (1 + rho**2 - rho * w)
    shorter = (1 - q**2) / (1 + q**2 - q * w)
    return (
        equal(1 / (kernel + TAU_OF_Q), (1 - amplitude / TAU_OF_Q * shorter) / TAU_OF_Q),
        sp.Implies(sp.And(sp.Lt(q, 1), sp.Lt(rho, 1), sp.Gt(q + 1 / q, rho + 1 / rho)), sp.Lt(q, rho)),
    )


OU_INVERSE = Claim(
    name="ou-inverse",
    title="For OU on the whole line (Gamma + tau I)^{-1} is a multiple of the identity minus one OU kernel of "
    "shorter range.",
    statement=_ou_inverse(),
    certificate=Each((Identity(), Reals())),
    provenance="derived",
    bound=TAU_OF_Q,
    mutants=(
        Mutant("amplitude without 1/(1 - q^2)", _ou_inverse((1 - rho**2) * q / rho)),
        Mutant("longer range", (_ou_inverse()[0], sp.Implies(_ou_inverse()[1].args[0], sp.Gt(q, rho)))),
    ),
    steps=(
        ("The Fourier series of rho^|l| is", (1 - rho**2) / (1 + rho**2 - rho * w)),
        ("One over it plus tau is a quotient of two polynomials of degree 1 in w, a constant minus a simple pole at",
         q + 1 / q),
        ("which is the series of q^|l|, for the noise to signal", equal(tau, TAU_OF_Q)),
        ("So heads of Gaussian shape, which hold an OU kernel to the error of their dictionary, hold C_t^{-1} as "
         "well away"
         " from the ends, at any kappa: a reason why the preconditioned DiT needs little depth", None),
    ),
)  # fmt: skip

CLAIMS = (
    SCORE, VARIATIONAL, MARGINAL, KRONECKER, RESCALED, MONOTONE, KAPPA_BOUND, KAPPA_NOISE, POSTERIOR,
    OU_PRECISION, OU_INVERSE,
)  # fmt: skip
