"""From what a recipe makes to a finished model: its dtype, its normalisation, and its record.

A recipe makes a float64 model and says what it knows of it, in a draft. `finish_dit` and `finish_relu` do what is the
same for every recipe.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import require_integer
from unrolled.diffusion import relative_error
from unrolled.handset.gates import GateFitter
from unrolled.handset.iterates import hidden_iterates
from unrolled.handset.neutral_norm import DOMINANCE, neutralisation_error, neutralise
from unrolled.handset.options import DiTOptions, ReluOptions
from unrolled.handset.predict import MARGIN, relu_operator_error
from unrolled.handset.relu_program import ReluProgram
from unrolled.handset.stream import Stream
from unrolled.handset.truncation import TruncatedCovariance
from unrolled.models.dit import DiT
from unrolled.models.record import DiTConstruction, ReluConstruction
from unrolled.models.relu import ReluTransformer
from unrolled.process import GaussianProcess

__all__ = ["DiTDraft", "ReluDraft", "finish_dit", "finish_relu", "iterations", "prediction_times"]

SAMPLES = 16
"""Sequences behind what is measured on a built model."""
SAMPLING = 1.5
"""How many times the expected error so few sequences may show by chance."""
EVERY = 8
"""A model is run at every eighth of the prediction times."""
PREDICTION_TIMES = 33
"""Diffusion times, even in log t, at which the error is predicted."""


@dataclass(frozen=True)
class DiTDraft:
    """A float64 DiT without normalisation, and what its recipe knows of it; see `DiTConstruction`.

    Attributes:
        model: the DiT.
        stream: subspaces of its residual stream.
        fitter: of its gates.
        kernel_error: see `Construction`.
        operator_error: see `Construction`.
        widths: b of each channel of log(c - Z_i).
        steps: of the solver.
        iterate_blocks: index of the block after which each iterate stands.
        predicted_error: at each of `prediction_times`.
        ridge: of the preconditioner's weights, where there are any.
        predicts_score: whether the predicted error is an expected error of the score, without rounding and gates.
    """

    model: DiT
    stream: Stream
    fitter: GateFitter
    kernel_error: float
    operator_error: float
    widths: Float[Tensor, " M"]
    steps: int
    iterate_blocks: list[int]
    predicted_error: Float[Tensor, " n"]
    ridge: float | None = None
    predicts_score: bool = False


@dataclass(frozen=True)
class ReluDraft:
    """A float64 ReluTransformer, and what its recipe knows of it; see `ReluConstruction`.

    Attributes:
        model: the ReluTransformer.
        program: what it was built from.
        steps: of the solver.
        iterate_blocks: index of the block after which each iterate stands.
        predicted_error: at each of `prediction_times`.
    """

    model: ReluTransformer
    program: ReluProgram
    steps: int
    iterate_blocks: list[int]
    predicted_error: Float[Tensor, " n"]


def iterations(steps: object) -> int:
    """`steps`, if it is the number of steps of an iteration.

    Raises:
        InputError: it is not.
    """
    return require_integer("steps", steps)


def prediction_times(t_range: tuple[float, float]) -> Float[Tensor, " n"]:
    """The diffusion times at which the error is predicted."""
    low, high = t_range
    ends = torch.linspace(0, 1, PREDICTION_TIMES, dtype=torch.float64)
    return (low * (high / low) ** ends).clamp(low, high)


def finish_dit(algorithm: str, process: GaussianProcess, options: DiTOptions, draft: DiTDraft) -> DiT:
    """The model in its dtype, with the normalisation that was asked for, and with its record."""
    times = prediction_times(options.t_range)
    predicted = draft.predicted_error.numpy()
    model, dominance, changed = draft.model, None, None
    if options.norm == "layer":
        dominance = DOMINANCE[options.dtype] if options.dominance is None else options.dominance
        model = neutralise(draft.model, dominance)
        changed = _at_all(times, lambda few: neutralisation_error(draft.model, process, dominance, few))
        predicted = predicted + changed
    model = model.to(options.dtype).eval()
    config = model.config
    model.construction = DiTConstruction(
        algorithm=algorithm,
        steps=draft.steps,
        iterate_blocks=draft.iterate_blocks,
        subspaces=_subspaces(draft.stream),
        sizes=_sizes(model, config.depth, config.heads, config.mlp_width or 4 * config.width, math.inf),
        t_range=list(options.t_range),
        dtype=_name(options.dtype),
        kernel_error=draft.kernel_error,
        operator_error=draft.operator_error,
        times=times.tolist(),
        spectrum=[list(process.extreme_eigenvalues(t)) for t in times.tolist()],
        predicted_error=predicted.tolist(),
        gate_errors=dict(draft.fitter.errors),
        widths=draft.widths.tolist(),
        fit_length=options.fit_length or process.length,
        ramps=options.ramps,
        ridge=draft.ridge,
        dominance=dominance,
        neutralisation_error=None if changed is None else changed.tolist(),
    )
    if draft.predicts_score:
        measured = _score_error(model, process, times).numpy()
        predicted = predicted + MARGIN * np.where(measured > SAMPLING * predicted, measured, 0.0)
    elif changed is not None:
        draft.model.construction = model.construction
        measured = _at_all(times, lambda few: _deviation(draft.model, model, process, few))
        predicted = predicted + MARGIN * np.maximum(0.0, measured - changed)
    model.construction = replace(model.construction, predicted_error=predicted.tolist())
    return model


def _at_all(
    times: Float[Tensor, " n"], error: Callable[[Float[Tensor, " few"]], Float[Tensor, " few"]]
) -> Float[np.ndarray, " n"]:
    """An error at each time, from every eighth: it is smooth in t, and each time runs the model."""
    few = times[::EVERY]
    return np.asarray(np.interp(torch.log(times), torch.log(few), error(few)))


@torch.no_grad()
def _score_error(model: DiT, process: GaussianProcess, times: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Relative error of the score of a built model at each time, on 16 sequences: what its recipe expects, and what
    gates and rounding make of it."""
    errors = []
    for t in times.tolist():
        x = process.noisy(SAMPLES, t, torch.Generator().manual_seed(0)).to(model.position.dtype)
        errors.append(relative_error(model(x, t), process.score(x.double(), t)))
    return torch.tensor(errors, dtype=torch.float64).nan_to_num(nan=math.inf)


