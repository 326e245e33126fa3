"""How wide the basin of hand-set weights is, and training inside it.

Three measurements, all of the excess denoising loss E sigma_t^2 |s_hat - s|^2 per entry, the denoising loss minus its
smallest value, computed with the exact score s: after each weight is disturbed by a relative normal error; while
training in relative steps (`unrolled.train.multiplicative`) at several rates; and while the same class is trained from
random weights.
"""

import copy
from collections.abc import Iterator
from dataclasses import asdict
from typing import cast

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from jaxtyping import Float
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor, nn

from probes.figures import theme
from reports.experiment import Budget, Configuration, Experiment, Row
from unrolled.diffusion import add_noise, sigma
from unrolled.handset import construct
from unrolled.models.dit import DiT
from unrolled.options import ProcessOptions
from unrolled.process import GaussianProcess
from unrolled.train.multiplicative import multiplicative

__all__ = ["TIMES", "disturbed", "excess_loss", "experiment", "measured", "plan", "train"]

DISTURBANCES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
RATES = (1e-7, 1e-6, 1e-5, 1e-4)
"""Relative steps of training from hand-set weights."""
RANDOM_RATE = 3e-3
"""Largest rate of Adam from random weights."""
TIMES = (0.01, 5.0)
"""Diffusion times of the loss, log-uniform."""
EVALUATION = 256
"""Sequences of the loss that is reported, the same ones for all."""
DISTURBED, RELATIVE, RANDOM = "disturbed", "relative steps", "random weights"
"""Parts of the measurement."""


