"""Reading series from files as numbers: CSV, NumPy arrays and the weather data that ships with the package."""

import warnings
import zipfile
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from unrolled.checks import InputError
from unrolled.series.preparation import Recording
from unrolled.series.video import VIDEO_SUFFIXES, read_video

__all__ = ["WEATHER", "read_array", "read_csv", "read_source", "read_weather"]

WEATHER = "weather"
"""The source that is not a file."""
WEATHER_FILE = "weather_nyc_2013.csv.gz"


def _progression_step(column: np.ndarray) -> float | None:
    """The step of an arithmetic progression, None for any other column."""
    if len(column) < 3 or not np.isfinite(column).all():
        return None
    steps = np.diff(column)
    even = steps[0] != 0 and np.allclose(steps, steps[0], rtol=1e-6, atol=1e-9 * float(np.abs(column).max()))
    return float(steps.mean()) if even else None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _has_header(cells: pd.DataFrame) -> bool:
    """Whether the first line names the columns: none of its cells is a number, or only its time is not a date."""
    first = cells.iloc[0]
    if not any(map(_is_number, first)):
        return bool((first != "").any())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on how a date is guessed, of no interest for a yes or no
        dates = pd.to_datetime(cells.iloc[:2, 0], errors="coerce").notna().tolist()
    # Names may be numbers (years, stations); then the line gives itself away by having no date where the next has one.
    return not _is_number(first.iloc[0]) and dates == [False, True] and not _is_number(cells.iat[1, 0])


def read_csv(path: Path) -> Recording:
    """A comma-separated file, one row a frame, with or without a header line.

    The first of several columns is taken for time, ignored, and named in the description if none of its cells is a
    number, or if it is an evenly spaced count (an index). Every other cell must be a finite number.

    Raises:
        InputError: a file that is no table, or an empty or non-numeric cell, named by column and row (1 is the first
            row of data).
    """
    try:
        with warnings.catch_warnings():
            # A row with more cells than the header is cut with a warning only.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            cells = pd.read_csv(path, header=None, dtype=str, index_col=False, keep_default_na=False, na_filter=False)
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, UnicodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"source: {path.name!r} is not accepted, it is no CSV table: {reason}") from None
    cells = cells.fillna("").map(str.strip)
    if _has_header(cells):
        names, cells = [str(name) or f"column {k + 1}" for k, name in enumerate(cells.iloc[0])], cells.iloc[1:]
    else:
        names = [f"column {k + 1}" for k in range(cells.shape[1])]
    if len(cells) == 0:
        raise InputError(f"source: {path.name!r} is not accepted, it has no row of data; accepted: one row a frame")
    numbers = cells.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64, copy=True)
    facts: dict = {}
    if numbers.shape[1] > 1:
        step = _progression_step(numbers[:, 0])
        if step is not None or np.isnan(numbers[:, 0]).all():
            facts["time_column_ignored"] = names[0]
            if step is not None:
                facts["sampling_interval"] = f"{step:g} in units of column {names[0]!r}"
            names, numbers, cells = names[1:], numbers[:, 1:], cells.iloc[:, 1:]
    bad = ~np.isfinite(numbers)
    if bad.any():
        column = int(bad.any(axis=0).argmax())
        row = int(bad[:, column].argmax())
        raise InputError(
            f"source: {path.name!r} has {cells.iat[row, column]!r} in column {names[column]!r}, row {row + 1};"
            " accepted: finite numbers in every cell"
        )
    return Recording.uninterrupted(torch.from_numpy(numbers), names, facts)


def read_array(path: Path) -> Recording:
    """A .npy file holding (T, d) or (T,), or a .npz file holding one such array or one that is named `data`.

    Raises:
        InputError: a file that NumPy cannot read without pickle, another shape, or entries that are not finite numbers.
    """
    accepted = "accepted: a (T, d) or (T,) array of real numbers"
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.lib.npyio.NpzFile):
                name = "data" if "data" in content.files else content.files[0] if len(content.files) == 1 else None
                if name is None:
                    raise InputError(f"it holds the arrays {content.files}, none named 'data'")
                content = content[name]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"source: {path.name!r} is not accepted: {reason}; {accepted}") from None
    if content.ndim not in (1, 2) or content.dtype.kind not in "fiu" or content.size == 0:
        raise InputError(
            f"source: {path.name!r} of shape {content.shape} and dtype {content.dtype} is not accepted; {accepted}"
        )
    frames = content.reshape(len(content), -1).astype(np.float64)
    bad = np.argwhere(~np.isfinite(frames))
    if len(bad):
        row, column = bad[0].tolist()
        raise InputError(
            f"source: {path.name!r} has {frames[row, column]} in column {column + 1}, row {row + 1}; {accepted}"
        )
    names = [f"column {k + 1}" for k in range(frames.shape[1])]
    return Recording.uninterrupted(torch.from_numpy(frames), names, {})


def read_weather() -> Recording:
    """Hourly temperature, dew point and wind at three airports of New York in 2013, see datasets/README.md."""
    with (resources.files("unrolled.series.datasets") / WEATHER_FILE).open("rb") as file:
        table = pd.read_csv(file, compression="gzip", index_col="hour")
    hour = table.index.to_numpy()
    segments = np.split(np.arange(len(hour)), np.flatnonzero(np.diff(hour) > 1) + 1)
    frames = torch.from_numpy(table.to_numpy(dtype=np.float64, copy=True))
    facts = {
        "sampling_interval": "1 hour",
        "first_frame": "2013-01-01 06:00 UTC",
        "origin": "NOAA/ASOS surface observations at EWR, JFK and LGA, from the R package nycflights13",
        "license": "public domain (observations of the United States government); nycflights13 is CC0",
    }
    return Recording(
        [frames[rows[0] : rows[-1] + 1] for rows in segments],
        [torch.tensor(hour[rows]) for rows in segments],
        list(table.columns),
        facts,
    )


def read_source(source: str | Path, frame_size: int) -> tuple[Recording, str]:
    """What `source` holds, "weather" or the path of a file, and its name without directory.

    Raises:
        InputError: no such file, a directory, an empty file, an ending that is not known, or content that is not.
    """
    if source == WEATHER:
        return read_weather(), WEATHER
    accepted = f'accepted: "weather" or a file .csv, .npy, .npz, {", ".join(VIDEO_SUFFIXES)}'
    if not isinstance(source, str | Path) or not str(source):
        raise InputError(f"source: {source!r} is not accepted; {accepted}")
    path = Path(source)
    suffix = path.suffix.lower()
    reasons = {
        "there is no such file": not path.exists(),
        "it is a directory": path.is_dir(),
        f"its ending {suffix!r} is not known": suffix not in (".csv", ".npy", ".npz", *VIDEO_SUFFIXES),
        "it is empty": path.is_file() and path.stat().st_size == 0,
    }
    for reason, applies in reasons.items():
        if applies:
            raise InputError(f"source: {path.name!r} is not accepted, {reason}; {accepted}")
    if suffix in VIDEO_SUFFIXES:
        return read_video(path, frame_size), path.name
    return (read_csv if suffix == ".csv" else read_array)(path), path.name
