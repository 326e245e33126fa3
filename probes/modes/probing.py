"""Influence by lag from random probes, for models whose Jacobian is too large: bounded memory, one product a probe.

With a vector v of independent signs (Rademacher) over frames and values, G_ij = (J v)_i . v_j has mean tr J_ij: the
signs of two entries are uncorrelated, and the square of a sign is 1. So one product gives an unbiased estimate of the
traces of all (d, d) blocks, and their mean along diagonals is the influence at every lag (published: Hutchinson, Comm.
Statist. Simulation 18, 1989; the shift by lags is derived). The variance holds no diagonal entry of a block, which is
why signs are better than normal numbers.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from probes.capture.lags import lag_means
from probes.modes.parts import Estimate
from unrolled.checks import InputError, require_integer
from unrolled.diffusion import ScoreModel

__all__ = ["probed_influence", "shifted_products"]

STEP = 1e-4
"""Step of central differences, relative to the root mean square of x: their error is about its square in float64."""


def shifted_products(
    products: Float[Tensor, "batch N d"], signs: Float[Tensor, "batch N d"]
) -> Float[Tensor, "batch lags"]:
    """Unbiased estimates of influence by signed lag from J v and v: mean over pairs of (J v)_i . v_{i+l} / d."""
    return lag_means(torch.einsum("bic,bjc->bij", products, signs) / signs.shape[-1])


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
    require_integer("probes", probes)
    require_integer("sequences", len(x), 2)
    product = _transposed(model, x, t) if gradient else _differences(model, x, t)
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(len(x), 2 * x.shape[1] - 1, dtype=torch.float64)
    for _ in range(probes):
        v = (torch.randint(2, x.shape, generator=generator) * 2 - 1).to(x)
        pair = (v, product(v)) if gradient else (product(v), v)  # v_i . (J'v)_j has the mean of (J v)_i . v_j
        total += shifted_products(*(part.double().cpu() for part in pair))
    table = (total / probes).numpy()
    return Estimate(table.mean(axis=0), table.std(axis=0, ddof=1) / len(x) ** 0.5, len(x) - 1)


def _transposed(model: ScoreModel, x: Tensor, t: float) -> Callable[[Tensor], Tensor]:
    """v -> J' v."""
    try:
        _, pull = torch.func.vjp(lambda z: model(z, t), x)
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"gradient: True is not accepted for this model ({reason}); accepted: False") from None
    return lambda v: pull(v)[0].detach()


def _differences(model: ScoreModel, x: Tensor, t: float) -> Callable[[Tensor], Tensor]:
    """v -> J v."""
    step = STEP * float(x.square().mean().sqrt())

    @torch.no_grad()
    def product(v: Tensor) -> Tensor:
        return (model(x + step * v, t) - model(x - step * v, t)) / (2 * step)

    return product
