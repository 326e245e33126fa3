"""Attention by signed lag: mean attention from a query at position i to a key at i + lag, over the pairs that exist."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from probes.capture import AttentionCapture

__all__ = ["AttentionByLag", "attention_by_lag", "lag_means"]

MAP_SIZE = 128
"""Mean maps are kept for pictures, averaged over blocks of positions down to at most this many rows and columns."""


def lag_means(maps: Float[Tensor, "*batch N N"]) -> Float[Tensor, "*batch lags"]:
    """Mean of each diagonal of square matrices: entry N-1+lag is the mean over i of maps[i, i+lag], lags -(N-1)..N-1.

    Each mean runs over the N - abs(lag) pairs that exist, so the ends of the sequence bias no lag; long lags rest on few
    pairs, which is why fits weight lags by their number of pairs.
    """
    n = maps.shape[-1]
    # Row i, reversed to N-1-i, moves right by N-1-i: entry (i, j) lands in column N-1 + (j - i).
    padded = F.pad(maps.flip(-2), (0, n)).flatten(-2)[..., : n * (2 * n - 1)]
    sums = padded.unflatten(-1, (n, 2 * n - 1)).sum(dim=-2)
    pairs = n - (torch.arange(2 * n - 1, device=maps.device) - (n - 1)).abs()
    return sums / pairs


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
        deviation: largest relative deviation of map times values from the fused output that the model used.
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


@dataclass
class _Head:
    """What is kept of one head: lag means of every sequence so far, and sums over sequences."""

    profiles: list[Tensor] = field(default_factory=list)
    maps: Tensor | float = 0.0
    outside: Tensor | float = 0.0


class _Reducer:
    """Consumer of `AttentionCapture` that keeps lag means per sequence and a pooled map summed over sequences."""

    def __init__(self, length: int, skip: int):
        self.length, self.skip = length, skip
        self.pool = -(-length // MAP_SIZE)
        self.layers: dict[str, dict[int, _Head]] = {}

    def __call__(self, name: str, first: int, attention: Float[Tensor, "batch heads tokens tokens"]) -> None:
        tokens = self.length + self.skip
        if attention.shape[-2:] != (tokens, tokens):
            raise ValueError(
                f"model: attention in {name!r} is {tuple(attention.shape[-2:])}; accepted is ({tokens}, {tokens})"
            )
        rows = attention[:, :, self.skip :]
        sequence = rows[..., self.skip :].double()
        profiles = lag_means(sequence).cpu()
        maps = F.avg_pool2d(sequence.sum(dim=0), self.pool, ceil_mode=True, count_include_pad=False).cpu()
        outside = rows[..., : self.skip].double().sum(dim=-1).mean(dim=-1).sum(dim=0).cpu()
        layer = self.layers.setdefault(name, {})
        for k in range(attention.shape[1]):  # chunks of another batch may hold other heads together
            head = layer.setdefault(first + k, _Head())
            head.profiles.append(profiles[:, k])
            head.maps = head.maps + maps[k]
            head.outside = head.outside + outside[k]

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
        ValueError: no batches; a model without fused attention; layers with other token counts; maps that deviate from
            what the model used (see `AttentionCapture`).
    """
    reducer, capture, count = None, None, 0
    for x in batches:
        reducer = reducer or _Reducer(x.shape[1], registers)
        capture = capture or AttentionCapture(model, reducer)
        with capture:
            model(x, t)
        count += len(x)
    if reducer is None or capture is None:
        raise ValueError("batches: there are none; accepted is at least one")
    if not reducer.layers:
        raise ValueError(
            "model: no call of scaled_dot_product_attention was seen; accepted is an uncompiled model that uses it"
        )
    length = reducer.length
    return AttentionByLag(
        t=t,
        layers=list(reducer.layers),
        lags=np.arange(-(length - 1), length),
        profiles=reducer.stack(lambda head: torch.cat(head.profiles)),
        maps=reducer.stack(lambda head: torch.as_tensor(head.maps)) / count,
        outside=reducer.stack(lambda head: torch.as_tensor(head.outside)) / count,
        deviation=capture.largest_deviation,
    )
