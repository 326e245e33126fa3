"""Alphabets: the letters of the claims, with what they stand for.

Each subject has an alphabet of its own on top of those that it shares. Within it a printed letter has one meaning;
another subject may give the same letter another one.
"""

from collections.abc import Mapping
from typing import Any

import sympy as sp

__all__ = [
    "BLOCKS", "HEADS", "HIDDEN", "LAGS", "NOTATION", "SIZES", "SPECTRUM", "WIDTH", "J", "K", "L", "Letters", "N", "T",
    "a", "a_J", "b", "clean", "d", "ell", "eps", "gamma", "kappa", "l", "lam", "m", "mu0", "p", "rho", "t", "t0", "tau",
    "total",
]  # fmt: skip

total: Any = sp.Sum
"""sympy's Sum, whose annotations do not say that it adds and multiplies."""


class Letters:
    """The alphabet of a subject.

    Args:
        subject: named in errors.
        shared: alphabets whose letters the subject uses too.
    """

    def __init__(self, subject: str, *shared: "Letters"):
        self.subject = subject
        self.meanings: dict[Any, str] = {}
        self._printed: dict[str, Any] = {}
        for alphabet in shared:
            self.name(alphabet.meanings)

    def define(self, name: str, meaning: str, **assumptions: bool) -> Any:
        """A new symbol of the alphabet; without assumptions it is a real number.

        Raises:
            ValueError: the alphabet has a letter that prints alike and differs in its meaning or its assumptions.
        """
        (symbol,) = self.symbols({name: meaning}, **assumptions)
        return symbol

    def symbols(self, table: Mapping[str, str], **assumptions: bool) -> list[Any]:
        """New symbols of the same assumptions, from a table of names and meanings; see `define`."""
        letters = {sp.Symbol(name, **(assumptions or {"real": True})): meaning for name, meaning in table.items()}
        self.name(letters)
        return list(letters)

    def name(self, letters: Mapping[Any, str]) -> None:
        """Enter letters that are no plain symbols: matrices, functions, letters that do not commute.

        Raises:
            ValueError: as for `define`.
        """
        for letter, meaning in letters.items():
            known = self._printed.setdefault(str(letter), letter)
            if known != letter or self.meanings.setdefault(letter, meaning) != meaning:
                raise ValueError(
                    f"{letter} stands for {self.meanings[known]!r} in {self.subject} already, not {meaning!r}"
                )


NOTATION = Letters("the notation of all subjects")
N, d, K = NOTATION.symbols({
    "N": "frames of a sequence", "d": "values of a frame", "K": "steps of an iteration",
}, integer=True, positive=True)  # fmt: skip
t, t0, T, clean = NOTATION.symbols({
    "t": "diffusion time", "t_0": "smallest diffusion time", "T": "largest diffusion time",
    "c_0": "an eigenvalue of Gamma x Sigma, the data's covariance",
}, positive=True)  # fmt: skip
mu0, eps = NOTATION.symbols({
    "mu_0": "mean of the data along an eigenvector", "epsilon": "relative error asked for",
})  # fmt: skip

SPECTRUM = Letters("the covariance of noisy data")
a, tau, lam, m, L, kappa, a_J = SPECTRUM.symbols({
    "a": "alpha_t^2 = e^-t", "tau": "noise to signal, e^t - 1 = sigma_t^2/alpha_t^2",
    "lambda": "an eigenvalue of C_t", "m": "smallest eigenvalue of C_t", "L": "largest eigenvalue of C_t",
    "kappa": "condition number L/m of C_t", "a_J": "bound on |C - C_J|, alpha_t^2 delta |Sigma|",
})  # fmt: skip

LAGS = Letters("lags and kernels")
J = LAGS.define("J", "lags kept by a truncation", integer=True, positive=True)
l = LAGS.define("l", "a lag", integer=True, nonnegative=True)  # noqa: E741
ell, p, rho, b = LAGS.symbols({
    "ell": "lengthscale of a kernel", "p": "power of a kernel", "rho": "e^(-1/ell), correlation of neighbours in OU",
    "b": "width parameter of a Gaussian exp(-b r^2)",
}, positive=True)  # fmt: skip
gamma: Any = sp.Function("gamma")
LAGS.name({gamma: "temporal correlation at a lag"})

SIZES = Letters("sizes of a model")
WIDTH, BLOCKS, HEADS, HIDDEN = SIZES.symbols({
    "D": "width of the stream", "L": "blocks", "M": "heads of a block", "H": "hidden units of a block",
}, integer=True, positive=True)  # fmt: skip
