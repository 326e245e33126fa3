"""The forward process dX = -X/2 dt + dW and what is measured on it: noising, the training loss, the score error."""

import math
from typing import Protocol, overload, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import InputError

__all__ = [
    "ScoreModel",
    "add_noise",
    "alpha",
    "check_sequences",
    "check_time",
    "denoising_loss",
    "per_sequence",
    "relative_error",
    "sigma",
]


@runtime_checkable
class ScoreModel(Protocol):
    """Anything called as model(x, t) -> score: x (batch, N, d), t scalar or (batch,), score like x."""

    def __call__(self, x: Float[Tensor, "batch N d"], t: Tensor | float, /) -> Float[Tensor, "batch N d"]: ...


@overload
def alpha(t: float) -> float: ...
@overload
def alpha(t: Tensor) -> Tensor: ...
def alpha(t: Tensor | float) -> Tensor | float:
    """alpha_t = exp(-t/2), the factor of the data in X_t = alpha_t X_0 + sigma_t Z."""
    return torch.exp(-t / 2) if isinstance(t, Tensor) else math.exp(-t / 2)


@overload
def sigma(t: float) -> float: ...
@overload
def sigma(t: Tensor) -> Tensor: ...
def sigma(t: Tensor | float) -> Tensor | float:
    """sigma_t = sqrt(1 - exp(-t)), the standard deviation of the noise; expm1 keeps the digits at small t."""
    return torch.sqrt(-torch.expm1(-t)) if isinstance(t, Tensor) else math.sqrt(-math.expm1(-t))


def check_time(
    t: Tensor | float, batch: int, t_range: tuple[float, float] | None = None, device: torch.device | None = None
) -> Float[Tensor, "..."]:
    """`t` as a float64 tensor of shape () or (batch,), refused where a score is not defined.

    Raises:
        InputError: a shape other than () or (batch,); a t that is not finite and > 0; a t outside `t_range`.
    """
    time = torch.as_tensor(t, dtype=torch.float64, device=device)
    if time.shape not in ((), (batch,)):
        raise InputError(f"t: shape {tuple(time.shape)} does not fit; accepted: a scalar or shape ({batch},)")
    if torch.compiler.is_compiling():  # data-dependent checks would break the graph; the caller has made them
        return time
    low, high = (0.0, math.inf) if t_range is None else t_range
    # A bound that went through float32 on its way here still counts as inside.
    tolerance = 1e-6 * low
    inside = (time > 0) & (time >= low - tolerance) & (time <= high * (1 + 1e-6)) & torch.isfinite(time)
    if not bool(inside.all()):
        worst = float(time.reshape(-1)[~inside.reshape(-1)][0])
        accepted = "finite t > 0" if t_range is None else f"t in [{low:g}, {high:g}], this model's t_range"
        raise InputError(f"t: {worst:g} is not accepted; accepted: {accepted}")
    return time


def check_sequences(x: Tensor, length: int, dim: int) -> None:
    """Refuse anything but sequences of real numbers of this shape.

    Raises:
        InputError: x is not (batch, length, dim), or of integers, whose dtype no score fits.
    """
    if not x.is_floating_point():
        raise InputError(f"x: dtype {x.dtype} is not accepted; accepted: float64, float32, bfloat16 or float16")
    if x.ndim != 3 or x.shape[1:] != (length, dim):
        raise InputError(f"x: shape {tuple(x.shape)} is not accepted; accepted: (batch, {length}, {dim})")


def per_sequence(value: Float[Tensor, "..."], x: Float[Tensor, "batch N d"]) -> Float[Tensor, "..."]:
    """A scalar or (batch,) `value` in the dtype of x, shaped to multiply x."""
    value = value.to(x.dtype)
    return value if value.ndim == 0 else value[:, None, None]


def add_noise(
    x0: Float[Tensor, "batch N d"], t: Tensor | float, noise: Float[Tensor, "batch N d"]
) -> Float[Tensor, "batch N d"]:
    """X_t = alpha_t x0 + sigma_t noise for standard normal `noise`; t scalar or (batch,)."""
    time = check_time(t, len(x0), device=x0.device)
    return per_sequence(alpha(time), x0) * x0 + per_sequence(sigma(time), x0) * noise


def denoising_loss(
    model: ScoreModel, x0: Float[Tensor, "batch N d"], t: Tensor | float, noise: Float[Tensor, "batch N d"]
) -> Float[Tensor, " batch"]:
    """Denoising score matching, weighted by sigma_t^2: mean over (N, d) of (sigma_t score(X_t) + noise)^2.

    Its expectation is the sigma_t^2-weighted squared score error plus a constant that does not depend on the model
    (published: Vincent, Neural Computation 23, 2011).
    """
    time = check_time(t, len(x0), device=x0.device)
    score = model(add_noise(x0, time, noise), time)
    return (per_sequence(sigma(time), x0) * score + noise).square().mean(dim=(1, 2))


def relative_error(estimate: Float[Tensor, "*shape"], truth: Float[Tensor, "*shape"]) -> float:
    """Root of the mean squared error over the mean squared norm of `truth`, in float64; 0 where both are 0."""
    estimate, truth = estimate.detach().double(), truth.detach().double()
    error, size = (estimate - truth).square().sum(), truth.square().sum()
    return 0.0 if error == 0 else float((error / size).sqrt())
