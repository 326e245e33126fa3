"""Letters of the claims and what they stand for: a notation that all subjects share, and an alphabet for each
subject."""

from collections.abc import Mapping
from typing import Any

import sympy as sp

__all__ = ["NOTATION", "J", "Letters", "N", "ell", "l", "p", "total"]

total: Any = sp.Sum
"""sympy's Sum, whose annotations do not say that it adds and multiplies."""


class Letters:
    """The letters of a subject and what they stand for, on top of letters that subjects share.

    A letter may stand for one thing in one subject and for another in the next; within a subject it has one meaning,
    and hides a shared letter that prints alike.

    Args:
        shared: letters that the subject may use as they are.
    """

    def __init__(self, shared: "Letters | None" = None):
        self.own: dict[Any, str] = {}
        self.shared = shared

    def define(self, name: str, meaning: str, **assumptions: bool) -> Any:
        """A symbol with its meaning; without assumptions it is a real number.

        Raises:
            RuntimeError: the subject has a letter of that name already.
        """
        symbol = sp.Symbol(name, **(assumptions or {"real": True}))
        self.name({symbol: meaning})
        return symbol

    def name(self, letters: Mapping[Any, str]) -> None:
        """Enter letters that are no plain symbols.

        Raises:
            RuntimeError: one of them prints like a letter of another meaning, or of another kind.
        """
        for letter, meaning in letters.items():
            for known, other in self.own.items():
                if str(known) == str(letter) and (known != letter or other != meaning):
                    raise RuntimeError(f"{letter}: stands for {other!r} already, not for {meaning!r}")
            self.own[letter] = meaning

    def meaning(self, letter: Any) -> str | None:
        """What a letter stands for in this subject, None where nobody has said."""
        return self.own.get(letter) or (self.shared.meaning(letter) if self.shared is not None else None)


NOTATION = Letters()
"""What all subjects share."""
define = NOTATION.define

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
SIZES = Letters(NOTATION)
"""What subjects about sizes of models share besides."""
WIDTH, BLOCKS, HEADS, HIDDEN = (
    SIZES.define(name, meaning, integer=True, positive=True)
    for name, meaning in (
        ("D", "width of the stream"), ("L", "blocks"), ("M", "heads of a block"), ("H", "hidden units of a block"),
    )
)  # fmt: skip
