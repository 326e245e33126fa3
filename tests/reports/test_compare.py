"""Names of the files of a page: one name for one run, whatever the files are called."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.compare import file_keys


@pytest.mark.parametrize(
    ("paths", "keys"),
    [
        (["quick/run.pt", "weather/run.pt"], ["quick", "weather"]),
        (["a.pt", "b.pt"], ["a", "b"]),
        (["x/a.pt", "y/a.pt"], ["a_1", "a_2"]),
        (["x/a.pt", "y/a.pt", "a_1.pt"], ["a_2", "a_3", "a_1"]),
    ],
)
def test_keys(paths, keys, tmp_path):
    assert file_keys([tmp_path / path for path in paths]) == keys


@given(st.lists(st.sampled_from(["a", "a_1", "a_2", "a_1_1", "b", "run", "-", "_"]), min_size=1, max_size=6))
def test_every_run_has_a_name_of_its_own(names):
    """Before, x/a.pt, y/a.pt and a_1.pt wrote two runs to the same files."""
    keys = file_keys([Path(str(k)) / f"{name}.pt" for k, name in enumerate(names)])
    assert len(set(keys)) == len(names)
