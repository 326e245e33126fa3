"""Trained against hand-set networks of about equal size, on every kernel of the package.

The trained DiT has the size of preset `quick`: 4 blocks of 4 heads. The hand-set DiTs have the fewest heads with which
their construction holds the kernel, one Gaussian for each octave of width, which is more than 4: the preconditioned
solver in 1, 3 and 5 blocks, Chebyshev in 4 and 16 blocks, and for Ornstein-Uhlenbeck processes the closed form in one.
Hand-set weights know the covariance; trained ones see samples.
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
from reports.experiment import Budget, Configuration, Experiment, Row
from reports.networks import parameter_count, trained_network
from reports.seeds import in_words
from unrolled.evaluate import EVALUATION_TIMES, score_errors
from unrolled.handset import construct
from unrolled.handset.gaussian_heads import dyadic_widths, fit_dictionary
from unrolled.kernels import TemporalKernel
from unrolled.models.dit import DiT
from unrolled.options import ProcessOptions
from unrolled.process import GaussianProcess

__all__ = ["construct_small", "experiment"]

KERNELS: dict[str, dict[str, Any]] = {
    "OU": {"temporal": "exponential"},
    "RBF": {"temporal": "exponential", "power": 2.0},
    "Matern 3/2": {"temporal": "matern"},
    "rough polynomial": {"temporal": "rough_polynomial"},
    "polynomial": {"temporal": "polynomial"},
    "logarithmic": {"temporal": "logarithmic"},
}
TRAINED, CLOSED = "trained", "closed form"
SOLVERS: dict[str, dict[str, Any]] = {
    "preconditioned, 1 block": {"algorithm": "preconditioned", "steps": 1},
    "preconditioned, 3 blocks": {"algorithm": "preconditioned", "steps": 2},
    "preconditioned, 5 blocks": {"algorithm": "preconditioned", "steps": 3},
    "Chebyshev, 4 blocks": {"algorithm": "chebyshev", "steps": 4},
    "Chebyshev, 16 blocks": {"algorithm": "chebyshev", "steps": 16},
}
HANDSET = {**SOLVERS, CLOSED: {"algorithm": "closed_form", "error": 1e-3}}
STEPS, SEEDS = 1200, 2
T_RANGE = (0.004, 8.0)
"""Diffusion times of trained networks, and of hand-set ones."""
SHOWN = (0.01, 0.2)
"""Diffusion times of figure and finding."""


def configurations(budget: Budget) -> list[Configuration]:
    """The hand-set models of every kernel, and a network for each kernel and seed."""
    full = budget == "full"
    shape: dict[str, Any] = {} if full else {"length": 12, "dim": 2}
    names = tuple(KERNELS) if full else ("OU", "polynomial")
    processes = {name: asdict(ProcessOptions(**shape, **KERNELS[name])) for name in names}
    steps, seeds = (STEPS, SEEDS) if full else (150, 2)
    sizes = {} if full else {"dit": {"width": 32, "depth": 4, "heads": 4}}
    built = [
        {"kernel": kernel, "model": model, "process": process}
        for kernel, process in processes.items() for model in HANDSET if kernel == "OU" or model != CLOSED
    ]  # fmt: skip
    return built + [
        {"kernel": kernel, "model": TRAINED, "options": {"process": process, "steps": steps, "seed": seed, **sizes}}
        for seed in range(seeds) for kernel, process in processes.items()
    ]  # fmt: skip


def construct_small(process: GaussianProcess, algorithm: str, **options: Any) -> DiT:
    """A hand-set DiT for `T_RANGE` with the fewest heads that `construct` accepts for the algorithm."""
    if algorithm != "closed_form":
        heads = len(fit_dictionary(cast(TemporalKernel, process.temporal), process.length, 1).widths)
        if algorithm == "preconditioned":
            heads = max(heads, 2 * len(dyadic_widths(process.length, 1)))
        options["heads"] = heads
    return cast(DiT, construct(process, algorithm, t_range=T_RANGE, **options))


def run(configuration: Configuration) -> list[Row]:
    """A row for each t."""
    name, seed = configuration["model"], 0
    if name == TRAINED:
        made, seconds = trained_network(configuration["options"])
        process, model, dtype = made.process, cast(DiT, made.model), torch.float32
        seed = configuration["options"]["seed"]
    else:
        process, dtype, start = ProcessOptions(**configuration["process"]).process(), torch.float64, time.process_time()
        model = construct_small(process, **HANDSET[name])
        seconds = time.process_time() - start
    shared = {
        "kernel": configuration["kernel"], "model": name, "seed": seed, "blocks": model.config.depth,
        "heads": model.config.heads, "parameters": parameter_count(model), "seconds": seconds,
    }  # fmt: skip
    return [
        {**shared, "t": t, "kappa": float(process.condition_number(t)), "error": error}
        for t, error in score_errors(model, process, EVALUATION_TIMES, dtype=dtype).items()
    ]  # fmt: skip


def _errors(results: pd.DataFrame, kernel: str, model: str, t: float) -> np.ndarray:
    """By seed."""
    chosen = (results.kernel == kernel) & (results.model == model) & (results.t == t)
    return cast(Any, results[chosen]).sort_values(by="seed").error.to_numpy()


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Errors at every t by kernel and model, of networks means over seeds with 95 % intervals; sizes and seconds."""
    rows = []
    for key, part in results.groupby(["kernel", "model"], sort=False):
        kernel, model = cast(tuple[str, str], key)
        row: dict[str, Any] = {"kernel": kernel, "model": model}
        row |= {name: int(part[name].iloc[0]) for name in ("blocks", "heads", "parameters")}
        row["seconds"] = f"{part.seconds.mean():.2g}"
        rows.append(
            row | {f"t = {t:g}": in_words(_errors(results, str(kernel), str(model), t)) for t in part.t.unique()}
        )
    order = {kernel: at for at, kernel in enumerate(KERNELS)}
    return pd.DataFrame(rows).sort_values(by="kernel", key=lambda names: names.map(order), ignore_index=True)


