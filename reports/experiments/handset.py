"""Every hand-set construction with its sizes and measured errors."""

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

import pandas as pd
import seaborn as sns
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from probes.figures import theme
from reports.experiment import Budget, Configuration, Experiment, Row
from unrolled.diffusion import add_noise, relative_error
from unrolled.handset import construct, hidden_iterates
from unrolled.handset.iterates import reference_iterates
from unrolled.models.record import record_of
from unrolled.options import ProcessOptions
from unrolled.process import GaussianProcess

__all__ = ["CONSTRUCTIONS", "experiment", "measure", "plan"]

TIMES = (0.001, 0.01, 0.1, 1.0, 5.0)
SAMPLES = 8
EQUAL = torch.finfo(torch.float64).eps ** 0.5
"""Relative deviation from the solver up to which iterates in float64 are called equal: half of the digits."""
CONSTRUCTIONS: dict[str, dict[str, Any]] = {
    "DiT, gradient descent": {"algorithm": "gradient_descent", "steps": 16},
    "DiT, Chebyshev": {"algorithm": "chebyshev", "steps": 16},
    "DiT, Chebyshev, LayerNorm": {"algorithm": "chebyshev", "steps": 16, "norm": "layer"},
    "DiT, preconditioned, 1": {"algorithm": "preconditioned", "steps": 1},
    "DiT, preconditioned, 2": {"algorithm": "preconditioned", "steps": 2},
    "DiT, preconditioned, 3": {"algorithm": "preconditioned", "steps": 3},
    "ReLU, gradient descent": {"algorithm": "gradient_descent", "steps": 4, "model": "relu"},
    "the same, published modules of 8 layers": {
        "algorithm": "gradient_descent", "steps": 4, "model": "relu", "multiplication_layers": 8,
    },
    "the same, published modules of 24 layers": {
        "algorithm": "gradient_descent", "steps": 4, "model": "relu", "multiplication_layers": 24,
    },
    "ReLU, Chebyshev": {"algorithm": "chebyshev", "steps": 16, "model": "relu"},
    "ReLU, conjugate gradient": {"algorithm": "conjugate_gradient", "steps": 8, "model": "relu"},
}  # fmt: skip


@torch.no_grad()
def measure(process: GaussianProcess, options: dict[str, Any]) -> dict[str, Any]:
    """Sizes, and the largest error over t and steps, in float64 and float32.

    The error is the deviation of an iterate from that of the reference solver over the norm of the exact score (root
    mean squares over sequences); for the preconditioned models, which have no other reference, that of the score from
    the exact one.
    """
    row: dict[str, Any] = {}
    for dtype, name in ((torch.float64, "float64"), (torch.float32, "float32")):
        model = construct(process, dtype=dtype, **options)
        record = record_of(model)
        worst = 0.0
        for t in TIMES:
            generator = torch.Generator().manual_seed(0)
            x0 = process.sample(SAMPLES, generator)
            x = add_noise(x0, t, torch.randn(x0.shape, generator=generator, dtype=torch.float64)).to(dtype)
            exact = process.score(x.double(), t)
            if record.algorithm == "preconditioned":
                worst = max(worst, relative_error(model(x, t), exact))
                continue
            expected = reference_iterates(record, process, x, t)
            for ours, theirs in zip(hidden_iterates(model, process, x, t), expected, strict=True):
                worst = max(worst, float((ours.double() - theirs).norm() / exact.norm()))
        if dtype == torch.float64:
            sizes = record.sizes
            row = {
                "steps": record.steps, "blocks L": int(sizes["L"]), "heads M": int(sizes["M"]),
                "width D": int(sizes["D"]), "hidden H": int(sizes["H"]), "largest weight B": float(sizes["B"]),
            }  # fmt: skip
        row[f"error, {name}"] = worst
        row[f"predicted, {name}"] = float(max(record.predicted_error))
    return row


