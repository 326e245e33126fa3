# pyright: strict
"""What `construct` may be told beside the process, the algorithm and its steps: one class of options per model."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch

from unrolled.checks import InputError, refuse, require_choice, require_integer, require_number, require_t_range
from unrolled.diffusion import check_time

__all__ = ["RAMPS", "RIDGE", "DiTOptions", "ReluOptions", "options_of"]

RIDGE = 2e-3
"""Ridge on the preconditioner's weights. A tenth of it lets float32 diverge; ten times it costs a factor in float64."""
RAMPS = 96
"""SiLU ramps of the time features: measured, 64 hold the sharpest Chebyshev step size to 4e-7, 96 to 1e-11."""
FEWEST_RAMPS = 16
Options = TypeVar("Options", bound="DiTOptions | ReluOptions")


LATEST_TIME = 100.0
"""Diffusion times are at most this: nothing of the data is left (alpha_t = 2e-22), and e^t must be a number."""
MOST_DOMINANCE = 1e12
"""B is at most this: its square times the rounding of float64 is then already a hundred million."""


def _check_times_and_dtype(t_range: tuple[float, float], dtype: object) -> None:
    for t in t_range:
        check_time(t, 1)
    if require_t_range(t_range)[1] > LATEST_TIME:
        refuse("t_range", t_range, f"times up to {LATEST_TIME:g}")
    if dtype not in (torch.float64, torch.float32):
        refuse("dtype", dtype, "torch.float64 and torch.float32")


@dataclass(frozen=True)
class DiTOptions:
    """Options of a DiT.

    Attributes:
        t_range: diffusion times the model accepts.
        dtype: torch.float64, or float32 at a price that `.construction.predicted_error` states.
        norm: "none", or "layer": LayerNorm made linear by constants that dominate it, at twice the width.
        heads: most attention heads in a block. The model holds the kernel with four (where not given), two or one
            Gaussian per octave of width, whatever fits.
        ramps: SiLU ramps of the time features, at least 16.
        ridge: of the preconditioner's weights.
        tolerance: largest predicted error that is accepted.
        dominance: B of the constants that dominate LayerNorm; 1e6 in float64 and 1e4 in float32 where not given.
        error: of the score, which the closed form is to stay below at every t, in (0, 1).
        fit_length: sequence length up to which the heads hold the kernel, so that `extend` may lengthen the model of
            an iteration; N where not given.
    """

    t_range: tuple[float, float] = (1e-3, 8.0)
    dtype: torch.dtype = torch.float64
    norm: str = "none"
    heads: int | None = None
    ramps: int = RAMPS
    ridge: float = RIDGE
    tolerance: float | None = None
    dominance: float | None = None
    fit_length: int | None = None
    error: float | None = None

    def __post_init__(self) -> None:
        _check_times_and_dtype(self.t_range, self.dtype)
        require_choice("norm", self.norm, ("none", "layer"))
        if self.dominance is not None and self.norm == "none":
            raise InputError(f"dominance: {self.dominance!r} is not accepted with norm 'none'; accepted: None")
        if self.dominance is not None:
            require_number("dominance", self.dominance, above=0, below=MOST_DOMINANCE)
        require_integer("ramps", self.ramps, FEWEST_RAMPS)
        require_number("ridge", self.ridge, above=0)
        if self.error is not None:
            require_number("error", self.error, above=0, below=1)


@dataclass(frozen=True)
class ReluOptions:
    """Options of the theory's transformer.

    Attributes:
        t_range: diffusion times the model accepts.
        dtype: torch.float64, or float32 at a price that `.construction.predicted_error` states.
        heads: most attention heads in a block; the covariance is cut off at as many lags as fit.
        tolerance: largest predicted error that is accepted.
        truncation: J, the lags below which the model holds the covariance; where not given, the smallest that changes
            the smallest eigenvalue by less than a tenth.
        multiplication_layers: makes the model of gradient descent from the published modules instead of ours, with
            that many layers in each multiplication; for comparison.
    """

    t_range: tuple[float, float] = (1e-3, 8.0)
    dtype: torch.dtype = torch.float64
    heads: int | None = None
    tolerance: float | None = None
    truncation: int | None = None
    multiplication_layers: int | None = None

    def __post_init__(self) -> None:
        _check_times_and_dtype(self.t_range, self.dtype)


def options_of(kind: type[Options], model: str, given: Mapping[str, Any]) -> Options:
    """The options that were given by name.

    Raises:
        InputError: a name that `kind` does not have, or a value that it refuses.
    """
    names = [field.name for field in fields(kind)]
    for name, value in given.items():
        if name not in names:
            raise InputError(f"{name}: {value!r} is not accepted for model {model!r}; accepted: {', '.join(names)}")
    if "t_range" in given:
        given = {**given, "t_range": tuple(map(float, given["t_range"]))}
    return kind(**given)
