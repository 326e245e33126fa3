# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""From a file to windows: read a series or a video, remove its cycles, standardise it, and cut it."""

from collections.abc import Sequence
from pathlib import Path

import torch

from unrolled.checks import InputError, require_integer, require_number
from unrolled.series.preparation import (
    LARGEST_VALUE,
    covariance_starts,
    frame_weights,
    remove_cycles,
    standardise,
    usable,
    window_starts,
)
from unrolled.series.windows import SeriesData

__all__ = ["load_data"]

DEFAULT_DIM = 4
"""For the weather and for video. The weather's twelve channels (four quantities, three airports) vary mainly along four
directions (measured: eigenvalues of their correlation 5.8, 2.8, 1.9, 0.69, then 0.18 and less), so that four components
hold 93 % of the variance, and at least 88 % of that of every channel; the rest are differences between airports."""
WEATHER_PERIODS = (24.0, 8766.0)
"""Hours: the day and the year."""


def load_data(
    source: str | Path,
    length: int,
    dim: int | None = None,
    periods: Sequence[float] | None = (),
    held_out: float = 0.2,
    frame_size: int = 32,
    columns: Sequence[str] = (),
) -> SeriesData:
    """Reads a series, removes its cycles, standardises it, and cuts it into windows.

    Args:
        source: "weather" (hourly, New York 2013, ships with the package), or the path of a .csv (see `read_csv`), .npy
            or .npz (see `read_array`) or video file (see `read_video`).
        length: N, frames in a window.
        dim: d. All channels of a file if not given, but 4 of the weather and of a video. Less than the number of
            channels means that many principal components (see `standardise`).
        periods: of cycles to remove, in frames (see `remove_cycles`); not for video. Empty means those of the source:
            the day and the year for the weather, none for a file. None leaves even those in.
        held_out: the share of frames, at the end of the series, that is kept from training and from every statistic.
        frame_size: cells on the longer side of the grid that a video is averaged to.
        columns: of a .csv, by name; where not given, all but the clock, text and constants (see `read_csv`).

    Raises:
        InputError: a file that cannot be read, an argument that does not fit it, or too few frames.
    """
    from unrolled.series.readers import WEATHER, read_source  # pandas: a quarter of the time to import this package

    require_integer("length", length)
    require_number("held_out", held_out, above=0, below=1)
    if dim is not None:
        require_integer("dim", dim)
    recording, name = read_source(source, frame_size, columns)
    is_weather, is_video = name == WEATHER, recording.is_video
    if is_video and periods:
        raise InputError(f"periods: {tuple(periods)!r} is not accepted for a video; accepted: ()")
    if is_weather and periods is not None and len(periods) == 0:
        periods = WEATHER_PERIODS
    channels = len(recording.channels)
    if dim is None:
        dim = min(DEFAULT_DIM, channels) if is_video or is_weather else channels
    if dim > channels:
        raise InputError(f"dim: {dim} is not accepted; {name!r} has {channels} channels, accepted: 1 to {channels}")

    kept = usable([len(segment) for segment in recording.segments], length, held_out)
    lengths = [len(recording.segments[k]) for k in kept]
    train = window_starts(lengths, length, held_out)["train"]
    frames = torch.cat([recording.segments[k] for k in kept])  # (T, C)
    weights = frame_weights(covariance_starts(train), length, len(frames))
    magnitude = frames.abs().amax(dim=0).double()
    if float(magnitude.max()) > LARGEST_VALUE:
        raise InputError(
            f"source: {name!r} has values up to {float(magnitude.max()):.3g}; accepted: up to {LARGEST_VALUE:g}"
        )
    position = torch.cat([recording.positions[k] for k in kept])
    frames, removed = remove_cycles(frames, position, weights > 0, periods or ())
    frames, explained = standardise(frames, weights, recording.channels, dim, not is_video, magnitude)
    description = {
        "source": name,
        "channels": channels if is_video else recording.channels,
        "frames": len(frames),
        "segments": lengths,
        "frames_left_out": sum(len(segment) for segment in recording.segments) - len(frames),
        "periods_removed": removed,
        "principal_components": dim < channels,
        "explained_variance": explained,
        **recording.facts,
    }
    return SeriesData(list(frames.split(lengths)), length, description, held_out)
