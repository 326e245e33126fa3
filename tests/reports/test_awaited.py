"""Experiments whose results at the full budget are not committed yet: their findings say both, and they say so
themselves."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from reports.experiment import experiment_names, find_experiment
from reports.experiments import free_maps, trained_depth, unet

RESULTS = Path(__file__).parents[2] / "reports" / "results"
AWAITED = {
    "ball", "beyond", "degradation", "efficiency", "free_maps", "handset_kernels", "real", "unet",
}  # fmt: skip


def test_only_these_have_no_results():
    assert {name for name in experiment_names() if not (RESULTS / name).exists()} == AWAITED
    docs = (RESULTS.parents[1] / "docs" / "reports.md").read_text()
    for name in AWAITED:
        assert f"`{name}`" in docs and f"results/{name}/" not in docs


def of(name: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    experiment = find_experiment(name)
    return experiment.results([experiment.checked(rows)])


def depths(exponent: float) -> pd.DataFrame:
    """Networks whose gain from depth grows like kappa to this exponent, and solvers."""
    rows = []
    kappas = {"OU 1": 10.0, "OU 4": 100.0, "OU 16": 1000.0}
    for (data, kappa), t, depth, seed in product(kappas.items(), trained_depth.SHOWN, (1, 8), (0, 1)):
        error = 0.05 * (1 + 0.01 * seed) * (kappa / 10) ** (exponent if depth == 1 else 0.0)
        others = (*trained_depth.SOLVERS, trained_depth.CLOSED) if seed == 0 else ()
        kinds = [trained_depth.TRAINED, *others]
        rows += [
            {"kind": kind, "data": data, "depth": depth, "parameters": 300000, "rate": 1e-2, "seed": seed, "t": t,
             "kappa": kappa, "error": error if kind == trained_depth.TRAINED else 0.9}
            for kind in kinds
        ]  # fmt: skip
    for depth, rate in product((1, 8), trained_depth.RATES):
        error = 0.1 + abs(np.log(rate / trained_depth.CHOSEN[depth]))
        rows.append({"kind": trained_depth.SEARCH, "data": "OU 4", "depth": depth, "parameters": 300000, "rate": rate,
                     "seed": 0, "t": trained_depth.SHOWN[1], "kappa": 100.0, "error": float(error)})  # fmt: skip
    return of("trained_depth", rows)


@pytest.mark.parametrize(
    ("exponent", "said"), [(0.4, "grows with kappa"), (-0.4, "falls with kappa"), (0.0, "does not depend on kappa")]
)
def test_gain_from_depth(exponent, said):
    results = depths(exponent)
    for t in trained_depth.SHOWN:
        assert trained_depth.gain(results, t)[1] == pytest.approx(exponent, abs=1e-9)
    noisy = results.assign(error=results.error * np.exp(0.1 * np.sin(np.arange(len(results)) ** 2)))
    for t in trained_depth.SHOWN:
        _, slope, low, high = trained_depth.gain(noisy, t)
        assert low <= min(slope, exponent) and max(slope, exponent) <= high
    finding = trained_depth.finding(noisy)
    assert said in finding and "which is what was used" in finding
    others = {"grows with kappa", "falls with kappa", "does not depend on kappa"} - {said}
    assert not any(other in finding for other in others)
    assert set(trained_depth.table(results).columns) >= {"trained, 1 block", "trained, 8 blocks", "Chebyshev, 8 blocks"}
    plt.close(trained_depth.figure(results))


def test_a_rate_that_the_search_does_not_give_is_said():
    results = depths(0.0)
    worse = (results.kind == trained_depth.SEARCH) & (results.rate == trained_depth.CHOSEN[8]) & (results.depth == 8)
    assert "not what was used for 8" in trained_depth.finding(results.assign(error=results.error + 9.0 * worse))


def networks(ratio: float, affine: float) -> pd.DataFrame:
    """A UNet whose error is `ratio` times that of the DiT, and an affine denoiser."""
    errors = {"DiT": 0.05, "UNet": 0.05 * ratio, "affine": affine}
    rows: list[dict[str, Any]] = [
        {"data": "OU 4", "model": model, "parameters": 300000, "steps": 2000, "seconds": 140.0, "rate": 1e-2,
         "seed": seed, "t": t, "error": error * (1 + 0.01 * (seed == (model == "UNet"))), "longest": 0.3}
        for seed, (model, error), t in product(range(3), errors.items(), (0.01, 0.2))
    ]  # fmt: skip
    for model, rates in unet.RATES.items():
        rows += [
            {**rows[0], "data": unet.SEARCH, "model": unet.NAMES[model], "rate": rate, "t": 0.2,
             "error": 0.1 + abs(rate - unet.CHOSEN[model])}
            for rate in rates
        ]  # fmt: skip
    return of("unet", rows)


@pytest.mark.parametrize(
    ("ratio", "affine", "dit", "conv", "best"), [(2, 0.01, 2, 0, 2), (0.5, 0.1, 0, 2, 0), (1, 0.01, 0, 0, 2)]
)
def test_who_wins(ratio, affine, dit, conv, best):
    results = networks(ratio, affine)
    finding = unet.finding(results)
    assert f"the DiT has the smaller error in {dit} of 2" in finding
    assert f"the UNet has the smaller error in {conv} of 2" in finding
    assert f"than both networks in {best} of 2" in finding and "which are those used" in finding
    assert "which are not those used" in unet.finding(results.assign(rate=results.rate * 1.5))
    assert len(unet.table(results)) == 2
    plt.close(unet.figure(results))


@pytest.mark.parametrize(("factor", "better", "worse"), [(0.5, 2, 0), (2.0, 0, 2), (1.0, 0, 0)])
def test_maps_without_the_data(factor, better, worse):
    """Fixed maps whose error is a multiple of that of a DiT; maps from positions are as good."""
    factors = {free_maps.DATA: 1.0, free_maps.POSITIONS: 1.0, free_maps.FIXED: factor}
    rows = [
        {"maps": maps, "depth": 1, "seed": seed, "parameters": 100, "seconds": 9.0, "t": t,
         "error": 0.05 * times * (1 + 0.01 * ((seed + k) % 3))}
        for k, (maps, times) in enumerate(factors.items()) for seed in range(3) for t in (0.01, 0.2)
    ]  # fmt: skip
    results = of("free_maps", rows)
    finding = free_maps.finding(results)
    assert "positions and t alone the error is lower in 0 of 2 cases and higher in 0 of 2" in finding
    assert finding.count(f"lower in {better} of 2 cases") >= 1 and f"higher in {worse} of 2 cases" in finding
    assert len(free_maps.table(results)) == 3
    plt.close(free_maps.figure(results))


@pytest.mark.parametrize("name", ["free_maps", "trained_depth", "unet"])
def test_a_small_run_has_the_rows_of_the_experiment(name):
    """One network of a few steps, and what stands beside it."""
    experiment = find_experiment(name)
    runs = experiment.configurations("quick")
    trained = next(
        run for run in runs if run.get("model") == "dit" or run.get("kind") == "trained" or run.get("maps") == "data"
    )
    few = {**trained, "steps": 2} if name == "unet" else {**trained, "options": {**trained["options"], "steps": 2}}
    rows = experiment.checked(experiment.run(few))
    assert len(rows) == 5 and all(0.5 < row["error"] < 2 for row in rows)
    for run in runs:
        if run.get("model") == "affine" or ("process" in run and run.get("kind")):
            assert len(experiment.checked(experiment.run(run))) == 5
