"""`construct`: a score model whose forward pass is the asked solver, with a record of what it should do."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import InputError
from unrolled.diffusion import check_time
from unrolled.handset.gaussian_heads import MANTISSAS, GaussianDictionary, dyadic_widths, fit_dictionary
from unrolled.handset.iteration import iteration_dit
from unrolled.handset.neutral_norm import DOMINANCE, neutralisation_error, neutralise
from unrolled.handset.preconditioned_dit import preconditioned_dit
from unrolled.handset.predict import (
    operator_error,
    predict_conjugate_gradient,
    predict_iteration,
    predict_relu_iteration,
    relu_operator_error,
)
from unrolled.handset.relu_conjugate_gradient import relu_conjugate_gradient
from unrolled.handset.relu_iteration import relu_iteration
from unrolled.handset.relu_published import published_error, relu_published
from unrolled.handset.truncation import TruncatedCovariance, truncate
from unrolled.kernels import TemporalKernel
from unrolled.models.dit import DiT
from unrolled.models.record import Construction, sizes_of
from unrolled.models.relu import ReluTransformer
from unrolled.process import GaussianProcess
from unrolled.solvers import chebyshev_nodes

__all__ = ["ALGORITHMS", "construct"]

ALGORITHMS = {
    "dit": ("gradient_descent", "chebyshev", "preconditioned"),
    "relu": ("gradient_descent", "chebyshev", "conjugate_gradient"),
}
"""What each model can hold."""
RIDGE = 2e-3
"""Of the preconditioner's weights: a tenth of it lets float32 diverge, ten times more costs a factor in float64."""
RAMPS = 96
"""SiLU ramps of the time features: measured, 64 hold the sharpest Chebyshev step size to 4e-7, 96 to 1e-11."""
PREDICTION_TIMES = 33
"""Diffusion times, even in log t, at which the error is predicted."""


