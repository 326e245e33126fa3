"""Pictures of the modes: error and gain by mode against t, influence by lag, and the parts of the error."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from probes.figures import panels, theme
from probes.modes.study import ModeStudy

__all__ = ["curve_figure", "influence_figure", "mode_figure", "part_figure"]

LAGS = 8
"""Largest lag that is drawn."""
PANELS = 5
"""Most times that get a panel of their own."""


@theme()
def mode_figure(study: ModeStudy) -> Figure:
    """Error and gain, mode of Gamma against t, with the line on which the data begin to decide a mode drawn in."""
    table = study.modes.query("kind == 'temporal'")
    figure, axes = panels(1, 2, (8.6, 3.9), sharey=True)
    for ax, value, options in (
        (axes[0, 0], "error", {"cmap": "rocket_r", "norm": LogNorm()}),
        (axes[0, 1], "gain", {"cmap": "vlag", "vmin": 0.5, "vmax": 1.5}),
    ):
        grid = table.pivot(index="mode", columns="t", values=value)
        mesh = ax.pcolormesh(np.arange(len(study.times) + 1) - 0.5, _edges(len(grid)), grid.to_numpy(), **options)
        figure.colorbar(mesh, ax=ax, label=f"{value} relative to the score in the mode")
        ax.set(yscale="log", xlabel="diffusion time t")
        ax.set_xticks(range(len(study.times)), [f"{t:g}" for t in study.times])
        _line(ax, study, table)
    axes[0, 0].set(ylabel="eigenmode of Gamma (1: longest)", ylim=(len(grid) + 0.5, 0.5))
    axes[0, 0].set_yticks(ticks := [k for k in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if k <= len(grid)], ticks)
    axes[0, 0].legend(frameon=True, fontsize="x-small", loc="lower left")
    return figure


def _few(values: list[float], most: int) -> list[float]:
    """All values, or `most` of them from the first to the last."""
    return [values[k] for k in np.unique(np.linspace(0, len(values) - 1, most).round().astype(int))]


def _edges(modes: int) -> np.ndarray:
    return np.arange(modes + 1) + 0.5


def _line(ax: Axes, study: ModeStudy, table: pd.DataFrame) -> None:
    """Where alpha_t^2 lambda s = sigma_t^2, s the mean eigenvalue of Sigma: above it the data decide."""
    first: Any = table[table.t == study.times[0]]
    values = first.sort_values("mode").eigenvalue.to_numpy()
    # The mode, between whole numbers, whose eigenvalue is the one decided at t; eigenvalues fall with the mode.
    place = np.interp(-np.log(study.errors.decided), -np.log(values.clip(1e-300)), np.arange(1, len(values) + 1))
    ax.plot(
        range(len(study.times)), place, color="black", linestyle="--", marker="o", markersize=3,
        label=r"$\alpha_t^2\lambda=\sigma_t^2$: above it the data decide",
    )  # fmt: skip


@theme()
def influence_figure(study: ModeStudy) -> Figure:
    """Influence by lag beside -C_t^{-1}, relative to the size at lag 0, a panel for each of up to five times."""
    times = _few(study.times, PANELS)
    figure, axes = panels(1, len(times), (2.2 * len(times) + 0.8, 2.9), sharey=True)
    for ax, t in zip(axes[0], times, strict=True):
        part = study.influence.query("t == @t and lag.abs() <= @LAGS")
        size = float(part.inverse.abs().max())
        ax.plot(part.lag, part.inverse / size, color="black", linestyle="--", linewidth=1.2, label=r"$-C_t^{-1}$")
        half = np.stack([part.influence - part.low, part.high - part.influence]) / size
        ax.errorbar(part.lag, part.influence / size, half, fmt="o", markersize=4, linewidth=1, label="the model")
        low, high = ((part.inverse + sign * part.forced) / size for sign in (-1, 1))
        ax.fill_between(part.lag, low, high, color="0.85", label="all that the score error allows")
        ax.set(title=f"t = {t:g}", xlabel="lag")
    axes[0, 0].set_ylabel("influence / size at lag 0")
    handles, names = axes[0, -1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False, fontsize="small")
    return figure


@theme()
def part_figure(study: ModeStudy) -> Figure:
    """Shares of the squared error at each t, stacked."""
    figure, ((ax,),) = panels(1, 1, (5.4, 3.0))
    bottom = np.zeros(len(study.times))
    names = {"affine": "the best affine map is another one", "mean": "mean", "rest": "not affine"}
    for colour, (part, name) in zip(sns.color_palette("colorblind", 3), names.items(), strict=True):
        share = study.parts[study.parts.part == part]
        half = (share.share_high - share.share_low) / 2
        ax.bar(range(len(bottom)), share.share, bottom=bottom, yerr=half, color=colour, capsize=2, label=name)
        bottom += share.share.to_numpy()
    ax.set_xticks(range(len(bottom)), [f"{t:g}" for t in study.times])
    ax.set(xlabel="diffusion time t", ylabel="share of the squared error")
    ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


@theme()
def curve_figure(curve: pd.DataFrame) -> Figure:
    """Error in each mode of Gamma against the step, a panel for each of up to five times, a line for each mode."""
    table: Any = curve[curve.kind == "temporal"]
    times = _few(sorted(set(table.t)), PANELS)
    figure, axes = panels(1, len(times), (2.2 * len(times) + 1.2, 3.0), sharey=True)
    modes = table["mode"].max()
    colours = ScalarMappable(LogNorm(1, max(2, modes)), "viridis")
    for ax, t in zip(axes[0], times, strict=True):
        for mode, part in table[table.t == t].groupby("mode"):
            ax.plot(part.step, part.error, color=colours.to_rgba(mode), linewidth=1.1)
        ax.set(title=f"t = {t:g}", xscale="log", yscale="log", xlabel="training step")
    axes[0, 0].set_ylabel("error relative to the score")
    figure.colorbar(colours, ax=axes, label="eigenmode of Gamma (1: longest)")
    return figure
