"""Do value/output products recover the eigenvectors of Sigma?

A head writes W_O W_V times a mixture of its inputs. Here W_O W_V is composed with what lies between data and head: with
b_k the change of what the head writes, mean over tokens and sequences, per shift of all frames along data axis k,

    B = (b_1 .. b_d), (width, d)        G = B'B, (d, d)

G says how strongly the head carries each direction of a frame. With V the eigenvectors of Sigma, V'GV is diagonal
exactly if the head treats the eigenvectors of Sigma apart. The figure of merit is the share of the anisotropic part
that lies on that diagonal,

    share = |diag(V' G_0 V)|^2 / |G_0|^2,    G_0 = G - I tr(G)/d

1 for a head that works in the eigenbasis and, for a basis drawn uniformly, 2/(d+2) on average: G_0 lives in the
(d-1)(d+2)/2 traceless symmetric matrices, of which d-1 dimensions are diagonal (derived). The multiple of the identity
is taken out because it is diagonal in every basis. The p-value is the share of random bases with a share at least as
large, corrected for the number of heads by Holm's method. What says no: untrained weights. What must say yes: the score
of the model itself, if it is any good.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unrolled.models.dit import Block, DiT
from unrolled.models.relu import ReluTransformer

__all__ = ["SpatialGains", "diagonal_share", "random_bases", "spatial_gains"]

SHIFT = 1e-4
"""Shift of the data in central differences of a float64 copy of the model: the error is of order 1e-8."""
CHUNK = 1024
"""Random bases drawn at once."""


@dataclass(frozen=True)
class SpatialGains:
    """G of every head and of the score at one t, float64.

    Attributes:
        heads: (layer, head) -> G, (d, d), in the axes of the data.
        score: G of the model's output.
    """

    heads: dict[tuple[int, int], np.ndarray]
    score: np.ndarray


def _written(
    model: DiT | ReluTransformer, x: Float[Tensor, "batch N d"], t: float
) -> list[Float[Tensor, "heads width"]]:
    """What each head of each layer writes at its own token if it attends there alone, mean over tokens and sequences;
    last the score, as a layer of one head."""
    written: list[Tensor] = []

    def keep(block: Block, _: nn.Module, __: object, output: Tensor) -> None:
        heads = (block.attention.heads, block.attention.head_dim)
        values = output[:, -x.shape[1] :].mean(dim=(0, 1)).unflatten(-1, (3, *heads))[2]
        weight = block.attention.out.weight.unflatten(1, heads)  # (width, heads, head_dim)
        written.append(torch.einsum("whc,hc->hw", weight, values))

    def keep_relu(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        written.append(torch.einsum("d,hde->he", inputs[0].mean(dim=(0, 1)), cast(Tensor, block.value)))

    handles = [
        cast(Block, block).attention.qkv.register_forward_hook(partial(keep, cast(Block, block)))
        if isinstance(model, DiT)
        else block.register_forward_pre_hook(keep_relu)
        for block in model.blocks
    ]
    try:
        score = model(x, t)
    finally:
        for handle in handles:
            handle.remove()
    return [*written, score.mean(dim=(0, 1))[None]]


@torch.no_grad()
def spatial_gains(model: DiT | ReluTransformer, x: Float[Tensor, "batch N d"], t: float) -> SpatialGains:
    """G of every head, by central differences.

    Args:
        model: in float64.
        x: sequences X_t, float64.
        t: diffusion time.
    """
    written: list[list[Tensor]] = []
    for axis in torch.eye(x.shape[-1], dtype=x.dtype, device=x.device):
        forward, backward = (_written(model, x + sign * SHIFT * axis, t) for sign in (1, -1))
        written.append([(a - b) / (2 * SHIFT) for a, b in zip(forward, backward, strict=True)])
    layers = [torch.stack(columns, dim=-1) for columns in zip(*written, strict=True)]  # of (heads, width, d)
    grams = [(b.transpose(-1, -2) @ b).cpu().numpy() for b in layers]
    heads = {(layer, head): gram for layer, of_layer in enumerate(grams[:-1]) for head, gram in enumerate(of_layer)}
    return SpatialGains(heads, grams[-1][0])


def diagonal_share(gain: Float[np.ndarray, "d d"], bases: Float[np.ndarray, "n d d"]) -> Float[np.ndarray, " n"]:
    """Share of the squared norm of G - I tr(G)/d that lies on the diagonal in each of `bases`; NaN where that is 0."""
    d = len(gain)
    anisotropic = gain - np.eye(d) * np.trace(gain) / d
    total = float((anisotropic**2).sum())
    if total <= (1e-10 * float(np.abs(gain).max())) ** 2:
        return np.full(len(bases), np.nan)
    diagonal = np.einsum("nij,ik,nkj->nj", bases, anisotropic, bases, optimize=True)
    return (diagonal**2).sum(axis=1) / total


def random_bases(dim: int, count: int, seed: int) -> Iterator[Float[np.ndarray, "n d d"]]:
    """`count` orthogonal matrices, uniform on the orthogonal group, in chunks."""
    generator = torch.Generator().manual_seed(seed)
    for first in range(0, count, CHUNK):
        normal = torch.randn(min(CHUNK, count - first), dim, dim, generator=generator, dtype=torch.float64)
        q, r = torch.linalg.qr(normal)
        yield (q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]).numpy()
