"""The experiment about videos of a ball, on results that are made up both ways, and one small run of every kind."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from reports import ball_pages as pages
from reports.experiment import find_experiment

EXPERIMENT = find_experiment("ball")
LAGS = np.arange(4)


def made_up(
    shares: dict[str, float], scales: dict[str, float], centroids: dict[str, float], best: float = 5e-3
) -> pd.DataFrame:
    """Results of three seeds: shares of frames that show a ball, and lengthscales by both readings."""
    rows: list[dict[str, Any]] = []

    def add(model: str, seed: int, quantity: str, value: float, index: int = 0, t: float = 0.0, **more: Any) -> None:
        rows.append({
            "space": "cells", "model": model, "seed": seed, "rate": 5e-3, "search": False, "t": t,
            "quantity": quantity, "index": index, "value": float(value), **more,
        })  # fmt: skip

    for (k, model), seed in product(enumerate(pages.NAMES), range(3)):
        wobble = 1 + 0.01 * ((seed + k) % 3 - 1)
        add(model, seed, "one ball", shares[model] * wobble)
        add(model, seed, "distance", 0.1)
        for reading, values in ((pages.NEAREST, scales), (pages.CENTROID, centroids)):
            for index, factor in enumerate((1.0, 0.9, 1.1)):
                add(model, seed, f"{reading} lengthscale", values[model] * wobble * factor, index)
            for lag in LAGS:
                add(model, seed, f"{reading} covariance", np.exp(-lag / 4), int(lag))
        for cell in range(32 if seed == 0 else 0):
            add(model, seed, "cell", cell % 4 / 4, cell)
        if model == pages.TRUE:
            add(model, seed, "path", 4.0)
            continue
        for quantity in ("seconds", "parameters"):
            add(model, seed, quantity, 300.0)
        for t in pages.LOSS_TIMES:
            add(model, seed, "loss", 0.5, t=t)
        for lag, quantity in product(LAGS, ("influence", "attention")):
            if quantity == "influence" or model == pages.DIT:
                add(model, seed, quantity, -1.0 / (1 + lag), int(lag), pages.SHOWN)
    for model, rate in ((pages.DIT, 5e-3), (pages.DIT, 1e-2), (pages.UNET, 2e-3), (pages.UNET, 4e-3)):
        wanted = best if model == pages.DIT else 2e-3
        add(model, 0, "loss", 0.5 + abs(rate - wanted), t=0.2, search=True, rate=rate)
    return EXPERIMENT.results([EXPERIMENT.checked(rows)])


SAME = dict.fromkeys(pages.NAMES, 4.0)
GOOD = {"true": 1.0, "dit": 0.9, "unet": 0.6, "affine": 0.1}


def test_what_is_found_when_all_is_well():
    results = made_up(GOOD, SAME, SAME)
    finding = EXPERIMENT.finding(results)
    assert "The DiT shows a ball in more frames in cells than the UNet" in finding
    assert finding.count("we can tell no model from true videos") == 2
    assert "In cells the affine denoiser has the lengthscale of the centroid right, though" in finding
    assert "by at most 0 (cells) of the largest" in finding and "those of the search" in finding
    assert "not those of the search" not in finding
    table = EXPERIMENT.table(results)
    assert len(table) == 4 and set(table["path's inside"]) == {"3 of 3"}
    plt.close(EXPERIMENT.figure(results))


def test_what_is_found_when_all_is_not():
    others = {**SAME, "dit": 2.0, "affine": 8.0}
    results = made_up({**GOOD, "dit": 0.3}, others, others, best=1e-2)
    finding = EXPERIMENT.finding(results)
    assert "The DiT shows a ball in fewer frames in cells than the UNet" in finding
    assert finding.count("we can tell DiT in cells, affine in cells from true videos") == 2
    assert "No affine denoiser has the lengthscale of the centroid right" in finding
    assert "not those of the search for DiT in cells (0.01)" in finding
    assert list(EXPERIMENT.table(results)["path's inside"]) == ["3 of 3", "0 of 3", "3 of 3", "0 of 3"]
    doubled = results.assign(value=results.value * np.where(results.quantity == "influence", 2.0, 1.0))
    only_dit = results.value.where(results.model != "dit", doubled.value)
    assert "by at most 1 (cells) of the largest" in EXPERIMENT.finding(results.assign(value=only_dit))


def test_equal_shares_decide_nothing():
    finding = EXPERIMENT.finding(made_up({**GOOD, "unet": 0.9}, SAME, SAME))
    assert "We cannot tell the DiT from the UNet" in finding


def few(model: str, space: str) -> dict[str, Any]:
    """A run of the quick budget with a few steps and videos."""
    runs = EXPERIMENT.configurations("quick")
    chosen = next(run for run in runs if run["model"] == model and run["space"] == space)
    return {**chosen, "steps": 2, "videos": 40, "sampler steps": 2, "coder steps": 30}


@pytest.mark.parametrize(
    ("model", "space"),
    [("true", "components"), ("dit", "components"), ("unet", "components"), ("affine", "autoencoder")],
)
def test_a_small_run(model, space):
    rows = pd.DataFrame(EXPERIMENT.checked(EXPERIMENT.run(few(model, space))))
    found = rows.set_index(["quantity", "index"]).value
    assert 0 <= found["one ball", 0] <= 1 and found["distance", 0] >= 0
    for reading in (pages.CENTROID, pages.NEAREST):
        low, high = found[f"{reading} lengthscale", 1], found[f"{reading} lengthscale", 2]
        assert low <= high and len(found[f"{reading} covariance"]) == 8
    assert len(found["cell"]) == 8 * 36
    if model == "true":
        assert found["path", 0] == 4 and found["one ball", 0] > 0.9 and "loss" not in found
    else:
        assert len(found["influence"]) == 8 and len(rows[rows.quantity == "loss"]) == 5
    assert ("attention" in found) == (model == "dit")
    if model == "dit":
        assert found["attention"].sum() > 0 and found["attention"].between(0, 1).all()


def test_searches_are_part_of_the_full_budget_alone():
    full, quick = (EXPERIMENT.configurations(budget) for budget in ("full", "quick"))
    assert sum(run["search"] for run in full) == 3 * 6 and not any(run["search"] for run in quick)
    assert {run["rate"] for run in full if run["model"] == "affine"} == {0.0}
    assert sum(EXPERIMENT.core_seconds(run) for run in full) <= 3600
    assert sum(EXPERIMENT.core_seconds(run) for run in quick) / 2 <= 60
