"""Pictures of a video model's attention: decay in time and space by head, and which heads are local in what."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from probes.figures import panels, theme
from probes.video.grid_attention import GridAttention
from probes.video.heads import LOCAL, axis_profiles
from probes.video.influence import GridInfluence

__all__ = ["grid_decay_figure", "influence_figure", "kinds_figure"]

LAYERS_DRAWN = 8
"""Layers in the figure of decay; more are thinned out evenly."""


@theme()
def grid_decay_figure(attention: GridAttention) -> Figure:
    """Mean attention by frame lag and by distance in the frame, relative to its largest value, a line per head.

    One row of panels per layer, at most `LAYERS_DRAWN` of them.
    """
    count = min(LAYERS_DRAWN, len(attention.layers))
    drawn = np.unique(np.linspace(0, len(attention.layers) - 1, count).round().astype(int))
    figure, axes = panels(len(drawn), 2, (7.2, 1.5 * len(drawn) + 0.9), sharex="col")
    heads = max(len(layer.own) for layer in attention.layers)
    colours = sns.color_palette("colorblind" if heads <= 10 else "viridis", heads)
    for row, number in enumerate(drawn):
        layer = attention.layers[number]
        for ax, axis in zip(axes[row], ("temporal", "spatial"), strict=True):
            profiles = axis_profiles(layer, attention.grid, axis)
            if profiles is None:
                ax.text(0.5, 0.5, f"sees no {'time' if axis == 'temporal' else 'space'}", ha="center", va="center",
                        transform=ax.transAxes, color="grey", fontsize="small")  # fmt: skip
                ax.set_yticks([])
                continue
            lags, profile, _ = profiles
            for head, mean in enumerate(profile.mean(axis=1)):
                shape = mean / (mean.max() or 1.0)
                ax.plot(lags, shape, color=colours[head], marker=".", linewidth=1.2, label=f"head {head}")
            ax.set_ylim(0, 1.05)
        axes[row, 0].set_title(layer.name, fontsize="x-small", loc="left")
    axes[-1, 0].set_xlabel("frame lag (frames)")
    axes[-1, 1].set_xlabel("distance in the frame (tokens)")
    lines = {line.get_label(): line for ax in axes.flat for line in ax.get_lines()}
    shown = list(lines)[:: max(1, len(lines) - 1)] if len(lines) > 10 else list(lines)
    figure.legend(
        [lines[name] for name in shown], [str(name) for name in shown], loc="outside right upper", frameon=False,
        fontsize="small",
    )  # fmt: skip
    figure.supylabel("attention / its peak", fontsize="medium")
    figure.suptitle(f"Attention by lag, {attention.grid} tokens, {attention.samples} samples", fontsize="medium")
    return figure


@theme()
def kinds_figure(heads: pd.DataFrame) -> Figure:
    """Contrast of every head in time and in space, layers by heads; a dot marks a head that is local."""
    names = list(dict.fromkeys(heads["module"]))
    layers, columns = len(names), len(set(heads["head"]))
    figure, axes = panels(1, 2, (2 * min(0.35 * columns + 1.2, 6) + 2, min(0.28 * layers + 1.6, 12)), sharey=True)
    for ax, axis in zip(axes[0], ("temporal", "spatial"), strict=True):
        _contrasts(ax, heads, axis)
    axes[0, 0].set_ylabel("layer")
    if layers <= 24:
        axes[0, 0].set_yticks(np.arange(layers), names, fontsize="x-small")
    figure.colorbar(axes[0, 1].images[0], ax=axes[0, 1], label="(near - far) / (near + far)")
    figure.suptitle(f"Contrast by head; dot: local, from {LOCAL:.2f} on", fontsize="medium")
    return figure


def _contrasts(ax: Axes, heads: pd.DataFrame, axis: str) -> None:
    table = heads.pivot(index="layer", columns="head", values=f"{axis}_contrast")
    colours = sns.color_palette("vlag", as_cmap=True)
    ax.imshow(table.to_numpy(), vmin=-1, vmax=1, cmap=colours, aspect="auto", interpolation="nearest")
    layer, head = np.nonzero(table.to_numpy() >= LOCAL)
    ax.scatter(head, layer, s=8, color="black")
    ax.set_title("in time" if axis == "temporal" else "in space", fontsize="small")
    ax.set(xlabel="head", facecolor="0.9")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(False)


@theme()
def influence_figure(found: GridInfluence) -> Figure:
    """Influence on the output, relative to that of a token on itself: by frame lag, and by displacement in a frame."""
    grid, own = found.grid, abs(float(found.temporal.value[found.grid.frames - 1])) or 1.0
    figure, axes = panels(1, 2, (8.4, 3.4))
    time, space = axes[0]
    lags = np.arange(1 - grid.frames, grid.frames)
    low, high = found.temporal.interval
    time.errorbar(lags, found.temporal.value / own, (high - low) / 2 / own, fmt="o", markersize=4, linewidth=1)
    time.axhline(0, color="grey", linewidth=0.5)
    time.set(xlabel="frame lag (token read - token written)", ylabel="influence / that of a token on itself")
    image = (found.spatial.value / own).reshape(2 * grid.height - 1, 2 * grid.width - 1)
    # Linear to a hundredth of the largest, which is where the noise of random vectors usually is.
    mesh = space.imshow(
        image, norm=SymLogNorm(0.01, vmin=-1, vmax=1), cmap="vlag", interpolation="nearest", aspect="auto",
        extent=(0.5 - grid.width, grid.width - 0.5, grid.height - 0.5, 0.5 - grid.height),
    )  # fmt: skip
    space.set(xlabel="columns", ylabel="rows", title="in the same frame")
    time.set_title("at the same place")
    figure.colorbar(mesh, ax=space)
    figure.suptitle(f"Influence on the output, {grid} tokens, {found.samples} videos", fontsize="medium")
    return figure
