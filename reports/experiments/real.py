"""Real weather, and videos of a ball: how good are networks beside classical models, and what in them is linear?

The weather is that of three airports (`unrolled/series/datasets`), in windows of 32 hours. Everything is fitted to the
windows of the training part and judged on the held-out part, whose windows overlap: intervals are over groups of
consecutive ones. The videos are those of the experiment `ball`, in the space of their principal components. No exact
score is known, so the tables are those of `beyond`: held-out losses, what a network buys over the affine denoiser, and
what is lost when its parts are replaced.
"""

from dataclasses import asdict
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from reports.experiment import Budget, Configuration, Experiment, Row
from reports.linearity import (
    AFFINE,
    COLUMNS,
    DIT,
    UNET,
    bought_somewhere,
    by_seed,
    cases,
    costs,
    figure,
    measured,
    table,
)
from reports.networks import trained_on
from unrolled.fit.study import Kind, fit_model
from unrolled.series.data import draw_training_set
from unrolled.series.load import load_data
from unrolled.series.windows import SeriesData
from unrolled.synthetic.ball import BallVideos
from unrolled.synthetic.drawn import DrawnData
from unrolled.synthetic.spaces import fit_components

__all__ = ["experiment"]

WEATHER, BALL = "weather", "ball"
CLASSICAL: dict[str, Kind] = {
    AFFINE: "affine", "Kronecker": "kronecker", "kernel": "kernel", "training set": "empirical",
}  # fmt: skip
"""Name here -> kind of `unrolled.fit.study.fit_model`."""
MODELS = {DIT: "dit", UNET: "unet"}
STEPS, SEEDS = {WEATHER: 1000, BALL: 1500}, 3
"""The weather has as many as its preset, since it has few windows."""
COMPONENTS = 8
"""Principal components of a frame."""
FRAMES = 20_000
"""Frames behind them."""
FULL: dict[str, Any] = {"length": 32, "samples": 10_000, "judged": 1024}
QUICK: dict[str, Any] = {"length": 8, "samples": 1000, "judged": 256}
"""Frames of a window of the weather; sequences that classical models are fitted to, at most; held-out sequences."""
SIZES: dict[str, Any] = {
    "full": {DIT: {"width": 64, "depth": 4}, UNET: {"channels": [32, 32, 64]}},
    "quick": {DIT: {"width": 32, "depth": 2}, UNET: {"channels": [16, 32]}},
}


def configurations(budget: Budget) -> list[Configuration]:
    """Either network for each data and seed, and the classical models once."""
    full = budget == "full"
    ball = BallVideos() if full else BallVideos(length=8, side=6, spread=0.6)
    shared = {**(FULL if full else QUICK), "ball": asdict(ball)}
    networks = [
        {
            **shared, "data": data, "model": model, "seed": seed, "steps": STEPS[data] if full else 300,
            "sizes": SIZES[budget][model],
        }
        for seed in range(SEEDS if full else 2) for data in STEPS for model in MODELS
    ]  # fmt: skip
    return networks + [{**shared, "data": data, "model": model, "seed": 0} for data in STEPS for model in CLASSICAL]


def made_data(configuration: Configuration) -> SeriesData | DrawnData:
    """The windows of the weather, or videos in the space of their principal components."""
    if configuration["data"] == WEATHER:
        return load_data(WEATHER, configuration["length"])
    ball = BallVideos(**configuration["ball"])
    frames = ball.sample(FRAMES // ball.length, torch.Generator().manual_seed(0)).flatten(0, 1)
    space = fit_components(frames, COMPONENTS)
    return DrawnData(ball.length, COMPONENTS, lambda n, generator: space.encode(ball.sample(n, generator)))


def held_out(data: SeriesData | DrawnData, count: int, seed: int) -> Float[Tensor, "n N d"]:
    """Sequences to judge by: evenly spaced windows in time order, or new videos."""
    if isinstance(data, SeriesData):
        starts = data.starts["held_out"]
        return data.windows(starts[torch.linspace(0, len(starts) - 1, min(count, len(starts))).long()])
    return data.sample_held_out(count, torch.Generator().manual_seed(5000 + seed))


def run(configuration: Configuration) -> list[Row]:
    """Rows of `reports.linearity.measured` for one model."""
    data, name, seed = made_data(configuration), configuration["model"], configuration["seed"]
    most = len(data.starts["train"]) if isinstance(data, SeriesData) else configuration["samples"]
    training = draw_training_set(data, min(configuration["samples"], most), seed)
    affine = fit_model("affine", training).model
    model: nn.Module = affine
    if name in MODELS:
        chosen = {"model": MODELS[name], "steps": configuration["steps"], "seed": seed}
        model, _ = trained_on(data, {**chosen, MODELS[name]: _sizes(configuration["sizes"])})
    elif name != AFFINE:
        model = fit_model(CLASSICAL[name], training).model
    rows = measured(model, affine, data, data.gaussian(), held_out(data, configuration["judged"], seed), seed)
    return [{"data": configuration["data"], "model": name, "seed": seed, **row} for row in rows]


def _sizes(values: dict[str, Any]) -> dict[str, Any]:
    """Sizes of a network; JSON has no tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _best(results: pd.DataFrame, data: str) -> str:
    """The model of the lowest loss at every t, a network by its mean over seeds."""
    said = []
    for t in (t for name, t in cases(results) if name == data):
        means = {model: by_seed(results, data, t, model, "loss").mean() for model in results.model.unique()}
        best = min(means, key=lambda model: means[model])
        said.append(f"{best} at t = {t:g} ({means[best]:.4f})")
    return ", ".join(said)


def _beside_affine(results: pd.DataFrame, data: str, model: str) -> str:
    """Where a network is better and worse than the affine denoiser."""
    above, below = bought_somewhere(results, data, model)
    better = f"explains more than the affine denoiser, {', '.join(above)}" if above else "is nowhere better than it"
    worse = f", and less, {', '.join(below)}" if below else ""
    return f"the {model} {better}{worse}"


def finding(results: pd.DataFrame) -> str:
    """Which model has the lowest loss, what networks buy over an affine denoiser, and what a linear network loses."""
    seeds = results[results.model == DIT].seed.nunique()
    said = [f"{seeds} seeds of each network, 95 % intervals over them; shares of what the affine denoiser explains."]
    for data in results.data.unique():
        said += [
            f"On {data} the lowest held-out loss is that of {_best(results, data)}.",
            f"Beside the affine denoiser there, {'; '.join(_beside_affine(results, data, model) for model in MODELS)}.",
            f"In the DiT mean attention maps cost {costs(results, data, 'mean maps')}, the whole network made linear"
            f" {costs(results, data, 'linear')}, its best affine map {costs(results, data, 'own affine map')}.",
        ]
    return " ".join(said)


def core_seconds(configuration: Configuration) -> float:
    """A guess, from short runs on a busy machine."""
    networks = 30.0 + 0.06 * configuration["steps"] if configuration["model"] in MODELS else 10.0
    return networks * configuration["length"] / 32


experiment = Experiment(
    module=__name__,
    question="On real weather and on videos, is there anything in a trained network that an affine denoiser lacks?",
    columns=COLUMNS,
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
    needs={"diffusers": "diffusers"},
)
