"""Influence by lag from random probes, for models whose Jacobian is too large: bounded memory, one product a probe.

With a vector v of independent signs (Rademacher) over frames and values, G_ij = (J v)_i . v_j has mean tr J_ij: the
signs of two entries are uncorrelated, and the square of a sign is 1. So one product gives an unbiased estimate of the
traces of all (d, d) blocks, and their mean along diagonals is the influence at every lag (published: Hutchinson, Comm.
Statist. Simulation 18, 1989; the shift by lags is derived). The variance holds no diagonal entry of a block, which is
why signs are better than normal numbers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probes.capture.lags import lag_means
from probes.modes.parts import Estimate
from unrolled.checks import InputError, require_integer
from unrolled.diffusion import ScoreModel

__all__ = ["over_sequences", "probed_influence", "probed_table", "shifted_products"]


def shifted_products(
    products: Float[Tensor, "batch N d"], signs: Float[Tensor, "batch N d"]
) -> Float[Tensor, "batch lags"]:
    """Unbiased estimates of influence by signed lag from J v and v: mean over pairs of (J v)_i . v_{i+l} / d."""
    return lag_means(torch.einsum("bic,bjc->bij", products, signs) / signs.shape[-1])


def probed_table(
    function: Callable[[Tensor], Tensor],
    x: Float[Tensor, "batch *shape"],
    reduce: Callable[[Tensor, Tensor], Tensor],
    probes: int,
    generator: torch.Generator,
    gradient: bool = True,
) -> Float[np.ndarray, "batch numbers"]:
    """Means over probes of what `reduce` makes of J v and v, for each of the inputs.

    `reduce` must be linear in the products of entries of its two arguments, float64 on the CPU: then the transposed
    Jacobian, which is what a backward pass multiplies by, serves with the arguments exchanged, since v_i . (J'v)_j has
    the mean of (J v)_i . v_j.

    Args:
        function: of a batch, whose outputs have the shape of its inputs; no output sees another input of the batch.
        x: inputs.
        reduce: (J v, v) -> (batch, numbers).
        probes: vectors for each input.
        generator: of the signs.
        gradient: whether to differentiate; else central differences.

    Raises:
        InputError: no probe, or a function that cannot be differentiated.
    """
    require_integer("probes", probes)
    product = _transposed(function, x) if gradient else _differences(function, x)
    total: Tensor | float = 0.0
    for _ in range(probes):
        v = (torch.randint(2, x.shape, generator=generator) * 2 - 1).to(x)
        pair = (v, product(v)) if gradient else (product(v), v)
        total = total + reduce(*(part.double().cpu() for part in pair))
    return (torch.as_tensor(total) / probes).numpy()


def over_sequences(table: Float[np.ndarray, "n numbers"]) -> Estimate:
    """Means over sequences and their standard errors."""
    return Estimate(table.mean(axis=0), table.std(axis=0, ddof=1) / len(table) ** 0.5, len(table) - 1)


def probed_influence(
    model: ScoreModel,
    x: Float[Tensor, "batch N d"],
    t: float,
    probes: int = 1,
    seed: int = 0,
    gradient: bool = True,
) -> Estimate:
    """Mean influence by signed lag -(N-1)..N-1 over sequences, as `probes.modes.parts.influence_of` states it.

    Standard errors are over sequences, whose probes are independent; with one model and many probes of a single
    sequence, repeat the sequence.

    Args:
        model: anything called as model(x, t).
        x: sequences, at least 2.
        t: diffusion time.
        probes: vectors for each sequence.
        seed: of the signs.
        gradient: whether to differentiate the model; else central differences, for models without a gradient.

    Raises:
        InputError: fewer than 2 sequences, no probe, or a model that cannot be differentiated.
    """
    require_integer("sequences", len(x), 2)
    generator = torch.Generator().manual_seed(seed)
    return over_sequences(probed_table(lambda z: model(z, t), x, shifted_products, probes, generator, gradient))


def _transposed(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[Tensor], Tensor]:
    """v -> J' v."""
    try:
        pull: Any = torch.func.vjp(function, x)[1]
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"gradient: True is not accepted for this model ({reason}); accepted: False") from None
    return lambda v: pull(v)[0].detach()


def _differences(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[Tensor], Tensor]:
    """v -> J v by central differences.

    The step is the cube root of the machine epsilon times the root mean square of x, where rounding and curvature are
    balanced: both then leave about the epsilon to the power 2/3, 4e-11 in float64 and 2e-5 in float32 (derived).
    """
    step = torch.finfo(x.dtype).eps ** (1 / 3) * float(x.double().square().mean().sqrt())

    @torch.no_grad()
    def product(v: Tensor) -> Tensor:
        return (function(x + step * v) - function(x - step * v)) / (2 * step)

    return product
