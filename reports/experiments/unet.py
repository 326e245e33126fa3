"""A DiT beside a UNet beside an affine denoiser, on three kernels.

The networks have about equally many parameters, and a step costs both the same: their budgets are equal in parameters
and in seconds at once. The largest learning rate of either is that of the lowest error after a short training with each
of several rates; the search is part of the results. The affine denoiser is fitted to as many sequences as a network
sees while it is trained.
"""

import time
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probes.figures import panels, theme
from probes.modes.study import enough_sequences, operator_estimates
from reports.experiment import Budget, Configuration, Experiment, Row
from reports.networks import parameter_count, trained_network
from reports.seeds import in_words, interval
from unrolled.diffusion import ScoreModel
from unrolled.evaluate import EVALUATION_TIMES, score_errors
from unrolled.fit.study import fit_model
from unrolled.options import ProcessOptions
from unrolled.process import GaussianProcess
from unrolled.series.data import draw_training_set

__all__ = ["experiment"]

KERNELS = {"OU 4": "exponential", "Polynomial 4": "polynomial", "Logarithmic 4": "logarithmic"}
RATES = {"dit": (5e-3, 1e-2, 2e-2), "unet": (2e-3, 4e-3, 8e-3)}
CHOSEN = {"dit": 1e-2, "unet": 4e-3}
"""Largest learning rate of either network, from the search."""
SEARCH_STEPS, STEPS, SEEDS, BATCH = 400, 2000, 3, 64
SEARCH, AFFINE = "search", "affine"
NAMES = {"dit": "DiT", "unet": "UNet", AFFINE: "affine"}


def configurations(budget: Budget) -> list[Configuration]:
    """A run for each kernel, model and seed, and the search of either network on the first kernel."""
    steps, seeds, kernels = (STEPS, SEEDS, KERNELS) if budget == "full" else (100, 2, {"OU 4": "exponential"})
    shape: dict[str, Any] = {} if budget == "full" else {"length": 16, "dim": 2}
    chosen = {name: asdict(ProcessOptions(temporal=cast(Any, family), **shape)) for name, family in kernels.items()}
    runs = [
        {"data": data, "model": model, "process": process, "steps": steps, "seed": seed, "rate": CHOSEN.get(model, 0.0)}
        for seed in range(seeds) for data, process in chosen.items() for model in NAMES
    ]  # fmt: skip
    searched = [
        {**runs[0], "data": SEARCH, "model": model, "steps": SEARCH_STEPS, "rate": rate}
        for model, rates in RATES.items() for rate in rates if budget == "full"
    ]  # fmt: skip
    return runs + searched


def run(configuration: Configuration) -> list[Row]:
    """A row for each t: the error, and the error in the longest eigenmode of Gamma."""
    process = ProcessOptions(**configuration["process"]).process()
    values = process.length * process.dim
    score, dtype, size, seconds = _fitted(configuration, process)
    rows = []
    for t, error in score_errors(score, process, EVALUATION_TIMES, dtype=dtype).items():
        x = process.noisy(enough_sequences(values), t, torch.Generator().manual_seed(2)).to(dtype)
        longest = operator_estimates(score, process, x, t)["temporal error"].value[-1]
        rows.append({
            "data": configuration["data"], "model": NAMES[configuration["model"]], "parameters": size,
            "steps": configuration["steps"], "seconds": seconds, "rate": configuration["rate"],
            "seed": configuration["seed"], "t": t, "error": error, "longest": float(longest),
        })  # fmt: skip
    return rows


def _fitted(configuration: Configuration, process: GaussianProcess) -> tuple[ScoreModel, torch.dtype, int, float]:
    """The model of a run, its dtype, its number of parameters, and the seconds of processor time that it took."""
    steps, seed = configuration["steps"], configuration["seed"]
    if configuration["model"] == AFFINE:
        start, values = time.process_time(), process.length * process.dim
        model = fit_model(AFFINE, draw_training_set(process, steps * BATCH, seed)).model
        return model, torch.float64, values * (values + 3) // 2, time.process_time() - start
    options = {name: configuration[name] for name in ("model", "process", "steps", "seed")}
    made, seconds = trained_network({**options, "batch": BATCH, "learning_rate": configuration["rate"]})
    return made.model, torch.float32, parameter_count(made.model), seconds


def _by_seed(results: pd.DataFrame, data: str, model: str, t: float, column: str = "error") -> np.ndarray:
    """The errors of one model, (seeds,)."""
    chosen = (results.data == data) & (results.model == NAMES[model]) & (results.t == t)
    return results.loc[chosen].sort_values(by="seed")[column].to_numpy()


