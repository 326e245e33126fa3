"""A CSV file as people have them: any usual separator, a clock, columns that are no data.

The first column is the clock if it holds dates, or strictly increasing numbers of which nine steps in ten are equal or
whose name says time. A clock is no data. Where nine steps in ten are equal and another is a multiple of them, rows are
missing, and a new segment begins after them. Other clocks, such as business days, are taken as even; the description
says so.
"""

import re
import warnings
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from unrolled.checks import InputError
from unrolled.series.preparation import Recording

__all__ = ["read_csv"]

SEPARATORS = ("\t", ";", "|", ",")
"""In the order they are tried: a file with semicolons may have commas in its numbers."""
SAMPLE_LINES = 20
EVEN_SHARE = 0.9
"""Share of the steps of a clock that must be equal."""
STEP_TOLERANCE = 1e-6
"""Relative difference up to which two steps are equal."""
TIME_NAMES = re.compile(r"\b(time|date|datetime|timestamp|clock|t)\b", re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")


def read_csv(path: Path, columns: Sequence[str] = ()) -> Recording:
    """A table, one row a frame, with or without a header line; separated by commas, semicolons, tabs or bars.

    Without `columns` all columns are channels but the clock (see the module), those without a number in any cell, and
    those that never change; the description names what was left out. With `columns` those alone are channels, in that
    order. Every cell of a channel must be a finite number; beside a semicolon or a tab it may have a decimal comma.

    Raises:
        InputError: a file that is no table; a clock that goes back; a cell that is no number, named by column and row
            (1 is the first row of data); a column that was asked for and is not there; no column that changes.
    """
    table, separator = _cells(path)
    names = list(table.columns)
    if unknown := [name for name in columns if name not in names]:
        raise InputError(f"columns: {unknown[0]!r} is not in {path.name!r}; accepted: {', '.join(map(repr, names))}")
    numbers = _numbers(table, separator)
    clock = _clock(path, table.iloc[:, 0], numbers[:, 0]) if len(names) > 1 else None
    if columns:
        kept = [names.index(name) for name in columns]
        left_out: list[str] = []
    else:
        kept, left_out = _channels(names, numbers, first=0 if clock is None else 1)
    if not kept:
        raise InputError(f"source: {path.name!r} has no column of changing numbers; accepted: at least one")
    _require_finite(path, table, numbers, kept)
    facts: dict[str, Any] = {} if clock is None else {"time_column_ignored": names[0], **clock.facts}
    if left_out:
        facts["columns_left_out"] = left_out
    frames = torch.from_numpy(numbers[:, kept])
    position = torch.arange(len(frames)) if clock is None else torch.from_numpy(clock.position)
    cuts = [0, *(np.flatnonzero(np.diff(position.numpy()) > 1) + 1).tolist(), len(frames)]
    return Recording(
        [frames[begin:end] for begin, end in pairwise(cuts)],
        [position[begin:end] for begin, end in pairwise(cuts)],
        [names[k] for k in kept],
        facts,
    )


def _cells(path: Path) -> tuple[pd.DataFrame, str]:
    """The cells as stripped text under unique names, and the separator."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in islice(file, SAMPLE_LINES) if line.strip()]
        counts = {mark: {line.count(mark) for line in lines} for mark in SEPARATORS}
        separator = next((mark for mark, found in counts.items() if len(found) == 1 and found != {0}), ",")
        with warnings.catch_warnings():
            # A row with more cells than the header is cut with a warning only.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            cells = pd.read_csv(
                path, sep=separator, header=None, dtype=str, index_col=False, keep_default_na=False, na_filter=False,
                encoding="utf-8-sig",
            )  # fmt: skip
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, UnicodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"source: {path.name!r} is not accepted, it is no CSV table: {reason}") from None
    cells = cells.fillna("").map(str.strip)
    names = [f"column {k + 1}" for k in range(cells.shape[1])]
    if _has_header(cells):
        names = [str(name) or names[k] for k, name in enumerate(cells.iloc[0])]
        names = [name if name not in names[:k] else f"{name} ({k + 1})" for k, name in enumerate(names)]
        cells = cells.iloc[1:]
    if len(cells) == 0:
        raise InputError(f"source: {path.name!r} is not accepted, it has no row of data; accepted: one row a frame")
    cells.columns = pd.Index(names)
    return cells, separator


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _has_header(cells: pd.DataFrame) -> bool:
    """Whether the first line names the columns: none of its cells is a number, or only its time is not a date."""
    first = cells.iloc[0]
    if not any(_is_number(cell) or DECIMAL_COMMA.fullmatch(cell) for cell in first):
        return bool((first != "").any())
    dates = _dates(cells.iloc[:2, 0]).notna().tolist()
    # Names may be numbers (years, stations); then the line gives itself away by having no date where the next has one.
    return not _is_number(first.iloc[0]) and dates == [False, True] and not _is_number(cells.iat[1, 0])


def _dates(cells: pd.Series) -> pd.Series:
    """Dates, NaT where a cell is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on how a date is guessed
        return pd.to_datetime(cells, errors="coerce", utc=True)


def _numbers(table: pd.DataFrame, separator: str) -> np.ndarray:
    """(rows, columns) float64, NaN where a cell is no number; decimal commas count beside another separator."""
    if separator != ",":
        table = table.map(lambda cell: cell.replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) else cell)
    return table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64, copy=True)


