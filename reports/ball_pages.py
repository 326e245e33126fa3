"""Table, figure and finding of `reports.experiments.ball`, from its results."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probes.figures import panels, theme
from reports.seeds import in_words, interval

__all__ = [
    "AFFINE", "AUTOENCODER", "CELLS", "CENTROID", "CHOSEN", "COMPONENTS", "DIT", "NEAREST", "ONE_BALL", "SHOWN", "TRUE",
    "UNET", "figure", "finding", "table",
]  # fmt: skip

CELLS, COMPONENTS, AUTOENCODER = "cells", "components", "autoencoder"
TRUE, DIT, UNET, AFFINE = "true", "dit", "unet", "affine"
NAMES = {TRUE: "true", DIT: "DiT", UNET: "UNet", AFFINE: "affine"}
GENERATED = (DIT, UNET, AFFINE)
CENTROID, NEAREST = "centroid", "nearest ball"
ONE_BALL = 1 / 3
"""A frame shows one ball if its distance from the nearest one is below this share of the size of a ball."""
SHOWN = 0.2
"""The t at which attention and influence are taken."""
CHOSEN = {
    CELLS: {DIT: 5e-3, UNET: 2e-3}, COMPONENTS: {DIT: 1e-2, UNET: 4e-3}, AUTOENCODER: {DIT: 1e-2, UNET: 4e-3},
}  # fmt: skip
"""Largest learning rates, from the search."""
LOSS_TIMES = (0.05, 0.2, 1.0)
"""Diffusion times of the table."""


def _values(results: pd.DataFrame, space: str, model: str, quantity: str, index: int = 0, t: float = 0.0) -> np.ndarray:
    """The values of one quantity, (seeds,), without those of the search."""
    chosen = (results.space == space) & (results.model == model) & (results.quantity == quantity) & ~results.search
    return results.loc[chosen & (results["index"] == index) & (results.t == t)].sort_values(by="seed").value.to_numpy()


def _curve(results: pd.DataFrame, space: str, model: str, quantity: str) -> pd.Series:
    """Means over seeds of a quantity that has one value for every lag."""
    chosen = (results.space == space) & (results.model == model) & (results.quantity == quantity) & ~results.search
    return results[chosen].groupby("index").value.mean()


def _spaces(results: pd.DataFrame) -> list[str]:
    return list(results.space.unique())


def _lengthscale(results: pd.DataFrame, space: str, model: str, reading: str) -> np.ndarray:
    return _values(results, space, model, f"{reading} lengthscale")


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds with 95 % intervals: what the frames show, both lengthscales, losses; parameters and seconds."""
    rows = []
    for space in _spaces(results):
        for model, name in NAMES.items():
            row: dict[str, Any] = {"space": space, "videos": name}
            row["one ball"] = in_words(_values(results, space, model, "one ball"))
            row["distance"] = in_words(_values(results, space, model, "distance"))
            for reading in (NEAREST, CENTROID):
                row[f"lengthscale, {reading}"] = in_words(_lengthscale(results, space, model, reading))
            row["path's inside"] = _covering(results, space, model)
            for t in LOSS_TIMES:
                row[f"loss, t = {t:g}"] = _mean_or_dash(_values(results, space, model, "loss", t=t))
            for quantity in ("parameters", "seconds"):
                row[quantity] = _mean_or_dash(_values(results, space, model, quantity), 6)
            rows.append(row)
    return pd.DataFrame(rows)


def _path(results: pd.DataFrame) -> float:
    """The lengthscale of the path of the ball."""
    return float(results.value[results.quantity == "path"].iloc[0])


def _covering(results: pd.DataFrame, space: str, model: str) -> str:
    """How many seeds have a bootstrap interval over videos that holds the lengthscale of the path."""
    low, high = (_values(results, space, model, f"{NEAREST} lengthscale", end) for end in (1, 2))
    return f"{((low <= _path(results)) & (_path(results) <= high)).sum()} of {len(low)}"


def _mean_or_dash(values: np.ndarray, digits: int = 3) -> str:
    return f"{values.mean():.{digits}g}" if len(values) else "-"


