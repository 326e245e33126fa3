"""The attention study of one checkpoint: profiles at several t, their fits, and the same fits of the truth, as tables.

Every profile is fitted by every family on lags up to half the sequence, weighed by their number of pairs: longer lags
rest on few pairs at its ends, shorter ranges leave the floor undetermined. A head's fits carry bootstrap intervals over
sequences, and each head at each t an answer which family it is. The curves to hold beside them carry none, since they
are exact (or, for real data, estimates from training windows whose error the fit does not know).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from probes.attention.held import held_kernels
from probes.capture.by_lag import AttentionByLag, attention_by_lag, lag_means
from probes.decay.family import CHOICE_RESAMPLES, choose_family
from probes.decay.fit import MIN_LAGS, DecayFit, fit_profiles, fold_lags
from probes.decay.intervals import RESAMPLES, bootstrap_intervals, numerical_intervals
from unrolled.checkpoint import Checkpoint
from unrolled.diffusion import add_noise, alpha, sigma
from unrolled.handset.gaussian_heads import dyadic_widths
from unrolled.process import GaussianProcess

__all__ = [
    "FIT_LAG_SHARE",
    "AttentionStudy",
    "best_families",
    "fit_lag_count",
    "gaussian_by_lag",
    "inverse_by_lag",
    "noisy_batches",
    "study_attention",
    "truth_by_lag",
]

FIT_LAG_SHARE = 0.5
"""Fits use lags up to this share of the sequence."""


def fit_lag_count(length: int) -> int:
    """How many lags, 0 among them, fits of a sequence of N frames use."""
    return max(int(FIT_LAG_SHARE * length) + 1, min(length, 8))


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


def gaussian_by_lag(process: GaussianProcess, truth: np.ndarray) -> np.ndarray:
    """(N,) exp(-b lag^2) of the dictionary width b nearest to `truth`: what a single head of a hand-set DiT shows.

    The dictionary is the same for every covariance, so a head like this is no evidence of one.
    """
    lag = np.arange(process.length)
    heads = np.exp(-dyadic_widths(process.length, 1).numpy()[:, None] * lag**2)
    return heads[np.argmin(((heads - truth) ** 2).sum(axis=1))]


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
            Columns of `DecayFit`, and for attention those of `DecayIntervals`.
        choices: one row per (layer, head, t): which family it is, columns of `FamilyChoice`.
        references: rows like those of `fits`, of kind "Gaussian head", see `gaussian_by_lag`, and for hand-set models
            "held kernel", see `probes.attention.held`; layer is the first that holds it.
        truth: (N,) the true correlation by lag.
        truth_name: what it is: exact, or empirical for real data.
    """

    attention: list[AttentionByLag]
    profiles: pd.DataFrame
    fits: pd.DataFrame
    choices: pd.DataFrame
    references: pd.DataFrame
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


