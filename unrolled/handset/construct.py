"""`construct`: a score model whose forward pass is the asked solver, with a record of what it should do."""

import torch

from unrolled.diffusion import check_time
from unrolled.dit import DiT
from unrolled.handset.construction import Construction, sizes_of
from unrolled.handset.gaussian_heads import MANTISSAS, GaussianDictionary, dyadic_widths, fit_dictionary
from unrolled.handset.iteration import iteration_dit
from unrolled.handset.preconditioner import preconditioned_dit
from unrolled.handset.predict import operator_error, predict_iteration
from unrolled.kernels import TemporalKernel
from unrolled.process import GaussianProcess
from unrolled.solvers import chebyshev_nodes

__all__ = ["ALGORITHMS", "construct"]

ALGORITHMS = ("gradient_descent", "chebyshev", "preconditioned")
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
) -> DiT:
    """A DiT with hand-set weights that computes `steps` steps of a solver for the score of `process`.

    It is an ordinary instance of the class that is trained. Its `.construction` says how it was made (`Construction`).

    Args:
        process: with a temporal kernel of the project; any N, d and mean.
        algorithm: "gradient_descent", "chebyshev" (a block is a step), or "preconditioned" (applications of a fitted
            approximate inverse: 1, 2, 3 steps are 1, 3, 5 blocks).
        steps: iterations, >= 1.
        model: "dit".
        t_range: diffusion times the model accepts.
        dtype: torch.float64, or float32 at a price that `.construction.predicted_error` states.
        norm: "none".
        heads: most attention heads in a block; the kernel is held with four, two or one Gaussian per octave of width,
            whatever fits. Four where not given.
        ramps: SiLU ramps of the time features.
        ridge: of the preconditioner's weights.
        tolerance: largest predicted error that is accepted.

    Raises:
        ValueError: an argument that is none of the above; too few heads; a predicted error above `tolerance`.
    """
    if not isinstance(process.temporal, TemporalKernel):
        raise ValueError(
            "process: its temporal covariance is a matrix, which Gaussian heads cannot hold; accepted is a kernel"
        )
    if model != "dit":
        raise ValueError(f"model: {model!r} is not accepted; accepted is 'dit'")
    if algorithm == "conjugate_gradient":
        raise ValueError(
            "algorithm: 'conjugate_gradient' divides by inner products, which a DiT's fixed weights cannot;"
            f" accepted are {', '.join(ALGORITHMS)}"
        )
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm: {algorithm!r} is not accepted; accepted are {', '.join(ALGORITHMS)}")
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps: {steps!r} is not accepted; accepted is an integer >= 1")
    if norm != "none":
        raise ValueError(f"norm: {norm!r} is not accepted; accepted is 'none'")
    if dtype not in (torch.float64, torch.float32):
        raise ValueError(f"dtype: {dtype} is not accepted; accepted are torch.float64 and torch.float32")
    if not ridge > 0:
        raise ValueError(f"ridge: {ridge!r} is not accepted; accepted is a number > 0")
    if ramps < 16:
        raise ValueError(f"ramps: {ramps!r} is not accepted; accepted is an integer >= 16")
    low, high = (float(check_time(t, 1)) for t in t_range)
    dictionary = _dictionary(process, process.temporal, heads, algorithm == "preconditioned")
    ends = torch.linspace(0, 1, PREDICTION_TIMES, dtype=torch.float64)
    times = (low * (high / low) ** ends).clamp(low, high)
    if algorithm == "preconditioned":
        made, stream, fitter, errors = preconditioned_dit(
            process, dictionary, steps, (low, high), ramps, ridge
        )
        predicted = _at(fitter.t, errors[-1], times)
        blocks = [2 * j for j in range(steps)]
    else:
        nodes = chebyshev_nodes(steps) if algorithm == "chebyshev" else [0.0] * steps
        made, stream, fitter = iteration_dit(process, dictionary, nodes, (low, high), ramps)
        predicted = predict_iteration(process, dictionary, nodes, fitter, times, dtype).amax(dim=1)
        blocks = list(range(steps))
    if tolerance is not None and float(predicted.max()) > tolerance:
        worst = int(predicted.argmax())
        remedy = "more steps" if algorithm == "preconditioned" else "torch.float64, more heads, or more ramps"
        raise ValueError(
            f"tolerance: {tolerance:g} is below the predicted error {float(predicted[worst]):.2g} of {dtype} at"
            f" t = {float(times[worst]):.2g}; accepted is a larger tolerance, a narrower t_range, or {remedy}"
        )
    made = made.to(dtype).eval()
    made.construction = Construction(
        algorithm=algorithm,
        model=model,
        steps=steps,
        iterate_blocks=blocks,
        subspaces={name: [each.start, each.size] for name, each in stream.subspaces.items()},
        sizes=sizes_of(made),
        t_range=[low, high],
        dtype=str(dtype).removeprefix("torch."),
        kernel_error=dictionary.error,
        operator_error=operator_error(process, dictionary),
        gate_errors=dict(fitter.errors),
        times=times.tolist(),
        spectrum=[list(process.extreme_eigenvalues(float(t))) for t in times],
        predicted_error=predicted.tolist(),
        ridge=ridge if algorithm == "preconditioned" else 0.0,
    )
    return made


def _dictionary(
    process: GaussianProcess, kernel: TemporalKernel, heads: int | None, preconditioned: bool
) -> GaussianDictionary:
    """The finest dictionary that fits in `heads`."""
    least = 2 * len(dyadic_widths(process.length, 1)) if preconditioned else 0
    needed = least
    for per_octave in sorted(MANTISSAS, reverse=True):
        dictionary = fit_dictionary(kernel, process.length, per_octave)
        needed = max(least, len(dictionary.widths))
        if heads is None or needed <= heads:
            return dictionary
    raise ValueError(f"heads: {heads} is not accepted; accepted is an integer >= {needed}, one Gaussian per octave")


def _at(t: torch.Tensor, values: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """`values` on the grid `t` at its nearest points to `times`."""
    return values[(torch.log(t)[None] - torch.log(times)[:, None]).abs().argmin(dim=1)]
