"""What of a score model is linear: the rows, the table and the figure that experiments about it share.

Every figure but the loss is a share of what the affine denoiser explains, see `probes.replacement.losses`:

    bought              how much higher the loss of the affine denoiser is
    computed            the part of the output of the model that is not affine
    mean maps, linear   how much higher the loss is with a stand-in for parts of the network
    own affine map      the same for the best affine map of the model
    left                the squared error of the model, where the exact score is known
    exact               what the exact score buys over the affine denoiser
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from probes.figures import panels, theme
from probes.modes.parts import Estimate
from probes.replacement.losses import (
    HeldOut,
    best_affine_of,
    linear_stand_ins,
    not_affine,
    over_groups,
    scores_at,
)
from reports.experiment import Column, Row
from reports.networks import parameter_count
from reports.seeds import in_words, interval
from unrolled.diffusion import ScoreModel
from unrolled.evaluate import EVALUATION_TIMES
from unrolled.models.dit import DiT
from unrolled.process import GaussianProcess
from unrolled.series.data import SequenceData

__all__ = [
    "AFFINE", "COLUMNS", "DIT", "UNET", "bought_somewhere", "by_seed", "cases", "costs", "figure", "measured", "table",
]  # fmt: skip

DIT, UNET, AFFINE = "DiT", "UNet", "affine"
NETWORKS = (DIT, UNET)
CHAIN = ("mean maps", "linear", "own affine map")
LEAST = 1e-3
"""A smaller share than this is not called anything, whatever its interval: of many intervals some miss 0 by chance."""
LOWEST = 0.5
"""What falls behind by more than this is not drawn."""
COLUMNS: dict[str, Column] = {
    "data": str, "model": str, "seed": int, "t": float, "quantity": str, "value": float, "low": float, "high": float,
}  # fmt: skip


def measured(
    model: nn.Module,
    affine: ScoreModel,
    data: SequenceData,
    process: GaussianProcess,
    x0: Float[Tensor, "n N d"],
    seed: int,
    exact: ScoreModel | None = None,
) -> list[Row]:
    """Rows of a model at every t: t, quantity, value, and the ends of its interval over groups of sequences.

    Args:
        model: a network in float32, or a classical model in float64.
        affine: the affine denoiser.
        data: draws the training sequences behind means and affine maps.
        process: a Gaussian process with the moments of the data.
        x0: held-out sequences, in time order where they have one.
        seed: of all noise.
        exact: the exact score, where it is known.
    """
    dtype = torch.float32 if parameter_count(model) else torch.float64
    rows: list[Row] = []
    for k, t in enumerate(EVALUATION_TIMES):
        generator = torch.Generator().manual_seed(100 * seed + k)
        held_out = HeldOut(x0, torch.randn(x0.shape, generator=generator, dtype=torch.float64), t, exact)
        score = scores_at(model, held_out.noisy.to(dtype), t)
        losses = held_out.losses(score)
        found = {"loss": over_groups(losses)}
        others = {"bought": scores_at(affine, held_out.noisy, t)}
        beside = held_out.losses(others["bought"])
        explained = 1 - beside.mean()
        if isinstance(model, DiT):
            others |= linear_stand_ins(model, data, held_out, seed)
        if parameter_count(model):
            others["own affine map"] = best_affine_of(model, data, process, held_out, dtype, seed)
            found["computed"] = over_groups(not_affine(score, others["own affine map"], held_out) / explained)
        found |= {name: over_groups((held_out.losses(other) - losses) / explained) for name, other in others.items()}
        if exact is not None:
            best = held_out.losses(scores_at(exact, held_out.noisy, t))
            found["left"] = over_groups((losses - best) / explained)
            found["exact"] = over_groups((beside - best) / explained)
        rows += [_row(t, name, estimate) for name, estimate in found.items()]
    return rows


def _row(t: float, quantity: str, estimate: Estimate) -> Row:
    low, high = estimate.interval
    return {
        "t": t, "quantity": quantity, "value": float(estimate.value[0]), "low": float(low[0]), "high": float(high[0])
    }  # fmt: skip


def by_seed(results: pd.DataFrame, data: str, t: float, model: str, quantity: str) -> np.ndarray:
    """The values of one quantity, (seeds,); empty where there are none."""
    part = results.query("data == @data and t == @t and model == @model and quantity == @quantity")
    return part.sort_values(by="seed").value.to_numpy()


def cases(results: pd.DataFrame) -> list[tuple[str, float]]:
    """Every (data, t) with a loss."""
    part = results.query("quantity == 'loss'")
    return list(part[["data", "t"]].drop_duplicates().itertuples(index=False, name=None))


def _measure(results: pd.DataFrame, data: str, t: float, model: str, quantity: str) -> str:
    """Means over seeds with their interval; of a single seed the interval over sequences."""
    values = by_seed(results, data, t, model, quantity)
    if len(values) != 1:
        return in_words(values) if len(values) else "-"
    row: Any = results.query("data == @data and t == @t and model == @model and quantity == @quantity").iloc[0]
    return f"{row.value:.3g} [{row.low:.3g}, {row.high:.3g}]"


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Losses of every model by data and t, and the shares of the networks: means over seeds with 95 % intervals."""
    models = list(results.model.unique())
    rows = []
    for data, t in cases(results):
        row: dict[str, Any] = {"data": data, "t": t}
        for model in models:
            row[f"loss, {model}"] = _short(by_seed(results, data, t, model, "loss"))
        if len(by_seed(results, data, t, DIT, "exact")):
            row["exact buys"] = _measure(results, data, t, DIT, "exact")
        for model in (name for name in NETWORKS if name in models):
            row[f"bought, {model}"] = _measure(results, data, t, model, "bought")
            row[f"computed, {model}"] = _measure(results, data, t, model, "computed")
        for name in CHAIN:
            row[f"{name}, {DIT}"] = _measure(results, data, t, DIT, name)
        rows.append(row)
    return pd.DataFrame(rows).fillna("-")


