"""What the networks on a page compute: errors in all and in the longest mode, and what of them can be made linear.

Models that nobody trained stand beside them.

The longest mode is the eigenvector of Gamma with the largest eigenvalue. A network made linear has every attention map
replaced by its mean over sequences, and every LayerNorm and activation by its affine map of mean slope
(`probes.replacement`).
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from probes.modes.operator import Coordinates, score_residuals
from probes.replacement.explicit import batched_score
from probes.replacement.means import network_means
from probes.replacement.stand_ins import Replaced, StandIn, part_stand_ins
from probes.resampling import bootstrap_counts
from reports.measure import folded
from reports.networks import parameter_count
from reports.stories import unet_beside
from unrolled.checkpoint import Checkpoint
from unrolled.checks import InputError
from unrolled.diffusion import ScoreModel
from unrolled.evaluate import times_within
from unrolled.fit.study import fit_model
from unrolled.handset import construct
from unrolled.models.dit import DiT
from unrolled.process import GaussianProcess
from unrolled.series.data import draw_training_set

__all__ = ["Answer", "answer", "made_linear"]

SEQUENCES = 512
"""Sequences behind every error; half as many, others, behind the means of a network made linear."""
RESAMPLES = 1000
FITTED = 10_000
"""Sequences behind the affine estimate."""
MOST_VALUES = 256
"""Largest N d for which models are set by hand and fitted for the page."""
HAND_SET: dict[str, dict[str, Any]] = {
    "hand-set, closed form": {"algorithm": "closed_form", "error": 1e-5},
    "hand-set, preconditioned": {"algorithm": "preconditioned", "steps": 2},
}


@dataclass(frozen=True)
class Answer:
    """What was found of one process.

    Attributes:
        process: in words.
        errors: a row per (model, t): error, longest (the error in the longest mode, relative to the score in it).
        modes: a row per (model, mode) at the smallest t: error, mode 1 of the largest eigenvalue; not of a UNet from
            committed results.
        models: a row per model: blocks, parameters, seconds it took to make.
        linear: a row per (model, t) of a trained DiT: ratio of the error of the network made linear, and of that with
            mean maps alone, to its own, with 95 % intervals of the first over sequences.
    """

    process: str
    errors: pd.DataFrame
    modes: pd.DataFrame
    models: pd.DataFrame
    linear: pd.DataFrame


@dataclass(frozen=True)
class _Model:
    name: str
    score: ScoreModel
    dtype: torch.dtype
    blocks: float
    parameters: float
    seconds: float


def answer(runs: Sequence[tuple[str, Checkpoint]], seed: int, device: torch.device) -> Answer:
    """What was found of checkpoints of one Gaussian process.

    Args:
        runs: names and checkpoints.
        seed: of the sequences, the bootstrap and the fit of the affine estimate.
        device: where the models run.
    """
    first = runs[0][1]
    process = first.process
    low, high = max(run.t_range[0] for _, run in runs), min(run.t_range[1] for _, run in runs)
    times = times_within((low, high)) or [low]
    models = [*_given(runs, device), *_made(process, (low, high), seed)]
    errors, modes, linear = [], [], []
    for t in times:
        x = process.noisy(SEQUENCES, t, torch.Generator().manual_seed(seed))
        for model in models:
            seen = x.to(device, model.dtype)
            by_mode, error = _errors(score_residuals(model.score, process, seen, t), process, t)
            errors.append({"model": model.name, "t": t, "error": error, "longest": float(by_mode[-1])})
            if t == times[0]:
                table = pd.DataFrame({"mode": np.arange(1, process.length + 1), "error": by_mode.flip(0).numpy()})
                modes.append(table.assign(model=model.name))
        for name, run in runs:
            if isinstance(run.model, DiT) and run.model.construction is None:
                linear.append({"model": name, "t": t, **made_linear(run.model, process, x, t, seed, device)})
    known = [{"model": m.name, "blocks": m.blocks, "parameters": m.parameters, "seconds": m.seconds} for m in models]
    tables = [
        pd.concat([pd.DataFrame(own), more], ignore_index=True)
        for own, more in zip((errors, known), unet_beside(process, times), strict=True)
    ]
    words = f"{process.temporal}, {process.length} frames of {process.dim} values"
    return Answer(words, tables[0], pd.concat(modes, ignore_index=True), tables[1], pd.DataFrame(linear))


def _given(runs: Sequence[tuple[str, Checkpoint]], device: torch.device) -> Iterator[_Model]:
    for name, run in runs:
        model = run.model.to(device)
        blocks = getattr(model.config, "depth", math.nan)
        seconds = run.provenance.get("seconds", math.nan)
        yield _Model(name, folded(model), run.dtype, blocks, parameter_count(model), seconds)


def _made(process: GaussianProcess, t_range: tuple[float, float], seed: int) -> Iterator[_Model]:
    """Models set by hand, where the process has a recipe, and the affine estimate."""
    double = torch.float64
    if process.length * process.dim <= MOST_VALUES:
        for name, options in HAND_SET.items():
            start = time.perf_counter()
            try:
                model = construct(process, t_range=t_range, **options)
            except InputError:  # no recipe for this covariance
                continue
            seconds, count = time.perf_counter() - start, parameter_count(model)
            yield _Model(name, folded(model), double, len(model.blocks), count, seconds)
        start = time.perf_counter()
        fitted = fit_model("affine", draw_training_set(process, FITTED, seed), t_range).model
        seconds = time.perf_counter() - start
        yield _Model(f"affine, {FITTED} sequences", fitted, double, math.nan, math.nan, seconds)
    yield _Model("exact score", process.score, double, math.nan, math.nan, math.nan)


def _errors(residuals: Float[Tensor, "n N d"], process: GaussianProcess, t: float) -> tuple[Float[Tensor, " N"], float]:
    """Relative error in each eigenmode of Gamma, ascending, and in all."""
    squares = Coordinates(process, t).rotated(residuals).unflatten(1, (process.length, process.dim)).square()
    score = 1 / process.eigenvalues(t)  # mean square of the score in each mode
    mean = squares.mean(dim=0)
    return (mean.sum(dim=1) / score.sum(dim=1)).sqrt(), float((mean.sum() / score.sum()).sqrt())


@torch.no_grad()
def made_linear(
    model: DiT, process: GaussianProcess, x: Float[Tensor, "n N d"], t: float, seed: int, device: torch.device
) -> dict[str, float]:
    """Errors of a DiT with mean maps and made linear, relative to its own on the same sequences.

    Args:
        model: trained or hand-set.
        process: of the data.
        x: sequences that judge.
        t: diffusion time.
        seed: of other sequences, behind the means, and of the bootstrap.
        device: where the model is.

    Returns:
        Ratios by name, "mean maps" and "linear", and the 95 % interval of the second over sequences, "low" and "high".
    """
    dtype = next(model.parameters()).dtype
    fit = process.noisy(SEQUENCES // 2, t, torch.Generator().manual_seed(seed + 1)).to(device, dtype)
    made = part_stand_ins(network_means(model, fit, t))["linear"]
    stand_ins = {"network": StandIn(), "mean maps": replace(made, norms=None, activations=None), "linear": made}
    judged, exact = x.to(device, dtype), process.score(x.to(dtype).double(), t)
    squares: dict[str, np.ndarray] = {}
    for name, stand_in in stand_ins.items():
        score = batched_score(model, judged, t, Replaced(model, stand_in)).double().cpu()
        squares[name] = (score - exact).square().sum(dim=(1, 2)).numpy()
    counts = bootstrap_counts(len(judged), RESAMPLES, seed)
    drawn = np.sqrt((counts @ squares["linear"]) / (counts @ squares["network"]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    ratios = {name: float(np.sqrt(squares[name].sum() / squares["network"].sum())) for name in ("mean maps", "linear")}
    return {**ratios, "low": float(low), "high": float(high)}
