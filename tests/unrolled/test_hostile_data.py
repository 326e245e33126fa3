"""Data that would hang, overflow, or be read short or out of order: refused in one line that says why."""

import os
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.builders import generator, many, write_csv
from unrolled import InputError, SeriesData, load_data


def noise(rows: int = 300, columns: int = 2) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, columns))


def saved(array: np.ndarray, folder: Path) -> Path:
    path = folder / "series.npy"
    np.save(path, array)
    return path


def write_clip(path: Path, frames: int = 96, **options: str) -> Path:
    av = pytest.importorskip("av")
    pictures = np.random.default_rng(0).integers(0, 255, (frames, 32, 48, 3), dtype=np.uint8)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "options"), [("a.avi", {}), ("a.mkv", {}), ("a.mp4", {}), ("a.mov", {"movflags": "faststart"})]
)
def test_a_video_that_was_cut_off_is_named(tmp_path, name, options):
    path = write_clip(tmp_path / name, **options)
    assert load_data(path, 8, dim=2).description["frames"] == 96
    whole = path.read_bytes()
    for share in (0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=rf"^source: '{name}' (is damaged|ends early|cannot be|stops)"):
            load_data(path, 8, dim=2)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    for name in ("a.csv", "a.npy", "a.mp4"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(InputError, match=rf"^source: '{name}' is not accepted, it is no regular file"):
            load_data(tmp_path / name, 8)


def test_values_whose_squares_overflow_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"^source: 'series.npy' has values up to .*e\+200; accepted: up to 1e\+100$"):
        load_data(saved(1e200 * noise(), tmp_path), 8)
    with pytest.raises(InputError, match="^segments: .*entries beyond"):
        SeriesData([torch.from_numpy(1e200 * noise())], 8)
    assert load_data(saved(1e90 * noise(), tmp_path), 8).temporal_covariance.isfinite().all()


def test_a_training_part_of_zeros_is_refused(tmp_path):
    series = noise()
    series[:240] = 0
    with pytest.raises(InputError, match="^source: channel 'column 1' does not vary in the training part"):
        load_data(saved(series, tmp_path), 8)
    with pytest.raises(InputError, match="^segments: are all 0 in the training part"):
        SeriesData([torch.from_numpy(series)], 8)


def test_an_array_that_declares_more_than_there_is_is_refused(tmp_path):
    path = saved(noise(), tmp_path)
    header, shape = path.read_bytes(), b"(300, 2), }"
    huge = b"(15032385536, 2), }"  # 224 GiB
    assert shape in header
    path.write_bytes(header.replace(shape + b" " * (len(huge) - len(shape)), huge))
    with pytest.raises(InputError, match=r"^source: 'series.npy' is not accepted: "):
        load_data(path, 8)


def clock_table(order: list[int], folder: Path, dates: bool) -> Path:
    hours = pd.date_range("2020-01-01", periods=len(order), freq="h")
    table = pd.DataFrame(noise(len(order)), columns=["a", "b"])
    table.insert(0, "time", hours[order].astype(str) if dates else [float(k) for k in order])
    table.to_csv(folder / "a.csv", index=False)
    return folder / "a.csv"


@pytest.mark.parametrize("dates", [True, False])
def test_a_clock_that_goes_back_is_named_with_its_row(tmp_path, dates):
    order = list(range(200))
    assert load_data(clock_table(order, tmp_path, dates), 8).dim == 2
    back = [*order[:100], *range(98, 198)]
    with pytest.raises(InputError, match=r"^source: 'a.csv' goes back in time in column 'time', row 101 \(.*\);"):
        load_data(clock_table(back, tmp_path, dates), 8)


def test_shuffled_dates_are_refused_and_falling_ones_are_a_clock(tmp_path):
    order = list(range(200))
    random.Random(0).shuffle(order)
    with pytest.raises(InputError, match="^source: 'a.csv' goes back in time"):
        load_data(clock_table(order, tmp_path, True), 8)
    assert load_data(clock_table(list(range(199, -1, -1)), tmp_path, True), 8).dim == 2


def test_periods_that_the_rows_cannot_tell_apart_are_refused(tmp_path):
    """18 periods have 108 coefficients, and 96 rows are fitted."""
    path = saved(noise(120), tmp_path)
    with pytest.raises(InputError, match="^periods: .* grow to"):
        load_data(path, 8, periods=[7.0 + k for k in range(18)])
    held_out = load_data(path, 8, periods=[24.0, 7.0]).sample(64, generator(), split="held_out")
    assert float(held_out.square().mean()) < 3


def test_malformed_tables_and_arrays_end_in_one_line_or_are_read(tmp_path):
    """Random damage to bytes: no exception but the documented one."""
    chosen = random.Random(0)
    sources = [write_csv(tmp_path, 60), saved(noise(60), tmp_path)]
    for path in sources:
        whole = path.read_bytes()
        for _ in range(many(20, 500)):
            damaged = bytearray(whole)
            for _ in range(chosen.randrange(1, 6)):
                place = chosen.randrange(min(len(damaged), 400))
                change = chosen.choice((b"", b",", b"\n", b"\x00", b"\xff", b'"', b"nan", b"9" * 20, b"-", b"(", b"'"))
                damaged[place : place + chosen.randrange(3)] = change
            path.write_bytes(damaged)
            try:
                assert load_data(path, 4).temporal_covariance.isfinite().all()
            except InputError as error:
                assert "\n" not in str(error)