def _short(values: np.ndarray) -> str:
    return f"{values.mean():.4f}" if len(values) else "-"


@theme()
def figure(results: pd.DataFrame) -> Figure:
    """What is not linear against t, a panel for each data: dots for seeds, lines through their means."""
    names = list(results.data.unique())
    drawn, axes = panels(1, len(names), (3.5 * len(names) + 2.2, 3.6), sharey=False)
    for ax, data in zip(axes[0], names, strict=True):
        _panel(ax, results, data)
    axes[0, 0].set_ylabel("share of what an affine denoiser explains")
    axes[0, -1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return drawn


def _panel(ax: Axes, results: pd.DataFrame, data: str) -> None:
    lines = [
        (DIT, "exact", "black", "-", "bought by the exact score"), (DIT, "bought", "C0", "-", "bought by the DiT"),
        (DIT, "computed", "C0", ":", "not affine in the DiT"), (DIT, "mean maps", "C2", "-", "lost by mean maps"),
        (DIT, "linear", "C1", "-", "lost by the DiT made linear"), (UNET, "bought", "C3", "-", "bought by the UNet"),
    ]  # fmt: skip
    times = [t for name, t in cases(results) if name == data]
    for model, quantity, colour, style, label in lines:
        values = [by_seed(results, data, t, model, quantity) for t in times]
        if all(len(of_t) for of_t in values):
            ax.plot(times, [of_t.mean() for of_t in values], style, color=colour, linewidth=1.2, label=label)
            for t, of_t in zip(times, values, strict=True):
                ax.plot([t] * len(of_t), of_t, "o", color=colour, markersize=3)
    ax.axhline(0, color="grey", linewidth=0.6)
    ax.set(xscale="log", xlabel="t", title=data, ylim=(max(-LOWEST, ax.get_ylim()[0]), None))
    ax.grid(which="major", alpha=0.3)


def bought_somewhere(results: pd.DataFrame, data: str, model: str) -> tuple[list[str], list[str]]:
    """(where a model beats the affine denoiser, where it falls behind), by the interval over seeds, in words."""
    above, below = [], []
    for t in (t for name, t in cases(results) if name == data):
        mean, low, high = interval(by_seed(results, data, t, model, "bought"))
        words = f"{100 * mean:.2g} % at t = {t:g}"
        above += [words] if low > 0 and mean > LEAST else []
        below += [words] if high < 0 and mean < -LEAST else []
    return above, below


def costs(results: pd.DataFrame, data: str, quantity: str) -> str:
    """What a stand-in for parts of the DiT costs: where the interval over seeds is above 0, in words."""
    found = {t: interval(by_seed(results, data, t, DIT, quantity)) for name, t in cases(results) if name == data}
    dear = [f"{100 * mean:.2g} % at t = {t:g}" for t, (mean, low, _) in found.items() if low > 0 and mean > LEAST]
    return ", ".join(dear) if dear else "nothing that we can tell"
