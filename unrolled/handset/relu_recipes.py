"""The algorithms of a ReluTransformer as recipes: from the process, the steps and the options to the finished model."""

from typing import NoReturn

import torch

from unrolled.checks import InputError
from unrolled.handset.drafts import ReluDraft, finish_relu, iterations, prediction_times
from unrolled.handset.options import ReluOptions
from unrolled.handset.predict import predict_conjugate_gradient, predict_relu_iteration
from unrolled.handset.relu_conjugate_gradient import relu_conjugate_gradient
from unrolled.handset.relu_iteration import relu_iteration
from unrolled.handset.relu_published import published_error, relu_published
from unrolled.handset.truncation import TruncatedCovariance, truncate
from unrolled.models.relu import ReluTransformer
from unrolled.process import GaussianProcess
from unrolled.solvers import chebyshev_nodes

__all__ = ["relu_chebyshev_recipe", "relu_conjugate_gradient_recipe", "relu_gradient_descent_recipe"]


def relu_gradient_descent_recipe(process: GaussianProcess, steps: int | None, options: ReluOptions) -> ReluTransformer:
    """Two blocks for each step; more from the published modules."""
    count = iterations(steps)
    layers = options.multiplication_layers
    if layers is None:
        return _iteration("gradient_descent", process, [0.0] * count, options)
    if layers < 1:
        _refuse_multiplication_layers("gradient_descent", options)
    covariance = _covariance(process, options, other_heads=1)
    model, program, blocks = relu_published(covariance, count, options.t_range, layers)
    times = prediction_times(options.t_range).tolist()
    predicted = torch.tensor([published_error(covariance, options.t_range, t, layers, options.dtype) for t in times])
    return finish_relu("gradient_descent", covariance, options, ReluDraft(model, program, count, blocks, predicted))


def relu_chebyshev_recipe(process: GaussianProcess, steps: int | None, options: ReluOptions) -> ReluTransformer:
    """Two blocks for each step."""
    nodes = chebyshev_nodes(iterations(steps))
    if options.multiplication_layers is not None:
        _refuse_multiplication_layers("chebyshev", options)
    return _iteration("chebyshev", process, nodes, options)


def _iteration(algorithm: str, process: GaussianProcess, nodes: list[float], options: ReluOptions) -> ReluTransformer:
    covariance = _covariance(process, options, other_heads=1)
    model, program, blocks = relu_iteration(covariance, nodes, options.t_range)
    times = prediction_times(options.t_range)
    predicted = predict_relu_iteration(covariance, nodes, times, options.dtype).amax(dim=1)
    return finish_relu(algorithm, covariance, options, ReluDraft(model, program, len(nodes), blocks, predicted))


def relu_conjugate_gradient_recipe(
    process: GaussianProcess, steps: int | None, options: ReluOptions
) -> ReluTransformer:
    """Eleven blocks for each step."""
    count = iterations(steps)
    if options.multiplication_layers is not None:
        _refuse_multiplication_layers("conjugate_gradient", options)
    covariance = _covariance(process, options, other_heads=2)
    model, program, blocks = relu_conjugate_gradient(covariance, count, options.t_range, options.dtype)
    predicted = predict_conjugate_gradient(covariance, count, prediction_times(options.t_range), options.dtype)
    return finish_relu("conjugate_gradient", covariance, options, ReluDraft(model, program, count, blocks, predicted))


def _refuse_multiplication_layers(algorithm: str, options: ReluOptions) -> NoReturn:
    raise InputError(
        f"multiplication_layers: {options.multiplication_layers!r} with {algorithm!r} is not accepted; accepted: an"
        " integer >= 1 with 'gradient_descent'"
    )


def _covariance(process: GaussianProcess, options: ReluOptions, other_heads: int) -> TruncatedCovariance:
    """The covariance cut off at `truncation`, or where `heads` beside `other_heads` leave room; J = N takes one head
    more."""
    lags, heads = options.truncation, options.heads
    if heads is not None and lags is None:
        room = heads - other_heads
        if room < 1:
            raise InputError(f"heads: {heads} is not accepted; accepted: an integer >= {other_heads + 1}")
        lags = process.length if room > process.length else min(room, max(1, process.length - 1))
    return truncate(process, lags, options.t_range[0])
