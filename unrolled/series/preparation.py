"""From a recording to a standardised series: which windows there are, cycles removed, scales and principal components.

Every statistic is taken over the training windows alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unrolled.checks import InputError

__all__ = [
    "LARGEST_VALUE",
    "Recording",
    "Standardised",
    "covariance_starts",
    "frame_weights",
    "remove_cycles",
    "standardise",
    "usable",
    "window_starts",
]

COVARIANCE_WINDOWS = 20_000
"""Most windows that a statistic is averaged over; of more, every k-th is taken."""
CHUNK_FRAMES = 4096
LARGEST_VALUE = 1e100
"""Beyond this the squares of a series cannot be summed in float64."""
RANK_TOLERANCE = 1e-10
"""A variance below this share of the largest is rounding, not a direction of the data."""
FULL_PERIODS = 2.0
"""From so many periods in the training part on, a cycle gets three harmonics; below, one."""
LEAST_PERIODS = 0.75
MOST_GROWTH = 10.0
"""Largest cycle that is removed, as a multiple of the series; a fit of too many periods grows where it is
extrapolated."""


@dataclass(frozen=True)
class Recording:
    """What a file holds, before anything is removed or scaled.

    Attributes:
        segments: uninterrupted stretches in time order, each (T_k, C), float64 (video: float32).
        positions: the time index of every frame of each segment, in frames since the first one.
        channels: C names.
        facts: plain values for the description.
        is_video: whether the channels are pixels.
    """

    segments: list[Float[Tensor, "_ C"]]
    positions: list[Int[Tensor, " _"]]
    channels: list[str]
    facts: dict
    is_video: bool = False

    @classmethod
    def uninterrupted(cls, frames: Float[Tensor, "T C"], channels: list[str], facts: dict) -> "Recording":
        """A recording of a single segment."""
        return cls([frames], [torch.arange(len(frames))], channels, facts)


def _frames_needed(length: int, held_out: float) -> int:
    """Frames of one segment from which both parts of the series have a window, however the border is rounded."""
    return math.ceil(length / min(held_out, 1 - held_out)) + 1


def usable(lengths: Sequence[int], length: int, held_out: float) -> list[int]:
    """Indices of the segments that hold a window.

    Raises:
        InputError: there is none.
    """
    indices = [k for k, frames in enumerate(lengths) if frames >= length]
    if not indices:
        raise InputError(
            f"length: {length} is not accepted: the longest of {len(lengths)} segment(s) has {max(lengths, default=0)}"
            f" of {sum(lengths)} frames; accepted: a shorter length,"
            f" or {_frames_needed(length, held_out)} frames on end"
        )
    return indices


def window_starts(lengths: Sequence[int], length: int, held_out: float) -> dict[str, Int[Tensor, " n"]]:
    """Where windows may start in the concatenated segments, by split; held out is the last share of all frames.

    Raises:
        InputError: a part has no uninterrupted stretch of `length` frames.
    """
    total = sum(lengths)
    border = total - round(held_out * total)
    starts: dict[str, Tensor] = {}
    for split, low, high in (("train", 0, border), ("held_out", border, total)):
        begin, stretches, longest = 0, [], 0
        for frames in lengths:
            first, last = max(begin, low), min(begin + frames, high)
            stretches.append(torch.arange(first, max(last - length + 1, first)))
            longest = max(longest, last - first)
            begin += frames
        starts[split] = torch.cat(stretches)
        if len(starts[split]) == 0:
            needed = _frames_needed(length, held_out)
            raise InputError(
                f"length: {length} is not accepted: {total} frames in {len(lengths)} segment(s) leave a longest stretch"
                f" of {longest} for the {split} part; accepted: a shorter length, or {needed} frames on end"
            )
    return starts


def covariance_starts(starts: Int[Tensor, " n"]) -> Int[Tensor, " m"]:
    """All of `starts`, or a regular subset of at most 20000."""
    return starts[:: max(1, math.ceil(len(starts) / COVARIANCE_WINDOWS))]


def frame_weights(starts: Int[Tensor, " n"], length: int, total: int) -> Float[Tensor, " T"]:
    """The share of each frame in all frames of the windows at `starts`, float64, of sum 1."""
    ends = torch.zeros(total + 1, dtype=torch.float64)
    one = torch.ones(len(starts), dtype=torch.float64)
    ends.index_add_(0, starts, one).index_add_(0, starts + length, -one)
    return ends.cumsum(0)[:total] / (len(starts) * length)


def remove_cycles(
    frames: Float[Tensor, "T C"], position: Int[Tensor, " T"], train: Bool[Tensor, " T"], periods: Sequence[float]
) -> tuple[Float[Tensor, "T C"], list[str]]:
    """`frames` less their least-squares cycles of the given periods (in frames), and what was removed, in words.

    The fit sees the frames that `train` marks and is extrapolated to the others. A cycle has three harmonics, but one
    alone if the training part spans fewer than two periods. (Measured on the weather, whose training part is 0.79
    years: with one annual harmonic fitted there, the mean of the held-out temperature is 0.4 standard deviations off,
    against 0.2 if the held-out part took part in the fit; with three it is 1.5.)

    Raises:
        InputError: a period that is not a number > 2, or of which the training part spans less than three quarters;
            periods whose cycles are larger than the series by far.
    """
    time = position.double()
    span = float(time[train].max() - time[train].min()) + 1
    columns, removed = [torch.ones_like(time)], []
    for period in periods:
        if not (isinstance(period, int | float) and 2 < period <= span / LEAST_PERIODS):
            raise InputError(
                f"periods: {period!r} is not accepted; accepted: numbers > 2 and <= {span / LEAST_PERIODS:g},"
                f" of which the {span:g} frames of the training part span three quarters"
            )
        harmonics = [k for k in range(1, 4 if span >= FULL_PERIODS * period else 2) if period / k > 2]
        for k in harmonics:
            angle = 2 * math.pi * k / period * time
            columns += [angle.cos(), angle.sin()]
        removed.append(f"{period:g} frames, {len(harmonics)} harmonic(s), fitted on the training part")
    if not removed:
        return frames, removed
    basis = torch.stack(columns, dim=1)  # (T, 1 + 2 harmonics)
    # gelsd: periods may share a harmonic (24 and 8), and then only the sum of their parts is determined.
    solution = torch.linalg.lstsq(basis[train], frames[train], driver="gelsd").solution
    cycles = basis[:, 1:] @ solution[1:]
    grown = _spread(cycles, train) / _spread(frames, train)
    if bool((grown > MOST_GROWTH).any()):
        raise InputError(
            f"periods: {tuple(periods)!r} are not accepted: their cycles, fitted on {int(train.sum())} frames of the"
            f" training part, grow to {float(grown.max()):.3g} times the series; accepted: fewer periods, or a longer"
            " series"
        )
    return frames - cycles, removed


def _spread(frames: Float[Tensor, "T C"], train: Bool[Tensor, " T"]) -> Float[Tensor, " C"]:
    """The largest deviation of each channel from its mean over the frames that `train` marks."""
    return (frames - frames[train].mean(dim=0)).abs().amax(dim=0)


class Standardised(NamedTuple):
    """Frames (T, dim), float64, and the share of the variance they keep (1 where nothing is projected)."""

    frames: Float[Tensor, "T d"]
    explained: float


def standardise(
    frames: Float[Tensor, "T C"],
    weights: Float[Tensor, " T"],
    channels: Sequence[str],
    dim: int,
    unit_variance: bool,
    magnitude: Float[Tensor, " C"],
) -> Standardised:
    """Frames of mean 0 and, in total, variance `dim` under `weights`.

    Channels are scaled to unit variance first if `unit_variance` (not the pixels of a video: a still pixel is all
    noise). If `dim` is less than C, the `dim` leading principal components follow, on one common scale, so that their
    variances keep their ratios; the largest entry of each direction is positive.

    Args:
        magnitude: the largest absolute value of each channel before anything was subtracted, which says what size
            rounding has.

    Raises:
        InputError: a channel (or, of a video, every pixel) that does not vary, or fewer than `dim` directions that do.
    """
    parts = list(zip(frames.split(CHUNK_FRAMES), weights.split(CHUNK_FRAMES), strict=True))
    mean = torch.stack([w @ rows.double() for rows, w in parts]).sum(dim=0)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for rows, w in parts:
        centred = rows.double() - mean
        covariance += centred.T @ (w[:, None] * centred)
    deviation = covariance.diagonal().sqrt()
    still = deviation <= 1e-9 * magnitude
    if bool(still.all() if not unit_variance else still.any()):
        which = f"channel {channels[int(still.int().argmax())]!r}" if unit_variance else "the picture"
        raise InputError(f"source: {which} does not vary in the training part; accepted: data that does")
    scale = deviation if unit_variance else torch.ones_like(deviation)
    variances, directions = torch.linalg.eigh(covariance / (scale[:, None] * scale))
    rank = int((variances > RANK_TOLERANCE * variances[-1]).sum())
    if dim > rank:
        raise InputError(
            f"dim: {dim} is not accepted: the {len(mean)} channels vary along {rank} direction(s) only;"
            f" accepted: an integer from 1 to {rank}"
        )
    explained = 1.0
    basis = torch.eye(len(mean), dtype=torch.float64)
    if dim < len(mean):
        kept = variances[-dim:].flip(0)
        explained = float(kept.sum() / variances.sum())
        basis = directions[:, -dim:].flip(1)
        largest = basis.gather(0, basis.abs().argmax(dim=0, keepdim=True))  # (1, dim)
        basis = basis * largest.sign() * (dim / kept.sum()).sqrt()
    elif not unit_variance:
        basis = basis * (dim / variances.sum()).sqrt()
    basis = basis / scale[:, None]
    return Standardised(torch.cat([(rows.double() - mean) @ basis for rows, _ in parts]), explained)
