"""Pictures of attention: maps beside the true covariance, and decay by lag with the truth drawn in."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from probes.lags import AttentionByLag
from unrolled.files import atomic_path

__all__ = ["decay_figure", "map_figure", "save_figure", "theme"]


def theme() -> None:
    """The look of every figure of the project."""
    sns.set_theme(style="ticks", palette="colorblind", font_scale=0.9, rc={"axes.titlesize": "medium"})


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all, and release the figure."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight", format="png")
    plt.close(figure)


def map_figure(attention: AttentionByLag, truth: np.ndarray, truth_name: str) -> Figure:
    """One panel per layer and head of the mean attention map, and the true temporal covariance beside them.

    Each map has its own colour scale, from 0 to its largest entry: what is compared is shape.
    """
    theme()
    layers, heads = attention.maps.shape[:2]
    figure, axes = plt.subplots(
        layers, heads + 1, figsize=(1.5 * (heads + 1), 1.55 * layers + 0.5), squeeze=False, layout="constrained"
    )
    options = {"cbar": False, "square": True, "xticklabels": False, "yticklabels": False, "cmap": "rocket", "vmin": 0}
    for layer in range(layers):
        for head in range(heads):
            ax = axes[layer, head + 1]
            sns.heatmap(attention.maps[layer, head], ax=ax, **options)
            ax.set_title(f"layer {layer} head {head}", fontsize="small")
        axes[layer, 0].axis("off")
    axes[0, 0].axis("on")
    sns.heatmap(np.clip(truth, 0, None), ax=axes[0, 0], **options)
    axes[0, 0].set_title(truth_name, fontsize="small")
    figure.suptitle(f"Mean attention (row = query position, column = key position), t = {attention.t:g}")
    return figure


def decay_figure(attention: AttentionByLag, truth: np.ndarray, truth_name: str, max_lag: int | None = None) -> Figure:
    """Mean attention by signed lag, relative to its largest value, one panel per layer, one line per head.

    Args:
        attention: the profiles.
        truth: (N,) true correlation at lags 0..N-1, drawn in black.
        truth_name: its label.
        max_lag: longest lag drawn; half the sequence where not given, since longer lags rest on few pairs.
    """
    theme()
    length = len(truth)
    limit = max(1, length // 2) if max_lag is None else max_lag
    profiles = attention.mean_profiles()
    keep = np.abs(attention.lags) <= limit
    lags = attention.lags[keep]
    frames: list[pd.DataFrame] = []
    for layer, heads in enumerate(profiles):
        for head, profile in enumerate(heads):
            relative = profile[keep] / profile[keep].max()
            frames.append(pd.DataFrame({"lag": lags, "attention": relative, "layer": layer, "head": str(head)}))
    grid = sns.relplot(
        pd.concat(frames), x="lag", y="attention", hue="head", col="layer", col_wrap=min(4, len(profiles)), kind="line",
        height=2.4, aspect=1.1, linewidth=1.4,
    )  # fmt: skip
    for layer, ax in enumerate(grid.axes.flat):
        ax.plot(lags, truth[np.abs(lags)], color="black", linestyle="--", linewidth=1.2, label=truth_name)
        ax.set_title(f"layer {layer}")
        ax.set_ylim(bottom=min(0.0, float(truth[:limit].min())))
        if layer == 0:
            ax.legend(loc="upper right", fontsize="x-small", frameon=False, handlelength=1.2)
    grid.set_axis_labels("lag (key position - query position)", "attention / its peak")
    grid.figure.suptitle(f"Attention by lag at t = {attention.t:g}", y=1.03)
    return grid.figure