def _batch(process: GaussianProcess, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(X_t, t), float64."""
    x0 = process.sample(n, generator)
    t = TIMES[0] * (TIMES[1] / TIMES[0]) ** torch.rand(n, generator=generator, dtype=torch.float64)
    return add_noise(x0, t, torch.randn(x0.shape, generator=generator, dtype=torch.float64)), t


def excess_loss(
    model: nn.Module, process: GaussianProcess, x: Float[Tensor, "batch N d"], t: Float[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Mean of sigma_t^2 (s_hat - s)^2 over sequences, frames and values."""
    return (sigma(t)[:, None, None] * (model(x, t) - process.score(x, t))).square().mean()


def disturbed(model: nn.Module, size: float, generator: torch.Generator) -> nn.Module:
    """A copy whose every weight w is w (1 + size z), z standard normal."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1 + size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return other


def train(
    model: nn.Module, process: GaussianProcess, rate: float, steps: int, batch: int, seed: int
) -> Iterator[Float[Tensor, ""]]:
    """Adam with a cosine schedule on the excess loss, in place; yields the loss of each batch."""
    # Gradients in theta reach 1e-12: Adam's usual eps would swallow them.
    optimiser = torch.optim.Adam(model.parameters(), lr=rate, eps=1e-30)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        loss = excess_loss(model, process, *_batch(process, batch, generator))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        yield loss.detach()


def plan(steps: int, batch: int, seed: int) -> list[Configuration]:
    """The disturbances, a training in relative steps for each rate, and one from random weights."""
    shared = {"steps": steps, "batch": batch, "seed": seed}
    parts = [{"part": DISTURBED, "rate": 0.0}, *({"part": RELATIVE, "rate": rate} for rate in RATES)]
    return [{**part, **shared} for part in [*parts, {"part": RANDOM, "rate": RANDOM_RATE}]]


def configurations(budget: Budget) -> list[Configuration]:
    """Three blocks of hand-set weights, Ornstein-Uhlenbeck."""
    if budget == "full":
        process, steps = ProcessOptions(length=32, lengthscale=4.0), 60
    else:
        process, steps = ProcessOptions(length=16, dim=2, lengthscale=4.0), 30
    shared = {"process": asdict(process), "applications": 2, "heads": 40}
    return [{**shared, **each} for each in plan(steps, batch=32, seed=0)]


def run(configuration: Configuration) -> list[Row]:
    """One part of the measurement, of the model that the configuration describes."""
    process = ProcessOptions(**configuration["process"]).process()
    model = construct(process, "preconditioned", configuration["applications"], heads=configuration["heads"])
    return measured(cast(DiT, model), process, configuration)


def measured(model: DiT, process: GaussianProcess, configuration: Configuration) -> list[Row]:
    """One part of the measurement, of any DiT with hand-set float64 weights.

    Returns:
        Rows: part, rate (of training, or size of the disturbance), step, on ("fresh" sequences, the same ones for all,
        or the "batch" of a step), loss.
    """
    part, rate, seed = configuration["part"], configuration["rate"], configuration["seed"]
    fresh = _batch(process, EVALUATION, torch.Generator().manual_seed(seed + 1))

    @torch.no_grad()
    def row(candidate: nn.Module, rate: float, step: int = 0) -> Row:
        loss = float(excess_loss(candidate, process, *fresh))
        return {"part": part, "rate": rate, "step": step, "on": "fresh", "loss": loss}

    generator = torch.Generator().manual_seed(seed)
    if part == DISTURBED:
        return [row(model, 0.0), *(row(disturbed(model, size, generator), size) for size in DISTURBANCES)]
    if part == RANDOM:
        candidate: nn.Module = DiT(model.config)
        cast(DiT, candidate).reset_parameters(generator)
        candidate = candidate.double()
    else:
        candidate = multiplicative(copy.deepcopy(model))
    rows = [row(candidate, rate)]
    for step, loss in enumerate(train(candidate, process, rate, configuration["steps"], configuration["batch"], seed)):
        rows.append({"part": part, "rate": rate, "step": step, "on": "batch", "loss": float(loss)})
    return [*rows, row(candidate, rate, configuration["steps"])]


def _label(part: str, rate: float) -> str:
    words = {DISTURBED: f"hand-set, disturbed by {rate:g}", RELATIVE: f"hand-set, relative steps of {rate:g}",
             RANDOM: f"random weights, rate {rate:g}"}  # fmt: skip
    return words[part]


def _disturbances(results: pd.DataFrame) -> tuple[float, pd.DataFrame]:
    """The loss as built, and the rows of the disturbed weights."""
    rows = results.query("part == @DISTURBED")
    return float(rows.query("rate == 0").loss.iloc[0]), rows.query("rate > 0")


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Excess loss on fresh sequences before and after each disturbance and each training."""
    start, moved = _disturbances(results)
    rows = [(_label(DISTURBED, row["rate"]), start, row["loss"]) for row in moved.to_dict("records")]
    trained = results.query("part != @DISTURBED and on == 'fresh'")
    for key, ends in trained.groupby(["part", "rate"], sort=False):
        rows.append((_label(*cast(tuple[str, float], key)), ends.loss.iloc[0], ends.loss.iloc[-1]))
    return pd.DataFrame(rows, columns=["weights", "loss before", "loss after"])


@theme()
def figure(results: pd.DataFrame) -> Figure:
    """Loss against the size of a disturbance; loss while training, from hand-set and from random weights."""
    start, moved = _disturbances(results)
    drawn, axes = plt.subplots(1, 2, figsize=(9.4, 3.6), layout="constrained")
    sns.lineplot(moved, x="rate", y="loss", marker="o", ax=axes[0], errorbar=None, color="C0")
    axes[0].axhline(start, color="black", linewidth=0.8, linestyle="--")
    axes[0].annotate("as built", (DISTURBANCES[-1], start), fontsize="small", ha="right", va="bottom")
    axes[0].set(xscale="log", yscale="log", xlabel="relative disturbance of every weight", ylabel="excess loss",
                title="How wide the basin is")  # fmt: skip
    curves = results.query("on == 'batch'")
    curves = curves.assign(run=[_label(*pair) for pair in zip(curves.part, curves.rate, strict=True)])
    sns.lineplot(curves, x="step", y="loss", hue="run", ax=axes[1], linewidth=1.1)
    axes[1].axhline(start, color="black", linewidth=0.8, linestyle="--")
    axes[1].set(
        yscale="log", ylabel="excess loss of the batch", title="Training in relative steps, or from random weights"
    )
    sns.move_legend(axes[1], "upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small", title=None)
    for ax in axes:
        ax.grid(which="major", alpha=0.3)
    return drawn


def finding(results: pd.DataFrame) -> str:
    """How wide the basin is, at which relative steps training lowers the loss, and whether random weights get there."""
    start, moved = _disturbances(results)
    losses = np.maximum.accumulate(moved.loss)
    # Where it crosses twice the undisturbed loss, by interpolation in logarithms.
    crossed = float(np.exp(np.interp(np.log(2 * start), np.log(losses), np.log(moved.rate))))
    if losses.max() < 2 * start:
        width = f"No relative disturbance up to {crossed:.0e} in every weight doubles the loss"
    else:
        less = " or less" if losses.min() >= 2 * start else ""
        width = f"A relative disturbance of {crossed:.1e}{less} in every weight doubles the loss"
    ends = results.query("on == 'fresh' and step > 0")
    relative = ends.query("part == @RELATIVE")
    lower = [f"{rate:g} (to {loss / start:.2f} of it)" for rate, loss in zip(relative.rate, relative.loss, strict=True)
             if loss < start]  # fmt: skip
    random = float(ends.query("part == @RANDOM").loss.iloc[0])
    return (
        f"The excess loss as built is {start:.1e}. {width}. Training in relative steps lowers it at"
        f" {'steps of ' + ', '.join(lower) + ' and at no others' if lower else 'none of the steps tried'}."
        f" Random weights reach {random:.1e} in {int(ends.step.max())} steps, which is"
        f" {'above' if random > start else 'not above'} the hand-set ones."
    )


def core_seconds(configuration: Configuration) -> float:
    """Measured."""
    return 10.0


experiment = Experiment(
    module=__name__,
    question="Can training start from hand-set weights, or is their basin too narrow?",
    columns={"part": str, "rate": float, "step": int, "on": str, "loss": float},
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
)
