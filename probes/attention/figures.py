"""Pictures of attention: maps beside the true covariance, and decay by lag with the truth drawn in."""

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from probes.capture.by_lag import AttentionByLag
from probes.figures import panels, show_matrix, theme

__all__ = ["decay_figure", "map_figure"]

MOST_MAPS = 12
"""Rows, and columns, of maps in a figure."""


@theme()
def map_figure(attention: AttentionByLag, truth: np.ndarray, truth_name: str) -> Figure:
    """One panel per layer and head of the mean attention map, and the true temporal covariance beside them.

    Each map has its own colour scale, from 0 to its largest entry: what is compared is shape. A layer whose heads all
    equal earlier ones is left out. Of many layers or heads `MOST_MAPS` are drawn, evenly chosen; the title says so.
    """
    count = attention.maps.shape[:2]
    distinct = attention.distinct_layers()
    layers = [distinct[k] for k in _evenly(len(distinct))]
    heads = _evenly(count[1])
    figure, axes = panels(len(layers), len(heads) + 1, (1.5 * (len(heads) + 1), 1.55 * len(layers) + 0.5))
    for row, layer in enumerate(layers):
        for column, head in enumerate(heads, 1):
            show_matrix(axes[row, column], attention.maps[layer, head], f"layer {layer} head {head}")
        axes[row, 0].axis("off")
    axes[0, 0].axis("on")
    show_matrix(axes[0, 0], truth, truth_name)
    figure.suptitle(
        f"Mean attention (row = query position, column = key position), t = {attention.t:g}"
        + _left_out("layers", len(layers), len(distinct), count[0])
        + _left_out("heads", len(heads), count[1], count[1])
    )
    return figure


def _evenly(count: int) -> list[int]:
    """All of `count` indices, or `MOST_MAPS` of them with equal steps from the first to the last."""
    return np.linspace(0, count - 1, min(count, MOST_MAPS)).round().astype(int).tolist()


def _left_out(name: str, drawn: int, distinct: int, count: int) -> str:
    """How many of `count` layers or heads are drawn, if not all, and how many of them differ."""
    if drawn == count:
        return ""
    return f"; {drawn} of {count} {name}" + (f", of which {distinct} differ" if distinct < count else "")


@theme()
def decay_figure(attention: AttentionByLag, truth: np.ndarray, truth_name: str, max_lag: int | None = None) -> Figure:
    """Mean attention by signed lag, relative to its largest value, one panel per layer, one line per head.

    A layer whose heads all equal earlier ones is left out.

    Args:
        attention: the profiles.
        truth: (N,) true correlation at lags 0..N-1, drawn in black.
        truth_name: its label.
        max_lag: longest lag drawn; half the sequence where not given, since longer lags rest on few pairs.
    """
    length = len(truth)
    limit = max(1, length // 2) if max_lag is None else max_lag
    profiles = attention.mean_profiles()
    distinct, heads = attention.distinct_layers(), profiles.shape[1]
    keep = np.abs(attention.lags) <= limit
    lags = attention.lags[keep]
    columns = min(4, len(distinct))
    rows = -(-len(distinct) // columns)
    figure, axes = panels(rows, columns, (2.3 * columns + 1.6, 2.1 * rows + 0.9), sharex=True, sharey=True)
    colours = sns.color_palette("colorblind" if heads <= 10 else "viridis", heads)
    for ax in axes.flat[len(distinct) :]:
        ax.axis("off")
    for layer, ax in zip(distinct, axes.flat, strict=False):
        for head in range(heads):
            profile = profiles[layer, head, keep]
            ax.plot(lags, profile / (profile.max() or 1.0), color=colours[head], linewidth=1.4, label=f"head {head}")
        ax.plot(lags, truth[np.abs(lags)], color="black", linestyle="--", linewidth=1.2, label=truth_name)
        ax.set_title(f"layer {layer}")
    axes[0, 0].set_ylim(bottom=min(0.0, float(truth[: limit + 1].min())))
    handles, names = axes[0, 0].get_legend_handles_labels()
    shown = [0, heads - 1, heads] if heads > 10 else range(heads + 1)
    figure.legend(
        [handles[k] for k in shown], [names[k] for k in shown], loc="outside right center", frameon=False,
        fontsize="small",
    )  # fmt: skip
    figure.supxlabel("lag (key position - query position)", fontsize="medium")
    figure.supylabel("attention / its peak", fontsize="medium")
    figure.suptitle(f"Attention by lag at t = {attention.t:g}", fontsize="medium")
    return figure
