"""The figures of a report that are not the probes' own."""

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from probes.figures import show_matrix, theme
from reports.measure import Generated

__all__ = ["covariance_figure", "error_figure", "loss_figure"]


@theme()
def error_figure(table: pd.DataFrame) -> Figure:
    """Relative score error against t, one line per run; columns t, relative score error, run."""
    figure, ax = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
    sns.lineplot(table, x="t", y="relative score error", hue="run", marker="o", ax=ax)
    ax.set(xscale="log", yscale="log", xlabel="diffusion time t", title="Score error against the exact score")
    ax.grid(which="both", alpha=0.3)
    return figure


@theme()
def loss_figure(table: pd.DataFrame) -> Figure:
    """Held-out denoising loss against t, the model and the Gaussian of the empirical covariance."""
    figure, ax = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
    tidy = table.melt(["t"], ["held-out loss", "empirical Gaussian's loss"], "score", "loss")
    tidy["score"] = tidy.score.map({"held-out loss": "model", "empirical Gaussian's loss": "empirical Gaussian"})
    sns.lineplot(tidy, x="t", y="loss", hue="score", style="score", markers=True, ax=ax)
    ax.set(xscale="log", xlabel="diffusion time t", ylabel="denoising loss, held out", title="Held-out denoising loss")
    ax.grid(which="both", alpha=0.3)
    return figure


@theme()
def covariance_figure(generated: Generated, truth_name: str) -> Figure:
    """Temporal covariance of generated sequences: matrices beside the true one, and their means by lag."""
    names = list(generated.temporal)
    figure, axes = plt.subplots(
        1, len(names) + 1, figsize=(2.4 * len(names) + 3.6, 2.7), layout="constrained",
        width_ratios=[1.0] * len(names) + [1.6],
    )  # fmt: skip
    largest = float(generated.temporal["true"].max())
    label = {"true": truth_name}
    for ax, name in zip(axes, names, strict=False):
        show_matrix(ax, generated.temporal[name], label.get(name, name), largest)
    curve = axes[-1]
    table = generated.by_lag.assign(source=generated.by_lag.source.map(lambda name: label.get(name, name)))
    dashes: dict[str, Any] = {label.get(name, name): (2, 1) if name == "true" else "" for name in names}
    colours = dict(zip(dashes, ["black", *sns.color_palette("colorblind", 2)], strict=False))
    sns.lineplot(
        table, x="lag", y="correlation", hue="source", style="source", dashes=dashes, palette=colours, ax=curve
    )
    band = table[table.low.notna()]
    if len(band):
        curve.fill_between(band.lag, band.low, band.high, color="black", alpha=0.15, linewidth=0)
    curve.legend(title=None, frameon=False, fontsize="x-small")
    curve.set_title("mean along diagonals", fontsize="small")
    return figure
