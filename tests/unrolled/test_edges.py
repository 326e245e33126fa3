"""The edges of what is accepted: time grids, precision, and values of options that would overflow or never end."""

import math

import pytest
import torch

from tests.builders import make, refused
from theory.bound import app as bound_app
from unrolled import (
    Exponential,
    GaussianProcess,
    InputError,
    construct,
    discrete_law,
    generated_law,
    log_time_grid,
    marginal_law,
    probability_flow,
    reverse_sde,
)
from unrolled.generated import discrete_girsanov_bound
from unrolled.handset.__main__ import app as handset_app

GRIDS = ([0.05, 8.0], [8.0, -1.0], [8.0, 8.0], [8.0, 0.0], [], [math.inf, 1.0], [math.nan], [8.0, math.nan, 1.0])


@pytest.mark.parametrize("grid", GRIDS)
def test_times_that_do_not_fall_are_refused(grid):
    process = make(3, 1, Exponential(2))
    x = torch.zeros(1, 3, 1, dtype=torch.float64)
    for use in (
        lambda: discrete_law(process.score, 3, 1, grid), lambda: discrete_law(process.score, 3, 1, grid, "ode"),
        lambda: next(probability_flow(process.score, x, grid)), lambda: next(reverse_sde(process.score, x, grid)),
        lambda: discrete_girsanov_bound(process.score, process, grid),
    ):  # fmt: skip
        with pytest.raises(InputError, match="^t_grid: .* is not accepted; accepted: finite times > 0 that fall"):
            use()


@pytest.mark.parametrize("t_range", [(1.0, math.inf), (math.nan, 1.0), (1.0, math.nan), (2.0, 1.0), (0.0, 1.0)])
def test_ranges_of_times_are_finite(t_range):
    with pytest.raises(InputError, match="^t_range: "):
        log_time_grid(t_range, 3)


def test_the_law_of_a_float32_model_asks_for_what_float32_can_give():
    """With a tolerance below its rounding the solver of the law would go on for ever."""
    process = GaussianProcess(3, Exponential(2), torch.eye(1))
    model = construct(process, "chebyshev", 4, ramps=24, t_range=(0.3, 2.0), dtype=torch.float32)
    with pytest.raises(InputError, match=r"^model: weights that round to 1e-07 .* rtol 1e-09; accepted: rtol >= 1e-05"):
        generated_law(model, 3, 1, (0.3, 2.0))
    law = generated_law(model, 3, 1, (0.5, 2.0), rtol=1e-3, start=marginal_law(process, 2.0))
    exact = generated_law(model.double(), 3, 1, (0.5, 2.0), rtol=1e-3, start=marginal_law(process, 2.0))
    torch.testing.assert_close(law.covariance, exact.covariance, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    "arguments", [("--eps", "1e-300"), ("--eps", "1"), ("--t", "1e300"), ("--t", "1e-300"), ("--t", "0")]
)
def test_the_bound_refuses_what_no_float_holds(capsys, arguments):
    assert refused(capsys, bound_app, "--length", 4, *arguments).startswith(f"error: {arguments[0][2:]}: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--t-range", "0.1", "1e9"), ("--t-range", "0.1", "1e9", "--model", "relu"),
        ("--dominance", "1e300", "--norm", "layer"), ("--ridge", "nan"), ("--tolerance", "0"),
    ],
)  # fmt: skip
def test_hand_set_models_refuse_what_no_float_holds(capsys, tmp_path, arguments):
    small = ("--algorithm", "gradient_descent", "--steps", 1, "--length", 4)
    line = refused(capsys, handset_app, *small, *arguments, "--out", tmp_path / "a.pt")
    assert line.startswith(f"error: {arguments[0][2:].replace('-', '_')}: ") and not list(tmp_path.iterdir())
