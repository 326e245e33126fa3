"""How errors in every iterate, in every gradient or in the matrix change the result."""

from typing import Any

import sympy as sp

from theory.certify import Each, Identity, Reals, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import NOTATION, SPECTRUM, L, Letters, a_J, kappa, m

__all__ = ["CLAIMS"]

LETTERS = Letters("noise", NOTATION, SPECTRUM)
xi = LETTERS.define("xi", "size of an error made in every step")
RATE = (L - m) / (L + m)
DOMAIN = (sp.Lt(0, m), sp.Le(m, L))


def _fixed_point(added: Any, bound: Any) -> Statement:
    """The bound is a fixed point of the recursion, whose rate lies in [0, 1): below it an error stays below it."""
    return (equal(RATE * bound + added, bound), sp.And(sp.Le(0, RATE), sp.Lt(RATE, 1)))


ITERATE = Claim(
    name="gd-iterate-noise",
    title="An error xi added to every gradient-descent iterate leaves at most xi (kappa+1)/2 against the exact "
    "iterate.",
    statement=_fixed_point(xi, xi * (L / m + 1) / 2),
    certificate=Each((Identity(), Reals())),
    provenance="derived",
    assumptions=DOMAIN,
    bound=xi * (kappa + 1) / 2,
    mutants=(
        Mutant("xi kappa/2", _fixed_point(xi, xi * L / m / 2)),
        Mutant("xi sqrt(kappa)", _fixed_point(xi, xi * sp.sqrt(L / m))),
        Mutant("without m > 0", assumptions=(sp.Lt(0, L), *DOMAIN[1:])),
    ),
    steps=(
        ("Exact steps contract, so errors obey e_{k+1} <= rate e_k + xi from e_0 = 0, with rate", RATE),
        ("The bound is the fixed point xi/(1 - rate), with kappa = L/m; from below it no step leads above it",
         xi * (kappa + 1) / 2),
    ),
)  # fmt: skip
GRADIENT = Claim(
    name="gd-gradient-noise",
    title="An error xi in every gradient leaves at most xi/m, however many steps are taken.",
    statement=_fixed_point(2 / (m + L) * xi, xi / m),
    certificate=Each((Identity(), Reals())),
    provenance="derived",
    assumptions=DOMAIN,
    bound=xi / m,
    mutants=(
        Mutant("xi/L", _fixed_point(2 / (m + L) * xi, xi / L)),
        Mutant("xi/(2 m)", _fixed_point(2 / (m + L) * xi, xi / (2 * m))),
    ),
    steps=(("A step of size 2/(m+L) makes 2 xi/(m+L) of it; the fixed point is", xi / m),),
)

A, B, C, CJ, s, r = LETTERS.symbols({
    "A": "inverse of C", "B": "inverse of C_J", "C": "covariance of X_t", "C_J": "the truncated covariance",
    "s": "solution", "r": "right side",
}, commutative=False)  # fmt: skip
change, shift = LETTERS.symbols({
    "c": "an eigenvalue of C", "h": "change of an eigenvalue of C",
})  # fmt: skip


def _resolvent(sign: int = 1) -> Statement:
    return (equal((A * (CJ - C) * B).expand(), A - sign * B),)


def _cancel_inverses(difference: sp.Expr) -> sp.Expr:
    """A C = C A = 1 and B C_J = C_J B = 1."""
    expanded = sp.expand(difference)
    return sp.expand(expanded.subs(A * C, 1).subs(CJ * B, 1).subs(C * A, 1).subs(B * CJ, 1))


def _inverse(denominator: sp.Expr = m * (m - a_J)) -> Statement:
    """With |A - B| <= |A| |shift| |B|, |A| <= 1/m and |B| <= 1/(m - a_J)."""
    return (sp.Le(sp.Abs(1 / change - 1 / (change + shift)), a_J / denominator),)


INVERSE_DOMAIN = (sp.Le(m, change), sp.Le(sp.Abs(shift), a_J), sp.Lt(a_J, m))
INVERSE = Claim(
    name="truncation-inverse",
    title="|C^{-1} - C_J^{-1}| <= a_J/(m (m - a_J)) if C changes by at most a_J < m in the 2-norm.",
    statement=(*_resolvent(), *_inverse()),
    certificate=Each((Identity(reduce=_cancel_inverses), Reals())),
    provenance="derived",
    assumptions=INVERSE_DOMAIN,
    bound=a_J / (m * (m - a_J)),
    mutants=(
        Mutant("a_J/m^2", (*_resolvent(), *_inverse(m**2))),
        Mutant("resolvent with a plus", (*_resolvent(-1), *_inverse())),
        Mutant("without a_J < m", assumptions=INVERSE_DOMAIN[:-1]),
    ),
    steps=(
        ("A - B = A (C_J - C) B for the inverses A, B of C, C_J: in letters that do not commute", None),
        (
            "|A| <= 1/m, and by Weyl's inequality C_J has smallest eigenvalue m - a_J at least, so |B| is at most",
            1 / (m - a_J),
        ),
        ("The bound is reached where c = m and h = -a_J: 1/(m-a_J) - 1/m", a_J / (m * (m - a_J))),
    ),
    scope="the first relation holds for matrices of every size; the second is the same bound for one eigenvalue.",
)


def _solution(sign: int = 1) -> Statement:
    exact, changed = -A * r, -B * r
    return (equal((sign * B * (C - CJ) * exact).expand(), changed - exact),)


def _relative(bound: sp.Expr = a_J / (m - a_J)) -> Statement:
    exact, changed = 1 / change, 1 / (change + shift)
    return (sp.Le(sp.Abs(changed - exact), bound * exact),)


SOLUTION = Claim(
    name="truncation-solution",
    title="The score of the truncated covariance is off by at most a_J/m_J <= a_J/(m - a_J) of itself.",
    statement=(*_solution(), *_relative()),
    certificate=Each((Identity(reduce=_cancel_inverses), Reals())),
    provenance="derived",
    assumptions=INVERSE_DOMAIN,
    bound=a_J / (m - a_J),
    mutants=(
        Mutant("a_J/m", (*_solution(), *_relative(a_J / m))),
        Mutant("the wrong sign", (*_solution(-1), *_relative())),
    ),
    steps=(("s_J - s = C_J^{-1}(C - C_J) s, in letters that do not commute; take norms", None),),
)

CLAIMS = (ITERATE, GRADIENT, INVERSE, SOLUTION)
