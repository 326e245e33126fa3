"""The letters of the claims, with what they stand for; those of the design's notation where it has one."""

from collections.abc import Mapping
from typing import Any

import sympy as sp

from unrolled.checks import InputError

__all__ = ["MEANING", "define", "name_letters", "total"]

total: Any = sp.Sum
"""sympy's Sum, whose annotations do not say that it adds and multiplies."""

MEANING: dict[Any, str] = {}
"""What each letter of a claim stands for, as the page of claims says it."""


def define(name: str, meaning: str, **assumptions: bool) -> Any:
    """A symbol, entered into MEANING; without assumptions it is a real number.

    Raises:
        InputError: the same symbol with another meaning.
    """
    symbol = sp.Symbol(name, **(assumptions or {"real": True}))
    name_letters({symbol: meaning})
    return symbol


def name_letters(letters: Mapping[Any, str]) -> None:
    """Enter letters that are no plain symbols.

    Raises:
        InputError: one of them stands for something else already.
    """
    for letter, meaning in letters.items():
        if MEANING.setdefault(letter, meaning) != meaning:
            raise InputError(
                f"{letter}: stands for {MEANING[letter]!r} already; accepted: another letter for {meaning!r}"
            )


# Process and time.
N = define("N", "frames of a sequence", integer=True, positive=True)
d = define("d", "values of a frame", integer=True, positive=True)
t = define("t", "diffusion time", positive=True)
a = define("a", "alpha_t^2 = e^-t")
tau = define("tau", "noise to signal, e^t - 1 = sigma_t^2/alpha_t^2")
T = define("T", "largest diffusion time", positive=True)
clean = define("c_0", "an eigenvalue of Gamma x Sigma, the data's covariance", positive=True)
mu0 = define("mu_0", "mean of the data along an eigenvector")
lam = define("lambda", "an eigenvalue of C_t")
m = define("m", "smallest eigenvalue of C_t")
L = define("L", "largest eigenvalue of C_t")
kappa = define("kappa", "condition number L/m of C_t")
g1 = define("g_1", "smallest eigenvalue of Gamma")
gN = define("g_N", "largest eigenvalue of Gamma")
s1 = define("s_1", "smallest eigenvalue of Sigma")
sd = define("s_d", "largest eigenvalue of Sigma")
# Iterations and errors.
K = define("K", "steps of an iteration", integer=True, positive=True)
eps = define("epsilon", "relative error asked for")
eta = define("eta", "step size")
xi = define("xi", "size of an error made in every step")
e = define("e", "error so far")
# Lags and kernels.
J = define("J", "lags kept by a truncation", integer=True, positive=True)
l = define("l", "a lag", integer=True, nonnegative=True)  # noqa: E741
ell = define("ell", "lengthscale of a kernel", positive=True)
p = define("p", "power of a kernel", positive=True)
r = define("r", "distance in frames", positive=True)
rho = define("rho", "e^(-1/ell), correlation of neighbours in OU", positive=True)
b = define("b", "width parameter of a Gaussian exp(-b r^2)", positive=True)
u = define("u", "(r/ell)^2", positive=True)
# Sizes of a model.
WIDTH, BLOCKS, HEADS, HIDDEN = (
    define(name, meaning, integer=True, positive=True)
    for name, meaning in (
        ("D", "width of the stream"), ("L", "blocks"), ("M", "heads of a block"), ("H", "hidden units of a block"),
    )
)  # fmt: skip