def _panel(ax: Axes, results: pd.DataFrame, t: float) -> None:
    kernels = list(results.kernel.unique())
    for k, model in enumerate([TRAINED, *HANDSET]):
        values = [_errors(results, kernel, model, t) for kernel in kernels]
        places = [at for at, errors in enumerate(values) for _ in errors]
        style = {"marker": "o", "markersize": 6} if model == TRAINED else {"marker": "_", "markersize": 12}
        ax.plot(places, np.concatenate(values), linestyle="", color=f"C{k}", markeredgewidth=2, label=model, **style)
    ax.set_xticks(range(len(kernels)), [kernel.replace(" ", "\n") for kernel in kernels])
    ax.set(yscale="log", ylabel="relative score error", title=f"t = {t:g}")
    ax.grid(axis="y", which="major", alpha=0.3)


@theme()
def figure(results: pd.DataFrame) -> Figure:
    """Errors by kernel; dots are trained networks, bars hand-set ones."""
    drawn, axes = panels(1, len(SHOWN), (12.0, 4.0), sharey=True)
    for ax, t in zip(axes[0], SHOWN, strict=True):
        _panel(ax, results, t)
    axes[0, -1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return drawn


def _compared(results: pd.DataFrame, model: str) -> str:
    """On which kernels and at which of the times shown a hand-set model is better than the trained ones."""
    part: Any = results[(results.model == model) & results.t.isin(SHOWN)]
    cases = list(part[["kernel", "t"]].itertuples(index=False, name=None))
    better = {case for case in cases if _errors(results, case[0], model, case[1])[0] < _mean(results, *case)}
    worse = [f"{kernel} at t = {t:g}" for kernel, t in cases if (kernel, t) not in better]
    where = f", but not for {', '.join(worse)}" if worse and len(better) > len(worse) else ""
    size = f"{_range(part.heads)} heads, {_range(part.parameters)} parameters"
    return f"{model} ({size}) in {len(better)} of {len(cases)} cases{where}"


def _mean(results: pd.DataFrame, kernel: str, t: float) -> float:
    return float(_errors(results, kernel, TRAINED, t).mean())


def _range(values: pd.Series) -> str:
    return f"{values.min()}" if values.nunique() == 1 else f"{values.min()} to {values.max()}"


def _blocks(values: pd.Series) -> str:
    return f"{_range(values)} block{'' if values.max() == 1 else 's'}"


def _sized(results: pd.DataFrame, shallow: bool) -> str:
    """The hand-set models of at most, or of more than as many blocks as the trained network."""
    blocks = results[results.model == TRAINED].blocks.iloc[0]
    chosen = results[(results.model != TRAINED) & ((results.blocks <= blocks) == shallow)]
    return "; ".join(_compared(results, str(model)) for model in chosen.model.unique()) or "there is none"


def finding(results: pd.DataFrame) -> str:
    """Whether hand-set models of as many blocks or fewer, and of more, are better than trained networks."""
    trained = results[results.model == TRAINED]
    size = f"{_blocks(trained.blocks)}, {_range(trained.heads)} heads, {_range(trained.parameters)} parameters"
    at = " and ".join(f"{t:g}" for t in SHOWN)
    best: Any = results[(results.model != TRAINED) & (results.t == SHOWN[0])]
    best = best[best.blocks <= trained.blocks.iloc[0]].groupby("kernel").error.min()
    ratios = {kernel: _mean(results, str(kernel), SHOWN[0]) / error for kernel, error in best.items()}
    beaten = sum(ratio > 1 for ratio in ratios.values())
    verdict = "on every kernel" if beaten == len(ratios) else f"on {beaten} of {len(ratios)} kernels"
    return (
        f"Against trained networks ({size}; mean of {trained.seed.nunique()} seeds) at t = {at}, the error is smaller"
        f" for these hand-set models of as many blocks or fewer: {_sized(results, True)}. Of more blocks:"
        f" {_sized(results, False)}. The best hand-set model of as many blocks or fewer beats training {verdict} at t ="
        f" {SHOWN[0]:g}; the error of training is {min(ratios.values()):.2g} to {max(ratios.values()):.2g} times its."
    )


def core_seconds(configuration: Configuration) -> float:
    """A guess, from short runs on a busy machine."""
    return 5.0 if "process" in configuration else 5 + 0.07 * configuration["options"]["steps"]


experiment = Experiment(
    module=__name__,
    question="Are hand-set networks better than trained ones of about equal size, on every kernel?",
    columns={
        "kernel": str, "model": str, "seed": int, "blocks": int, "heads": int, "parameters": int, "seconds": float,
        "t": float, "kappa": float, "error": float,
    },
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
    about_time=True,
)  # fmt: skip
