"""Rate algebra: from the sizes of a construction to its covering number to the exponents of the total variation.

Everything here is up to constants and logarithms, as products of powers of n, N, d, kappa; a `Rate` prints as one.

1. A class T(D, L, M, B, R) has log covering number of order D^2 M (L^2 log(.) + log(.)) (published: arXiv 2510.02216;
   the parameters, of order L M D^2, times one more L from the growth of perturbations through the blocks).
2. Empirical risk minimisation over n sequences has squared score error of order (range of the loss) (log covering
   number)/n. The range of |s|^2 is of order N d kappa: E|s|^2 = tr C^{-1} <= N d/m, and m = L/kappa with L of order 1.
3. TV^2 <= KL/2 <= squared score error integrated over t (Pinsker, Girsanov), plus that of the truncation.

With J lags kept the heads are of order J, and the truncation leaves a relative score error kappa delta_J
(truncation-solution): delta_J falls like exp(-J/ell), J^(1-p) or not at all, and J is where neither part dominates
(rate-balance).
"""

from dataclasses import dataclass, fields
from typing import Any

import sympy as sp

from theory.symbols import LAGS, NOTATION, J, Letters, N, d, p
from unrolled.checks import refuse, require_choice

__all__ = ["DECAYS", "SOLVERS", "Rate", "Sizes", "covering", "imputation_rate", "total_variation", "truncation_lags"]

LETTERS = Letters("rates", NOTATION, LAGS)
n, kappa = LETTERS.symbols({
    "n": "training sequences", "kappa": "condition number",
}, positive=True)  # fmt: skip
ATOMS = {"n": n, "N": N, "d": d, "kappa": kappa}


@dataclass(frozen=True)
class Rate:
    """n^a N^b d^c kappa^e up to constants and logarithms; the exponents are sympy expressions in the power p of a
    decay."""

    n: Any = sp.Integer(0)
    N: Any = sp.Integer(0)
    d: Any = sp.Integer(0)
    kappa: Any = sp.Integer(0)

    @classmethod
    def of(cls, monomial: Any) -> "Rate":
        """The exponents of a product of powers.

        Raises:
            InputError: anything else.
        """
        logarithm = sp.expand_log(sp.log(sp.sympify(monomial)), force=True)
        exponents = {name: sp.simplify(atom * sp.diff(logarithm, atom)) for name, atom in ATOMS.items()}
        if any(exponent.free_symbols - {p} for exponent in exponents.values()):
            refuse("monomial", monomial, "a product of powers of n, N, d, kappa")
        return cls(**exponents)

    @property
    def expression(self) -> Any:
        """As a sympy product."""
        return sp.Mul(*(ATOMS[field.name] ** getattr(self, field.name) for field in fields(self)))

    def exponents(self, power: float | None = None) -> dict[str, float]:
        """The exponents as numbers, to compare with measured slopes.

        Args:
            power: the power p of the decay, needed where the exponents depend on it.

        Raises:
            InputError: the exponents depend on a power that is not given.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if power is None and any(value.free_symbols for value in values.values()):
            refuse("power", power, "the power of the polynomial decay")
        return {name: float(value if power is None else value.subs(p, power)) for name, value in values.items()}


@dataclass(frozen=True)
class Sizes:
    """Orders of D, L and M, of n, N, d, kappa and the lags J."""

    D: Any
    L: Any
    M: Any


SOLVERS = {
    "gradient descent": Sizes(d, kappa, J),
    "Chebyshev": Sizes(sp.sqrt(kappa), sp.sqrt(kappa), J),
    "conjugate gradient": Sizes(d, sp.sqrt(kappa), J),
}
"""Orders of the sizes of the ReLU models in `theory.sizes`; steps by gd-depth and chebyshev-depth. Each of the K step
sizes of Chebyshev is a time feature and a channel, so that its width is of order sqrt(kappa) where that exceeds d."""
LOSS_RANGE = N * d * kappa
DECAYS = ("exponential", "polynomial", "logarithmic")


def covering(sizes: Sizes) -> Any:
    """Order of the log covering number, D^2 M L^2."""
    return sizes.D**2 * sizes.M * sizes.L**2


def truncation_lags(decay: str, sizes: Sizes) -> Any:
    """Order of the J at which D^2 L^2 J/n balances the squared truncation (kappa J^(1-p))^2: 1 (times log n) for
    exponential decay, (kappa^2 n/(D^2 L^2))^(1/(2p-1)) for polynomial decay with p > 1, N for logarithmic decay.

    Raises:
        InputError: an unknown decay.
    """
    require_choice("decay", decay, DECAYS)
    balanced = (kappa**2 * n / (sizes.D**2 * sizes.L**2)) ** (1 / (2 * p - 1))
    return {"exponential": sp.Integer(1), "polynomial": balanced, "logarithmic": N}[decay]


def total_variation(solver: str, decay: str) -> Rate:
    """The total-variation rate sqrt(range D^2 M L^2/n) of a solver with the lags its decay asks for.

    Raises:
        InputError: an unknown solver or decay.
    """
    sizes = SOLVERS[require_choice("solver", solver, SOLVERS)]
    return Rate.of(sp.sqrt(LOSS_RANGE * covering(sizes).subs(J, truncation_lags(decay, sizes)) / n))


def imputation_rate() -> Rate:
    """The rate of arXiv 2510.02216 for imputation, from its sizes: width of order d, 4 heads for each of N lags, and
    two nested gradient descents (for the score, and inside each step for the observed part), each of kappa steps; with
    a loss whose range is of order kappa, that of one value."""
    return Rate.of(sp.sqrt(kappa * covering(Sizes(d, kappa * kappa, N)) / n))
