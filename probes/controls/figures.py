"""Picture of the controls: how well each head matches the truth, and how well what never learned it does."""

from typing import cast

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from probes.figures import panels, theme

__all__ = ["control_figure"]

TICKS = (-0.9, 0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)


@theme()
def control_figure(table: pd.DataFrame) -> Figure:
    """One panel per t and target: r of each head in black, of each control in colour, on an axis that is even in atanh
    r."""
    times, targets = list(dict.fromkeys(table["t"])), list(dict.fromkeys(table["target"]))
    controls = list(dict.fromkeys(table["control"]))
    heads = len(table[["layer", "head"]].drop_duplicates())
    size = (max(3.5, 0.26 * heads + 1) * len(targets) + 1.8, 2.7 * len(times) + 0.6)
    figure, axes = panels(len(times), len(targets), size, sharex=True, sharey=True)
    colours = dict(zip(controls, sns.color_palette("colorblind", len(controls)), strict=True))
    for key, part in table.groupby(["t", "target"], sort=False):
        t, target = cast(tuple[float, str], key)
        ax = axes[times.index(t), targets.index(target)]
        for k, control in enumerate(controls):
            rows = part[part["control"] == control]
            place = np.arange(len(rows)) + 0.09 * (k - (len(controls) - 1) / 2)
            ax.plot(place, np.arctanh(rows["r_control"]), "o", color=colours[control], markersize=3.5, label=control)
        first = part[part["control"] == controls[0]]
        ax.plot(
            np.arange(len(first)), np.arctanh(first["r"]), "_", color="black", markersize=12, mew=2, label="the head"
        )
        ax.set_title(f"{target}, t = {t:g}")
        names = [f"{layer}.{head}" for layer, head in zip(first["layer"], first["head"], strict=True)]
        ax.set_xticks(np.arange(len(first)), names, fontsize="x-small")
        ax.set_yticks(np.arctanh(TICKS), [f"{r:g}" for r in TICKS])
        ax.grid(axis="y", alpha=0.3)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False, fontsize="small")
    figure.supxlabel("layer.head", fontsize="medium")
    figure.supylabel("r", fontsize="medium")
    figure.suptitle("Match of attention by lag with the truth, and that of its controls", fontsize="medium")
    return figure
