"""DiTs whose attention maps do not depend on the data: read from positions and t alone, or fixed to Gaussians.

Both train as any DiT does. A block reads queries and keys from the positions where a DiT reads them from its stream, or
its maps are those of the closed form for Ornstein-Uhlenbeck processes (`unrolled.handset.closed_form`): Gaussians of
the distance to a frame, to its mirror images at both ends, and to the frame shifted by twice the length.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.handset.closed_form import images
from unrolled.handset.gaussian_heads import Image, normaliser
from unrolled.models.dit import Block, DiT, DiTConfig
from unrolled.models.fixed_attention import FixedAttention

__all__ = ["PositionBlock", "dictionary_maps", "with_dictionary_maps", "with_position_maps"]

WIDEST = 2.0
"""The largest width b of exp(-b l^2) in the dictionary; each next one is a fourth of it."""


class PositionBlock(Block):
    """A DiT block whose queries and keys are read from the positions, under the same scale and shift from t.

    Args:
        config: of the network.
        position: (N, width) the position parameter of the network; the block does not own it.
    """

    def __init__(self, config: DiTConfig, position: nn.Parameter):
        super().__init__(config)
        self._of_network = (position,)  # in a tuple, which does not register it a second time

    def forward(
        self, x: Float[Tensor, "batch tokens width"], c: Float[Tensor, "one_or_batch 1 ramps"]
    ) -> Float[Tensor, "batch tokens width"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
        read = torch.addcmul(shift1, 1 + scale1, self.norm(x))
        where = torch.addcmul(shift1, 1 + scale1, self.norm(self._of_network[0]).unsqueeze(0))
        x = torch.addcmul(x, gate1, self._attend(where, read))
        return torch.addcmul(x, gate2, self.mlp(torch.addcmul(shift2, 1 + scale2, self.norm(x))))

    def _attend(self, where: Tensor, read: Tensor) -> Tensor:
        attention = self.attention
        weights, biases = attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3)
        q, k, v = (
            F.linear(source, weight, bias).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for source, weight, bias in zip((where, where, read), weights, biases, strict=True)
        )
        mixed = F.scaled_dot_product_attention(q.expand(*v.shape), k.expand(*v.shape), v)
        return attention.out(mixed.transpose(1, 2).flatten(-2))


def with_position_maps(config: DiTConfig, generator: torch.Generator) -> DiT:
    """A DiT to train, with maps from positions and t alone; it has no registers."""
    model = DiT(config)
    model.blocks = nn.ModuleList(PositionBlock(config, model.position) for _ in range(config.depth))
    model.reset_parameters(generator)
    return model


def dictionary_maps(length: int, heads: int) -> Float[Tensor, "heads N N"]:
    """Maps exp(-b (q_i - j)^2)/c of heads / 5 widths b and five places q_i: i, -i, 2L - i and i -+ 2L, with L = N - 1.

    The constant c is above every sum of a row, so each map is that of a softmax head with a sink. float32.
    """
    looks: list[Image] = [image for kind in images(length) for image in kind]
    i = torch.arange(length, dtype=torch.float64)
    maps = []
    for width in (WIDEST * 4.0**-k for k in range(heads // len(looks))):
        for sign, offset in looks:
            distance = sign * i[:, None] + offset - i
            maps.append(torch.exp(-width * distance**2) / normaliser(width))
    return torch.stack(maps).float()


def with_dictionary_maps(config: DiTConfig, generator: torch.Generator) -> DiT:
    """A DiT to train, whose maps are fixed in every block; it has no registers and five heads for each width."""
    model = DiT(config)
    inner = config.heads * (config.head_dim or config.width // config.heads)
    maps = dictionary_maps(config.length, config.heads)
    for block in model.block_list:
        parts: tuple[Any, Any] = nn.Linear(config.width, inner), nn.Linear(inner, config.width)
        block.add_module("attention", FixedAttention(maps.clone(), *parts))
    model.reset_parameters(generator)
    return model