def construct(
    process: GaussianProcess,
    algorithm: str,
    steps: int,
    model: str = "dit",
    t_range: tuple[float, float] = (1e-3, 8.0),
    dtype: torch.dtype = torch.float64,
    norm: str = "none",
    heads: int | None = None,
    ramps: int = RAMPS,
    ridge: float = RIDGE,
    tolerance: float | None = None,
    truncation: int | None = None,
    multiplication_layers: int | None = None,
    dominance: float | None = None,
    fit_length: int | None = None,
) -> DiT | ReluTransformer:
    """A model with hand-set weights that computes `steps` steps of a solver for the score of `process`.

    It is an ordinary instance of the class that is trained. Its `.construction` says how it was made (`Construction`).

    Args:
        process: with a temporal kernel of the project; any N, d and mean.
        algorithm: "gradient_descent", "chebyshev"; for a DiT "preconditioned" (applications of a fitted approximate
            inverse: 1, 2, 3 steps are 1, 3, 5 blocks); for a ReluTransformer "conjugate_gradient".
        steps: iterations, >= 1.
        model: "dit", or "relu" for the theory's transformer.
        t_range: diffusion times the model accepts.
        dtype: torch.float64, or float32 at a price that `.construction.predicted_error` states.
        norm: "none", or for a DiT "layer": LayerNorm made linear by constants that dominate it, at twice the width.
        heads: most attention heads in a block. A DiT holds the kernel with four (where not given), two or one Gaussian
            per octave of width, whatever fits; a ReluTransformer truncates the covariance at as many lags as fit.
        ramps: SiLU ramps of the time features of a DiT.
        ridge: of the preconditioner's weights.
        tolerance: largest predicted error that is accepted.
        truncation: J, the lags below which a ReluTransformer holds the covariance; where not given, the smallest that
            changes the smallest eigenvalue by less than a tenth.
        multiplication_layers: makes a ReluTransformer of gradient descent from the published modules instead of ours,
            with that many layers in each multiplication; for comparison.
        dominance: B of those constants; 1e6 in float64 and 1e4 in float32 where not given.
        fit_length: sequence length up to which the heads of a DiT hold the kernel, so that `extend` may lengthen it; N
            where not given.

    Raises:
        InputError: an argument that is none of the above; too few heads; a truncation that leaves the covariance
            indefinite; a predicted error above `tolerance`.
    """
    if not isinstance(process.temporal, TemporalKernel):
        raise InputError(
            "process: its temporal covariance is a matrix, which hand-set heads cannot hold; accepted: a kernel"
        )
    if model not in ALGORITHMS:
        raise InputError(f"model: {model!r} is not accepted; accepted: 'dit' and 'relu'")
    accepted = f"accepted for {model!r} are {', '.join(ALGORITHMS[model])}"
    if model == "dit" and algorithm == "conjugate_gradient":
        raise InputError(
            "algorithm: 'conjugate_gradient' divides inner products of the data, which a DiT's softmax heads and fixed gates"
            f" cannot; {accepted}, or model 'relu'"
        )
    if algorithm not in ALGORITHMS[model]:
        raise InputError(f"algorithm: {algorithm!r} is not accepted; {accepted}")
    if not isinstance(steps, int) or steps < 1:
        raise InputError(f"steps: {steps!r} is not accepted; accepted: an integer >= 1")
    if norm not in (("none", "layer") if model == "dit" else ("none",)):
        names = "'none' and 'layer'" if model == "dit" else "'none', which the theory's transformer has"
        raise InputError(f"norm: {norm!r} is not accepted; accepted for {model!r} are {names}")
    if dominance is not None and norm == "none":
        raise InputError(f"dominance: {dominance!r} is not accepted with norm 'none'; accepted: None")
    if dtype not in (torch.float64, torch.float32):
        raise InputError(f"dtype: {dtype} is not accepted; accepted: torch.float64 and torch.float32")
    if not ridge > 0:
        raise InputError(f"ridge: {ridge!r} is not accepted; accepted: a number > 0")
    if ramps < 16:
        raise InputError(f"ramps: {ramps!r} is not accepted; accepted: an integer >= 16")
    if model == "dit" and (truncation is not None or multiplication_layers is not None):
        given = {"truncation": truncation, "multiplication_layers": multiplication_layers}
        name = next(name for name, value in given.items() if value is not None)
        raise InputError(f"{name}: {given[name]!r} is not accepted for model 'dit'; accepted: None")
    if fit_length is not None and (model != "dit" or algorithm == "preconditioned" or fit_length < process.length):
        raise InputError(
            f"fit_length: {fit_length!r} is not accepted; accepted: an integer >= {process.length}, for gradient descent"
            " and Chebyshev as a DiT"
        )
    low, high = (float(check_time(t, 1)) for t in t_range)
    ends = torch.linspace(0, 1, PREDICTION_TIMES, dtype=torch.float64)
    times = (low * (high / low) ** ends).clamp(low, high)
    made: DiT | ReluTransformer
    if model == "dit":
        made, record = _dit(
            process, algorithm, steps, (low, high), dtype, heads, ramps, ridge, fit_length or process.length, times
        )
        if norm == "layer":
            made, record = _normalised(made, process, dominance or DOMINANCE[dtype], times, record)
        remedy = "more steps" if algorithm == "preconditioned" else "torch.float64, more heads, or more ramps"
    else:
        covariance = truncate(process, _lags(process, algorithm, heads, truncation), low)
        made, record = _relu(covariance, algorithm, steps, (low, high), dtype, multiplication_layers, times)
        remedy = "more steps, or torch.float64" if algorithm == "conjugate_gradient" else "torch.float64"
    predicted = record["predicted_error"]
    worst = max(range(len(predicted)), key=lambda k: predicted[k])
    if tolerance is not None and not predicted[worst] <= tolerance:
        raise InputError(
            f"tolerance: {tolerance:g} is below the predicted error {predicted[worst]:.2g} of {dtype} at"
            f" t = {float(times[worst]):.2g}; accepted: a larger tolerance, a narrower t_range, or {remedy}"
        )
    made = made.to(dtype).eval()
    made.construction = Construction(
        algorithm=algorithm, model=model, steps=steps, sizes=sizes_of(made), t_range=[low, high],
        dtype=str(dtype).removeprefix("torch."), times=times.tolist(), **record,
    )  # fmt: skip
    return made


def _dit(
    process: GaussianProcess,
    algorithm: str,
    steps: int,
    t_range: tuple[float, float],
    dtype: torch.dtype,
    heads: int | None,
    ramps: int,
    ridge: float,
    fit_length: int,
    times: Float[Tensor, " n"],
) -> tuple[DiT, dict[str, Any]]:
    """The model in float64, and what its record says beyond the arguments."""
    dictionary = _dictionary(process, fit_length, heads, algorithm == "preconditioned")
    widths = dictionary.widths
    if algorithm == "preconditioned":
        made, stream, fitter, errors = preconditioned_dit(process, dictionary, steps, t_range, ramps, ridge)
        nearest = (torch.log(fitter.t)[None] - torch.log(times)[:, None]).abs().argmin(dim=1)
        predicted = errors[-1][nearest]
        blocks = [2 * j for j in range(steps)]
        widths = torch.cat([widths, dyadic_widths(process.length, 1)])
    else:
        nodes = _nodes(algorithm, steps)
        made, stream, fitter = iteration_dit(process, dictionary, nodes, t_range, ramps)
        predicted = predict_iteration(process, dictionary, nodes, fitter, times, dtype).amax(dim=1)
        blocks = list(range(steps))
    return made, {
        "iterate_blocks": blocks,
        "subspaces": {name: [each.start, each.size] for name, each in stream.subspaces.items()},
        "kernel_error": dictionary.error,
        "operator_error": operator_error(process, dictionary),
        "gate_errors": dict(fitter.errors),
        "spectrum": [list(process.extreme_eigenvalues(float(t))) for t in times],
        "predicted_error": predicted.tolist(),
        "ridge": ridge if algorithm == "preconditioned" else 0.0,
        "widths": widths.tolist(),
        "fit_length": fit_length,
    }


