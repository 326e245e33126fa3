"""A transformer block is a step of the solver: the forward pass written down in sympy, token by token, and compared.

This is a second forward pass, from the formulas of the architectures and the recipes' docstrings; the models that
`construct` builds are compared with the solvers in theory/predictions and in the tests.
"""

from collections.abc import Sequence
from typing import Any

import sympy as sp

from theory.certify import Identity, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import LAGS, NOTATION, Letters, b

__all__ = ["CLAIMS"]

LETTERS = Letters("blocks", NOTATION, LAGS)
FRAMES = 3
weight, spatial = LETTERS.symbols({
    "omega": "weight of a Gaussian in the kernel", "s_k": "eigenvalue of Sigma, one channel of its eigenbasis",
})  # fmt: skip
c, alpha, noise, eta, far = LETTERS.symbols({
    "c": "normaliser of the sink head", "alpha": "alpha_t = e^(-t/2)", "sigma": "sigma_t", "eta": "step size",
    "Lambda": "how low the logit of an unseen token lies",
}, positive=True)  # fmt: skip

x, u, mu, right = (
    LETTERS.symbols({f"{name}({i})": f"value of {meaning} in frame {i}" for i in range(FRAMES)})
    for name, meaning in (("x", "x"), ("u", "u = sigma s, or of s"), ("mu", "mu"), ("r", "r"))
)


def _gelu(z: Any) -> Any:
    return z * (1 + sp.erf(z / sp.sqrt(2))) / 2


def _softmax(logits: Sequence[Any]) -> list[Any]:
    weights = [sp.exp(logit) for logit in logits]
    total = sp.Add(*weights)
    return [weight / total for weight in weights]


def _dit_block(gate: Any = alpha**2, register_value: Any = 0, sink: bool = True) -> list[Any]:
    """u of each token after a block: Gaussian attention gated by alpha^2 into the scratch, GELU pairs from there."""
    position = [sp.Rational(2 * i - FRAMES + 1, 2) for i in range(FRAMES)]
    row_sums = [sum(sp.exp(-b * (i - k) ** 2) for k in range(FRAMES)) for i in range(FRAMES)]
    after = []
    for i in range(FRAMES):
        query = (2 * b * position[i], 1, -b * position[i] ** 2, sp.log(c - row_sums[i]) if sink else -far)
        keys = [(position[k], -b * position[k] ** 2, 1, 0) for k in range(FRAMES)] + [(0, 0, 0, 1)]
        shares = _softmax([sum(q * k for q, k in zip(query, key, strict=True)) for key in keys])
        head = sum(share * v for share, v in zip(shares, [*u, register_value], strict=True))
        scratch = gate * weight * c * spatial * head
        functional = scratch + noise**2 * u[i] + noise * x[i] - noise * alpha * mu[i]
        after.append(u[i] - eta * (_gelu(functional) - _gelu(-functional)))
    return after


def _dit_step(**changes: Any) -> Statement:
    kernel = [[weight * sp.exp(-b * (i - k) ** 2) for k in range(FRAMES)] for i in range(FRAMES)]
    product = [
        alpha**2 * spatial * sum(kernel[i][k] * u[k] for k in range(FRAMES)) + noise**2 * u[i] for i in range(FRAMES)
    ]
    step = [u[i] - eta * (product[i] + noise * (x[i] - alpha * mu[i])) for i in range(FRAMES)]
    return tuple(equal(left, right) for left, right in zip(_dit_block(**changes), step, strict=True))


def _reduce(difference: Any) -> Any:
    return sp.simplify(sp.powsimp(sp.expand(difference)))


DIT_STEP = Claim(
    name="dit-block-is-step",
    title="One DiT block, softmax with a register and GELU, takes u = sigma s to u - eta (C_t u + sigma (x - "
    "alpha mu)).",
    statement=_dit_step(),
    certificate=Identity(reduce=_reduce),
    provenance="derived",
    mutants=(
        Mutant("attention gate alpha for alpha^2", _dit_step(gate=alpha)),
        Mutant("row-normalised head", _dit_step(sink=False)),
        Mutant("register that holds the mean", _dit_step(register_value=mu[0])),
    ),
    steps=(
        ("The sink head returns the sum of exp(-b lag^2) u_j over c (sink-head)", None),
        (
            "The output map times the gate makes alpha^2 of it, in one channel of the eigenbasis of Sigma times s_k",
            None,
        ),
        ("A GELU pair is linear (gelu-pair): the MLP sums the functional and subtracts eta times it", None),
    ),
    scope="reduced for three frames, one channel, one Gaussian, symbols otherwise; heads and channels add up.",
)

kernel0, kernel1 = LETTERS.symbols({
    "gamma_0": "gamma(0)", "gamma_1": "gamma(1)",
})  # fmt: skip
tau, margin = LETTERS.symbols({
    "tau": "noise to signal, a factor of a masked product", "B": "what the mask exceeds its factor by",
}, positive=True)  # fmt: skip


def _relu(number: Any) -> Any:
    return sp.Max(number, 0)


def _masked(factor: Any, i: int, k: int) -> Any:
    """Attention weight of a product head: factor at k = i, 0 elsewhere."""
    hamming = bin(i ^ k).count("1")
    return _relu(factor - (factor + margin) * hamming)


def _relu_blocks(mask: bool = True, forward: bool = True, square: int = 1) -> list[Any]:
    """s of each token after two blocks, covariance cut off at lag 2."""
    slopes = [kernel0 - kernel1, kernel1 / 3, sp.Integer(0)]
    work = []
    for i in range(FRAMES):
        heads = sum(
            (slopes[m] - slopes[m + 1]) * _relu(sp.Integer((m + square) ** 2 - (i - k) ** 2)) * u[k] * spatial
            for m in range(2)
            for k in range(FRAMES)
        )
        shift = sum((_masked(tau, i, k) if mask else tau) * u[k] for k in range(FRAMES))
        work.append(heads + shift + (_relu(right[i]) - _relu(-right[i]) if forward else _relu(right[i])))
    return [u[i] - sum(_masked(eta, i, k) * work[k] for k in range(FRAMES)) for i in range(FRAMES)]


def _relu_step(**changes: Any) -> Statement:
    gamma = [kernel0, kernel1, sp.Integer(0)]
    after = [
        u[i] - eta * (spatial * sum(gamma[abs(i - k)] * u[k] for k in range(FRAMES)) + tau * u[i] + right[i])
        for i in range(FRAMES)
    ]
    return tuple(equal(one, two) for one, two in zip(_relu_blocks(**changes), after, strict=True))


RELU_STEP = Claim(
    name="relu-blocks-are-step",
    title="Two blocks of a ReLU transformer take s to s - eta (Gamma_J s Sigma + tau s + r), a step on the "
    "truncated covariance.",
    statement=_relu_step(),
    certificate=Identity(reduce=lambda difference: sp.expand(difference.rewrite(sp.Abs))),
    provenance="derived",
    mutants=(
        Mutant("product head without its mask", _relu_step(mask=False)),
        Mutant("one ReLU for the pair", _relu_step(forward=False)),
        Mutant("lag heads with logit j^2 - lag^2", _relu_step(square=0)),
    ),
    steps=(
        ("First block: lag heads (lag-heads) and a product with tau (masked-product) into w, then w += r", None),
        ("Second block: s -= eta w by a product head; w is cleared by a ReLU pair", None),
    ),
    scope="reduced for three frames, J = 2, one channel, symbols otherwise; heads and channels add up.",
)

CLAIMS = (DIT_STEP, RELU_STEP)
