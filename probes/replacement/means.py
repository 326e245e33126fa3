"""Means of what depends on the data in a DiT: its maps, what its heads write, and the slopes of norms and activations.

An affine map of mean slope stands for a part f of the stream: z -> E f(Z) + E[f'(Z)] (z - E Z), with means over
sequences, taken apart at every token. If Z were Gaussian it would be the affine map nearest to f (Stein, derived). It
is formed from what reaches the part in the network itself.

- The activation acts on each hidden unit by itself, so that its slope is one number for each token and unit.
- LayerNorm y = (x - m)/s of w channels has the Jacobian (I - 11'/w - y y'/w)/s (derived): a matrix for each token.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.replacement.explicit import BATCH, Parts, explicit_score
from unrolled.checks import InputError
from unrolled.models.dit import DiT

__all__ = ["Affine", "Means", "network_means"]


@dataclass(frozen=True)
class Affine:
    """An affine map of the stream at every token: offset + slope (z - centre).

    Attributes:
        centre: (tokens, channels).
        offset: (tokens, channels).
        slope: (tokens, channels) of an elementwise map, (tokens, channels, channels) of another.
    """

    centre: Tensor
    offset: Tensor
    slope: Tensor

    def linear(self, z: Float[Tensor, "*batch tokens channels"]) -> Float[Tensor, "*batch tokens channels"]:
        """slope z."""
        if self.slope.ndim == 2:
            return self.slope * z
        return torch.einsum("twv,...tv->...tw", self.slope, z)

    def __call__(self, z: Float[Tensor, "*batch tokens channels"]) -> Float[Tensor, "*batch tokens channels"]:
        return self.offset + self.linear(z - self.centre)


@dataclass(frozen=True)
class Means:
    """Means over sequences at one t, in the dtype of the model.

    Attributes:
        maps: (layers, heads, tokens, tokens), registers first.
        mixed: (layers, heads, tokens, head_dim) what the heads mix.
        norms: at each place of `Parts.norm`; empty where the model does not normalise.
        activations: of each layer.
    """

    maps: Tensor
    mixed: Tensor
    norms: list[Affine]
    activations: list[Affine]


class _Recorder(Parts):
    """The parts as they are, with sums over sequences kept."""

    def __init__(self, model: DiT):
        super().__init__(model)
        self.sums: dict[tuple[str, int], list[Tensor]] = {}

    def _add(self, what: str, place: int, *terms: Tensor) -> None:
        kept = self.sums.get((what, place))
        self.sums[what, place] = list(terms) if kept is None else [a + b for a, b in zip(kept, terms, strict=True)]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        maps = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), dim=-1)
        mixed = maps @ v
        self._add("attention", layer, maps.sum(dim=0), mixed.sum(dim=0))
        return mixed

    def norm(self, place: int, x: Tensor) -> Tensor:
        y = super().norm(place, x)
        if isinstance(self.model.head.norm, nn.LayerNorm):
            width = x.shape[-1]
            inverse = (x.var(dim=-1, correction=0) + self.model.head.norm.eps).rsqrt()  # (batch, tokens)
            centring = torch.eye(width, dtype=x.dtype, device=x.device) - 1 / width
            outer = torch.einsum("btw,btv->twv", y * inverse[..., None], y)
            slope = inverse.sum(dim=0)[:, None, None] * centring - outer / width
            self._add("norm", place, x.sum(dim=0), y.sum(dim=0), slope)
        return y

    def activation(self, layer: int, hidden: Tensor) -> Tensor:
        out = super().activation(layer, hidden)
        normal = torch.special.ndtr(hidden)  # GELU(h) = h ndtr(h)
        density = torch.exp(-hidden.square() / 2) / math.sqrt(2 * math.pi)
        self._add("activation", layer, hidden.sum(dim=0), out.sum(dim=0), (normal + hidden * density).sum(dim=0))
        return out

    def means(self, what: str, count: int) -> list[list[Tensor]]:
        places = sorted(place for name, place in self.sums if name == what)
        return [[total / count for total in self.sums[what, place]] for place in places]


@torch.no_grad()
def network_means(model: DiT, x: Float[Tensor, "n N d"], t: float) -> Means:
    """Means over the sequences x of what depends on the data in `model` at t.

    Args:
        model: with at least one block.
        x: noisy sequences, in the dtype of the model.
        t: diffusion time.

    Raises:
        InputError: a model without blocks.
    """
    if model.config.depth == 0:
        raise InputError("model: it has no blocks; accepted: a DiT with at least one")
    recorder = _Recorder(model)
    for part in x.split(BATCH):
        explicit_score(model, part, t, recorder)
    maps, mixed = (torch.stack(parts) for parts in zip(*recorder.means("attention", len(x)), strict=True))
    norms, activations = ([Affine(*m) for m in recorder.means(what, len(x))] for what in ("norm", "activation"))
    return Means(maps, mixed, norms, activations)
