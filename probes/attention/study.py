"""The attention study of one checkpoint: profiles at several t, their fits, and the same fits of the truth, as tables.

Every profile is fitted by every family on lags up to half the sequence, weighed by their number of pairs: longer lags
rest on few pairs at its ends, shorter ranges leave the floor undetermined. A head's fits carry bootstrap intervals over
sequences, and each head at each t an answer which family it is. The curves to hold beside them carry none, since they
are exact (or, for real data, estimates from training windows whose error the fit does not know).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch

from probes.attention.held import held_kernels
from probes.capture.by_lag import AttentionByLag, attention_by_lag
from probes.capture.lags import fold_lags, folded_pairs
from probes.decay.family import CHOICE_RESAMPLES, choose_family
from probes.decay.fit import MIN_LAGS, fit_profiles
from probes.decay.intervals import RESAMPLES, bootstrap_intervals, numerical_intervals
from probes.inputs import noisy_batches
from probes.targets import fit_lag_count, gaussian_by_lag, inverse_by_lag, truth_by_lag, truth_name
from unrolled.checkpoint import Checkpoint
from unrolled.models.dit import DiT

__all__ = ["AttentionStudy", "best_families", "study_attention"]

STATIC = 4
"""Sequences for a model whose maps are the same for all of them: two on either side, so that a difference would
show."""


def best_families(fits: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The row of the largest R^2 in each group of `by`; constants, which have none, are left out."""
    return fits.query("r2.notna()").sort_values("r2", ascending=False).drop_duplicates(by).sort_values(by)


