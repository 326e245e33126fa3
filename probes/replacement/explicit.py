"""The forward pass of a DiT with its attention maps written out, in which parts can be watched or replaced.

At a fixed t a DiT is linear in its stream but for three kinds of parts: attention, normalisation and the activation of
the MLP. `explicit_score` is the forward pass of `unrolled.models.dit` with these three handed to a `Parts`.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.diffusion import sigma
from unrolled.models.dit import Block, DiT

__all__ = ["BATCH", "Parts", "batched_score", "explicit_score"]

BATCH = 64
"""Sequences per forward pass."""


class Parts:
    """The parts of a DiT that are not linear in its stream, as they are; subclasses watch or replace them.

    Args:
        model: whose parts they are.
    """

    def __init__(self, model: DiT):
        self.model = model

    def attend(
        self,
        layer: int,
        q: Float[Tensor, "batch heads tokens head_dim"],
        k: Float[Tensor, "batch heads tokens head_dim"],
        v: Float[Tensor, "batch heads tokens head_dim"],
    ) -> Float[Tensor, "batch heads tokens head_dim"]:
        """What the heads of a layer mix: map times values."""
        return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), dim=-1) @ v

    def norm(self, place: int, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """The normalisation at a place: 2 layer before attention, 2 layer + 1 before the MLP, 2 depth in the head."""
        layer = place // 2
        module = self.model.block_list[layer].norm if layer < self.model.config.depth else self.model.head.norm
        return module(x)

    def activation(
        self, layer: int, hidden: Float[Tensor, "batch tokens hidden"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The activation of the MLP of a layer."""
        return self.model.block_list[layer].mlp[1](hidden)


def explicit_score(model: DiT, x: Float[Tensor, "batch N d"], t: float, parts: Parts) -> Float[Tensor, "batch N d"]:
    """The score of a DiT, in its dtype, with `parts` in place of its own.

    Args:
        model: a trained or hand-set DiT.
        x: noisy sequences.
        t: diffusion time.
        parts: `Parts(model)` gives the forward pass of the model to rounding.
    """
    c = model.time(torch.full((1, 1), t, dtype=torch.float64, device=x.device))
    stream = model.embed(x.to(model.position.dtype)) + model.position
    stream = torch.cat([model.register.expand(len(x), -1, -1), stream], dim=1)
    for layer, block in enumerate(model.block_list):
        stream = _block(block, layer, stream, c, parts)
    shift, scale = model.head.modulation(c).chunk(2, dim=-1)
    normed = parts.norm(2 * model.config.depth, stream)[:, model.config.registers :]
    return model.head.out(torch.addcmul(shift, 1 + scale, normed)) / sigma(t)


def _block(
    block: Block,
    layer: int,
    stream: Float[Tensor, "batch tokens width"],
    c: Float[Tensor, "1 1 ramps"],
    parts: Parts,
) -> Float[Tensor, "batch tokens width"]:
    shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation(c).chunk(6, dim=-1)
    attention = block.attention
    read = torch.addcmul(shift1, 1 + scale1, parts.norm(2 * layer, stream))
    q, k, v = attention.qkv(read).unflatten(-1, (3, attention.heads, attention.head_dim)).permute(2, 0, 3, 1, 4)
    mixed = parts.attend(layer, q, k, v)
    stream = torch.addcmul(stream, gate1, attention.out(mixed.transpose(1, 2).flatten(-2)))
    read = torch.addcmul(shift2, 1 + scale2, parts.norm(2 * layer + 1, stream))
    return torch.addcmul(stream, gate2, block.mlp[2](parts.activation(layer, block.mlp[0](read))))


@torch.no_grad()
def batched_score(model: DiT, x: Float[Tensor, "n N d"], t: float, parts: Parts) -> Float[Tensor, "n N d"]:
    """`explicit_score` in passes of `BATCH` sequences, without gradients."""
    return torch.cat([explicit_score(model, part, t, parts) for part in x.split(BATCH)])
