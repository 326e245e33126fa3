"""The score errors of classical estimates against the number of sequences they are fitted to."""

from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure

from probes.figures import panels, theme
from reports.experiment import Budget, Configuration, Experiment, Row
from reports.seeds import interval
from unrolled.evaluate import EVALUATION_TIMES, score_errors
from unrolled.fit.excess import expected_score_error
from unrolled.fit.study import KINDS, fit_model
from unrolled.options import ProcessOptions
from unrolled.series.data import draw_training_set

__all__ = ["experiment", "plan", "rate"]

SAMPLES = {"quick": (300, 1000, 3000), "full": (100, 300, 1000, 3000, 10000)}
SEEDS = {"quick": 2, "full": 5}
RATE = -0.5
"""Exponent of n that theory expects of the error of a fixed number of parameters."""
FEWEST = 1000
"""Sequences from which the leading order in 1/n is expected to hold for 128 values."""
SHOWN = 0.2
"""The diffusion time of the figure and the finding."""


def plan(options: ProcessOptions, samples: tuple[int, ...], seeds: int) -> list[Configuration]:
    """A configuration for each kind, number of sequences and seed."""
    return [
        {"kind": kind, "n": n, "seed": seed, "process": asdict(options)}
        for kind, n, seed in product(KINDS, samples, range(seeds))
    ]


def configurations(budget: Budget) -> list[Configuration]:
    """The process of preset `quick`: Ornstein-Uhlenbeck, lengthscale 4, N = 32, d = 4."""
    return plan(ProcessOptions(), SAMPLES[budget], SEEDS[budget])


def run(configuration: Configuration) -> list[Row]:
    """A row for each t: the error, and what theory expects of the sample covariance to leading order in 1/n."""
    kind, n, seed = (configuration[name] for name in ("kind", "n", "seed"))
    options = ProcessOptions(**configuration["process"])
    process = options.process()
    model = fit_model(kind, draw_training_set(process, n, seed), temporal=options.temporal).model
    errors = score_errors(model, process, EVALUATION_TIMES, dtype=torch.float64)
    return [
        {"kind": kind, "n": n, "seed": seed, "t": t, "error": error, "expected": expected_score_error(process, t, n)}
        for t, error in errors.items()
    ]


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Root mean squares of the error over seeds, and the leading order for the sample covariance below them."""
    squares = results.assign(error=results.error**2).pivot_table("error", ["kind", "n"], "t", sort=False) ** 0.5
    expected = results.pivot_table("expected", "n", "t", sort=False)
    rows = pd.concat([squares, pd.concat({"sample-covariance, expected": expected}, names=["kind"])])
    return rows.rename(columns=lambda t: f"t = {t:g}").rename_axis(columns=None).reset_index()


def rate(results: pd.DataFrame, kind: str) -> tuple[float, float, float]:
    """Exponent of n in the error of a kind, n >= FEWEST, with the ends of its 95 % interval over seeds.

    One exponent for every seed, by least squares on log error; the interval is Student's, over seeds.
    """
    part = results.query("kind == @kind and t == @SHOWN and n >= @FEWEST")
    slopes = [float(np.polyfit(np.log(own.n), np.log(own.error), 1)[0]) for _, own in part.groupby("seed")]
    return interval(np.array(slopes))


@theme()
def figure(results: pd.DataFrame) -> Figure:
    """Error against n for every kind, with what theory expects of the sample covariance."""
    drawn, axes = panels(1, 1, (6.8, 4.2))
    ax = axes[0, 0]
    part = results.query("t == @SHOWN")
    sns.lineplot(part, x="n", y="error", hue="kind", marker="o", ax=ax, errorbar=None)
    expected = part.drop_duplicates("n")
    ax.plot(expected.n, expected.expected, color="black", linestyle="--", label="sample-covariance, expected")
    ax.set(xscale="log", yscale="log", xlabel="sequences, n", ylabel="relative score error", title=f"t = {SHOWN:g}")
    ax.grid(which="major", alpha=0.3)
    ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return drawn


def finding(results: pd.DataFrame) -> str:
    """How fast each error falls, whether that is the rate of theory, and which is lowest."""
    sentences: list[str] = []
    agree: dict[bool, list[str]] = {True: [], False: []}
    for kind in results.kind.unique():
        slope, low, high = rate(results, kind)
        agree[low <= RATE <= high].append(f"{kind} {slope:.2f} [{low:.2f}, {high:.2f}]")
    for inside, verb in ((True, "is compatible with"), (False, "is not")):
        if agree[inside]:
            sentences.append(f"The exponent of n {verb} {RATE:g} for {', '.join(agree[inside])}.")
    most: Any = results.query("t == @SHOWN and n == n.max()").groupby("kind").error.mean()
    sentences.append(
        f"With {results.n.max()} sequences the lowest error is that of {most.idxmin()}, {most.min():.2g}, and the"
        f" highest that of {most.idxmax()}, {most.max():.2g}."
    )
    seeds = results.seed.nunique()
    return f"At t = {SHOWN:g}, over {seeds} seeds, from {FEWEST} sequences on: " + " ".join(sentences)


def core_seconds(configuration: Configuration) -> float:
    """Measured."""
    return 1.0 + configuration["n"] / 3000


experiment = Experiment(
    module=__name__,
    question="Do the score errors of classical estimates fall like the root of the number of sequences?",
    columns={"kind": str, "n": int, "seed": int, "t": float, "error": float, "expected": float},
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
)
