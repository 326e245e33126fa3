"""A transformer block is a step of the solver: the forward pass written down in sympy, token by token, and compared.

This is a second forward pass, from the formulas of the architectures and the recipes' docstrings; the models that
`construct` builds are compared with the solvers in theory/predictions and in the tests. Sums over frames are letters,
so that it holds for every number of frames.
"""

from typing import Any

import sympy as sp

from theory.certify import Each, Identity, Reals, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import LAGS, NOTATION, Letters, b

__all__ = ["CLAIMS"]

LETTERS = Letters("blocks", NOTATION, LAGS)
weight, spatial, eta = LETTERS.symbols({
    "omega": "weight of a Gaussian in the kernel", "s_k": "eigenvalue of Sigma, one channel of its eigenbasis",
    "eta": "step size",
})  # fmt: skip
c, alpha, noise, row = LETTERS.symbols({
    "c": "normaliser of the sink head", "alpha": "alpha_t = e^(-t/2)", "sigma": "sigma_t",
    "Z_i": "row sum of the Gaussian, the sum of exp(-b lag^2)",
}, positive=True)  # fmt: skip
p_i, p_k, x, u, mu, G = LETTERS.symbols({
    "p_i": "position of the token that asks", "p_k": "position of a token that is seen", "x": "value of x in a frame",
    "u": "value of u = sigma s, or of s, in a frame", "mu": "value of mu in a frame",
    "G": "sum over frames of exp(-b lag^2) u",
})  # fmt: skip


def _gelu(z: Any) -> Any:
    return z * (1 + sp.erf(z / sp.sqrt(2))) / 2


def _logit(square: int = 1) -> Any:
    query = (2 * b * p_i, 1, -b * p_i**2)
    key = (p_k, -square * b * p_k**2, 1)
    return sum(one * other for one, other in zip(query, key, strict=True))


def _dit_block(gate: Any, register_value: Any, sink: bool) -> Any:
    """u of a token after a block: Gaussian attention gated by alpha^2 into the scratch, a GELU pair from there."""
    register = sp.exp(sp.UnevaluatedExpr(sp.log(c - row))) if sink else 0
    head = (G + register * register_value) / (row + register)
    functional = gate * weight * c * spatial * head + noise**2 * u + noise * x - noise * alpha * mu
    return u - eta * (_gelu(functional) - _gelu(-functional))


def _dit_step(gate: Any = alpha**2, register_value: Any = 0, sink: bool = True, square: int = 1) -> Statement:
    product = alpha**2 * spatial * weight * G + noise**2 * u
    return (
        equal(_logit(square), -b * (p_i - p_k) ** 2),
        equal(_dit_block(gate, register_value, sink), u - eta * (product + noise * (x - alpha * mu))),
        sp.Lt(0, c - row),
    )


DIT_STEP = Claim(
    name="dit-block-is-step",
    title="One DiT block, softmax with a register and GELU, takes u = sigma s to u - eta (C_t u + sigma (x - "
    "alpha mu)).",
    statement=_dit_step(),
    certificate=Each((Identity(), Identity(), Reals())),
    provenance="derived",
    assumptions=(sp.Gt(c, row),),
    mutants=(
        Mutant("attention gate alpha for alpha^2", _dit_step(gate=alpha)),
        Mutant("row-normalised head", _dit_step(sink=False)),
        Mutant("register that holds the mean", _dit_step(register_value=mu)),
        Mutant("keys with twice the square", _dit_step(square=2)),
    ),
    steps=(
        ("Logits are -b lag^2, the register's log(c - Z_i): the head returns the sum of exp(-b lag^2) u over c"
         " (sink-head)", None),
        ("The output map times the gate makes alpha^2 of it, in one channel of the eigenbasis of Sigma times s_k",
         None),
        ("A GELU pair is linear (gelu-pair): the MLP sums the functional and subtracts eta times it", None),
    ),
    scope="one channel and one Gaussian, for any number of frames; heads and channels add up.",
)  # fmt: skip

tau, right, lags, kept = LETTERS.symbols({
    "tau": "noise to signal, a factor of a masked product", "r": "right side in a frame",
    "Gamma_J u": "the truncated covariance times u in a frame",
    "kappa_m": "what a masked product leaves of a value: 1, see masked-product",
})  # fmt: skip


def _relu(number: Any) -> Any:
    return sp.Max(number, 0)


def _relu_step(forward: bool = True, direction: int = 1, square: int = 1) -> Statement:
    """Two blocks: lag heads, a masked product and a ReLU pair into w; a masked product from w into s."""
    passed = _relu(right) - (_relu(-right) if forward else 0)
    work = lags * spatial + kept * tau * u + passed
    after = u - direction * kept * eta * work**square
    return (equal(after, u - eta * (lags * spatial + tau * u + right)),)


RELU_STEP = Claim(
    name="relu-blocks-are-step",
    title="Two blocks of a ReLU transformer take s to s - eta (Gamma_J s Sigma + tau s + r), a step on the "
    "truncated covariance.",
    statement=_relu_step(),
    certificate=Reals(),
    provenance="derived",
    assumptions=(equal(kept, 1),),
    mutants=(
        Mutant("one ReLU for the pair", _relu_step(forward=False)),
        Mutant("a step uphill", _relu_step(direction=-1)),
        Mutant("the square of w", _relu_step(square=2)),
        Mutant("masked products that leave nothing", assumptions=(equal(kept, 0),)),
    ),
    steps=(
        ("First block: lag heads (lag-heads) and a product with tau (masked-product) into w, then w += r", None),
        ("Second block: s -= eta w by a product head; w is cleared by a ReLU pair", None),
    ),
    scope="one channel, for any number of frames; that the lag heads give Gamma_J u is lag-heads, what a masked "
    "product leaves is masked-product, and channels add up.",
)

CLAIMS = (DIT_STEP, RELU_STEP)