class _Fitter:
    """The fits of a study: which lags and weights, and how many resamples."""

    def __init__(self, length: int, resamples: int, choice_resamples: int, seed: int):
        self.lags = np.arange(fit_lag_count(length))
        self.weights = fold_lags(np.zeros(2 * length - 1))[2][self.lags]
        self.resamples, self.choice_resamples, self.seed = resamples, choice_resamples, seed

    def curve(self, kind: str, layer: int, t: float, curve: np.ndarray, error: float | None = None) -> list[dict]:
        """Rows of a curve (n,) that is no mean over sequences; with numerical intervals where it has a known error."""
        n = min(len(curve), len(self.lags))
        lags, weights = self.lags[:n], self.weights[:n]
        rows = []
        for fit in fit_profiles(lags, curve[None, :n], weights=weights)[0]:
            interval = {} if error is None else numerical_intervals(lags, fit, weights, error).row()
            rows.append({"kind": kind, "layer": layer, "head": -1, "t": t, **fit.row(), **interval})
        return rows

    def heads(self, attention: AttentionByLag) -> tuple[list[dict], list[dict]]:
        """(rows of fits, rows of choices) of every head; fits use the first half of the sequences, judged on the
        second.

        Heads that see no other token, and heads that a layer lacks, have no decay to fit.
        """
        where = [tuple(each) for each in np.argwhere(attention.profiles[..., attention.lags != 0].any(axis=(2, 3)))]
        if not where:
            return [], []
        half = attention.profiles.shape[2] // 2
        first, second = (
            np.stack([fold_lags(attention.profiles[each][part])[1][:, self.lags] for each in where])
            for part in (slice(None, half), slice(half, None))
        )
        found = fit_profiles(self.lags, first.mean(axis=1), weights=self.weights, held_out=second.mean(axis=1))
        rows, choices = [], []
        for (layer, head), sequences, fits in zip(where, first, found, strict=True):
            columns = {"layer": int(layer), "head": int(head), "t": attention.t}
            for fit in fits:
                rows.append({"kind": "attention", **columns, **fit.row(), **self._intervals(sequences, fit)})
            choice = choose_family(self.lags, sequences, resamples=self.choice_resamples, seed=self.seed)
            choices.append({**columns, **choice.row()})
        return rows, choices

    def _intervals(self, sequences: np.ndarray, fit: DecayFit) -> dict[str, float | str]:
        found = bootstrap_intervals(
            self.lags, sequences, fit.family, self.weights, self.resamples, seed=self.seed, fit=fit
        )
        return found.row()


def _held_rows(checkpoint: Checkpoint, attention: AttentionByLag, fitter: _Fitter) -> list[dict]:
    """Fits of the kernel that a hand-set model holds, from the first layer that holds it."""
    for layer, kernel in held_kernels(checkpoint, attention).items():
        if len(kernel.profile) >= MIN_LAGS:
            return fitter.curve("held kernel", layer, attention.t, kernel.profile, kernel.error)
    return []


def study_attention(
    checkpoint: Checkpoint,
    times: Sequence[float],
    samples: int = 256,
    batch: int = 64,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Callable[[float], object] = lambda t: None,
    resamples: int = RESAMPLES,
    choice_resamples: int = CHOICE_RESAMPLES,
) -> AttentionStudy:
    """Profile and fit at each t; `progress` is called with each t that is done.

    Args:
        checkpoint: what to look at.
        times: diffusion times that its model accepts.
        samples: sequences; fits, intervals and choices use the first half, held-out errors the second.
        batch: sequences per forward pass.
        seed: of the sequences, their noise, and the resampling.
        device: where the model runs; the CPU where not given.
        progress: see above.
        resamples: bootstrap resamples behind each interval.
        choice_resamples: bootstrap resamples behind each choice of a family.
    """
    device = device or torch.device("cpu")
    model = checkpoint.model.to(device)
    process = checkpoint.process
    truth = truth_by_lag(process)
    fitter = _Fitter(process.length, resamples, choice_resamples, seed)
    attention: list[AttentionByLag] = []
    profiles: list[pd.DataFrame] = []
    rows = fitter.curve("true covariance", -1, 0.0, truth)
    references = fitter.curve("Gaussian head", -1, np.nan, gaussian_by_lag(process, truth))
    choices: list[dict] = []
    for t in times:
        found = attention_by_lag(
            model, noisy_batches(checkpoint, t, samples, batch, seed, device), t, checkpoint.registers
        )
        head_rows, head_choices = fitter.heads(found)
        rows += [*fitter.curve("inverse of C_t", -1, t, inverse_by_lag(process, t)), *head_rows]
        references += _held_rows(checkpoint, found, fitter)
        choices += head_choices
        means = found.mean_profiles()
        for each in head_choices:
            columns = {name: each[name] for name in ("layer", "head", "t")}
            profile = means[each["layer"], each["head"]]
            profiles.append(pd.DataFrame({**columns, "lag": found.lags, "attention": profile}))
        attention.append(found)
        progress(t)
    name = "true covariance" if checkpoint.exact else "empirical covariance"
    fits, chosen, beside = (pd.DataFrame(each) for each in (rows, choices, references))
    return AttentionStudy(attention, pd.concat(profiles, ignore_index=True), fits, chosen, beside, truth, name)
