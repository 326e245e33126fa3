"""Videos of a ball whose centre is a Gaussian process: what a DiT, a UNet and an affine denoiser make of them.

The videos are generated in three spaces: the cells of a frame, their principal components, and the two numbers of an
autoencoder. In each the networks have about equally many parameters, a step costs them about the same, and the largest
learning rate of either is that of the lowest loss after a short training with each of several rates; the search is part
of the results. The affine denoiser has the shrunk covariance of videos of its own.

Of generated videos the centre is read twice (`unrolled.synthetic.ball`): the centroid, which is linear in a frame, and
the centre of the nearest ball, with the distance of the frame from it. The lengthscale of either is fitted as that of
true videos, which have gone through the same space. So what the estimator and the space get wrong stands beside what a
model does.
"""

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.capture.by_lag import attention_by_lag
from probes.capture.lags import fold_lags
from probes.decay.known import known_lengthscale, lag_products
from probes.modes.probing import probed_influence
from probes.resampling import resampled_means
from probes.targets import fit_lag_count
from reports.ball_pages import (
    AFFINE,
    AUTOENCODER,
    CELLS,
    CENTROID,
    CHOSEN,
    COMPONENTS,
    DIT,
    NEAREST,
    ONE_BALL,
    SHOWN,
    TRUE,
    UNET,
    figure,
    finding,
    table,
)
from reports.experiment import Budget, Configuration, Experiment, Row
from reports.networks import parameter_count, trained_on
from unrolled.diffusion import add_noise, alpha, sigma
from unrolled.evaluate import EVALUATION_TIMES, denoising_losses
from unrolled.fit.study import fit_model
from unrolled.models.dit import DiT
from unrolled.options import TrainConfig
from unrolled.samplers import log_time_grid, probability_flow
from unrolled.synthetic.ball import BallVideos
from unrolled.synthetic.drawn import DrawnData
from unrolled.synthetic.spaces import Space, fit_autoencoder, fit_cells, fit_components

__all__ = ["experiment"]

SMALL: dict[str, Any] = {DIT: {"width": 64, "depth": 4}, UNET: {"channels": [32, 32, 64]}}
LARGE: dict[str, Any] = {DIT: {"width": 96, "depth": 4}, UNET: {"channels": [64, 64]}}
TINY: dict[str, Any] = {DIT: {"width": 32, "depth": 2}, UNET: {"channels": [16, 32]}}
"""Sizes of the networks; the cells of a frame need as many channels as there are cells."""
SIZES = {CELLS: LARGE, COMPONENTS: SMALL, AUTOENCODER: SMALL}
DIMENSIONS = {CELLS: 0, COMPONENTS: 12, AUTOENCODER: 2}
"""Values of a frame in each space; 0 means its cells."""
RATES = {DIT: (2.5e-3, 5e-3, 1e-2), UNET: (1e-3, 2e-3, 4e-3)}
SEARCH_STEPS, STEPS, SEEDS, BATCH = 400, 2000, 3, 64
FITTED = 10_000
"""Videos behind the affine denoiser."""
FRAMES = 20_000
"""Frames behind a space."""
EFFORT = {
    "full": {"videos": 512, "sampler steps": 32, "coder steps": 1500},
    "quick": {"videos": 128, "sampler steps": 12, "coder steps": 300},
}  # fmt: skip
"""Videos that are generated and judged, steps of the sampler, and of the training of the autoencoder."""
RESAMPLES = 200
"""Bootstrap resamples of videos behind the interval of a lengthscale."""
DRAWN = 8
"""Frames of a video that are drawn."""
DECIMALS = 3
"""Digits of their cells that are kept."""


