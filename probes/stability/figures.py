"""Picture of the stability study: how much the profile of every head changes over t, sequences and both."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from probes.figures import panels, theme
from probes.stability.study import STATIC, StabilityStudy

__all__ = ["stability_figure"]

HEADS = 64
"""Heads drawn of a network."""


def _few(heads: pd.DataFrame) -> pd.DataFrame:
    return heads.iloc[np.unique(np.linspace(0, len(heads) - 1, min(len(heads), HEADS)).round().astype(int))]


@theme()
def stability_figure(study: StabilityStudy) -> Figure:
    """A panel per network and axis: deviation of every head relative to the size of its mean profile, with intervals.

    More than `HEADS` of them are thinned out evenly.
    """
    groups: dict[Any, pd.DataFrame] = {
        key: _few(part) for key, part in study.heads.groupby(["axis", "network"], sort=False)
    }
    count, several = len(groups), len(set(study.heads["axis"])) > 1
    rows = max(len(part) for part in groups.values())
    figure, axes = panels(1, count, (3.4 * count + 1.6, 0.2 * rows + 1.4), sharey=not several, sharex=True)
    for ax, ((axis, number), part) in zip(axes[0], groups.items(), strict=True):
        place = np.arange(len(part))
        for k, name in enumerate(("t", "sequence", "both")):
            middle, low, high = (
                np.sqrt(np.maximum(part[column].to_numpy(), 0.0)) for column in (name, f"{name}_low", f"{name}_high")
            )
            y = place + 0.25 * (k - 1)
            ax.errorbar(middle, y, xerr=[middle - low, high - middle], fmt=".", color=f"C{k}", label=name)
        ax.axvline(STATIC, color="grey", linestyle=":", linewidth=1)
        ax.set_yticks(place, [f"{layer}.{head}" for layer, head in zip(part["layer"], part["head"], strict=True)])
        ax.set_title(f"network {number}" + (f", {axis}" if several else ""))
        ax.set_ylim(len(part) - 0.5, -0.5)
    axes[0, 0].set_ylabel("layer.head")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False, fontsize="small", title="changes with")
    figure.supxlabel("deviation of the profile / its size", fontsize="medium")
    return figure
