# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""Attention maps that depend neither on x nor on t, recognised in the weights, computed once, and summed.

A channel of the stream is *constant* if the embedding of x does not write it and no block does: it holds the position
table and the registers for ever. The map of a head is constant if its queries and keys read constant channels alone,
if their scales and shifts do not move with t, and if no normalisation mixes channels (derived). A head whose values
do not reach the stream may have any map.

Heads that read the same values, to the bit, are summed: output channel i gets

    sum_j (sum_h out_h[i, j] M_h) value_j

so that one map for each pair (i, j) with a weight replaces all of theirs. A hand-set iteration has d such pairs, and
up to 100 heads. Where there would be more maps than there are head channels, as in a trained network, heads stay.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.checks import InputError
from unrolled.models.dit import Block, DiT
from unrolled.models.fixed_attention import FixedAttention, value_map

__all__ = ["fix_attention"]

SHIFT1, SCALE1 = 0, 1
"""Slots of a block's modulation that the queries and keys go through."""


@torch.no_grad()
def fix_attention(model: DiT) -> DiT:
    """Put into each block of `model` a `FixedAttention` that does what its attention does; returns `model`.

    Raises:
        InputError: a map that depends on x or t; the message names the block and the heads.
    """
    constant = _constant_channels(model)
    fixed: list[FixedAttention] = []
    for k, block in enumerate(model.block_list):
        repeated = k > 0 and _same_attention(block, model.block_list[k - 1])
        fixed.append(fixed[-1] if repeated else _fixed(model, k, constant))
    for block, attention in zip(model.block_list, fixed, strict=True):
        block.add_module("attention", attention)
    return model


def _constant_channels(model: DiT) -> Bool[Tensor, " width"]:
    constant = (model.embed.weight == 0).all(dim=1)
    for block in model.block_list:
        for writer in (block.attention.out, block.mlp[-1]):
            assert isinstance(writer, nn.Linear)
            constant &= (writer.weight == 0).all(dim=1) & (writer.bias == 0)
    return constant


def _fixed(model: DiT, k: int, constant: Bool[Tensor, " width"]) -> FixedAttention:
    block = model.block_list[k]
    attention: nn.Module = block.attention
    if isinstance(attention, FixedAttention):
        return _summed(attention.maps, attention.value, attention.out)
    heads = model.config.heads
    value, out = value_map(model, k), block.attention.out
    rows, columns = _by_head(value, out, heads)
    used = (rows != 0).any(dim=2) & (columns != 0).any(dim=0)  # (heads, head_dim)
    _require_constant(model, k, used.any(dim=1), constant)
    return _summed(_maps(model, block), value, out)


def _same_attention(block: Block, other: Block) -> bool:
    """Whether two blocks have the same attention of the same reads, as the steps of a solver do."""
    mine, theirs = block.attention.state_dict(), other.attention.state_dict()
    reads = slice(0, 2 * block.attention.out.out_features)  # shift and scale
    mine |= {name: table[reads] for name, table in block.modulation.state_dict().items()}
    theirs |= {name: table[reads] for name, table in other.modulation.state_dict().items()}
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def _by_head(
    value: nn.Linear, out: nn.Linear, heads: int
) -> tuple[Float[Tensor, "heads head_dim width_and_bias"], Float[Tensor, "width heads head_dim"]]:
    """The weights and biases that make the values of each head, and those that bring them to the stream."""
    rows = torch.cat([value.weight, value.bias[:, None]], dim=1)
    return rows.unflatten(0, (heads, -1)), out.weight.unflatten(1, (heads, -1))


def _require_constant(model: DiT, k: int, used: Bool[Tensor, " heads"], constant: Bool[Tensor, " width"]) -> None:
    """Refuse maps that depend on x or t, of the heads whose values reach the stream."""
    block, width = model.block_list[k], model.config.width
    weights = block.attention.qkv.weight.unflatten(0, (3, model.config.heads, -1))[:2]
    reads = (weights != 0).any(dim=2).any(dim=0) & used[:, None]  # (heads, width)
    moves = (block.modulation.weight.unflatten(0, (-1, width))[[SHIFT1, SCALE1]] != 0).any(dim=2).any(dim=0)
    reasons = [(reads & ~constant, "read what depends on x"), (reads & moves, "are scaled or shifted with t")]
    if model.config.norm == "layer":
        reasons.insert(0, (reads, "read LayerNorm, which mixes x into every channel"))
    for bad, reason in reasons:
        named = bad.any(dim=1).nonzero().flatten().tolist()
        if named:
            raise InputError(
                f"model: block {k}, heads {', '.join(map(str, named))}: queries or keys {reason}, so that their maps"
                " are not constant; accepted: a DiT whose maps read position alone, or one with fixed maps (`freeze`)"
            )


def _maps(model: DiT, block: Block) -> Float[Tensor, "heads tokens tokens"]:
    """Softmax maps of constant channels; what they do not read has weight 0."""
    shift, scale = block.modulation.bias.unflatten(0, (-1, model.config.width))[[SHIFT1, SCALE1]]
    stream = torch.cat([model.register, model.embed.bias + model.position])
    attention = block.attention
    tokens = attention.qkv(shift + (1 + scale) * stream).unflatten(-1, (3, attention.heads, -1))
    query, key, _ = tokens.permute(1, 2, 0, 3)  # each (heads, tokens, head_dim)
    return F.softmax(query @ key.mT / math.sqrt(attention.head_dim), dim=-1)


def _summed(maps: Float[Tensor, "heads tokens tokens"], value: nn.Linear, out: nn.Linear) -> FixedAttention:
    """The same attention with the fewest maps, see above."""
    rows, columns = _by_head(value, out, len(maps))
    groups: dict[bytes, list[int]] = {}
    for head, row in enumerate(rows):
        groups.setdefault((row + 0.0).cpu().numpy().tobytes(), []).append(head)  # + 0.0 makes -0.0 equal to 0.0
    pairs: list[tuple[list[int], Tensor, Tensor]] = []
    for members in groups.values():
        reaches = (columns[:, members] != 0).any(dim=1) & (rows[members[0]] != 0).any(dim=1)  # (width, head_dim)
        i, j = reaches.nonzero(as_tuple=True)
        pairs.append((members, i, j))
    targets = torch.cat([i for _, i, _ in pairs])
    if not 0 < len(targets) <= columns[0].numel():
        return FixedAttention(maps, value, out)
    sums = [
        torch.einsum("pm,mqk->pqk", columns[i[:, None], members, j[:, None]], maps[members]) for members, i, j in pairs
    ]
    read = torch.cat([rows[members[0]][j] for members, _, j in pairs])
    inner = nn.Linear(value.in_features, len(targets)).to(read)
    outer = nn.Linear(len(targets), out.out_features).to(read)
    inner.load_state_dict({"weight": read[:, :-1], "bias": read[:, -1]})
    outer.load_state_dict({"weight": F.one_hot(targets, out.out_features).T.to(read), "bias": out.bias})
    return FixedAttention(torch.cat(sums), inner, outer)
