"""Picture of the stability study: how much the profile of every head changes over t, sequences and both."""

import numpy as np
from matplotlib.figure import Figure

from probes.figures import panels, theme
from probes.stability.study import STATIC, StabilityStudy

__all__ = ["stability_figure"]


@theme()
def stability_figure(study: StabilityStudy) -> Figure:
    """A panel per network: deviation of every head relative to the size of its mean profile, with intervals."""
    count = len(set(study.heads["network"]))
    rows = len(study.heads) // count
    figure, axes = panels(1, count, (3.4 * count + 1.6, 0.2 * rows + 1.4), sharey=True, sharex=True)
    for ax, (number, part) in zip(axes[0], study.heads.groupby("network"), strict=True):
        place = np.arange(len(part))
        for k, name in enumerate(("t", "sequence", "both")):
            middle, low, high = (
                np.sqrt(np.maximum(part[column].to_numpy(), 0.0)) for column in (name, f"{name}_low", f"{name}_high")
            )
            y = place + 0.25 * (k - 1)
            ax.errorbar(middle, y, xerr=[middle - low, high - middle], fmt=".", color=f"C{k}", label=name)
        ax.axvline(STATIC, color="grey", linestyle=":", linewidth=1)
        ax.set_yticks(place, [f"{layer}.{head}" for layer, head in zip(part["layer"], part["head"], strict=True)])
        ax.set_title(f"network {number}")
    axes[0, 0].invert_yaxis()
    axes[0, 0].set_ylabel("layer.head")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False, fontsize="small", title="changes with")
    figure.supxlabel("deviation of the profile / its size", fontsize="medium")
    return figure
