"""adaLN gates as given functions of t: linear maps of the SiLU ramps over log t, solved in relative error.

A gate of a block is bias + sum_r weight_r ramp_r(t). For a function f that is positive (or negative) over the range,
the weights minimise the sum over a dense grid of log t of ((fit - f)/f)^2, by a singular value decomposition in float64
whose small singular values are cut off. The ramps overlap, so coefficients are large and cancel: the cut-off trades
their size, and with it the rounding of a float32 forward pass, against the error of the fit. Where f may be 0 or change
sign (the fitted weights of the preconditioner) the error is absolute instead.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.handset.stream import Subspace
from unrolled.models.dit import TimeRamps

__all__ = ["STRUCTURAL_CUTOFF", "WEIGHT_CUTOFF", "GateFitter", "features", "rounding_sizes"]

STRUCTURAL_CUTOFF = 1e-14
"""Relative cut-off for alpha_t^2, sigma_t and other functions known to all digits."""
WEIGHT_CUTOFF = 1e-6
"""Relative cut-off for fitted functions: it bounds the coefficients, and with them the rounding of a float32 pass."""
GRID_POINTS = 257
"""Points of the fit, four per ramp of the default; errors are judged on the points between them."""


def features(ramps: TimeRamps, t: Float[Tensor, " n"]) -> Float[Tensor, "n features"]:
    """The ramps at any t in their own dtype, and 1 for the bias, as float64: a gate is their product with its
    coefficients."""
    return torch.cat([ramps(t).double(), torch.ones(len(t), 1, dtype=torch.float64)], dim=1)


class GateFitter:
    """Solves for gates over one set of ramps and remembers the largest error of each in `errors`.

    Args:
        ramps: the time features of the model, in float64.
        t_range: diffusion times.
    """

    def __init__(self, ramps: TimeRamps, t_range: tuple[float, float]):
        low, high = t_range
        log_grid = torch.linspace(0, 1, 2 * GRID_POINTS - 1, dtype=torch.float64)
        dense = (low * (high / low) ** log_grid).clamp(low, high)
        self.t, self.between = dense[::2], dense[1::2]
        self._at, self._judged = (features(ramps, t) for t in (self.t, self.between))
        self.errors: dict[str, float] = {}
        self._profiles: dict[str, tuple[Tensor, Tensor]] = {}
        self._solutions: dict[str, Tensor] = {}

    def relative(self, name: str, f: Callable[[Tensor], Tensor], offset: float = 0.0) -> Float[Tensor, " features"]:
        """Coefficients (ramps, then bias) of f(t) - offset, least in error relative to f; solved once for each name.

        `offset` is what the block adds by itself, as the 1 of an input scale 1 + s(c).
        """
        if name in self._solutions:
            return self._solutions[name]
        target = f(self.t)
        design = self._at / target[:, None]
        solution = _truncated_solve(design, ((target - offset) / target)[:, None], STRUCTURAL_CUTOFF)[:, 0]
        error = ((self._judged @ solution + offset) / f(self.between) - 1).abs()
        cancellation = (self._at.abs() @ solution.abs() + abs(offset)) / target.abs()
        self._profiles[name] = (error, cancellation[:-1])
        self.errors[name] = float(error.max())
        self._solutions[name] = solution
        return solution

    def error_at(self, name: str, times: Float[Tensor, " n"], eps: float) -> Float[Tensor, " n"]:
        """Relative error of a gate near each time: the largest of the seven nearest judged ones, plus `eps` times the
        sum of absolute terms over the sum, the rounding of the forward pass."""
        error, cancellation = self._profiles[name]
        nearest = (torch.log(self.between)[None] - torch.log(times)[:, None]).abs().argmin(dim=1)
        window = (nearest[:, None] + torch.arange(-3, 4)).clamp(0, len(error) - 1)
        return error[window].amax(dim=1) + eps * cancellation[nearest]

    def scaled(
        self, name: str, f: Callable[[Tensor], Tensor], unit: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "features gates"]:
        """Coefficients of many gates f(t), (n, gates), least in error over `unit`(t), (n,), which all of them share.

        Any sum of the gates with fixed weights is then fitted in the same way, and better than they are where it is
        smoother in t. The cut-off is that of functions known to all digits.
        """
        solution = _truncated_solve(
            self._at / unit(self.t)[:, None], f(self.t) / unit(self.t)[:, None], STRUCTURAL_CUTOFF
        )
        misfit = (self._judged @ solution - f(self.between)) / unit(self.between)[:, None]
        self.errors[name] = float(misfit.abs().max())
        return solution

    def absolute(self, name: str, values: Float[Tensor, "n gates"]) -> Float[Tensor, "features gates"]:
        """Coefficients of many gates given by their values at `self.t`, least in absolute error."""
        solution = _truncated_solve(self._at, values, WEIGHT_CUTOFF)
        error = float((self._at @ solution - values).abs().max())
        self.errors[name] = max(error, self.errors.get(name, 0.0))
        return solution

    def basis(self) -> tuple[Float[Tensor, "n q"], Float[Tensor, "features q"]]:
        """Orthonormal functions on `self.t` that the ramps hold with moderate coefficients, and those coefficients."""
        u, singular, vt = torch.linalg.svd(self._at, full_matrices=False)
        kept = singular > WEIGHT_CUTOFF * singular[0]
        return u[:, kept], vt[kept].T / singular[kept]

    def values(self, coefficients: Float[Tensor, "features gates"]) -> Float[Tensor, "n gates"]:
        """What fitted gates are at `self.t`."""
        return self._at @ coefficients


def rounding_sizes(
    features: Float[Tensor, "n features"], coefficients: Float[Tensor, "features gates"]
) -> Float[Tensor, "n gates"]:
    """Root of the sum of squared terms of each gate: in units of eps, what independent roundings of its terms make."""
    return (features.square() @ coefficients.square()).sqrt()


def _truncated_solve(
    design: Float[Tensor, "n features"], target: Float[Tensor, "n gates"], cutoff: float
) -> Float[Tensor, "features gates"]:
    """Minimum-norm least squares over the singular directions above `cutoff` times the largest."""
    u, singular, vt = torch.linalg.svd(design, full_matrices=False)
    kept = singular > cutoff * singular[0]
    return vt[kept].T @ ((u[:, kept].T @ target) / singular[kept, None])


@torch.no_grad()
def set_gate(
    modulation: torch.nn.Linear, slot: int, width: int, channels: Subspace, coefficients: Float[Tensor, "features ..."]
) -> None:
    """Put coefficients into slot 0..5 (shift1, scale1, gate1, shift2, scale2, gate2) of a block's modulation."""
    rows = slice(slot * width + channels.start, slot * width + channels.start + channels.size)
    table = coefficients.reshape(len(coefficients), -1).expand(-1, channels.size)  # (features, channels)
    modulation.weight[rows] = table[:-1].T.to(modulation.weight.dtype)
    modulation.bias[rows] = table[-1].to(modulation.bias.dtype)
