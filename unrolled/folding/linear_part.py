# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""L_t of a DiT whose score is affine in x, f(x, t) = f(0, t) + L_t x: the network on the channels that depend on x.

A channel of the stream is *active* if it depends on x: what the embedding writes, and what attention and MLPs make of
that. With constant maps and without normalisation, attention is linear in x. An MLP is affine if its hidden units that
read active channels come in pairs of opposite signs in weights, bias and output, GELU(z) - GELU(-z) = z; hidden units
that read none are constants (derived). Then the difference of two streams obeys the network without its biases,
shifts, position table and registers, and with z in place of the pairs.

The stream has its tokens first, so that a map times all sequences is one matrix product.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unrolled.models.dit import Block, DiT
from unrolled.models.fixed_attention import FixedAttention

__all__ = ["LinearPart", "linear_part"]

SCALE1, GATE1, SCALE2, GATE2 = 1, 2, 4, 5
"""Slots of a block's modulation."""
SCALE = 1
"""Slot of the head's modulation."""


class LinearBlock(nn.Module):
    """A block on the active channels: two linear maps, each between an input scale and an output gate from c."""

    def __init__(self, attention: FixedAttention, inner: nn.Linear, outer: nn.Linear, modulation: nn.Linear):
        super().__init__()
        self.attention, self.inner, self.outer, self.modulation = attention, inner, outer, modulation

    def forward(
        self, z: Float[Tensor, "tokens batch active"], c: Float[Tensor, "one_or_batch ramps"]
    ) -> Float[Tensor, "tokens batch active"]:
        scale1, gate1, scale2, gate2 = self.modulation(c).chunk(4, dim=-1)
        z = torch.addcmul(z, gate1, self.attention.tokens_first(z * (1 + scale1)))
        return torch.addcmul(z, gate2, self.outer(self.inner(z * (1 + scale2))))


class LinearPart(nn.Module):
    """x (batch, N, d), c (1 or batch, ramps) -> sigma_t L_t x."""

    def __init__(self, model: DiT, channels: Int[Tensor, " active"], pairs: list[Int[Tensor, " units"]]):
        super().__init__()
        self.registers = model.config.registers
        self.embed = _part(model.embed, channels, None)
        self.blocks = nn.ModuleList(
            _linear_block(block, channels, units) for block, units in zip(model.block_list, pairs, strict=True)
        )
        self.modulation = _modulation(model.head.modulation, model.config.width, channels, [SCALE])
        self.out = _part(model.head.out, None, channels)

    def forward(
        self, x: Float[Tensor, "batch N d"], c: Float[Tensor, "one_or_batch ramps"]
    ) -> Float[Tensor, "batch N d"]:
        z = self.embed(x.transpose(0, 1))  # (N, batch, active)
        z = nn.functional.pad(z, (0, 0, 0, 0, self.registers, 0))  # registers first; they do not depend on x
        for block in self.blocks:
            z = block(z, c)
        return self.out(z[self.registers :] * (1 + self.modulation(c))).transpose(0, 1)


def linear_part(model: DiT) -> LinearPart | None:
    """L_t of a DiT whose blocks have a `FixedAttention`, or None where it is not affine in x."""
    if model.config.norm != "none":
        return None
    active = (model.embed.weight != 0).any(dim=1)
    pairs: list[Tensor] = []
    for block in model.block_list:
        attention, (inner, outer) = _fixed(block), _layers(block)
        values = (attention.value.weight[:, active] != 0).any(dim=1)
        active = active | (attention.out.weight[:, values] != 0).any(dim=1)
        units = _pairs(inner, outer, active)
        if units is None:
            return None
        pairs.append(units)
        active = active | (outer.weight[:, units] != 0).any(dim=1)
    return LinearPart(model, active.nonzero()[:, 0], pairs)


def _pairs(inner: nn.Linear, outer: nn.Linear, active: Bool[Tensor, " width"]) -> Int[Tensor, " units"] | None:
    """One hidden unit of each pair of opposite signs that reads active channels; None where one has no partner."""
    reads = (inner.weight[:, active] != 0).any(dim=1) & (outer.weight != 0).any(dim=0)
    signs = torch.cat([inner.weight, inner.bias[:, None], outer.weight.T], dim=1)
    alone: dict[bytes, list[int]] = {}
    units: list[int] = []
    for unit in reads.nonzero()[:, 0].tolist():
        own, opposite = ((sign * signs[unit] + 0.0).cpu().numpy().tobytes() for sign in (1, -1))
        if alone.get(own):
            units.append(alone[own].pop())
        else:
            alone.setdefault(opposite, []).append(unit)
    return None if any(alone.values()) else torch.tensor(units, dtype=torch.long, device=signs.device)


def _part(linear: nn.Linear, outputs: Int[Tensor, " rows"] | None, inputs: Int[Tensor, " columns"] | None) -> nn.Linear:
    """Some rows and columns of a linear map, without its bias."""
    weight = linear.weight if outputs is None else linear.weight[outputs]
    weight = weight if inputs is None else weight[:, inputs]
    part = nn.Linear(weight.shape[1], weight.shape[0], bias=False).to(weight)
    part.load_state_dict({"weight": weight})
    return part


def _modulation(modulation: nn.Linear, width: int, channels: Int[Tensor, " active"], slots: list[int]) -> nn.Linear:
    """Some slots of a modulation on the active channels."""
    rows = torch.cat([slot * width + channels for slot in slots])
    part = nn.Linear(modulation.in_features, len(rows)).to(modulation.weight)
    part.load_state_dict({"weight": modulation.weight[rows], "bias": modulation.bias[rows]})
    return part


def _linear_block(block: Block, channels: Int[Tensor, " active"], units: Int[Tensor, " units"]) -> LinearBlock:
    attention, width = _fixed(block), block.attention.out.out_features
    inner, outer = _layers(block)
    return LinearBlock(
        FixedAttention(attention.maps, _part(attention.value, None, channels), _part(attention.out, channels, None)),
        _part(inner, units, channels),
        _part(outer, channels, units),
        _modulation(block.modulation, width, channels, [SCALE1, GATE1, SCALE2, GATE2]),
    )


def _fixed(block: Block) -> FixedAttention:
    attention: nn.Module = block.attention
    assert isinstance(attention, FixedAttention)
    return attention


def _layers(block: Block) -> tuple[nn.Linear, nn.Linear]:
    """The two linear maps of a block's MLP."""
    inner, outer = block.mlp[0], block.mlp[2]
    assert isinstance(inner, nn.Linear) and isinstance(outer, nn.Linear)
    return inner, outer
