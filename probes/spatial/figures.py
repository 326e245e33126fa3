"""Picture of the spatial probe: share on the diagonal of every head, against a random basis."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from probes.figures import panels, theme

__all__ = ["spatial_figure"]


@theme()
def spatial_figure(table: pd.DataFrame) -> Figure:
    """One panel per t: the share of each head by layer, of untrained heads, and of the score (dashed)."""
    times = list(dict.fromkeys(table["t"]))
    dim = sum(name.startswith("gain_") for name in table.columns)
    figure, axes = panels(1, len(times), (2.4 * len(times) + 1.6, 2.9), sharey=True)
    for ax, t in zip(axes[0], times, strict=True):
        part = table.query("t == @t and kind != 'score'")
        sns.stripplot(part, x="layer", y="share", hue="kind", dodge=True, size=4, ax=ax, legend=t == times[-1])
        score = float(table.loc[(table["t"] == t) & (table["kind"] == "score"), "share"].iloc[0])
        ax.axhline(score, color="black", linestyle="--", linewidth=1, label="score of the model")
        ax.axhline(2 / (dim + 2), color="grey", linestyle=":", linewidth=1, label="random basis, mean")
        ax.set(title=f"t = {t:g}", ylim=(-0.03, 1.05), ylabel="share on the diagonal")
    handles, names = axes[0, -1].get_legend_handles_labels()
    if (own := axes[0, -1].get_legend()) is not None:
        own.remove()
    figure.legend(handles, names, loc="outside right center", frameon=False, fontsize="small")
    figure.suptitle("What each head carries of a frame, in the eigenbasis of Sigma", fontsize="medium")
    return figure