def plan(options: ProcessOptions, names: Collection[str] = tuple(CONSTRUCTIONS)) -> list[Configuration]:
    """A configuration for each construction on one process."""
    return [{"construction": name, **CONSTRUCTIONS[name], "process": asdict(options)} for name in names]


def configurations(budget: Budget) -> list[Configuration]:
    """Ornstein-Uhlenbeck, a lengthscale of a quarter of the sequence."""
    return plan(ProcessOptions(length=32, lengthscale=8.0) if budget == "full" else ProcessOptions(16, lengthscale=4.0))


def run(configuration: Configuration) -> list[Row]:
    """One row."""
    options = dict(configuration)
    name, process = options.pop("construction"), ProcessOptions(**options.pop("process")).process()
    return [{"construction": name, **measure(process, options)}]


def table(results: pd.DataFrame) -> pd.DataFrame:
    """The results as they are."""
    return results


@theme()
def figure(results: pd.DataFrame) -> Figure:
    """Measured against predicted error, for both dtypes."""
    drawn, ax = plt.subplots(figsize=(8.6, 4.2), layout="constrained")
    tidy = results.melt(["construction"], [name for name in results if ", float" in name], "what", "relative error")
    tidy[["what", "dtype"]] = tidy.what.str.split(", ", expand=True)
    palette = sns.color_palette(n_colors=2)
    for (what, part), marker in zip(tidy.groupby("what", sort=False), ("o", "|"), strict=True):
        sns.scatterplot(part, x="relative error", y="construction", hue="dtype", style="what", ax=ax, palette=palette,
                        markers={what: marker}, s=60 if marker == "o" else 160, legend=marker == "o")  # fmt: skip
    ax.set(xscale="log", ylabel=None, title="Largest relative error over t and steps; bars: predicted")
    ax.grid(which="major", alpha=0.3)
    sns.move_legend(ax, "upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small")
    return drawn


def finding(results: pd.DataFrame) -> str:
    """Whether hand-set iterates are the textbook's, and whether the errors stay below their predictions."""
    iterations = results.query("not construction.str.contains('published|preconditioned')")
    worst = iterations.loc[iterations["error, float64"].idxmax()]
    agree = worst["error, float64"] <= EQUAL
    said = [
        f"In float64 {'every iterate of every' if agree else 'not every'} construction that takes a solver's steps"
        f" {'is' if agree else 'has iterates that are'} the solver's to {EQUAL:.1e}: the worst is {worst.construction}"
        f" with {worst['error, float64']:.1e}."
    ]
    published = results.query("construction.str.contains('published')")
    plain = results.query("construction == 'ReLU, gradient descent'")
    if len(published) and len(plain):
        best = published.loc[published["error, float64"].idxmin()]
        blocks = best["blocks L"] / plain["blocks L"].iloc[0]
        factor = best["error, float64"] / plain["error, float64"].iloc[0]
        said.append(
            f"The published modules take {blocks:.0f} times the blocks for {factor:.1e} times the error,"
            f" {'which is worse on both counts' if blocks > 1 and factor > 1 else 'which is not worse on both counts'}."
        )
    above = [
        f"{row['construction']} in {dtype}"
        for row in iterations.to_dict("records")
        for dtype in ("float64", "float32")
        if row[f"error, {dtype}"] > row[f"predicted, {dtype}"]
    ]
    said.append(
        f"These errors exceed their prediction for {', '.join(above)}."
        if above
        else "No error of such a construction exceeds its prediction."
    )
    return " ".join(said)


def core_seconds(configuration: Configuration) -> float:
    """Measured."""
    return 0.15 * configuration["process"]["length"]


experiment = Experiment(
    module=__name__,
    question="Does a transformer with hand-set weights do the steps of its solver, at what size and with what error?",
    columns={
        "construction": str, "steps": int, "blocks L": int, "heads M": int, "width D": int, "hidden H": int,
        "largest weight B": float, "error, float64": float, "predicted, float64": float, "error, float32": float,
        "predicted, float32": float,
    },
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
)  # fmt: skip
