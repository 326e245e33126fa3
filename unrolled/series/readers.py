"""Reading a source: a file by its ending, or the weather data that ships with the package."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from unrolled.checks import InputError
from unrolled.series.preparation import Recording
from unrolled.series.table import read_csv
from unrolled.series.video import VIDEO_SUFFIXES, read_video

__all__ = ["WEATHER", "read_array", "read_source", "read_weather"]

WEATHER = "weather"
"""The source that is not a file."""
WEATHER_FILE = "weather_nyc_2013.csv.gz"


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
    except Exception as error:  # a damaged header raises what the parser of Python does
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


def read_source(source: str | Path, frame_size: int, columns: Sequence[str] = ()) -> tuple[Recording, str]:
    """What `source` holds, "weather" or the path of a file, and its name without directory.

    Raises:
        InputError: no such file, a directory, an empty file, an ending that is not known, or content that is not.
    """
    if columns and Path(source).suffix.lower() != ".csv":
        raise InputError(f"columns: {list(columns)} is not accepted for {source}; accepted: columns of a .csv file")
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
        "it is no regular file": not path.is_file(),
        f"its ending {suffix!r} is not known": suffix not in (".csv", ".npy", ".npz", *VIDEO_SUFFIXES),
        "it is empty": path.is_file() and path.stat().st_size == 0,
    }
    for reason, applies in reasons.items():
        if applies:
            raise InputError(f"source: {path.name!r} is not accepted, {reason}; {accepted}")
    if suffix in VIDEO_SUFFIXES:
        return read_video(path, frame_size), path.name
    return (read_csv(path, columns) if suffix == ".csv" else read_array(path)), path.name
