"""Pictures of attention: maps beside the true covariance, and decay by lag with the truth drawn in."""

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from probes.capture.by_lag import AttentionByLag
from probes.figures import panels, show_matrix, theme

__all__ = ["decay_figure", "map_figure"]


@theme()
def map_figure(attention: AttentionByLag, truth: np.ndarray, truth_name: str) -> Figure:
    """One panel per layer and head of the mean attention map, and the true temporal covariance beside them.

    Each map has its own colour scale, from 0 to its largest entry: what is compared is shape.
    """
    layers, heads = attention.maps.shape[:2]
    figure, axes = panels(layers, heads + 1, (1.5 * (heads + 1), 1.55 * layers + 0.5))
    for layer in range(layers):
        for head in range(heads):
            show_matrix(axes[layer, head + 1], attention.maps[layer, head], f"layer {layer} head {head}")
        axes[layer, 0].axis("off")
    axes[0, 0].axis("on")
    show_matrix(axes[0, 0], truth, truth_name)
    figure.suptitle(f"Mean attention (row = query position, column = key position), t = {attention.t:g}")
    return figure


@theme()
def decay_figure(attention: AttentionByLag, truth: np.ndarray, truth_name: str, max_lag: int | None = None) -> Figure:
    """Mean attention by signed lag, relative to its largest value, one panel per layer, one line per head.

    Args:
        attention: the profiles.
        truth: (N,) true correlation at lags 0..N-1, drawn in black.
        truth_name: its label.
        max_lag: longest lag drawn; half the sequence where not given, since longer lags rest on few pairs.
    """
    length = len(truth)
    limit = max(1, length // 2) if max_lag is None else max_lag
    profiles = attention.mean_profiles()
    layers, heads = profiles.shape[:2]
    keep = np.abs(attention.lags) <= limit
    lags = attention.lags[keep]
    columns = min(4, layers)
    rows = -(-layers // columns)
    figure, axes = panels(rows, columns, (2.3 * columns + 1.6, 2.1 * rows + 0.9), sharex=True, sharey=True)
    colours = sns.color_palette("colorblind" if heads <= 10 else "viridis", heads)
    for layer, ax in enumerate(axes.flat):
        if layer >= layers:
            ax.axis("off")
            continue
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