def _normalised(
    model: DiT, process: GaussianProcess, dominance: float, times: Float[Tensor, " n"], record: dict[str, Any]
) -> tuple[DiT, dict[str, Any]]:
    """The model with LayerNorm, and the record with what that changes."""
    made = neutralise(model, dominance)
    few = times[::4]  # the error is smooth in t, and each point runs the model
    sparse = neutralisation_error(model, process, dominance, few)
    error = np.asarray(np.interp(torch.log(times), torch.log(few), sparse))
    predicted = [a + b for a, b in zip(record["predicted_error"], error.tolist(), strict=True)]
    return made, {
        **record, "predicted_error": predicted, "dominance": dominance, "neutralisation_error": error.tolist(),
    }  # fmt: skip


def _relu(
    covariance: TruncatedCovariance,
    algorithm: str,
    steps: int,
    t_range: tuple[float, float],
    dtype: torch.dtype,
    multiplication_layers: int | None,
    times: Float[Tensor, " n"],
) -> tuple[ReluTransformer, dict[str, Any]]:
    """The model in float64, and what its record says beyond the arguments."""
    if multiplication_layers is not None:
        if algorithm != "gradient_descent" or multiplication_layers < 1:
            raise InputError(
                f"multiplication_layers: {multiplication_layers!r} with {algorithm!r} is not accepted; accepted: an"
                " integer >= 1 with 'gradient_descent'"
            )
        made, program, blocks = relu_published(covariance, steps, t_range, multiplication_layers)
        predicted = torch.tensor(
            [published_error(covariance, t_range, t, multiplication_layers, dtype) for t in times.tolist()]
        )
    elif algorithm == "conjugate_gradient":
        made, program, blocks = relu_conjugate_gradient(covariance, steps, t_range, dtype)
        predicted = predict_conjugate_gradient(covariance, steps, times, dtype)
    else:
        nodes = _nodes(algorithm, steps)
        made, program, blocks = relu_iteration(covariance, nodes, t_range)
        predicted = predict_relu_iteration(covariance, nodes, times, dtype).amax(dim=1)
    error = relu_operator_error(covariance, dtype)
    return made, {
        "iterate_blocks": blocks,
        "subspaces": {name: [each.start, each.size] for name, each in program.stream.subspaces.items()},
        "kernel_error": error,
        "operator_error": error,
        "gate_errors": {},
        "spectrum": [list(covariance.extreme_eigenvalues(float(t))) for t in times],
        "predicted_error": predicted.tolist(),
        "truncation": covariance.lags,
        "truncation_error": [covariance.relative_error(float(t)) for t in times],
    }


def _nodes(algorithm: str, steps: int) -> list[float]:
    return chebyshev_nodes(steps) if algorithm == "chebyshev" else [0.0] * steps


def _lags(process: GaussianProcess, algorithm: str, heads: int | None, truncation: int | None) -> int | None:
    """J that `heads` leave room for beside a product with tau and, in conjugate gradient, 1/rho; J = N takes one
    more."""
    if heads is None or truncation is not None:
        return truncation
    room = heads - (2 if algorithm == "conjugate_gradient" else 1)
    if room < 1:
        raise InputError(f"heads: {heads} is not accepted; accepted: an integer >= {heads - room + 1}")
    return process.length if room > process.length else min(room, max(1, process.length - 1))


def _dictionary(
    process: GaussianProcess, fit_length: int, heads: int | None, preconditioned: bool
) -> GaussianDictionary:
    """The finest dictionary that fits in `heads`."""
    assert isinstance(process.temporal, TemporalKernel)  # `construct` has refused others
    least = 2 * len(dyadic_widths(process.length, 1)) if preconditioned else 0
    needed = least
    for per_octave in sorted(MANTISSAS, reverse=True):
        dictionary = fit_dictionary(process.temporal, fit_length, per_octave)
        needed = max(least, len(dictionary.widths))
        if heads is None or needed <= heads:
            return dictionary
    raise InputError(f"heads: {heads} is not accepted; accepted: an integer >= {needed}, one Gaussian per octave")
