"""The algorithms of a DiT as recipes: from the process, the steps and the options to the finished model."""

from typing import NoReturn

import torch

from unrolled.checks import InputError
from unrolled.handset.drafts import DiTDraft, finish_dit, iterations, prediction_times
from unrolled.handset.gaussian_heads import MANTISSAS, GaussianDictionary, dyadic_widths, fit_dictionary
from unrolled.handset.iteration import iteration_dit
from unrolled.handset.options import DiTOptions
from unrolled.handset.preconditioned_dit import preconditioned_dit
from unrolled.handset.predict import operator_error, predict_iteration
from unrolled.kernels import TemporalKernel
from unrolled.models.dit import DiT
from unrolled.process import GaussianProcess
from unrolled.solvers import chebyshev_nodes

__all__ = ["chebyshev_recipe", "gradient_descent_recipe", "preconditioned_recipe"]


def gradient_descent_recipe(process: GaussianProcess, steps: int | None, options: DiTOptions) -> DiT:
    """A block for each step."""
    return _iteration("gradient_descent", process, [0.0] * iterations(steps), options)


def chebyshev_recipe(process: GaussianProcess, steps: int | None, options: DiTOptions) -> DiT:
    """A block for each step."""
    return _iteration("chebyshev", process, chebyshev_nodes(iterations(steps)), options)


def _iteration(algorithm: str, process: GaussianProcess, nodes: list[float], options: DiTOptions) -> DiT:
    _refuse_error(options)
    fit_length = process.length if options.fit_length is None else options.fit_length
    if fit_length < process.length:
        _refuse_fit_length(process, options)
    dictionary = _dictionary(process, fit_length, options.heads, fewest_heads=0)
    model, stream, fitter = iteration_dit(process, dictionary, nodes, options.t_range, options.ramps)
    times = prediction_times(options.t_range)
    predicted = predict_iteration(process, dictionary, nodes, fitter, times, options.dtype).amax(dim=1)
    steps = len(nodes)
    draft = DiTDraft(
        model,
        stream,
        fitter,
        dictionary.error,
        operator_error(process, dictionary),
        dictionary.widths,
        steps,
        list(range(steps)),
        predicted,
    )
    return finish_dit(algorithm, process, options, draft)


def preconditioned_recipe(process: GaussianProcess, steps: int | None, options: DiTOptions) -> DiT:
    """Applications of a fitted approximate inverse: 1, 2, 3 steps are 1, 3, 5 blocks."""
    applications = iterations(steps)
    _refuse_error(options)
    if options.fit_length is not None:
        _refuse_fit_length(process, options)
    inverse_widths = dyadic_widths(process.length, 1)
    dictionary = _dictionary(process, process.length, options.heads, fewest_heads=2 * len(inverse_widths))
    model, stream, fitter, errors = preconditioned_dit(
        process, dictionary, applications, options.t_range, options.ramps, options.ridge
    )
    times = prediction_times(options.t_range)
    nearest = (torch.log(fitter.t)[None] - torch.log(times)[:, None]).abs().argmin(dim=1)
    widths = torch.cat([dictionary.widths, inverse_widths])
    blocks = [2 * j for j in range(applications)]
    draft = DiTDraft(
        model,
        stream,
        fitter,
        dictionary.error,
        operator_error(process, dictionary),
        widths,
        applications,
        blocks,
        errors[-1][nearest],
        ridge=options.ridge,
        predicts_score=True,
    )
    return finish_dit("preconditioned", process, options, draft)


def _refuse_error(options: DiTOptions) -> None:
    if options.error is not None:
        raise InputError(f"error: {options.error!r} is not accepted; accepted: None, but for the closed form")


def _refuse_fit_length(process: GaussianProcess, options: DiTOptions) -> NoReturn:
    raise InputError(
        f"fit_length: {options.fit_length!r} is not accepted; accepted: an integer >= {process.length}, for gradient"
        " descent and Chebyshev as a DiT"
    )


def _dictionary(process: GaussianProcess, fit_length: int, heads: int | None, fewest_heads: int) -> GaussianDictionary:
    """The finest dictionary that fits in `heads`, of which the recipe needs `fewest_heads` for something else."""
    assert isinstance(process.temporal, TemporalKernel)  # `construct` has refused others
    needed = fewest_heads
    for per_octave in sorted(MANTISSAS, reverse=True):
        dictionary = fit_dictionary(process.temporal, fit_length, per_octave)
        needed = max(fewest_heads, len(dictionary.widths))
        if heads is None or needed <= heads:
            return dictionary
    raise InputError(f"heads: {heads} is not accepted; accepted: an integer >= {needed}, one Gaussian per octave")
