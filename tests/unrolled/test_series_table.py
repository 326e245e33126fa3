"""CSV files as people have them: separators, decimal commas, clocks with gaps, columns that are no data."""

import itertools

import numpy as np
import pytest
import torch

from unrolled import InputError
from unrolled.series.load import load_data
from unrolled.series.table import read_csv

VALUES = np.random.default_rng(3).standard_normal((60, 2)).round(3)


def table(path, rows: list[list[object]], separator: str = ",", comma: bool = False):
    """A file of the rows; numbers with a decimal comma where asked for."""
    text = [[str(cell).replace(".", ",") if comma else str(cell) for cell in row] for row in rows]
    path.write_text("\n".join(separator.join(row) for row in text) + "\n")
    return path


@pytest.mark.parametrize(("separator", "comma"), [(",", False), (";", False), (";", True), ("\t", True), ("|", False)])
def test_separators_and_decimal_commas(tmp_path, separator, comma):
    path = table(tmp_path / "s.csv", [["a", "b"], *VALUES.tolist()], separator, comma)
    found = read_csv(path)
    assert found.channels == ["a", "b"] and len(found.segments) == 1
    assert torch.equal(found.segments[0], torch.from_numpy(VALUES))


@pytest.mark.parametrize("kind", ["count", "seconds", "date"])
@pytest.mark.parametrize("missing", [[], [20], [20, 21, 40]])
def test_a_clock_with_missing_rows_stays_a_clock_and_cuts(tmp_path, kind, missing):
    """Before, one missing row made the clock a channel of the data, without a word."""
    present = [k for k in range(60) if k not in missing]
    clock = {
        "count": lambda k: k,
        "seconds": lambda k: 0.1 * k,
        "date": lambda k: f"2024-03-{1 + k // 24:02}T{k % 24:02}:00",
    }[kind]
    found = read_csv(table(tmp_path / "s.csv", [["when", "a"], *([clock(k), VALUES[k, 0]] for k in present)]))
    assert found.channels == ["a"] and found.facts["time_column_ignored"] == "when"
    assert found.facts.get("rows_missing", 0) == len(missing)
    assert torch.cat(found.positions).tolist() == present
    gaps = 1 + sum(after - before > 1 for before, after in itertools.pairwise(present))
    assert len(found.segments) == gaps
    assert torch.equal(torch.cat(found.segments)[:, 0], torch.from_numpy(VALUES[present, 0]))


def test_no_window_crosses_a_gap(tmp_path):
    rows = [[k, VALUES[k, 0]] for k in range(60) if k != 20]
    data = load_data(table(tmp_path / "s.csv", [["when", "a"], *rows]), length=5)
    assert [len(segment) for segment in data.segments] == [20, 39]


def test_a_clock_of_business_days_is_taken_as_even(tmp_path):
    days = np.busday_offset("2024-01-01", np.arange(60), roll="forward")
    found = read_csv(table(tmp_path / "s.csv", [["day", "a"], *zip(days, VALUES[:, 0], strict=True)]))
    assert found.channels == ["a"] and len(found.segments) == 1 and "uneven" in found.facts["clock"]


def test_increasing_data_is_no_clock(tmp_path):
    """Only a name that says time makes uneven increasing numbers a clock."""
    counter = np.cumsum(1 + np.abs(VALUES[:, 0]))
    for name, channels in (("level", ["level", "a"]), ("time", ["a"])):
        path = table(tmp_path / f"{name}.csv", [[name, "a"], *zip(counter, VALUES[:, 1], strict=True)])
        assert read_csv(path).channels == channels


def test_text_and_constant_columns_are_left_out_and_named(tmp_path):
    rows = [[k, VALUES[k, 0], "ok", 7, VALUES[k, 1]] for k in range(60)]
    path = table(tmp_path / "s.csv", [["when", "a", "state", "id", "b"], *rows])
    found = read_csv(path)
    assert found.channels == ["a", "b"] and found.facts["columns_left_out"] == ["state (text)", "id (constant)"]
    chosen = read_csv(path, ["b"])
    assert chosen.channels == ["b"] and "columns_left_out" not in chosen.facts
    assert torch.equal(chosen.segments[0][:, 0], torch.from_numpy(VALUES[:, 1]))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["c"], r"^columns: 'c' is not in 's.csv'; accepted: 'when', 'a', 'state'$"),
        (["state"], r"'ok' in column 'state'"),
    ],
)
def test_columns_that_cannot_be_used_are_named(tmp_path, columns, message):
    path = table(tmp_path / "s.csv", [["when", "a", "state"], *([k, VALUES[k, 0], "ok"] for k in range(60))])
    with pytest.raises(InputError, match=message):
        read_csv(path, columns)


def test_a_bad_cell_names_the_option(tmp_path):
    rows = [[k, VALUES[k, 0], "" if k == 5 else 1.5 * k * k] for k in range(60)]
    with pytest.raises(InputError, match=r"has '' in column 'b', row 6; .*--columns"):
        read_csv(table(tmp_path / "s.csv", [["when", "a", "b"], *rows]))


def test_a_table_without_numbers_is_refused(tmp_path):
    with pytest.raises(InputError, match="no column of changing numbers"):
        read_csv(table(tmp_path / "s.csv", [["a", "b"], ["x", 1], ["y", 1], ["z", 1]]))
