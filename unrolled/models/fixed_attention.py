# pyright: strict
"""Attention whose maps are given, and a DiT in which all attention is of that kind."""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unrolled.checks import InputError
from unrolled.models.dit import DiT

__all__ = ["FixedAttention", "freeze"]


class FixedAttention(nn.Module):
    """x -> out(M_h value_h(x) of every head h), with constant maps M_h in place of softmax(q k').

    Args:
        maps: (heads, tokens, tokens) M; rows are queries.
        value: from the stream to the head_dim values of every head, head by head.
        out: from those to the stream.
    """

    maps: Tensor

    def __init__(self, maps: Float[Tensor, "heads tokens tokens"], value: nn.Linear, out: nn.Linear):
        super().__init__()
        self.register_buffer("maps", maps)
        self.value = value
        self.out = out

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        return self.tokens_first(x.transpose(0, 1)).transpose(0, 1)

    def tokens_first(self, x: Float[Tensor, "tokens batch width"]) -> Float[Tensor, "tokens batch width"]:
        """The same with tokens first: one matrix product for each head, whatever the batch."""
        heads = len(self.maps)
        value = self.value(x).unflatten(-1, (heads, -1)).permute(2, 0, 1, 3)  # (heads, tokens, batch, head_dim)
        mixed = (self.maps @ value.flatten(2)).view(value.shape)
        return self.out(mixed.permute(1, 2, 0, 3).flatten(2))


def value_map(model: DiT, block: int) -> nn.Linear:
    """The part of a block's qkv map that makes the values, as a map of its own."""
    qkv = model.block_list[block].attention.qkv
    rows = slice(2 * qkv.out_features // 3, None)
    value = nn.Linear(qkv.in_features, qkv.out_features // 3).to(qkv.weight)
    value.load_state_dict({"weight": qkv.weight[rows], "bias": qkv.bias[rows]})
    return value


@torch.no_grad()
def freeze(model: DiT, maps: Sequence[Float[Tensor, "heads tokens tokens"]]) -> DiT:
    """A copy of `model` whose attention maps are these, whatever x and t: all that depends on the data is left in its
    MLPs and its normalisation.

    Args:
        model: a DiT, trained or set by hand.
        maps: one tensor for each block; tokens are the registers, then the frames.

    Raises:
        InputError: maps that do not fit the model.
    """
    config = model.config
    tokens = config.registers + config.length
    shapes = [tuple(each.shape) for each in maps]
    if shapes != [(config.heads, tokens, tokens)] * config.depth:
        raise InputError(
            f"maps: shapes {shapes} are not accepted; accepted: ({config.heads}, {tokens}, {tokens}) for each of"
            f" {config.depth} blocks"
        )
    frozen = copy.deepcopy(model)
    frozen.construction = None
    for k, block in enumerate(frozen.block_list):
        fixed = maps[k].to(model.position).clone()
        block.add_module("attention", FixedAttention(fixed, value_map(model, k), block.attention.out))
    return frozen
