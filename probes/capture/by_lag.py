"""Attention by signed lag: mean attention from a query at position i to a key at i + lag, over the pairs that exist.

Reduced block by block as the model runs: sums along diagonals within a block are taken in the dtype of the map, those
over blocks in float64.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.capture.hooks import AttentionCapture, MapBlock, require_attention
from probes.capture.lags import DiagonalSums, pairs_per_lag
from unrolled.checks import InputError

__all__ = ["AttentionByLag", "attention_by_lag"]

MAP_SIZE = 128
"""Mean maps are kept for pictures, averaged over blocks of positions down to at most this many rows and columns."""


@dataclass(frozen=True)
class AttentionByLag:
    """Attention of a model on a set of noisy sequences at one t, reduced while the model ran.

    Attributes:
        t: diffusion time.
        layers: module name of each attention layer, in the order they ran.
        lags: -(N-1) .. N-1, int.
        profiles: (layers, heads, sequences, lags) mean attention of each sequence at each signed lag, float64.
        maps: (layers, heads, n, n) mean map over sequences, block-averaged to n <= 128, float64; for pictures.
        outside: (layers, heads) mean attention from sequence tokens to register tokens, float64.
        deviation: largest relative deviation of map times values from the fused output that the model used, first
            batch.
    """

    t: float
    layers: list[str]
    lags: np.ndarray
    profiles: np.ndarray
    maps: np.ndarray
    outside: np.ndarray
    deviation: float

    def mean_profiles(self) -> np.ndarray:
        """(layers, heads, lags) over all sequences."""
        return self.profiles.mean(axis=2)

    def twins(self) -> dict[tuple[int, int], tuple[int, int]]:
        """(layer, head) -> the first head with the same profile in every sequence, to the bit, which may be itself."""
        first: dict[bytes, tuple[int, int]] = {}
        return {
            (layer, head): first.setdefault(self.profiles[layer, head].tobytes(), (layer, head))
            for layer, head in np.ndindex(self.profiles.shape[:2])
        }

    def distinct_layers(self) -> list[int]:
        """Layers with a head that no earlier layer has, in order."""
        return sorted({layer for layer, _ in self.twins().values()})


@dataclass
class _Head:
    """What is kept of one head: sums along diagonals of every sequence so far, and sums over sequences."""

    diagonals: list[Tensor] = field(default_factory=list)  # of each batch (sequences, 2N-1)
    maps: Tensor | float = 0.0
    outside: Tensor | float = 0.0


class _Reducer:
    """Consumer of `AttentionCapture` that keeps lag sums per sequence and a pooled map summed over sequences."""

    def __init__(self, length: int, skip: int):
        self.length, self.skip = length, skip
        self.pool = -(-length // MAP_SIZE)
        self.pooled = -(-length // self.pool)
        self.sums = DiagonalSums()
        self.layers: dict[str, dict[int, _Head]] = {}

    def __call__(self, seen: MapBlock) -> None:
        tokens, block, row = self.length + self.skip, seen.attention, seen.row
        size = (seen.queries, block.shape[-1])
        if size != (tokens, tokens):
            raise InputError(f"model: attention in {seen.name!r} is {size}; accepted: ({tokens}, {tokens})")
        layer = self.layers.setdefault(seen.name, {})
        heads = [layer.setdefault(seen.head + k, _Head()) for k in range(block.shape[1])]
        if row == 0:
            for head in heads:
                head.diagonals.append(torch.zeros(len(block), 2 * self.length - 1, dtype=torch.float64))
        block = block[:, :, max(0, self.skip - row) :]  # queries of the sequence alone
        row = max(0, row - self.skip)
        rows = block.shape[-2]
        if rows == 0:
            return
        sequence = block[..., self.skip :]
        diagonals = self.sums(sequence).double().cpu()
        start = self.length - row - rows  # where lag -(row + rows - 1), that of the block's last row and key 0, is kept
        maps = self._pooled(sequence, row)
        outside = block[..., : self.skip].sum(dim=(0, 2, 3), dtype=torch.float64).cpu()
        for k, head in enumerate(heads):
            head.diagonals[-1][:, start : start + diagonals.shape[-1]] += diagonals[:, k]
            head.maps = head.maps + maps[k]
            head.outside = head.outside + outside[k]

    def _pooled(self, block: Float[Tensor, "batch heads rows N"], row: int) -> Float[Tensor, "heads pooled pooled"]:
        """The block summed over sequences, and over tiles of pool x pool positions of the whole map, float64."""
        whole = self.length // self.pool * self.pool
        tiles = block[..., :whole].unflatten(-1, (-1, self.pool)).sum(dim=(0, -1))  # (heads, rows, tiles)
        if whole < self.length:
            tiles = torch.cat([tiles, block[..., whole:].sum(dim=(0, -1))[..., None]], dim=-1)
        into = torch.arange(row, row + block.shape[-2]) // self.pool
        sums = torch.zeros(block.shape[1], self.pooled, self.pooled, dtype=torch.float64)
        return sums.index_add_(1, into, tiles.double().cpu())

    def profile(self, head: _Head) -> Tensor:
        """(sequences, 2N-1) mean over the pairs at each lag."""
        return torch.cat(head.diagonals) / torch.from_numpy(pairs_per_lag(self.length))

    def map(self, head: _Head) -> Tensor:
        """(n, n) mean over the entries of each tile, summed over sequences."""
        size = torch.bincount(torch.arange(self.length) // self.pool).double()
        return torch.as_tensor(head.maps) / (size[:, None] * size)

    def stack(self, read: Callable[[_Head], Tensor]) -> np.ndarray:
        """What `read` takes from each head, as an array (layers, heads, ...); heads that a layer lacks are 0."""
        layers = [torch.stack([read(heads[k]) for k in sorted(heads)]) for heads in self.layers.values()]
        return torch.nn.utils.rnn.pad_sequence(layers, batch_first=True).numpy()


@torch.no_grad()
def attention_by_lag(
    model: nn.Module,
    batches: Iterable[Float[Tensor, "_ N d"]],
    t: float,
    registers: int = 0,
) -> AttentionByLag:
    """Run `model` on noisy sequences X_t at diffusion time t and reduce its attention by lag as it runs.

    Args:
        model: called as model(x, t); all of its attention layers see `registers` tokens, then the N of the sequence.
        batches: batches of X_t, on the model's device.
        t: diffusion time.
        registers: tokens before the sequence that are not positions of it.

    Raises:
        InputError: no batches; a model without attention; layers with other token counts; maps that deviate from what
            the model used on the first batch (see `AttentionCapture`).
    """
    reducer, capture, count = None, None, 0
    for x in batches:
        reducer = reducer or _Reducer(x.shape[1], registers)
        capture = capture or AttentionCapture(model, reducer)
        with capture:
            model(x, t)
        count += len(x)
    if reducer is None or capture is None:
        raise InputError("batches: there are none; accepted: at least one")
    require_attention(bool(reducer.layers), capture)
    length = reducer.length
    return AttentionByLag(
        t=t,
        layers=list(reducer.layers),
        lags=np.arange(-(length - 1), length),
        profiles=reducer.stack(reducer.profile),
        maps=reducer.stack(reducer.map) / count,
        outside=reducer.stack(lambda head: torch.as_tensor(head.outside)) / (count * length),
        deviation=capture.largest_deviation,
    )
