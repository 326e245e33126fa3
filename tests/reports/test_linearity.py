"""The experiments about what is linear, on results that are made up both ways, and a small run of every kind."""

from itertools import product
from typing import Any

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from reports.experiment import find_experiment
from reports.experiments import beyond, real
from reports.linearity import DIT, UNET

TIMES = (0.05, 0.2)
EXACT = {beyond.OU: 0.0, beyond.CHANGING: 0.0, beyond.FUNCTION: 0.2, beyond.SWITCH: 0.1}


def rows_of(data: str, model: str, seed: int, figures: dict[str, float]) -> list[dict[str, Any]]:
    """Rows at both times; seeds differ by a hundredth of a share."""
    return [
        {"data": data, "model": model, "seed": seed, "t": t, "quantity": name, "value": value + 0.01 * (seed - 1) / 2,
         "low": value - 0.02, "high": value + 0.02}
        for t, (name, value) in product(TIMES, figures.items())
    ]  # fmt: skip


def latent(bought: dict[str, float], linear: dict[str, float]) -> pd.DataFrame:
    """A DiT that buys these shares, and loses those when it is made linear."""
    experiment = find_experiment("beyond")
    rows = [
        row for name, seed in product(EXACT, range(3))
        for row in rows_of(name, DIT, seed, {
            "loss": 0.5, "bought": bought[name], "computed": bought[name], "mean maps": 0.0, "linear": linear[name],
            "own affine map": linear[name], "left": 0.01, "exact": EXACT[name],
        })
    ]  # fmt: skip
    return experiment.results([experiment.checked(rows)])


def test_the_linear_description_stops_where_the_data_are_not_gaussian():
    results = latent({**EXACT, beyond.FUNCTION: 0.15}, EXACT)
    finding = beyond.finding(results)
    assert "The controls are right: on OU, a changing lengthscale" in finding
    assert "On a function of OU the linear description stops: the DiT explains more" in finding
    assert "buys at most 20 % (at t = 0.05), of which the DiT gets 75 %" in finding
    assert "Making the whole network linear costs nothing that we can tell (OU)" in finding
    assert "20 % at t = 0.05, 20 % at t = 0.2 (a function of OU)" in finding
    table = find_experiment("beyond").table(results)
    assert len(table) == 8 and {"exact buys", "bought, DiT", "linear, DiT"} <= set(table.columns)
    plt.close(find_experiment("beyond").figure(results))


def test_a_control_can_say_no():
    finding = beyond.finding(latent({**EXACT, beyond.OU: 0.05}, EXACT))
    assert "The control fails" in finding and "OU (5 % at t = 0.05, 5 % at t = 0.2)" in finding
    assert "The controls are right" not in finding


def test_a_share_that_is_too_small_is_not_called():
    assert "The controls are right" in beyond.finding(latent({**EXACT, beyond.OU: 0.0009}, EXACT).assign(
        value=lambda rows: rows.groupby(["data", "t", "quantity"]).value.transform("mean")
    ))  # fmt: skip


def test_a_network_that_buys_nothing_is_said():
    finding = beyond.finding(latent(dict.fromkeys(EXACT, -0.02), dict.fromkeys(EXACT, 0.0)))
    assert "On a function of OU the DiT is nowhere better than the affine denoiser; the exact score" in finding
    assert "the linear description stops" not in finding
    assert "Making the whole network linear costs nothing that we can tell (OU); nothing that we can tell" in finding


def measured(bought: float, linear: float) -> pd.DataFrame:
    experiment = find_experiment("real")
    losses = {"affine": 0.5, "Kronecker": 0.55, "kernel": 0.6, "training set": 0.7}
    rows = [
        row for data in (real.WEATHER, real.BALL) for model, loss in losses.items()
        for row in rows_of(data, model, 1, {"loss": loss, "bought": 0.0})
    ]  # fmt: skip
    shares = {"bought": bought, "computed": 0.1, "own affine map": linear}
    stand_ins = {"mean maps": 0.0, "linear": linear}
    rows += [
        row for data in (real.WEATHER, real.BALL) for model in (DIT, UNET) for seed in range(3)
        for row in rows_of(data, model, seed, {
            "loss": 0.5 - bought / 2, **shares, **(stand_ins if model == DIT else {}),
        })
    ]  # fmt: skip
    return experiment.results([experiment.checked(rows)])


