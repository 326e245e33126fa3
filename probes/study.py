"""The attention study of one checkpoint: profiles at several t, their fits, and the same fits of the truth, as tables."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from probes.decay import fit_families, fold_lags
from probes.lags import AttentionByLag, attention_by_lag, lag_means
from unrolled.checkpoint import Checkpoint
from unrolled.diffusion import add_noise, alpha, sigma
from unrolled.process import GaussianProcess

__all__ = ["AttentionStudy", "best_families", "inverse_by_lag", "study_attention", "truth_by_lag"]

FIT_LAG_SHARE = 0.5
"""Fits use lags up to this share of the sequence; longer ones rest on few pairs at its ends."""


def truth_by_lag(process: GaussianProcess) -> np.ndarray:
    """(N,) mean of Gamma along each diagonal: gamma(lag) itself for a stationary kernel."""
    return lag_means(process.temporal_covariance)[process.length - 1 :].numpy()


def inverse_by_lag(process: GaussianProcess, t: float) -> np.ndarray:
    """(N,) mean along each diagonal of the spatial trace of C_t^{-1}, divided by its value at lag 0.

    The solution operator rather than the covariance: what a one-layer map from x to the score would hold.
    """
    (g, u), (s, _) = process.temporal_eigen, process.spatial_eigen
    inverse = (1 / (alpha(t) ** 2 * g[:, None] * s + sigma(t) ** 2)).sum(dim=1)
    profile = lag_means((u * inverse) @ u.T)[process.length - 1 :].numpy()
    return profile / profile[0]


def best_families(fits: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The row of the largest R^2 in each group of `by`; constants, which have none, are left out."""
    return fits.query("r2.notna()").sort_values("r2", ascending=False).drop_duplicates(by).sort_values(by)


@dataclass(frozen=True)
class AttentionStudy:
    """What `study_attention` found.

    Attributes:
        attention: one `AttentionByLag` per diffusion time.
        profiles: tidy table (layer, head, t, lag, attention), signed lags.
        fits: one row per (kind, layer, head, t, family); kind is "attention", "true covariance" or "inverse of C_t".
        truth: (N,) the true correlation by lag.
        truth_name: what it is: exact, or empirical for real data.
    """

    attention: list[AttentionByLag]
    profiles: pd.DataFrame
    fits: pd.DataFrame
    truth: np.ndarray
    truth_name: str

    @property
    def middle(self) -> AttentionByLag:
        """The profiles at the middle one of the times, the ones to draw when only one can be."""
        return self.attention[len(self.attention) // 2]


def noisy_batches(
    checkpoint: Checkpoint, t: float, samples: int, batch: int, seed: int, device: torch.device
) -> Iterator[Float[Tensor, "batch N d"]]:
    """X_t of fresh samples of the process, or of held-out windows, in the dtype of the model."""
    generator = torch.Generator().manual_seed(seed)
    for first in range(0, samples, batch):
        count = min(batch, samples - first)
        if isinstance(checkpoint.data, GaussianProcess):
            x0 = checkpoint.data.sample(count, generator)
        else:
            x0 = checkpoint.data.sample(count, generator, split="held_out")
        noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
        yield add_noise(x0, t, noise).to(device, checkpoint.dtype)


def study_attention(
    checkpoint: Checkpoint,
    times: Sequence[float],
    samples: int = 256,
    batch: int = 64,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Callable[[float], object] = lambda t: None,
) -> AttentionStudy:
    """Profile and fit at each t; `progress` is called with each t that is done.

    Fits use the first half of the sequences and are judged on the second. Heads of a ReluTransformer that see no other token
    have neither rows nor fits.
    """
    device = device or torch.device("cpu")
    model = checkpoint.model.to(device)
    process = checkpoint.process
    truth = truth_by_lag(process)
    keep = slice(0, max(int(FIT_LAG_SHARE * process.length) + 1, min(process.length, 8)))
    lags, _, weights = fold_lags(np.zeros(2 * process.length - 1))
    attention: list[AttentionByLag] = []
    profiles: list[pd.DataFrame] = []
    rows: list[dict] = []

    def fit(kind: str, layer: int, head: int, t: float, profile: np.ndarray, held_out: np.ndarray | None) -> None:
        held_out = held_out if held_out is None else held_out[keep]
        for each in fit_families(lags[keep], profile[keep], weights[keep], held_out):
            rows.append({"kind": kind, "layer": layer, "head": head, "t": t, **each.row()})

    fit("true covariance", -1, -1, 0.0, truth, None)
    for t in times:
        fit("inverse of C_t", -1, -1, t, inverse_by_lag(process, t), None)
        batches = noisy_batches(checkpoint, t, samples, batch, seed, device)
        found = attention_by_lag(model, batches, t, checkpoint.registers)
        half = found.profiles.shape[2] // 2
        for layer in range(found.profiles.shape[0]):
            for head in range(found.profiles.shape[1]):
                sequences = found.profiles[layer, head]
                if not sequences[:, found.lags != 0].any():
                    continue  # masked to its own token, or a head that this layer lacks: there is no decay to fit
                first, second = (fold_lags(part.mean(axis=0))[1] for part in (sequences[:half], sequences[half:]))
                fit("attention", layer, head, t, first, second)
                columns = {"layer": layer, "head": head, "t": t, "lag": found.lags}
                profiles.append(pd.DataFrame({**columns, "attention": sequences.mean(axis=0)}))
        attention.append(found)
        progress(t)
    name = "true covariance" if checkpoint.exact else "empirical covariance"
    return AttentionStudy(attention, pd.concat(profiles, ignore_index=True), pd.DataFrame(rows), truth, name)
