"""Real data as sequences: a measured series or a video, cut into windows of N frames of d values.

`load_data` reads, prepares and describes; `SeriesData` draws the windows and states their empirical covariance, with
the interface of `GaussianProcess` where both can have it.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from unrolled.checks import InputError
from unrolled.circulant import DENSE_LENGTH
from unrolled.process import GaussianProcess
from unrolled.series.preparation import (
    covariance_starts,
    frame_weights,
    remove_cycles,
    standardise,
    usable,
    window_starts,
)
from unrolled.series.readers import WEATHER, read_source

__all__ = ["SPLITS", "SeriesData", "load_data"]

SPLITS = ("train", "held_out")
DEFAULT_DIM = 4
"""Of the weather and of video. The weather's twelve channels (four quantities, three airports) vary mainly along four
directions (measured: eigenvalues of their correlation 5.8, 2.8, 1.9, 0.69, then 0.18 and less), so that four components
hold 93 % of the variance, and at least 88 % of that of every channel; the rest are differences between airports."""
WEATHER_PERIODS = (24.0, 8766.0)
"""Hours: the day and the year."""
CHUNK = 2**22
"""Numbers held at once while averages over windows are taken."""


def _check_integer(argument: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{argument}: {value!r} is not accepted; accepted: an integer >= 1")


def _check_held_out(value: object) -> None:
    if not (isinstance(value, int | float) and 0 < value < 1):
        raise InputError(f"held_out: {value!r} is not accepted; accepted: a number in (0, 1)")


class SeriesData:
    """Windows of `length` consecutive frames of a prepared series, train and held out in time.

    Args:
        segments: uninterrupted stretches in time order, each (T_k, d), finite, of mean 0 for what follows to be a
            covariance; those shorter than `length` hold no window and are left out.
        length: N >= 1.
        description: plain values (strings, numbers, lists, dicts) that say what the series is.
        held_out: the share of frames, at the end of the series, that `split="held_out"` draws from. A window belongs to
            a split only if it lies wholly inside; no window crosses the border or the end of a segment. The first
            held-out frames are still correlated with the last training ones.

    `length`, `dim`, `mean` (zero), `sample`, `temporal_covariance` and `spatial_covariance` mean what they mean for a
    `GaussianProcess`; everything is float64 on the CPU, samples are on the device of the generator.

    Raises:
        InputError: an argument that is none of the above, or a split without a window.
    """

    def __init__(
        self, segments: Sequence[Tensor], length: int, description: Mapping | None = None, held_out: float = 0.2
    ):
        _check_integer("length", length)
        _check_held_out(held_out)
        shapes = [tuple(segment.shape) for segment in segments]
        if not shapes or any(len(shape) != 2 or shape[1] < 1 or shape[1] != shapes[0][-1] for shape in shapes):
            raise InputError(f"segments: shapes {shapes[:5]} are not accepted; accepted: (T_k, d) with one d >= 1")
        self.segments: list[Tensor] = [
            segments[k].detach().double().cpu() for k in usable([frames for frames, _ in shapes], length, held_out)
        ]
        self._frames = torch.cat(self.segments)  # (T, d)
        if not bool(torch.isfinite(self._frames).all()) or not bool(self._frames.any()):
            raise InputError("segments: have NaN or infinite entries, or are all 0; accepted: finite entries")
        self.length, self.held_out, self.dim = length, float(held_out), self._frames.shape[1]
        self.description = dict(description or {})
        self.starts = window_starts([len(segment) for segment in self.segments], length, held_out)
        self.mean: Float[Tensor, "N d"] = torch.zeros(length, self.dim, dtype=torch.float64)
        self._on_device: dict[torch.device, dict[str, Tensor]] = {}

    def __repr__(self) -> str:
        counts = ", ".join(f"{split} {len(starts)}" for split, starts in self.starts.items())
        return f"SeriesData(length={self.length}, dim={self.dim}, windows: {counts})"

    def windows(self, starts: Int[Tensor, " n"]) -> Float[Tensor, "n N d"]:
        """The windows that start at these frames of the concatenated segments (see `starts`), float64, on the CPU."""
        return self._frames[starts[:, None] + torch.arange(self.length)]

    def sample(self, n: int, generator: torch.Generator | None = None, split: str = "train") -> Float[Tensor, "n N d"]:
        """`n` windows, every allowed start equally likely, float64, on the device of `generator` (CPU without one).

        Raises:
            InputError: a split other than "train" and "held_out".
        """
        if split not in SPLITS:
            raise InputError(f"split: {split!r} is not accepted; accepted: {', '.join(SPLITS)}")
        device = torch.device("cpu") if generator is None else generator.device
        tables = self._on_device.setdefault(device, {})
        if split not in tables:
            tables[split] = self.starts[split].to(device)
            tables["frames"] = self._frames.to(device)
        pick = torch.randint(len(tables[split]), (n,), generator=generator, device=device)
        return tables["frames"][tables[split][pick][:, None] + torch.arange(self.length, device=device)]

    def sample_held_out(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` windows to judge a model on: those of the held-out part."""
        return self.sample(n, generator, split="held_out")

    @cached_property
    def temporal_covariance(self) -> Float[Tensor, "N N"]:
        """Gamma_hat: the mean over train windows of <x_i, x_j>, scaled to a mean diagonal of 1, float64.

        It is not forced to be stationary, so its diagonal is 1 only on average. Averaged over all windows, or a regular
        subset of at most 20000. Positive semidefinite by construction; where rounding says otherwise (smooth video)
        eigenvalues below 8 N eps are raised to it.

        Raises:
            InputError: N > 4096, where the matrix is not made.
        """
        if self.length > DENSE_LENGTH:
            raise InputError(
                f"length: {self.length} is too long for an (N, N) matrix; accepted: a length <= {DENSE_LENGTH}"
            )
        gram = torch.zeros(self.length, self.length, dtype=torch.float64)
        for starts in covariance_starts(self.starts["train"]).split(max(1, CHUNK // (self.length * self.dim))):
            rows = self.windows(starts).transpose(0, 1).flatten(1)  # (N, n d)
            gram += rows @ rows.T
        gram = gram * (self.length / gram.trace())
        eigenvalues, eigenvectors = torch.linalg.eigh(gram)
        floor = 8 * self.length * torch.finfo(torch.float64).eps
        if eigenvalues[0] < floor:
            gram = (eigenvectors * eigenvalues.clamp(min=floor)) @ eigenvectors.T
        return (gram + gram.T) / 2

    @cached_property
    def spatial_covariance(self) -> Float[Tensor, "d d"]:
        """Sigma_hat: the mean of x x' over the frames of the same windows, float64."""
        weights = frame_weights(covariance_starts(self.starts["train"]), self.length, len(self._frames))
        moment = self._frames.T @ (weights[:, None] * self._frames)
        return (moment + moment.T) / 2

    def gaussian(self) -> GaussianProcess:
        """The Gaussian of covariance Gamma_hat (x) Sigma_hat: the one whose exact score real-data runs are held beside.

        It has the two matrices of the data, not its whole (N d, N d) covariance: that the channels share one temporal
        correlation is a model.

        Raises:
            InputError: the channels are linearly dependent, or N > 4096.
        """
        return GaussianProcess(self.length, self.temporal_covariance, self.spatial_covariance)

    def correlation_by_lag(self) -> Float[Tensor, " N"]:
        """The mean of Gamma_hat along each diagonal, the empirical gamma(lag) of lags 0 to N-1, float64."""
        gamma = self.temporal_covariance
        return torch.stack([gamma.diagonal(lag).mean() for lag in range(self.length)])

    def correlation_interval(
        self,
        level: float = 0.95,
        resamples: int = 1000,
        generator: torch.Generator | None = None,
        block: int | None = None,
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """Lower and upper ends of pointwise percentile intervals for `correlation_by_lag`, float64.

        Non-overlapping block bootstrap (published: Carlstein, Ann. Statist. 14, 1986; Kuensch, Ann. Statist. 17, 1989):
        the train windows in time order are cut into blocks of about `block` starts, blocks are drawn with replacement,
        and the correlation is the ratio of the summed products. Percentiles are moved outwards for the small number of
        blocks (published: Hesterberg, arXiv 1411.5279, the expanded percentile interval). The default is 20 blocks, or
        fewer of N starts each in a short series.

        Limits: neighbouring blocks share N-1 frames and are taken as independent, which holds if a block is much
        longer than both N and the memory of the series; otherwise the intervals are too narrow. Measured on AR(1), 200
        series each, nominal 95 %: 92-94 % with blocks of 30 and 13 correlation times (factor 0.7, N=8 and 0.95, N=32),
        88 % with 5. They say nothing of a change of the series over years, nor of the subtraction of means and cycles.

        Raises:
            InputError: `level` outside (0, 1), `resamples` < 1, or fewer than 5 blocks.
        """
        if not 0 < level < 1:
            raise InputError(f"level: {level!r} is not accepted; accepted: a number in (0, 1)")
        _check_integer("resamples", resamples)
        starts = covariance_starts(self.starts["train"])
        windows = len(self.starts["train"])
        if block is None:
            block = max(math.ceil(windows / 20), self.length)
        _check_integer("block", block)
        blocks = min(windows // block, len(starts))
        if blocks < 5:
            raise InputError(
                f"block: {block} starts of {windows} windows make {blocks} block(s);"
                f" accepted: a block <= {windows // 5}, or a longer series"
            )
        # Windows of nearly equal number in each block: a rest that is dropped would be data that is dropped.
        block_of = torch.arange(len(starts)) * blocks // len(starts)
        sums = torch.zeros(blocks, self.length, dtype=torch.float64)
        per_lag = self.length - torch.arange(self.length)
        rows = max(1, CHUNK // (self.length * self.dim))
        for chunk, owner in zip(starts.split(rows), block_of.split(rows), strict=True):
            # Zero padding to 2N makes the circular correlation of the FFT the plain one.
            power = torch.fft.rfft(self.windows(chunk), n=2 * self.length, dim=1).abs().square().sum(-1)
            sums.index_add_(0, owner, torch.fft.irfft(power, n=2 * self.length)[:, : self.length] / per_lag)
        device = torch.device("cpu") if generator is None else generator.device
        picks = torch.randint(blocks, (resamples, blocks), generator=generator, device=device).cpu()
        counts = torch.zeros(resamples, blocks, dtype=torch.float64)
        counts.scatter_add_(1, picks, torch.ones_like(counts))
        resampled = counts @ sums  # (resamples, N)
        tail = float(stats.norm.sf(stats.t.isf((1 - level) / 2, blocks - 1) * (blocks / (blocks - 1)) ** 0.5))
        tails = torch.tensor([tail, 1 - tail], dtype=torch.float64)
        low, high = torch.quantile(resampled / resampled[:, :1], tails, dim=0)
        return low, high

    def state(self) -> dict:
        """Plain values and tensors from which `from_state` makes the same data, for torch.load(weights_only=True).

        Segments are stored as float32, a relative rounding of 6e-8.
        """
        return {
            "segments": [segment.float() for segment in self.segments],
            "length": self.length,
            "held_out": self.held_out,
            "description": dict(self.description),
        }

    @classmethod
    def from_state(cls, state: Mapping) -> "SeriesData":
        """The inverse of `state`.

        Raises:
            InputError: entries are missing or not accepted.
        """
        keys = ("segments", "length", "held_out", "description")
        if not isinstance(state, Mapping) or any(key not in state for key in keys):
            found = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise InputError(f"state: {found} is not accepted; accepted: a dict with the keys {', '.join(keys)}")
        return cls(**{key: state[key] for key in keys})


def load_data(
    source: str | Path,
    length: int,
    dim: int | None = None,
    periods: Sequence[float] | None = (),
    held_out: float = 0.2,
    frame_size: int = 32,
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

    Raises:
        InputError: a file that cannot be read, an argument that does not fit it, or too few frames.
    """
    _check_integer("length", length)
    _check_held_out(held_out)
    if dim is not None:
        _check_integer("dim", dim)
    recording, name = read_source(source, frame_size)
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