@pytest.mark.parametrize("bought", [0.1, -0.1])
def test_real_data(bought):
    results = measured(bought, bought)
    finding = real.finding(results)
    best = "DiT at t = 0.05 (0.4500)" if bought > 0 else "affine at t = 0.05 (0.5000)"
    assert f"On weather the lowest held-out loss is that of {best}" in finding
    better = "the UNet explains more than the affine denoiser, 10 % at t = 0.05, 10 % at t = 0.2"
    worse = "the UNet is nowhere better than it, and less, -10 % at t = 0.05, -10 % at t = 0.2"
    assert (better in finding) == (bought > 0) and (worse in finding) == (bought < 0)
    cost = "made linear 10 % at t = 0.05" if bought > 0 else "made linear costs nothing that we can tell"
    assert cost.replace("linear costs", "linear") in finding
    table = find_experiment("real").table(results)
    assert len(table) == 4 and "exact buys" not in table.columns and (table["loss, kernel"] == "0.6000").all()
    plt.close(find_experiment("real").figure(results))


@pytest.mark.parametrize("data", list(EXACT))
def test_a_small_run_on_latent_processes(data):
    experiment = find_experiment("beyond")
    chosen = next(run for run in experiment.configurations("quick") if run["data"] == data)
    rows = pd.DataFrame(experiment.checked(experiment.run({**chosen, "steps": 2, "judged": 64})))
    counts = rows[rows.t > 0].groupby("t").quantity.nunique()
    assert len(counts) == 5 and (counts == 8).all()
    values = rows.pivot_table("value", "t", "quantity")
    assert values.loss.between(0.5, 1.5).all()  # two steps teach nothing: the loss is near that of a score of 0
    assert (values.left - values.exact + values.bought).abs().max() < 1e-9  # by what they are
    assert (values.exact.abs() < 1e-9).all() if data in beyond.CONTROLS else values.exact.max() > 0.02


@pytest.mark.parametrize(("data", "model"), [("weather", "DiT"), ("ball", "UNet"), ("weather", "kernel")])
def test_a_small_run_on_real_data(data, model):
    experiment = find_experiment("real")
    runs = [run for run in experiment.configurations("quick") if run["data"] == data and run["model"] == model]
    few = {**runs[0], "judged": 64, **({"steps": 2} if "steps" in runs[0] else {})}
    rows = pd.DataFrame(experiment.checked(experiment.run(few)))
    expected = {"DiT": 6, "UNet": 4, "kernel": 2}[model]
    assert (rows.groupby("t").quantity.nunique() == expected).all() and rows.t.nunique() == 5
    assert rows[rows.quantity == "loss"].value.between(0.05, 1.5).all()


def test_held_out_windows_are_in_time_order():
    chosen = find_experiment("real").configurations("quick")[0]
    data = real.made_data(chosen)
    windows = real.held_out(data, 10, 0)
    starts = data.starts["held_out"]
    assert len(windows) == 10 and bool((windows[0] == data.windows(starts[:1])[0]).all())
    assert bool((windows[-1] == data.windows(starts[-1:])[0]).all())


@pytest.mark.parametrize(("name", "budget"), [("beyond", 3600), ("real", 1800)])
def test_budgets(name, budget):
    experiment = find_experiment(name)
    assert sum(map(experiment.core_seconds, experiment.configurations("full"))) <= budget
    assert sum(map(experiment.core_seconds, experiment.configurations("quick"))) / 2 <= 60