def _compared(results: pd.DataFrame) -> pd.DataFrame:
    return results.query("data != @SEARCH")


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Errors by kernel and t, means over seeds with 95 % intervals; parameters and seconds."""
    rows = []
    for data, t in _compared(results)[["data", "t"]].drop_duplicates().itertuples(index=False, name=None):
        row: dict[str, Any] = {"data": data, "t": t}
        for model, name in NAMES.items():
            row[f"{name}, error"] = in_words(_by_seed(results, data, model, t))
        row["UNet / DiT"] = in_words(_by_seed(results, data, "unet", t) / _by_seed(results, data, "dit", t))
        for model, name in NAMES.items():
            row[f"{name}, longest mode"] = f"{_by_seed(results, data, model, t, 'longest').mean():.3g}"
        rows.append(row)
    return pd.DataFrame(rows)


@theme()
def figure(results: pd.DataFrame) -> Figure:
    """Error against t for every kernel; a dot for each seed, a line through their means."""
    names = list(_compared(results).data.unique())
    drawn, axes = panels(1, len(names), (4.0 * len(names) + 1, 3.8), sharey=True)
    for ax, data in zip(axes[0], names, strict=True):
        _panel(ax, results.query("data == @data"), data)
    axes[0, -1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return drawn


def _panel(ax: Axes, part: pd.DataFrame, title: str) -> None:
    for k, name in enumerate(NAMES.values()):
        own = part.query("model == @name")
        means = own.groupby("t").error.mean()
        ax.plot(means.index, means, color=f"C{k}", linewidth=1.2, label=name)
        ax.plot(own.t, own.error, "o", color=f"C{k}", markersize=4)
    ax.set(xscale="log", yscale="log", xlabel="t", ylabel="relative score error", title=title)
    ax.grid(which="major", alpha=0.3)


def _won(results: pd.DataFrame) -> str:
    """Where the interval of the ratio of UNet to DiT lies above and below 1."""
    said = []
    pairs = _compared(results)[["data", "t"]].drop_duplicates().itertuples(index=False, name=None)
    ratios = {
        (data, t): interval(_by_seed(results, data, "unet", t) / _by_seed(results, data, "dit", t)) for data, t in pairs
    }
    for name, wins in (("the DiT", lambda low, high: low > 1), ("the UNet", lambda low, high: high < 1)):
        cases = [
            f"{data} at t = {t:g} ({mean:.2f})" for (data, t), (mean, low, high) in ratios.items() if wins(low, high)
        ]
        said.append(f"{name} has the smaller error in {len(cases)} of {len(ratios)} cases" + _in_brackets(cases))
    return f"By the ratio of UNet to DiT, {'; '.join(said)}; in the others we cannot tell."


def _in_brackets(cases: list[str]) -> str:
    return f" ({', '.join(cases)})" if cases else ""


def _searched(results: pd.DataFrame) -> str:
    """The rates of the search."""
    part = results.query("data == @SEARCH and t == 0.2 and error == error").sort_values(by="error")
    if part.empty:
        return "No learning rate was searched for."
    best = {model: float(part.rate[part.model == NAMES[model]].iloc[0]) for model in CHOSEN}
    rates = ", ".join(f"{rate:g} ({NAMES[model]})" for model, rate in best.items())
    return f"The search gives the learning rates {rates}, which are {'' if best == CHOSEN else 'not '}those used."


def finding(results: pd.DataFrame) -> str:
    """Who wins where, by how much, and what the affine denoiser does."""
    part = _compared(results)
    means = part.groupby(["model", "data", "t"]).error.mean()
    networks = np.minimum(means[NAMES["dit"]], means[NAMES["unet"]])
    below = (means[NAMES[AFFINE]] < networks).sum()
    sizes = [
        f"{name} {own.parameters.max()} parameters, {own.seconds.mean():.3g} s"
        for name, own in part.groupby("model", sort=False)
    ]
    return (
        f"Over {part.seed.nunique()} seeds, with 95 % intervals ({'; '.join(sizes)} of one core): {_won(results)}"
        f" The affine denoiser, which is of the right form by construction, has a smaller error than both networks in"
        f" {below} of {len(networks)} cases. {_searched(results)}"
    )


def core_seconds(configuration: Configuration) -> float:
    """Measured."""
    return 10.0 if configuration["model"] == AFFINE else 15 + 0.07 * configuration["steps"]


experiment = Experiment(
    module=__name__,
    question="Does a DiT learn the score better than a UNet of the same size and budget?",
    columns={
        "data": str, "model": str, "parameters": int, "steps": int, "seconds": float, "rate": float, "seed": int,
        "t": float, "error": float, "longest": float,
    },
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
    needs={"diffusers": "diffusers"},
    about_time=True,
)  # fmt: skip
