"""Gaussians of fixed widths that sum to every exponential: what lets one set of heads serve all t and all covariances.

Published (Levy's law, the one-sided stable law of index 1/2): for b > 0 and s >= 0,

    e^(-b s) = int_0^inf e^(-u s^2) b/(2 sqrt pi) u^(-3/2) e^(-b^2/(4u)) du.

The trapezoid rule in log u, at u_m = e^(h m), has the weights omega_m(b) = h b/(2 sqrt(pi u_m)) e^(-b^2/(4 u_m)), and

    |sum_m omega_m(b) e^(-u_m s^2) - e^(-z)| <= 2 sum_{k>=1} sqrt(2z/pi) |K_{1/2 + 2 pi i k/h}(z)|,   z = b s,

by Poisson's summation: the Fourier transform of the integrand at 2 pi k/h is a Bessel integral (derived). It is about
2 sqrt 2 e^(-pi^2/h) for small z, up to twice that near z = 2 pi/h, and falls like e^(-z) beyond: absolute, and the same
for every b.

**Dyadic widths.** Mantissas m_j in every octave with shares a_j of its step log 2 are several trapezoid rules of h =
log 2 at once. The k-th term above is multiplied by sum_j a_j e^(2 pi i k log2 m_j). For 3/4, 1, 5/4 there are positive
shares of sum 1 that make it 0 for k = 1, so that three widths of 3 bits in each octave are as exact as h = log(2)/2,
1e-12, and logits are exact in float32 (`gaussian_heads`).

**Both ends.** The rest 1 - sum_m omega_m(b) over the widths that are kept belongs to Gaussians so narrow that they are
1 at distance 0 and 0 at every other, or so wide that their weight is nothing: it is given to distance 0, where the
mixture is then exact. So a width may be left out where omega_m, times what its Gaussian adds at distances >= 1, does
not count at any t.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["DYADIC", "GaussianRule", "dyadic_rule", "trapezoid_rule"]

DYADIC = ((1.0,), (0.75, 1.0, 1.25))
"""Mantissas in an octave, coarse and fine."""


@dataclass(frozen=True)
class GaussianRule:
    """Widths and the share of log u that each stands for, both (K,), float64, widths ascending."""

    widths: Float[Tensor, " K"]
    steps: Float[Tensor, " K"]

    def weights(self, rate: Float[Tensor, "*n"]) -> Float[Tensor, "*n K"]:
        """omega_m(b) for rates b > 0."""
        b = rate[..., None]
        return self.steps * b / (2 * torch.sqrt(torch.pi * self.widths)) * torch.exp(-(b**2) / (4 * self.widths))

    def gaussians(self, distance: Float[Tensor, " n"]) -> Float[Tensor, "K n"]:
        """e^(-u_m s^2)."""
        return torch.exp(-self.widths[:, None] * distance**2)

    def part(self, first: int, last: int) -> "GaussianRule":
        """The widths from `first` up to and without `last`."""
        return GaussianRule(self.widths[first:last], self.steps[first:last])


def trapezoid_rule(step: float, low: float, high: float) -> GaussianRule:
    """The trapezoid rule of step h over all widths in [low, high]."""
    index = torch.arange(math.ceil(math.log(low) / step), math.floor(math.log(high) / step) + 1, dtype=torch.float64)
    return GaussianRule(torch.exp(step * index), torch.full_like(index, step))


def dyadic_rule(mantissas: Sequence[float], low: float, high: float) -> GaussianRule:
    """Mantissas times powers of two, in [low, high] up to an octave, with the shares of the module's docstring."""
    m = torch.tensor(list(mantissas), dtype=torch.float64)
    phase = 2 * torch.pi * torch.log2(m)
    conditions = torch.stack([torch.ones_like(m), torch.cos(phase), torch.sin(phase)])[: len(m)]
    shares = torch.linalg.solve(conditions, torch.eye(len(m), dtype=torch.float64)[0])
    octaves = torch.arange(math.floor(math.log2(low)), math.ceil(math.log2(high)) + 1, dtype=torch.float64)
    widths = (2.0 ** octaves[:, None] * m).flatten()
    return GaussianRule(widths, (math.log(2) * shares).repeat(len(octaves)))