def _deviation(exact: DiT, model: DiT, process: GaussianProcess, times: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Largest deviation of an iterate of `model` from that of `exact`, the same in float64 and without normalisation,
    relative to the exact score, on 16 sequences at each time."""
    errors = []
    for t in times.tolist():
        x = process.noisy(SAMPLES, t, torch.Generator().manual_seed(0)).to(model.position.dtype)
        ours, theirs = hidden_iterates(model, process, x, t), hidden_iterates(exact, process, x.double(), t)
        worst = max(float((a.double() - b).norm()) for a, b in zip(ours, theirs, strict=True))
        errors.append(worst / float(process.score(x.double(), t).norm()))
    return torch.tensor(errors, dtype=torch.float64).nan_to_num(nan=math.inf)


def finish_relu(
    algorithm: str, covariance: TruncatedCovariance, options: ReluOptions, draft: ReluDraft
) -> ReluTransformer:
    """The model in its dtype and with its record."""
    times = prediction_times(options.t_range).tolist()
    model = draft.model.to(options.dtype).eval()
    config = model.config
    error = relu_operator_error(covariance, options.dtype)
    model.construction = ReluConstruction(
        algorithm=algorithm,
        steps=draft.steps,
        iterate_blocks=draft.iterate_blocks,
        subspaces=_subspaces(draft.program.stream),
        sizes=_sizes(
            model, len(config.heads), max(config.heads, default=0), max(config.hidden, default=0), config.radius
        ),
        t_range=list(options.t_range),
        dtype=_name(options.dtype),
        kernel_error=error,
        operator_error=error,
        times=times,
        spectrum=[list(covariance.extreme_eigenvalues(t)) for t in times],
        predicted_error=draft.predicted_error.tolist(),
        truncation=covariance.lags,
        truncation_error=[covariance.relative_error(t) for t in times],
    )
    return model


def _sizes(model: DiT | ReluTransformer, depth: int, heads: int, hidden: int, radius: float) -> dict[str, float]:
    """D, L, M, H, B, R; see `Construction.sizes`."""
    # Three-dimensional parameters hold a matrix for each head.
    norms = [
        float(p.detach().double().norm(dim=(-2, -1)).max()) for p in model.parameters() if p.ndim > 1 and p.numel()
    ]
    return {"D": model.config.width, "L": depth, "M": heads, "H": hidden, "B": max(norms), "R": radius}


def _subspaces(stream: Stream) -> dict[str, list[int]]:
    return {name: [subspace.start, subspace.size] for name, subspace in stream.subspaces.items()}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