class _Clock(NamedTuple):
    """Time index of every row, in steps since the first, and what there is to say."""

    position: np.ndarray
    facts: dict[str, Any]


def _clock(path: Path, cells: pd.Series, numbers: np.ndarray) -> _Clock | None:
    """The clock that a column is, None for a column that is none.

    Raises:
        InputError: dates, or numbers whose name says time and that nearly always rise, that go back in a row.
    """
    is_date = bool(np.isnan(numbers).all())
    if is_date:
        dates = _dates(cells)
        if bool(dates.isna().any()):
            return None
        ticks = dates.astype("int64").to_numpy() / 1e9  # seconds
    else:
        ticks = numbers
    steps = np.diff(ticks)
    if len(steps) < 2 or not np.isfinite(ticks).all():
        return _Clock(np.arange(len(ticks)), {}) if is_date else None
    unit = float(np.median(steps))
    back = steps * (np.sign(unit) or 1.0) < 0
    named = TIME_NAMES.search(str(cells.name)) and np.mean(steps > 0) >= EVEN_SHARE
    if back.any() and (is_date or named):
        row = int(back.argmax()) + 2  # 1 is the first row of data
        raise InputError(
            f"source: {path.name!r} goes back in time in column {cells.name!r}, row {row} ({cells.iloc[row - 1]!r});"
            " accepted: rows in the order of time"
        )
    multiples = steps / unit if unit else np.zeros(len(steps))
    whole = np.round(multiples).astype(np.int64)
    exact = (np.abs(multiples - whole) <= STEP_TOLERANCE * np.abs(multiples) + 1e-9) & (whole >= 1)
    if exact.all() and np.mean(whole == 1) >= EVEN_SHARE:
        facts: dict[str, Any] = {"sampling_interval": _interval(unit, is_date, str(cells.name))}
        if missing := int((whole - 1).sum()):
            facts["rows_missing"] = missing
        return _Clock(np.concatenate([[0], np.cumsum(whole)]), facts)
    if is_date or (bool((steps > 0).all()) and TIME_NAMES.search(str(cells.name))):
        return _Clock(np.arange(len(ticks)), {"clock": "its steps are uneven and taken as even"})
    return None


def _interval(unit: float, is_date: bool, name: str) -> str:
    return f"{abs(unit):g} seconds" if is_date else f"{unit:g} in units of column {name!r}"


def _channels(names: list[str], numbers: np.ndarray, first: int) -> tuple[list[int], list[str]]:
    """(indices of the columns that are data from column `first` on, the others with the reason)."""
    kept, left_out = [], []
    for k in range(first, len(names)):
        if np.isnan(numbers[:, k]).all() and len(names) > 1:
            left_out.append(f"{names[k]} (text)")
        elif len(numbers) > 1 and (numbers[:, k] == numbers[0, k]).all():
            left_out.append(f"{names[k]} (constant)")
        else:
            kept.append(k)
    return kept, left_out


def _require_finite(path: Path, table: pd.DataFrame, numbers: np.ndarray, kept: list[int]) -> None:
    bad = ~np.isfinite(numbers[:, kept])
    if bad.any():
        column = kept[int(bad.any(axis=0).argmax())]
        row = int((~np.isfinite(numbers[:, column])).argmax())
        raise InputError(
            f"source: {path.name!r} has {table.iat[row, column]!r} in column {table.columns[column]!r}, row {row + 1};"
            " accepted: finite numbers in every cell, or other columns by --columns"
        )