@dataclass(frozen=True)
class AttentionStudy:
    """What `study_attention` found.

    Attributes:
        attention: one `AttentionByLag` per diffusion time.
        profiles: tidy table (layer, head, t, lag, attention), signed lags; of equal heads the first.
        twins: one row (t, layer, head, first_layer, first_head) per head that equals an earlier one to the bit.
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
    twins: pd.DataFrame
    fits: pd.DataFrame
    choices: pd.DataFrame
    references: pd.DataFrame
    truth: np.ndarray
    truth_name: str

    @property
    def middle(self) -> AttentionByLag:
        """The profiles at the middle one of the times, the ones to draw when only one can be."""
        return self.attention[len(self.attention) // 2]


class _Fitter:
    """The fits of a study: which lags and weights, and how many resamples."""

    def __init__(self, length: int, resamples: int, choice_resamples: int, seed: int):
        self.lags = np.arange(fit_lag_count(length))
        self.weights = folded_pairs(length)[self.lags]
        self.resamples, self.choice_resamples, self.seed = resamples, choice_resamples, seed
        self._known: dict[bytes, tuple[list[dict], dict]] = {}  # by the bytes of a head's profiles

    def curve(self, kind: str, layer: int, t: float, curve: np.ndarray, error: float | None = None) -> list[dict]:
        """Rows of a curve (n,) that is no mean over sequences; with numerical intervals where it has a known error."""
        n = min(len(curve), len(self.lags))
        lags, weights = self.lags[:n], self.weights[:n]
        rows = []
        for fit in fit_profiles(lags, curve[None, :n], weights=weights)[0]:
            interval = {} if error is None else numerical_intervals(lags, fit, weights, error).row()
            rows.append({"kind": kind, "layer": layer, "head": -1, "t": t, **asdict(fit), **interval})
        return rows

    def heads(self, attention: AttentionByLag) -> tuple[list[dict], list[dict]]:
        """(rows of fits, rows of choices) of every head; fits use the first half of the sequences, judged on the
        second.

        Heads that see no other token, and heads that a layer lacks, have no decay to fit. Heads with the same profiles
        to the bit, as the blocks of a hand-set model have them, are fitted once.
        """
        heads = np.argwhere(attention.profiles[..., attention.lags != 0].any(axis=(2, 3))).tolist()
        if not heads:
            return [], []
        half = attention.profiles.shape[2] // 2
        first, second = (
            np.stack([fold_lags(attention.profiles[layer, head, part])[1][:, self.lags] for layer, head in heads])
            for part in (slice(None, half), slice(half, None))
        )  # (heads, sequences, lags)
        keys = [profiles.tobytes() for profiles in np.concatenate([first, second], axis=1)]
        new = [k for k, key in enumerate(keys) if key not in self._known and keys.index(key) == k]
        self._known |= {keys[k]: result for k, result in zip(new, self._fit(first[new], second[new]), strict=True)}
        rows, choices = [], []
        for (layer, head), key in zip(heads, keys, strict=True):
            where = {"layer": layer, "head": head, "t": attention.t}
            fits, choice = self._known[key]
            rows += [{"kind": "attention", **where, **fit} for fit in fits]
            choices.append({**where, **choice})
        return rows, choices

    def _fit(self, first: np.ndarray, second: np.ndarray) -> Iterator[tuple[list[dict], dict]]:
        """(fits with intervals, choice of the family) of each head, from profiles (heads, sequences, lags)."""
        if not len(first):
            return
        fits = fit_profiles(self.lags, first.mean(axis=1), weights=self.weights, held_out=second.mean(axis=1))
        for sequences, of_head in zip(first, fits, strict=True):
            rows = []
            for fit in of_head:
                interval = bootstrap_intervals(
                    self.lags, sequences, fit.family, self.weights, self.resamples, seed=self.seed, fit=fit
                )
                rows.append({**asdict(fit), **interval.row()})
            yield rows, choose_family(self.lags, sequences, resamples=self.choice_resamples, seed=self.seed).row()

    def held(self, checkpoint: Checkpoint, attention: AttentionByLag) -> list[dict]:
        """Fits of the kernel that a hand-set model holds, from the first layer that holds it."""
        for layer, kernel in held_kernels(checkpoint, attention).items():
            if len(kernel.profile) >= MIN_LAGS:
                return self.curve("held kernel", layer, attention.t, kernel.profile, kernel.error)
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
        samples: sequences; fits, intervals and choices use the first half, held-out errors the second. The heads of a
            hand-set DiT see positions alone, so that a few sequences show all there is: it gets at most `STATIC`.
        batch: sequences per forward pass.
        seed: of the sequences, their noise, and the resampling.
        device: where the model runs; the CPU where not given.
        progress: see above.
        resamples: bootstrap resamples behind each interval.
        choice_resamples: bootstrap resamples behind each choice of a family.
    """
    device = device or torch.device("cpu")
    model, process = checkpoint.model.to(device), checkpoint.process
    if isinstance(model, DiT) and model.construction is not None:
        samples = min(samples, STATIC)
    truth = truth_by_lag(process)
    fitter = _Fitter(process.length, resamples, choice_resamples, seed)
    seen: list[AttentionByLag] = []
    profiles: list[pd.DataFrame] = []
    twins: list[dict] = []
    rows = fitter.curve("true covariance", -1, 0.0, truth)
    references = fitter.curve("Gaussian head", -1, np.nan, gaussian_by_lag(process, truth))
    choices: list[dict] = []
    for t in times:
        batches = noisy_batches(checkpoint, t, samples, batch, seed, device)
        attention = attention_by_lag(model, batches, t, checkpoint.registers)
        head_rows, head_choices = fitter.heads(attention)
        rows += [*fitter.curve("inverse of C_t", -1, t, inverse_by_lag(process, t)), *head_rows]
        references += fitter.held(checkpoint, attention)
        choices += head_choices
        first = attention.twins()
        fitted = [(choice["layer"], choice["head"]) for choice in head_choices]
        profiles += [_profile_table(attention, *head) for head in fitted if first[head] == head]
        twins += [_twin_row(t, head, first[head]) for head in fitted if first[head] != head]
        seen.append(attention)
        progress(t)
    return AttentionStudy(
        attention=seen,
        profiles=pd.concat(profiles, ignore_index=True),
        twins=pd.DataFrame(twins),
        fits=pd.DataFrame(rows),
        choices=pd.DataFrame(choices),
        references=pd.DataFrame(references),
        truth=truth,
        truth_name=truth_name(checkpoint),
    )


def _twin_row(t: float, head: tuple[int, int], first: tuple[int, int]) -> dict:
    return {"t": t, "layer": head[0], "head": head[1], "first_layer": first[0], "first_head": first[1]}


def _profile_table(attention: AttentionByLag, layer: int, head: int) -> pd.DataFrame:
    profile = attention.mean_profiles()[layer, head]
    return pd.DataFrame({"layer": layer, "head": head, "t": attention.t, "lag": attention.lags, "attention": profile})
