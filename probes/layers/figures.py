"""Pictures of layers against iterations: heat maps of layers by steps, effective depth by t, and confusion of names."""

from typing import Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from probes.figures import panels, theme
from probes.layers.matching import RESEMBLES

__all__ = ["confusion_figure", "depth_figure", "heat_figure"]

TITLES = {
    "gradient_descent": "gradient descent", "chebyshev_final": "Chebyshev, each k its own method",
    "chebyshev": "Chebyshev,\nrun of L", "conjugate_gradient": "conjugate gradient",
    "preconditioned": "preconditioned",
}  # fmt: skip
MEANING = {
    "explained": "share of the layer's squared error explained (0 and less: black)",
    "cosine": "cosine of the errors of the two readouts",
}


@theme()
def heat_figure(table: pd.DataFrame, nearest: pd.DataFrame, value: Literal["explained", "cosine"]) -> Figure:
    """A panel for each t (rows) and solver (columns): layers by steps, a dot on the nearest step of each layer."""
    times, solvers = list(dict.fromkeys(table.t)), list(dict.fromkeys(table.solver))
    layers = table.layer.nunique()
    widths = [max(6.0, table[table.solver == solver].step.nunique() ** 0.75) for solver in solvers]
    size = (0.21 * sum(widths) + 1.6, len(times) * (1.0 + 0.16 * min(layers, 20)) + 0.7)
    figure, axes = panels(len(times), len(solvers), size, width_ratios=widths)
    colours, norm = ("rocket", Normalize(0, 1)) if value == "explained" else ("vlag", Normalize(-1, 1))
    for row, t in enumerate(times):
        for column, solver in enumerate(solvers):
            ax = axes[row, column]
            mine = table[(table.t == t) & (table.solver == solver)]
            grid = mine.pivot(index="layer", columns="step", values=value)
            ax.imshow(grid.to_numpy(), norm=norm, cmap=colours, aspect="auto", origin="lower", interpolation="nearest")
            steps = list(grid.columns)
            dots = nearest[(nearest.t == t) & (nearest.solver == solver)]
            face = ["C2" if share >= RESEMBLES else "0.6" for share in dots.explained]
            ax.scatter(
                [steps.index(k) for k in dots.step], dots.layer, c=face, s=14, edgecolors="white", linewidths=0.6
            )
            _ticks(ax, steps, layers)
            if row == 0:
                ax.set_title(TITLES[solver], fontsize="small")
            if column == 0:
                ax.set_ylabel(f"t = {t:g}\nlayer")
    scale = ScalarMappable(norm, colours)
    figure.colorbar(scale, ax=axes, shrink=min(1.0, 2.2 / len(times) + 0.2), aspect=30, label=MEANING[value])
    words = (
        f"solver step; dot: nearest step of the layer, grey where it explains less than {RESEMBLES:.0%} of the error"
    )
    figure.supxlabel(words, fontsize="medium")
    return figure


def _ticks(ax: Axes, steps: list[int], layers: int) -> None:
    """Labels at steps that are a readable distance apart."""
    every = max(1, len(steps) // 7)
    shown = list(range(0, len(steps), every))
    ax.set_xticks(shown, [str(steps[k]) for k in shown], fontsize="x-small", rotation=60 if steps[-1] > 99 else 0)
    kept = list(range(0, layers, max(1, -(-layers // 8))))
    ax.set_yticks(kept, [str(k) for k in kept], fontsize="x-small")
    ax.grid(False)


@theme()
def depth_figure(table: pd.DataFrame) -> Figure:
    """Effective depth against t, one line per solver with its 95 % interval; a triangle where it is more than
    the steps looked at."""
    figure, ((ax,),) = panels(1, 1, (6.4, 3.6))
    colours = sns.color_palette("colorblind", table.solver.nunique())
    least = (
        0.5 * float(table.depth[np.isfinite(table.depth) & (table.depth > 0)].min()) if (table.depth > 0).any() else 0.1
    )
    for colour, (solver, rows) in zip(colours, table.groupby("solver", sort=False), strict=True):
        reached = rows[np.isfinite(rows.depth)]
        depth, low = reached.depth.clip(lower=least), reached.low.clip(lower=least)
        high = reached.high.where(np.isfinite(reached.high), reached.steps).clip(lower=least)
        label = TITLES[str(solver)].split(",")[0]
        ax.errorbar(
            reached.t, depth, yerr=np.maximum(0, [depth - low, high - depth]), color=colour, marker="o", markersize=4,
            linewidth=1.3, capsize=2, label=label,
        )  # fmt: skip
        beyond = rows[~np.isfinite(rows.depth)]
        ax.plot(
            beyond.t,
            beyond.steps,
            "^",
            color=colour,
            markersize=7,
            label=None if len(reached) else f"{label} (> steps)",
        )
    ax.set(xscale="log", yscale="log", xlabel="diffusion time t", ylabel="solver steps of the same error",
           title="Effective depth of the network")  # fmt: skip
    ax.grid(which="major", alpha=0.3)
    ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


@theme()
def confusion_figure(counts: pd.DataFrame, title: str) -> Figure:
    """True algorithms (rows) by what their iterates were called (columns), as counts."""
    figure, ((ax,),) = panels(1, 1, (1.15 * len(counts.columns) + 2.2, 0.5 * len(counts) + 1.7))
    shares = counts.div(counts.sum(axis=1), axis=0)
    sns.heatmap(
        shares, annot=counts, fmt="d", vmin=0, vmax=1, cmap="rocket_r", cbar_kws={"label": "share of row"}, ax=ax
    )
    ax.set_xticklabels(
        [label.get_text().replace("_", "\n") for label in ax.get_xticklabels()], rotation=0, fontsize="small"
    )
    ax.set_yticklabels(
        [label.get_text().replace("_", " ") for label in ax.get_yticklabels()], rotation=0, fontsize="small"
    )
    ax.set(xlabel="named", ylabel="truth")
    ax.set_title(title)
    return figure