@theme()
def figure(results: pd.DataFrame) -> Figure:
    """A strip of frames of every source in each space, the covariance of the centre, and the DiT by lag."""
    spaces = _spaces(results)
    drawn, axes = panels(3, len(spaces), (4.0 * len(spaces) + 2.0, 8.6), height_ratios=[0.7, 1.0, 1.0])
    for k, space in enumerate(spaces):
        _strip(axes[0, k], results, space)
        _covariance(axes[1, k], results, space)
        _by_lag(axes[2, k], results, space)
    for row in (1, 2):
        axes[row, -1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return drawn


def _strip(ax: Axes, results: pd.DataFrame, space: str) -> None:
    """Evenly spaced frames of a video of each source, one below the other."""
    cells = results.query("space == @space and quantity == 'cell'").sort_values(by="index")
    rows = [cells[cells.model == model].value.to_numpy() for model in NAMES]
    side = _side(len(rows[0]))
    frames = [row.reshape(-1, side, side) for row in rows]
    lines = [np.concatenate([np.pad(frame, ((0, 1), (0, 1)), constant_values=1.0) for frame in each], axis=1)
             for each in frames]  # fmt: skip
    ax.imshow(np.concatenate(lines), cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    ax.set_yticks([(side + 1) * k + side / 2 for k in range(len(NAMES))], list(NAMES.values()))
    ax.set(xticks=[], title=space)
    ax.grid(False)


def _side(cells: int) -> int:
    """Cells on a side of a frame, of a strip of 8 frames."""
    return round((cells / 8) ** 0.5)


def _covariance(ax: Axes, results: pd.DataFrame, space: str) -> None:
    """Covariance by lag: the nearest ball as lines, the centroid as dots."""
    for k, (model, name) in enumerate(NAMES.items()):
        colour = "black" if model == TRUE else f"C{k - 1}"
        near, centroid = (_curve(results, space, model, f"{reading} covariance") for reading in (NEAREST, CENTROID))
        ax.plot(near.index, near, color=colour, linewidth=1.4, label=f"{name}, nearest ball")
        ax.plot(centroid.index, centroid, "o", color=colour, markersize=3.5, label=f"{name}, centroid")
    most = _curve(results, space, TRUE, f"{NEAREST} covariance").iloc[0]
    ax.set(xlabel="lag, frames", ylabel="covariance of the centre", ylim=(-0.4 * most, 1.6 * most))
    ax.grid(which="major", alpha=0.3)


def _by_lag(ax: Axes, results: pd.DataFrame, space: str) -> None:
    """Attention, covariance and influence by lag, each over its value at lag 0 or 1."""
    truth = _curve(results, space, TRUE, f"{NEAREST} covariance")
    ax.plot(truth.index, truth / truth.iloc[0], color="black", label="covariance of the centre")
    attention = _curve(results, space, DIT, "attention")
    ax.plot(attention.index, attention / attention.max(), color="C0", label="attention, DiT")
    for k, model in enumerate(GENERATED):
        influence = _curve(results, space, model, "influence")
        scaled = influence / abs(influence.iloc[0])
        label = f"influence, {NAMES[model]}"
        ax.plot(scaled.index[1:], scaled.iloc[1:], "--", color=f"C{k}", marker=".", linewidth=1, label=label)
    ax.axhline(0, color="grey", linewidth=0.6)
    ax.set(xlabel="lag, frames", ylabel=f"relative to the largest, t = {SHOWN:g}")
    ax.grid(which="major", alpha=0.3)


def _shown(results: pd.DataFrame, space: str) -> str:
    """How many frames show a ball."""
    shares = [f"{in_words(_values(results, space, model, 'one ball'))} ({name})" for model, name in NAMES.items()]
    return f"{space}: {', '.join(shares)}"


def _recovered(results: pd.DataFrame, space: str, reading: str, model: str) -> tuple[str, bool]:
    """A lengthscale with its interval over seeds, and whether the difference from true videos may be 0."""
    own, true = (_lengthscale(results, space, which, reading) for which in (model, TRUE))
    _, low, high = interval(own - true)
    return f"{in_words(own)} ({NAMES[model]})", low <= 0 <= high


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values)


def _lengthscales(results: pd.DataFrame, reading: str) -> str:
    """Which lengthscales are those of true videos, by one reading."""
    said, missed = [], []
    for space in _spaces(results):
        found = {model: _recovered(results, space, reading, model) for model in GENERATED}
        true = in_words(_lengthscale(results, space, TRUE, reading))
        said.append(f"{space}: {true} (true), {_listed([words for words, _ in found.values()])}")
        missed += [f"{NAMES[model]} in {space}" for model, (_, same) in found.items() if not same]
    verdict = f"we can tell {_listed(missed)} from true videos" if missed else "we can tell no model from true videos"
    return f"{'; '.join(said)}; {verdict}"


def _compared(results: pd.DataFrame) -> str:
    """Whether the DiT shows the ball in more frames than the UNet, by the interval over seeds of the difference."""
    better, worse = [], []
    for space in _spaces(results):
        own, other = (_values(results, space, model, "one ball") for model in (DIT, UNET))
        _, low, high = interval(own - other)
        better += [space] if low > 0 else []
        worse += [space] if high < 0 else []
    said = [
        f"{verb} frames in {_listed(spaces)}" for verb, spaces in (("more", better), ("fewer", worse)) if spaces
    ]  # fmt: skip
    if not said:
        return "We cannot tell the DiT from the UNet by the share of frames that show a ball."
    return f"The DiT shows a ball in {_listed(said)} than the UNet."


def _forced(results: pd.DataFrame) -> str:
    """What the centroid is worth as evidence: the affine denoiser has it right, whatever its frames look like."""
    right, blurred = [], []
    for space in _spaces(results):
        same = _recovered(results, space, CENTROID, AFFINE)[1]
        own, true = (_values(results, space, model, "one ball").mean() for model in (AFFINE, TRUE))
        right += [space] if same else []
        blurred += [space] if same and own < true / 2 else []
    if not blurred:
        return "No affine denoiser has the lengthscale of the centroid right with frames that show no ball."
    return (
        f"In {_listed(blurred)} the affine denoiser has the lengthscale of the centroid right, though less than half as"
        " many of its frames show a ball: that covariance is no evidence of a video."
    )


def _influence(results: pd.DataFrame) -> str:
    """How far the influence of the DiT is from that of the affine denoiser, by lag."""
    said = []
    for space in _spaces(results):
        own, affine = (_curve(results, space, model, "influence") for model in (DIT, AFFINE))
        share = float(np.abs(own - affine)[1:].max() / np.abs(affine)[1:].max())
        said.append(f"{share:.2g} ({space})")
    return (
        f"At t = {SHOWN:g} the influence of the DiT by lag differs from that of the affine denoiser, beyond lag 0, by"
        f" at most {_listed(said)} of the largest."
    )


def _searched(results: pd.DataFrame) -> str:
    """Whether the rates that were used are those of the search: of the lowest loss, the mean over t."""
    part = results[results.search & (results.quantity == "loss")]
    if part.empty:
        return "No learning rate was searched for."
    means = part.groupby(["space", "model", "rate"]).value.mean()
    best = {key: rates.idxmin()[2] for key, rates in means.groupby(level=[0, 1])}
    others = [f"{NAMES[model]} in {space} ({rate:g})" for (space, model), rate in best.items()
              if CHOSEN[space][model] != rate]  # fmt: skip
    return "The learning rates are " + (
        f"not those of the search for {_listed(others)}." if others else "those of the search."
    )


def finding(results: pd.DataFrame) -> str:
    """Which models show a ball, which move it as it moves in true videos, and what the centroid alone would say."""
    part = results[~results.search]
    return " ".join([
        f"{part.seed.nunique()} seeds, 95 % intervals over them. Share of frames that show one ball:"
        f" {'; '.join(_shown(results, space) for space in _spaces(results))}.",
        _compared(results),
        f"The path of the ball has lengthscale {_path(results):g}. From the nearest ball:"
        f" {_lengthscales(results, NEAREST)}.",
        f"From the centroid: {_lengthscales(results, CENTROID)}.",
        _forced(results),
        _influence(results),
        _searched(results),
    ])  # fmt: skip
