"""Checks of arguments: what is accepted passes unchanged, the rest is one line that names argument, value and range."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.checks import InputError, require_choice, require_integer, require_number, require_t_range


@given(st.integers(-5, 5), st.integers(-3, 3), st.integers(0, 4))
def test_integers_in_a_range(value, least, spread):
    if least <= value <= least + spread:
        assert require_integer("n", value, least, least + spread) == value
    else:
        with pytest.raises(InputError, match=rf"^n: {value} is not accepted; accepted: an integer in \[{least}, "):
            require_integer("n", value, least, least + spread)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, math.nan])
def test_what_is_no_integer(value):
    with pytest.raises(InputError, match="^n: .* is not accepted; accepted: an integer >= 1$"):
        require_integer("n", value)


@pytest.mark.parametrize(
    ("value", "above", "below", "closed", "good"),
    [
        (0.5, 0, 1, "", True), (0, 0, 1, "", False), (0, 0, 1, "low", True), (1, 0, 1, "low", False),
        (1, 0, 1, "high", True), (1, 0, 1, "low high", True), (-0.1, 0, 1, "low high", False),
        (math.nan, 0, 1, "low high", False), (math.inf, 0, math.inf, "", False), (-math.inf, -math.inf, 0, "", False),
        (True, 0, 2, "", False), ("1", 0, 2, "", False), (3, 0, math.inf, "", True), (0, 0, math.inf, "", False),
    ],
)  # fmt: skip
def test_numbers_between_ends(value, above, below, closed, good):
    if good:
        assert require_number("x", value, above, below, closed=closed) == value
    else:
        with pytest.raises(InputError, match="^x: .* is not accepted; accepted: "):
            require_number("x", value, above, below, closed=closed)


def test_choices_and_t_ranges():
    assert require_choice("norm", "layer", ("layer", "none")) == "layer"
    with pytest.raises(InputError, match="^norm: 'batch' is not accepted; accepted: 'layer', 'none'$"):
        require_choice("norm", "batch", ("layer", "none"))
    assert require_t_range([1, 2]) == (1.0, 2.0)
    for bad in [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (1.0, math.inf), (math.nan, 1.0)]:
        with pytest.raises(InputError, match="^t_range: .* accepted: 0 < low < high$"):
            require_t_range(bad)
