"""`python -m reports.basin --ckpt handset.pt --out DIR`: how wide the basin of hand-set weights is, and training inside
it.

Three measurements, all of the excess denoising loss E sigma_t^2 |s_hat - s|^2 per entry, the denoising loss minus its
smallest value, computed with the exact score s: after each weight is disturbed by a relative normal error; while
training in relative steps (`unrolled.train.multiplicative`) at several rates; and while the same class is trained from
random weights.
"""

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from jaxtyping import Float
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor, nn

from probes.figures import save_figure, theme
from unrolled.checkpoint import load_checkpoint
from unrolled.checks import InputError, require_integer
from unrolled.cli import module_app, print_table, run_app
from unrolled.diffusion import add_noise, sigma
from unrolled.files import require_writable_folder, write_csv
from unrolled.models.dit import DiT
from unrolled.models.record import Construction
from unrolled.process import GaussianProcess
from unrolled.progress import Progress
from unrolled.train.multiplicative import multiplicative

__all__ = ["basin_figure", "disturbed", "excess_loss", "train"]

DISTURBANCES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
RATES = (1e-7, 1e-6, 1e-5, 1e-4)
"""Relative steps of training from hand-set weights."""
RANDOM_RATE = 3e-3
"""Largest rate of Adam from random weights."""
TIMES = (0.01, 5.0)
"""Diffusion times of the loss, log-uniform."""
EVALUATION = 256
"""Sequences of the loss that is reported, the same ones for all."""


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


@theme()
def basin_figure(basin: pd.DataFrame, curves: pd.DataFrame, start: float) -> Figure:
    """Loss against the size of a disturbance; loss while training, from hand-set and from random weights."""
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.6), layout="constrained")
    sns.lineplot(basin, x="disturbance", y="loss", marker="o", ax=axes[0], errorbar=None, color="C0")
    axes[0].axhline(start, color="black", linewidth=0.8, linestyle="--")
    axes[0].annotate("as built", (DISTURBANCES[-1], start), fontsize="small", ha="right", va="bottom")
    axes[0].set(xscale="log", yscale="log", xlabel="relative disturbance of every weight", ylabel="excess loss",
                title="How wide the basin is")  # fmt: skip
    sns.lineplot(curves, x="step", y="loss", hue="run", ax=axes[1], linewidth=1.1)
    axes[1].axhline(start, color="black", linewidth=0.8, linestyle="--")
    axes[1].set(
        yscale="log", ylabel="excess loss of the batch", title="Training in relative steps, or from random weights"
    )
    sns.move_legend(axes[1], "upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small", title=None)
    for ax in axes:
        ax.grid(which="major", alpha=0.3)
    return figure


def basin(*, ckpt: Path, out: Path = Path("basin"), steps: int = 100, batch: int = 32, seed: int = 0) -> None:
    """Write basin.csv, training.csv and basin.png about a DiT with hand-set float64 weights.

    Parameters
    ----------
    ckpt
        Checkpoint written by python -m unrolled.handset.
    out
        Folder for the three files.
    steps
        Optimiser steps of each training.
    batch
        Sequences per step.
    seed
        Seed of disturbances, batches and random weights.
    """
    for name, value in (("steps", steps), ("batch", batch)):
        require_integer(name, value)
    checkpoint = load_checkpoint(ckpt)
    model, process = checkpoint.model, checkpoint.process
    record = getattr(model, "construction", None)
    if not isinstance(model, DiT) or not isinstance(record, Construction) or checkpoint.dtype != torch.float64:
        raise InputError(f"ckpt: {str(ckpt)!r} is not accepted; accepted: a DiT with hand-set float64 weights")
    low, high = checkpoint.t_range
    if low > TIMES[0] or high < TIMES[1]:
        raise InputError(f"ckpt: t_range [{low:g}, {high:g}] is not accepted; accepted: one around {list(TIMES)}")
    require_writable_folder("out", out)
    fresh = _batch(process, EVALUATION, torch.Generator().manual_seed(seed + 1))

    @torch.no_grad()
    def evaluate(candidate: nn.Module) -> float:
        return float(excess_loss(candidate, process, *fresh))

    start = evaluate(model)
    generator = torch.Generator().manual_seed(seed)
    points = [{"disturbance": size, "loss": evaluate(disturbed(model, size, generator))} for size in DISTURBANCES]
    random = DiT(model.config)
    random.reset_parameters(torch.Generator().manual_seed(seed))
    runs: list[tuple[str, nn.Module, float]] = [
        (f"hand-set, steps of {rate:g} |w|", multiplicative(copy.deepcopy(model)), rate) for rate in RATES
    ]
    runs.append((f"random weights, rate {RANDOM_RATE:g}", random.double(), RANDOM_RATE))
    curves, rows = [], []
    with Progress(total=steps * len(runs), title="training", unit="step") as bar:
        for name, candidate, rate in runs:
            before = evaluate(candidate)
            for step, loss in enumerate(train(candidate, process, rate, steps, batch, seed)):
                curves.append({"run": name, "step": step, "loss": float(loss)})
                bar.update()
                bar.say({"run": name, "loss": f"{float(loss):.2e}"})
            rows.append((name, f"{before:.2e}", f"{evaluate(candidate):.2e}"))
    out.mkdir(parents=True, exist_ok=True)
    basin_table, training_table = pd.DataFrame(points), pd.DataFrame(curves)
    for name, table in (("basin.csv", basin_table), ("training.csv", training_table)):
        write_csv(table, out / name)
    save_figure(basin_figure(basin_table, training_table, start), out / "basin.png")
    print_table(
        f"excess loss on {EVALUATION} fresh sequences, before and after {steps} steps", ("run", "before", "after"), rows
    )  # Where the disturbed loss crosses twice the undisturbed one, by interpolation in logarithms.
    losses = np.maximum.accumulate([point["loss"] for point in points])
    width = float(np.exp(np.interp(np.log(2 * start), np.log(losses), np.log(DISTURBANCES))))
    print(f"the loss as built is {start:.2e}; a relative disturbance of {width:.1e} in every weight doubles it")
    print(f"wrote {out / 'basin.csv'}, {out / 'training.csv'} and {out / 'basin.png'}")


app = module_app("reports.basin", basin)

if __name__ == "__main__":
    run_app(app)
