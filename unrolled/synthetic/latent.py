"""Sequences that are not Gaussian, or not stationary, made from Markov chains, with their exact scores.

A chain x_{i+1} = rho_i x_i + sqrt(1 - rho_i^2) z_i with standard normal z_i and x_0 has unit variance and the
correlation prod_{i <= k < j} rho_k. With rho_i = exp(-1/l_i) it is an Ornstein-Uhlenbeck process whose clock runs at
the speed 1/l_i: lengthscale l_i at frame i. Made from it:

- a lengthscale that changes in time: the chain itself, which is Gaussian;
- a switch: l_i changes at a frame that is drawn anew for every sequence. This is a mixture of N - 1 Gaussians: its
  score is the mean of theirs, weighed by how likely each is at x;
- a function: y_i = f(x_i) of an ordinary chain. Given X_t the x_i are a hidden Markov chain, so that E[y_i | X_t] is
  known by its forward and backward recursions, on a grid of x. The score is (alpha_t E[y | X_t] - X_t) / sigma_t^2.
  Sums over the grid are those of integrals of Gaussians no narrower than two steps, to exp(-2 pi^2 4), rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import require_integer, require_number
from unrolled.diffusion import alpha, check_sequences, check_time, sigma
from unrolled.process import GaussianProcess

__all__ = ["FunctionOfOU", "RegimeSwitch", "bend", "chain_covariance", "changing_lengthscale"]

EDGE, CELLS = 6.0, 601
"""The grid of x: from -EDGE to EDGE, beyond which lie 2e-9 of a standard normal law, in steps of 0.02."""
CHUNK = 64
"""Sequences whose hidden chains are followed at once."""
NODES = 200
"""Nodes of the Gauss-Hermite rule behind the moments of a function."""


def chain_covariance(lengthscales: Float[Tensor, " steps"]) -> Float[Tensor, "N N"]:
    """Covariance of the chain with rho_i = exp(-1/l_i) from frame i to frame i + 1; float64."""
    clock = torch.cat([torch.zeros(1, dtype=torch.float64), (1 / lengthscales.double()).cumsum(0)])
    return torch.exp(-(clock[:, None] - clock).abs())


def changing_lengthscale(length: int, dim: int, first: float, last: float) -> GaussianProcess:
    """A Gaussian process whose lengthscale goes from `first` to `last` geometrically; its d values are independent.

    Raises:
        InputError: a length below 2, or a lengthscale that is not a finite number > 0.
    """
    require_integer("length", length, 2)
    require_number("first", first, above=0)
    require_number("last", last, above=0)
    lengthscales = first * (last / first) ** torch.linspace(0, 1, length - 1, dtype=torch.float64)
    return GaussianProcess(length, chain_covariance(lengthscales), torch.eye(dim, dtype=torch.float64))


@dataclass(frozen=True)
class RegimeSwitch:
    """Sequences whose lengthscale is `before` up to one of the frames 1 to N - 1, all equally likely, then `after`.

    The frame is the same for the d values of a sequence, which are independent given it. `sample`, `score`
    and `gaussian` are those of a `GaussianProcess`.
    """

    length: int
    dim: int
    before: float
    after: float

    def __post_init__(self) -> None:
        require_integer("length", self.length, 3)
        require_integer("dim", self.dim)
        require_number("before", self.before, above=0)
        require_number("after", self.after, above=0)

    @cached_property
    def parts(self) -> list[GaussianProcess]:
        """The Gaussians of the mixture, the earliest switch first."""
        step = torch.arange(self.length - 1)
        eye = torch.eye(self.dim, dtype=torch.float64)
        return [
            GaussianProcess(self.length, chain_covariance(torch.where(step < frame, self.before, self.after)), eye)
            for frame in range(1, self.length)
        ]

    def gaussian(self) -> GaussianProcess:
        """The Gaussian process with the same mean and covariance, whose score is the best affine one."""
        covariance = torch.stack([part.temporal_covariance for part in self.parts]).mean(dim=0)
        return GaussianProcess(self.length, covariance, torch.eye(self.dim, dtype=torch.float64))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` sequences, float64."""
        which = torch.randint(len(self.parts), (n,), generator=generator)
        x = torch.randn(n, self.length, self.dim, generator=generator, dtype=torch.float64)
        for k, part in enumerate(self.parts):
            values, vectors = part.temporal_eigen
            x[which == k] = (vectors * values.sqrt()) @ x[which == k]
        return x

    def score(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        """The exact score, in float64, returned in the dtype of x; t scalar or (batch,)."""
        check_sequences(x, self.length, self.dim)
        exact, time = x.double(), check_time(t, len(x))
        scores = torch.stack([part.score(exact, time) for part in self.parts])  # (parts, batch, N, d)
        logdet = torch.stack([part.eigenvalues(time).log().sum(dim=(-2, -1)) for part in self.parts])
        log_density = ((scores * exact).sum(dim=(2, 3)) - logdet.reshape(len(self.parts), -1)) / 2
        return torch.einsum("kb,kbia->bia", log_density.softmax(dim=0), scores).to(x.dtype)


def bend(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x + exp(-x^2) + 2 sin x, which rises and falls, so that y does not tell x."""
    return x + torch.exp(-(x**2)) + 2 * torch.sin(x)


@dataclass(frozen=True)
class FunctionOfOU:
    """Sequences y = (f(x) - E f)/sd f of Ornstein-Uhlenbeck processes x; the d values are independent.

    `sample`, `score` and `gaussian` are those of a `GaussianProcess`.
    """

    length: int
    dim: int
    lengthscale: float
    function: Callable[[Tensor], Tensor] = bend

    def __post_init__(self) -> None:
        require_integer("length", self.length, 2)
        require_integer("dim", self.dim)
        require_number("lengthscale", self.lengthscale, above=0)

    @cached_property
    def _latent(self) -> GaussianProcess:
        lengthscales = torch.full((self.length - 1,), self.lengthscale, dtype=torch.float64)
        return GaussianProcess(self.length, chain_covariance(lengthscales), torch.eye(self.dim, dtype=torch.float64))

    @cached_property
    def _rule(self) -> tuple[Float[Tensor, " nodes"], Float[Tensor, " nodes"]]:
        """Nodes and weights of means over a standard normal number."""
        nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(NODES))
        return nodes, weights / weights.sum()

    @cached_property
    def _moments(self) -> tuple[float, float]:
        """Mean and standard deviation of f of a standard normal number."""
        nodes, weights = self._rule
        values = self.function(nodes)
        mean = float(weights @ values)
        return mean, float((weights @ (values - mean) ** 2).sqrt())

    def gaussian(self) -> GaussianProcess:
        """The Gaussian process with the same mean and covariance, whose score is the best affine one.

        At correlation rho the covariance is E y(x) y(rho x + sqrt(1 - rho^2) z), by a rule for x and one for z.
        """
        nodes, weights = self._rule
        by_lag = []
        for rho in self._latent.temporal_covariance[0]:
            later = self.observed(rho * nodes[:, None] + (1 - rho**2).sqrt() * nodes)
            by_lag.append(weights * self.observed(nodes) @ (later @ weights))
        frame = torch.arange(self.length)
        covariance = torch.stack(by_lag)[(frame[:, None] - frame).abs()]
        return GaussianProcess(self.length, covariance, torch.eye(self.dim, dtype=torch.float64))

    def observed(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """y of x."""
        mean, deviation = self._moments
        return (self.function(x) - mean) / deviation

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` sequences, float64."""
        return self.observed(self._latent.sample(n, generator))

    def score(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        """The exact score, in float64, returned in the dtype of x; t scalar or (batch,)."""
        check_sequences(x, self.length, self.dim)
        exact, time = x.double(), check_time(t, len(x)).expand(len(x))[:, None, None]
        parts = zip(exact.split(CHUNK), time.split(CHUNK), strict=True)
        mean = torch.cat([self._posterior_mean(part, at) for part, at in parts])
        return ((alpha(time) * mean - exact) / sigma(time) ** 2).to(x.dtype)

    def _posterior_mean(
        self, x: Float[Tensor, "batch N d"], time: Float[Tensor, "batch 1 1"]
    ) -> Float[Tensor, "batch N d"]:
        """E[y | X_t = x] by the recursions of a hidden Markov chain, each state scaled to sum 1."""
        grid = torch.linspace(-EDGE, EDGE, CELLS, dtype=torch.float64)
        y, rho = self.observed(grid), float(np.exp(-1 / self.lengthscale))
        step = torch.exp(-((grid - rho * grid[:, None]) ** 2) / (2 * (1 - rho**2)))  # from row to column
        expected = alpha(time)[..., None] * y
        fit = -((x.transpose(1, 2)[..., None] - expected) ** 2) / (2 * sigma(time)[..., None] ** 2)
        seen = torch.exp(fit - fit.amax(dim=-1, keepdim=True))  # (batch, d, N, cells)
        forward = [torch.exp(-(grid**2) / 2) * seen[:, :, 0]]
        backward = [torch.ones_like(forward[0])]
        for i in range(1, self.length):
            past, future = forward[-1], backward[-1] * seen[:, :, self.length - i]
            forward.append((past / past.sum(-1, keepdim=True)) @ step * seen[:, :, i])
            backward.append((future / future.sum(-1, keepdim=True)) @ step.T)
        weight = torch.stack(forward, dim=2) * torch.stack(backward[::-1], dim=2)
        return ((weight @ y) / weight.sum(dim=-1)).transpose(1, 2)
