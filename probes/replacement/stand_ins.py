"""Ever simpler stand-ins for the parts of a DiT: the chain of the replacement probe.

Stand-ins of heads, from the least to the most that is taken away. R registers come before the N tokens of the sequence;
what a row attends to them, and the rows of the registers, stay as they are in the mean map.

    mean         its map is the mean over sequences at that t
    reference    the mean map of one t stands in at every t
    stationary   the mean map is averaged along its diagonals, and each row scaled back to its own sum
    kernel       k(j - i) with each row scaled to its own sum, k such that the means along diagonals are those of the
                 mean map: of all softmax maps whose logits depend on the lag alone, the one nearest to it in
                 Kullback-Leibler divergence (iterative scaling; published: Darroch and Ratcliff, Ann. Math. Stat. 43,
                 1972)
    fitted       as `kernel`, with k = floor + amplitude exp(-(lag/l)^p), fitted to either side of lag 0
    constant     what the head mixes is its mean over sequences at every token
    removed      what the head mixes is 0

Stand-ins of the other parts:

    mlp          the activations are their affine maps of mean slope, see `probes.replacement.means`
    norm         the LayerNorms are theirs
    linear       mean maps, mlp and norm together: the whole network is affine
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probes.capture.lags import lag_means, pairs_per_lag
from probes.decay.fit import fit_profiles
from probes.replacement.explicit import Parts
from probes.replacement.means import Affine, Means
from unrolled.models.dit import DiT

__all__ = [
    "Replaced",
    "StandIn",
    "fitted",
    "head_stand_ins",
    "kernel",
    "part_stand_ins",
    "plain_stand_ins",
    "row_scaled",
    "stationary",
]

SCALINGS = 500
"""Rounds of iterative scaling, at most."""


@dataclass(frozen=True)
class StandIn:
    """What stands in for the parts of a network; None leaves them as they are.

    Attributes:
        maps: (layers, heads, tokens, tokens) in place of the maps.
        offset: (layers, heads, tokens, head_dim), added to map times values.
        heads: (layers, heads), which of them are replaced.
        norms: at each place; empty for a model that does not normalise.
        activations: layer -> what stands in for its activation.
    """

    maps: Tensor | None = None
    offset: Tensor | None = None
    heads: Bool[Tensor, "layers heads"] | None = None
    norms: Sequence[Affine] | None = None
    activations: dict[int, Affine] | None = None

    def only(self, layer: int, head: int) -> "StandIn":
        """The same for one head alone."""
        assert self.heads is not None
        heads = torch.zeros_like(self.heads)
        heads[layer, head] = True
        return replace(self, heads=heads)


class Replaced(Parts):
    """The parts of a model with a stand-in for some of them."""

    def __init__(self, model: DiT, stand_in: StandIn):
        super().__init__(model)
        self.stand_in = stand_in

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        maps, offset, heads = self.stand_in.maps, self.stand_in.offset, self.stand_in.heads
        if maps is None or offset is None or heads is None or not bool(heads[layer].any()):
            return super().attend(layer, q, k, v)
        mixed = maps[layer] @ v + offset[layer]
        if bool(heads[layer].all()):
            return mixed
        return torch.where(heads[layer][:, None, None], mixed, super().attend(layer, q, k, v))

    def norm(self, place: int, x: Tensor) -> Tensor:
        norms = self.stand_in.norms
        return norms[place](x) if norms else super().norm(place, x)

    def activation(self, layer: int, hidden: Tensor) -> Tensor:
        activations = self.stand_in.activations or {}
        return activations[layer](hidden) if layer in activations else super().activation(layer, hidden)


def _by_lag(curve: Float[Tensor, "*batch lags"]) -> Float[Tensor, "*batch N N"]:
    """Matrices whose entry (i, j) is the curve at lag j - i."""
    n = (curve.shape[-1] + 1) // 2
    i = torch.arange(n, device=curve.device)
    return curve[..., n - 1 + i - i[:, None]]


def _scaled(matrices: Float[Tensor, "*batch N N"], sums: Float[Tensor, "*batch N 1"]) -> Float[Tensor, "*batch N N"]:
    """The matrices with each row scaled to its sum; a row of zeros stays one."""
    own = matrices.sum(dim=-1, keepdim=True)
    return matrices * torch.where(own > 0, sums / own, 0.0)


def row_scaled(curve: Float[Tensor, "*batch lags"], sums: Float[Tensor, "*batch N 1"]) -> Float[Tensor, "*batch N N"]:
    """Maps k(j - i) of a curve k at lags -(N-1)..N-1, each row scaled to its sum."""
    return _scaled(_by_lag(curve), sums)


def stationary(maps: Float[Tensor, "*batch N N"]) -> Float[Tensor, "*batch N N"]:
    """Maps averaged along their diagonals, each row scaled back to the sum it had."""
    return row_scaled(lag_means(maps), maps.sum(dim=-1, keepdim=True))


def kernel(maps: Float[Tensor, "*batch N N"]) -> Float[Tensor, "*batch lags"]:
    """k >= 0 at lags -(N-1)..N-1, of sum 1, whose row-scaled maps have the diagonal means of `maps`.

    `SCALINGS` rounds, or until no mean is off by more than 1e-12.
    """
    sums, target = maps.sum(dim=-1, keepdim=True), lag_means(maps)
    curve = target
    for _ in range(SCALINGS):
        own = lag_means(row_scaled(curve, sums))
        if float((own - target).abs().max()) <= 1e-12:
            break
        curve = curve * torch.where(own > 0, target / own, 0.0)
    return curve / curve.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


def fitted(curve: Float[Tensor, "*batch lags"]) -> Float[Tensor, "*batch lags"]:
    """floor + amplitude exp(-(lag/l)^p) fitted to either side of lag 0, never below 0; the mean of both at lag 0."""
    n = (curve.shape[-1] + 1) // 2
    values = curve.double().cpu().numpy().reshape(-1, 2 * n - 1)
    both = np.concatenate([values[:, n - 1 :], values[:, n - 1 :: -1]])  # lags 0..N-1 and 0..-(N-1)
    lags = np.arange(n)
    fits = fit_profiles(lags, both, ["exponential"], pairs_per_lag(n)[n - 1 :])
    smooth = np.stack([np.maximum(fit(lags), 0.0) for (fit,) in fits])
    forward, backward = smooth[: len(values)], smooth[len(values) :]
    middle = (forward[:, :1] + backward[:, :1]) / 2
    joined = np.concatenate([backward[:, :0:-1], middle, forward[:, 1:]], axis=1)
    return torch.from_numpy(joined).to(curve).reshape(curve.shape)


def plain_stand_ins(means: Means) -> dict[str, StandIn]:
    """Those stand-ins of all heads at once that need the means at this t alone and fit nothing, by name."""
    nothing = torch.zeros_like(means.mixed)
    every = torch.ones(means.maps.shape[:2], dtype=torch.bool, device=means.maps.device)
    return {
        "mean": StandIn(means.maps, nothing, every),
        "constant": StandIn(torch.zeros_like(means.maps), means.mixed, every),
        "removed": StandIn(torch.zeros_like(means.maps), nothing, every),
    }


def head_stand_ins(means: Means, reference: Means, registers: int) -> dict[str, StandIn]:
    """The stand-in of all heads at once, by name, in the order of the chain.

    Args:
        means: at this t.
        reference: at the reference t.
        registers: tokens before the sequence.
    """
    plain = plain_stand_ins(means)
    tokens = means.maps[..., registers:, registers:]
    sums, curve = tokens.sum(dim=-1, keepdim=True), kernel(tokens)

    def with_tokens(block: Tensor) -> StandIn:
        whole = means.maps.clone()
        whole[..., registers:, registers:] = block
        return replace(plain["mean"], maps=whole)

    return {
        "mean": plain["mean"],
        "reference": replace(plain["mean"], maps=reference.maps),
        "stationary": with_tokens(stationary(tokens)),
        "kernel": with_tokens(row_scaled(curve, sums)),
        "fitted": with_tokens(row_scaled(fitted(curve), sums)),
        "constant": plain["constant"],
        "removed": plain["removed"],
    }


def part_stand_ins(means: Means) -> dict[str, StandIn]:
    """The stand-ins of everything else at once, by name; without "norm" for a model that does not normalise."""
    activations = dict(enumerate(means.activations))
    linear = replace(plain_stand_ins(means)["mean"], norms=means.norms, activations=activations)
    norm = {"norm": StandIn(norms=means.norms)} if means.norms else {}
    return {"mlp": StandIn(activations=activations), **norm, "linear": linear}