def configurations(budget: Budget) -> list[Configuration]:
    """A run for each space, model and seed, true videos among the models, and the search of either network."""
    full = budget == "full"
    ball = asdict(BallVideos() if full else BallVideos(length=8, side=6, spread=0.6))
    spaces = (CELLS, COMPONENTS, AUTOENCODER) if full else (COMPONENTS, AUTOENCODER)

    def plan(space: str, model: str, seed: int, rate: float, steps: int, search: bool) -> Configuration:
        sizes = SIZES[space] if full else TINY
        return {
            "ball": ball, "space": space, "dim": DIMENSIONS[space], "model": model, "seed": seed, "rate": rate,
            "steps": steps, "sizes": sizes.get(model, {}), "search": search, **EFFORT[budget],
        }  # fmt: skip

    runs = [
        plan(space, model, seed, CHOSEN[space].get(model, 0.0), STEPS if full else 300, False)
        for seed in range(SEEDS if full else 2) for space in spaces for model in (TRUE, DIT, UNET, AFFINE)
    ]  # fmt: skip
    searched = [
        plan(space, model, 0, rate, SEARCH_STEPS, True)
        for space in spaces for model, rates in RATES.items() for rate in rates if full
    ]  # fmt: skip
    return runs + searched


def fitted_space(ball: BallVideos, name: str, dim: int, coder_steps: int) -> Space:
    """The space of this name, the same for every model and seed."""
    videos = ball.sample(FRAMES // ball.length, torch.Generator().manual_seed(0))
    frames = videos.flatten(0, 1)
    if name == CELLS:
        return fit_cells(frames)
    if name == COMPONENTS:
        return fit_components(frames, dim)
    return fit_autoencoder(frames, dim, coder_steps, 0)


def run(configuration: Configuration) -> list[Row]:
    """Rows of one model in one space; see `columns` of the experiment."""
    ball = BallVideos(**configuration["ball"])
    name, kind, seed, rate = (configuration[key] for key in ("space", "model", "seed", "rate"))
    space = fitted_space(ball, name, configuration["dim"], configuration["coder steps"])
    data = DrawnData(ball.length, space.dim, lambda n, generator: space.encode(ball.sample(n, generator)))
    held_out = data.sample_held_out(configuration["videos"], torch.Generator().manual_seed(1000 + seed))
    if kind == TRUE:
        rows = [_row("path", ball.lengthscale), *_videos(ball, space.decode(held_out), seed)]
    else:
        model, seconds = _fitted(configuration, data)
        rows = [_row("seconds", seconds), _row("parameters", _size(model, data))]
        losses = denoising_losses(model, held_out, EVALUATION_TIMES, seed, _dtype(model))
        rows += [_row("loss", loss, t=t) for t, loss in losses.items()]
        if not configuration["search"]:
            rows += _videos(ball, space.decode(_generated(model, data, configuration)), seed)
            rows += _by_lag(model, held_out, seed)
    shared = {"space": name, "model": kind, "seed": seed, "rate": rate, "search": configuration["search"]}
    return [{**shared, **row} for row in rows]


def _row(quantity: str, value: float, index: int = 0, t: float = 0.0) -> Row:
    return {"t": t, "quantity": quantity, "index": index, "value": float(value)}


def _fitted(configuration: Configuration, data: DrawnData) -> tuple[nn.Module, float]:
    """The model of a run, and the seconds of processor time that it took."""
    kind, seed = configuration["model"], configuration["seed"]
    if kind == AFFINE:
        start = time.process_time()
        model = fit_model(AFFINE, data.sample(FITTED, torch.Generator().manual_seed(seed))).model
        return model, time.process_time() - start
    sizes = {name: tuple(value) if isinstance(value, list) else value for name, value in configuration["sizes"].items()}
    options = {"model": kind, kind: sizes, "steps": configuration["steps"], "seed": seed, "batch": BATCH}
    return trained_on(data, {**options, "learning_rate": configuration["rate"]})


def _size(model: nn.Module, data: DrawnData) -> int:
    """Numbers that were fitted: the weights of a network, mean and covariance of the affine denoiser."""
    values = data.length * data.dim
    return parameter_count(model) or values * (values + 3) // 2


def _dtype(model: nn.Module) -> torch.dtype:
    return torch.float32 if parameter_count(model) else torch.float64


@torch.no_grad()
def _generated(model: nn.Module, data: DrawnData, configuration: Configuration) -> Float[Tensor, "n N d"]:
    """Sequences by the probability flow, float64: what the model expects of X_0 where the flow ends."""
    grid = log_time_grid(TrainConfig.t_range, configuration["sampler steps"])
    generator = torch.Generator().manual_seed(2000 + configuration["seed"])
    start = torch.randn(configuration["videos"], data.length, data.dim, generator=generator, dtype=torch.float64).to(
        _dtype(model)
    )
    last = grid[-1]
    parts = []
    for part in start.split(BATCH):
        *_, (_, x) = probability_flow(model, part, grid)
        parts.append((x + sigma(last) ** 2 * model(x, last)).double() / alpha(last))
    return torch.cat(parts)


def _videos(ball: BallVideos, frames: Float[Tensor, "n N cells"], seed: int) -> list[Row]:
    """What is read from videos, and of the first seed the cells that are drawn."""
    drawn = _drawn(frames) if seed == 0 else []
    return [*_readings(ball, frames), *(_row("cell", value, k) for k, value in enumerate(drawn))]


def _readings(ball: BallVideos, frames: Float[Tensor, "n N cells"]) -> list[Row]:
    """Covariance of the centre by lag and its lengthscale, by both readings; how far frames are from a ball."""
    nearest, distance = ball.nearest(frames)
    rows = [_row("distance", float(distance.mean())), _row("one ball", float((distance < ONE_BALL).double().mean()))]
    for name, centres in ((CENTROID, ball.centroid(frames)), (NEAREST, nearest)):
        products = lag_products(centres)
        curve = products.mean(axis=0)
        rows += [_row(f"{name} covariance", value, lag) for lag, value in enumerate(curve)]
        lags = fit_lag_count(ball.length)
        profiles = np.vstack([curve, resampled_means(products, RESAMPLES, 0)])[:, 1:lags]
        scales = known_lengthscale(profiles, ball.kernel, ball.length, first=1)
        ends = np.quantile(scales[1:], [0.025, 0.975])
        rows += [_row(f"{name} lengthscale", value, k) for k, value in enumerate([scales[0], *ends])]
    return rows


def _drawn(frames: Float[Tensor, "n N cells"]) -> list[float]:
    """The cells of evenly spaced frames of the first video."""
    some = frames[0, :: max(1, frames.shape[1] // DRAWN)][:DRAWN]
    return [round(float(value), DECIMALS) for value in some.flatten()]


def _by_lag(model: nn.Module, x0: Float[Tensor, "n N d"], seed: int) -> list[Row]:
    """Influence by lag 0, 1, ... at t = `SHOWN`, and for a DiT the attention, the mean over its heads."""
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3000 + seed), dtype=torch.float64)
    x = add_noise(x0, SHOWN, noise).to(_dtype(model))
    curves = {"influence": probed_influence(model, x, SHOWN, seed=seed).value}
    if isinstance(model, DiT):
        curves["attention"] = attention_by_lag(model, x.split(BATCH), SHOWN).mean_profiles().mean(axis=(0, 1))
    return [
        _row(name, value, lag, SHOWN) for name, curve in curves.items() for lag, value in enumerate(fold_lags(curve)[1])
    ]


def core_seconds(configuration: Configuration) -> float:
    """A guess, from short runs on a busy machine."""
    wide = 2.0 if configuration["space"] == CELLS else 1.0
    networks = 0.04 * wide * configuration["steps"] + (0 if configuration["search"] else 15 * wide)
    return (10.0 + (networks if configuration["model"] in RATES else 10.0)) * configuration["videos"] / 512


experiment = Experiment(
    module=__name__,
    question="Is the temporal dependence of a video captured: how does a ball move in generated videos?",
    columns={
        "space": str, "model": str, "seed": int, "rate": float, "search": bool, "t": float, "quantity": str,
        "index": int, "value": float,
    },
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
    needs={"diffusers": "diffusers"},
    about_time=True,
)  # fmt: skip
