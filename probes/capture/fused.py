"""The map that a fused attention call does not show, from the same queries and keys, block by block.

Logits and softmax are formed in float32, or in float64 for a model in float64, whatever the dtype of the model, as
fused kernels do. A block is one head and some of its rows, or several whole heads, so that nothing much larger than
`CHUNK_ELEMENTS` entries is held.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

__all__ = ["CHUNK_ELEMENTS", "accepted_deviation", "fused_blocks", "map_blocks"]

CHUNK_ELEMENTS = 2**22
"""Entries of the largest block of a map that is held: 16 MB in float32. A single row of one head may be larger."""


def map_blocks(batch: int, heads: int, queries: int, keys: int) -> Iterator[tuple[slice, slice]]:
    """Slices of heads and query rows of at most `CHUNK_ELEMENTS` entries: several heads only where all their rows
    fit."""
    together = max(1, CHUNK_ELEMENTS // max(1, batch * queries * keys))
    rows = queries if together > 1 else max(1, CHUNK_ELEMENTS // max(1, batch * keys))
    for head in range(0, heads, together):
        for row in range(0, queries, max(1, rows)):
            yield slice(head, min(head + together, heads)), slice(row, min(row + rows, queries))


def accepted_deviation(dtype: torch.dtype, keys: int) -> float:
    """Largest accepted difference of map times values from the fused output, relative to its largest entry.

    64 eps sqrt(keys), eps that of the float32 or float64 the map is formed in: the rounding of a sum of that many
    terms, with a margin. In half precision the kernel rounds its map and its output to `dtype` besides, by eps/2 each;
    4 eps are accepted (measured on a CPU, 7 to 2048 keys: up to 0.7 eps, while logits 10 % too large give 1.3 to 430).
    """
    work = torch.promote_types(dtype, torch.float32)
    half = 4 * torch.finfo(dtype).eps if dtype != work else 0.0
    return 64 * torch.finfo(work).eps * math.sqrt(keys) + half


def fused_blocks(
    fused: Float[Tensor, "batch heads queries width"],
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    value: Float[Tensor, "batch kv_heads keys width"],
    mask: Shaped[Tensor, "batch heads queries keys"] | None,
    is_causal: bool,
    scale: float | None,
    verify: bool,
) -> Iterator[tuple[slice, slice, Tensor, float]]:
    """Blocks (heads, rows, map of the block, deviation) of the map behind one call of fused attention.

    Args:
        fused: what the call returned.
        query, key, value: its inputs; heads of key and value serve heads / kv_heads query heads each, in order.
        mask: its mask, boolean or added to the logits.
        is_causal: whether a query sees no later key.
        scale: of the logits; 1/sqrt(head_dim) where not given.
        verify: compute the deviation, of map times values from `fused`, relative to the largest entry of `fused`;
            it is 0 where not computed.

    The map is overwritten by the next block.
    """
    dtype = fused.dtype  # under autocast the kernel sees its inputs in the dtype of its output
    work = torch.promote_types(dtype, torch.float32)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    (batch, heads, queries), keys = query.shape[:3], key.shape[2]
    group = heads // key.shape[1]
    position = torch.arange(max(queries, keys), device=query.device)
    size = (float(fused.abs().max()) if verify and fused.numel() else 0.0) or 1.0
    buffers: dict[torch.Size, tuple[Tensor, Tensor]] = {}
    for part, rows in map_blocks(batch, heads, queries, keys):
        q = query[:, part, rows].to(dtype).to(work) * scale
        k, v = (_of_heads(tensor, part, group).to(dtype).to(work) for tensor in (key, value))
        shape = torch.Size((*q.shape[:3], keys))
        if shape not in buffers:
            buffers[shape] = (q.new_empty(shape), q.new_empty(shape))
        logits, attention = buffers[shape]
        torch.matmul(q, k.transpose(-1, -2), out=logits)
        if is_causal:
            logits.masked_fill_(position[rows, None] < position[:keys], -math.inf)
        if mask is not None:
            allowed = mask[:, part, rows]
            if allowed.dtype == torch.bool:
                logits.masked_fill_(~allowed, -math.inf)
            else:
                logits += allowed
        torch.softmax(logits, dim=-1, out=attention)
        if mask is not None:  # fused kernels answer 0 to a query that sees no key
            attention.masked_fill_(logits.amax(dim=-1, keepdim=True) == -math.inf, 0.0)
        difference = (attention @ v).sub_(fused[:, part, rows]).abs_().max() if verify else 0.0
        yield part, rows, attention, float(difference) / size


def _of_heads(tensor: Tensor, part: slice, group: int) -> Tensor:
    """Keys or values of the query heads in `part`, of which `group` in a row share one."""
    if group == 1:
        return tensor[:, part]
    return tensor[:, torch.arange(part.start, part.stop, device=tensor.device) // group]
