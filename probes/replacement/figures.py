"""Pictures of the replacement study: the chain of stand-ins, what every head costs, and influence by path."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from probes.figures import panels, theme
from probes.replacement.words import TITLES

__all__ = ["chain_figure", "heads_figure", "paths_figure"]

MAPS = ("mean", "reference", "stationary", "kernel", "fitted", "constant", "removed")
"""Stand-ins of heads, in the order of their colours."""
HEAD_COLUMNS = ("mean", "reference", "kernel", "removed")
"""Stand-ins of single heads that are drawn."""


@theme()
def chain_figure(table: pd.DataFrame) -> Figure:
    """Relative score error of every stand-in against t, all parts of a kind at once."""
    figure, axes = panels(1, 1, (7.2, 4.0))
    ax = axes[0, 0]
    rows = table.query("layer < 0 and stand_in != 'exact'")
    maps = sns.color_palette("viridis", len(MAPS))
    others = sns.color_palette("colorblind")
    styles = {name: {"color": colour, "marker": "."} for name, colour in zip(MAPS, maps, strict=True)}
    styles |= {
        name: {"color": others[k + 1], "linestyle": "--", "marker": "."}
        for k, name in enumerate(("mlp", "norm", "linear", "affine"))
    }
    styles["network"] = {"color": "black", "linewidth": 2.2}
    for name, part in rows.groupby("stand_in", sort=False):
        ax.plot(part["t"], part["error"], label=TITLES[str(name)], **{"linewidth": 1.2, **styles[str(name)]})
    ax.set(xscale="log", yscale="log", xlabel="t", ylabel="relative score error")
    figure.legend(loc="outside right center", frameon=False, fontsize="small")
    figure.suptitle("What simpler stand-ins cost", fontsize="medium")
    return figure


@theme()
def heads_figure(table: pd.DataFrame) -> Figure:
    """Change of the error, in units of the network's, for every head (rows) and t (columns), a panel per stand-in."""
    single: Any = table.query("head >= 0 and stand_in in @HEAD_COLUMNS").copy()
    single["share"] = single["change"] / (single["error"] - single["change"])
    count = single.groupby(["layer", "head"]).ngroups
    figure, axes = panels(1, len(HEAD_COLUMNS), (9.0, 0.17 * count + 1.4), sharey=True)
    norm = SymLogNorm(0.01, vmin=-10, vmax=10)
    image: Any = None
    for ax, name in zip(axes[0], HEAD_COLUMNS, strict=True):
        grid = single[single["stand_in"] == name].pivot(index=["layer", "head"], columns="t", values="share")
        image = ax.imshow(grid.to_numpy(), norm=norm, cmap="vlag", aspect="auto", interpolation="nearest")
        ax.set_xticks(range(grid.shape[1]), [f"{t:g}" for t in grid.columns], fontsize="x-small")
        ax.set_yticks(range(count), [f"{layer}.{head}" for layer, head in grid.index], fontsize="x-small")
        ax.set_title(TITLES[name], fontsize="small")
    axes[0, 0].set_ylabel("layer.head")
    figure.supxlabel("t", fontsize="medium")
    figure.colorbar(image, ax=axes, label="change of the error / error")
    figure.suptitle("One head at a time", fontsize="medium")
    return figure


@theme()
def paths_figure(influence: pd.DataFrame) -> Figure:
    """Influence by lag of the paths that pass 0, 1, 2, .. attention layers, a panel per t; their sum and -C_t^{-1}."""
    times = list(dict.fromkeys(influence["t"]))
    figure, axes = panels(1, len(times), (2.3 * len(times) + 1.6, 2.9))
    orders: Any = influence[influence["part"] == "order"]
    count = int(orders["order"].max()) + 1
    colours = sns.color_palette("viridis", count)
    limit = min(6, int(orders["lag"].max()))
    for ax, t in zip(axes[0], times, strict=True):
        at_t = orders[(orders["t"] == t) & (orders["lag"].abs() <= limit)]
        for order, part in at_t.groupby("order"):
            k = int(str(order))
            ax.plot(part["lag"], part["influence"], color=colours[k], marker=".", label=f"{k} layer" + "s" * (k != 1))
        first = at_t[at_t["order"] == 0]
        ax.plot(first["lag"], first["total"], color="black", linewidth=1.2, label="their sum")
        ax.plot(first["lag"], first["inverse"], color="black", linestyle=":", linewidth=1.8, label="exact")
        ax.axhline(0, color="grey", linewidth=0.5)
        ax.set_title(f"t = {t:g}")
        ax.set_xticks(np.arange(-limit, limit + 1, max(1, limit // 2)))
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False, fontsize="small")
    figure.supxlabel("lag (frame read - frame written)", fontsize="medium")
    figure.supylabel("influence / that of the exact score at lag 0", fontsize="small")
    figure.suptitle("Influence of frame on frame by the attention layers a path passes", fontsize="medium")
    return figure
