"""Lags of square maps: sums and means along diagonals, the number of pairs at each lag, and both signs as one."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["DiagonalSums", "fold_lags", "folded_pairs", "lag_means", "pairs_per_lag"]


class DiagonalSums:
    """Sums along the diagonals of blocks of rows, by one copy and one pass over memory.

    Each row of the block is written with a gap of rows - 1 zeros after it. Read back with rows one entry longer than
    they were written, entry (r, j) stands in column rows - 1 + j - r, and a diagonal is a column. Sums are taken in the
    dtype of the block: they have at most `rows` terms, so that of entries >= 0 has a relative error of at most rows
    eps/2 (3e-5 for 512 rows in float32; torch adds in a tree, so it is usually a few eps). Callers should add blocks in
    float64.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple, Tensor] = {}

    def __call__(self, block: Float[Tensor, "*batch rows keys"]) -> Float[Tensor, "*batch diagonals"]:
        """Entry rows - 1 + j - r is the sum of block[..., r, j] over r, for j - r in -(rows-1) .. keys-1."""
        *batch, rows, keys = block.shape
        width = keys + rows - 1
        shape = (*batch, rows - 1 + rows * width)
        which = (shape, keys, block.dtype, block.device)
        if which not in self._buffers:
            if len(self._buffers) == 2:  # full blocks and the last one of a map
                self._buffers.clear()
            self._buffers[which] = block.new_zeros(shape)
        buffer = self._buffers[which]
        buffer[..., rows - 1 :].unflatten(-1, (rows, width))[..., :keys] = block
        strides = (*buffer.stride()[:-1], width + 1, 1)
        return buffer.as_strided((*batch, rows, width), strides).sum(dim=-2)


def lag_means(maps: Float[Tensor, "*batch N N"]) -> Float[Tensor, "*batch lags"]:
    """Mean of each diagonal of square matrices: entry N-1+lag is the mean over i of maps[i, i+lag], lags -(N-1)..N-1.

    Each mean runs over the N - abs(lag) pairs that exist, so the ends of the sequence bias no lag; long lags rest on
    few pairs, which is why fits weight lags by their number of pairs.
    """
    return DiagonalSums()(maps) / torch.from_numpy(pairs_per_lag(maps.shape[-1])).to(maps.device)


def pairs_per_lag(n: int) -> Float[np.ndarray, " lags"]:
    """(2N-1,) number of pairs of N positions at each lag -(N-1)..N-1."""
    return n - np.abs(np.arange(1.0 - n, n))


def folded_pairs(n: int) -> Float[np.ndarray, " lags"]:
    """(N,) number of pairs of N positions at each distance 0..N-1, whatever the sign of the lag."""
    return np.concatenate([[n], 2 * pairs_per_lag(n)[n:]])


def fold_lags(profile: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A profile over signed lags -(N-1)..N-1, last axis, averaged over the sign.

    Returns (lags 0..N-1, folded profile, weights); the weight of a lag is its number of pairs.
    """
    n = (profile.shape[-1] + 1) // 2
    forward, backward = profile[..., n - 1 :], profile[..., n - 1 :: -1]
    return np.arange(n), (forward + backward) / 2, folded_pairs(n)
