# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""Gaussian-process sequences: covariance Gamma (x) Sigma, exact samples, exact score at every diffusion time."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unrolled.checks import InputError, require_integer, require_number
from unrolled.circulant import DENSE_LENGTH, FACTOR_LENGTH, CirculantSampler, FactorSampler, symmetric_eigen
from unrolled.conditional import Conditional
from unrolled.diffusion import add_noise, alpha, check_sequences, check_time, per_sequence, sigma
from unrolled.kernels import TemporalKernel, kernel_from_config
from unrolled.state_space import CHUNK, STATE_SPACE_KERNELS, Smoother, StateSpace, has_state_space, state_space

__all__ = ["ExactScore", "GaussianProcess", "random_spatial_covariance"]


def _covariance(argument: str, value: Tensor | Sequence[Any], definite: bool) -> Float[Tensor, "n n"]:
    """`value` as a float64 symmetric matrix, checked to be positive (semi)definite up to rounding."""
    matrix = torch.as_tensor(value, dtype=torch.float64).detach().cpu()
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) == 0:
        raise InputError(f"{argument}: shape {tuple(matrix.shape)} is not accepted; accepted: a square matrix")
    if not bool(torch.isfinite(matrix).all()):
        raise InputError(f"{argument}: has NaN or infinite entries; accepted: finite entries")
    rounding = len(matrix) * torch.finfo(torch.float64).eps * float(matrix.abs().max())
    asymmetry = float((matrix - matrix.T).abs().max())
    if asymmetry > max(rounding, 1e-12 * float(matrix.abs().max())):
        raise InputError(f"{argument}: differs from its transpose by {asymmetry:.3g}; accepted: a symmetric matrix")
    matrix = (matrix + matrix.T) / 2
    smallest = float(torch.linalg.eigvalsh(matrix)[0])
    if smallest < -rounding or (definite and smallest <= rounding):
        kind = "definite" if definite else "semidefinite"
        raise InputError(f"{argument}: its smallest eigenvalue is {smallest:.3g}; accepted: a positive {kind} matrix")
    return matrix


def random_spatial_covariance(
    dim: int, condition: float = 10.0, generator: torch.Generator | None = None
) -> Float[Tensor, "d d"]:
    """A random (d, d) covariance of trace d and the given condition number, float64.

    Eigenvalues are geometric from 1 to 1/condition before scaling; eigenvectors are uniform on the orthogonal group.

    Raises:
        InputError: dim < 1 or condition < 1.
    """
    require_integer("dim", dim)
    require_number("condition", condition, above=1, closed="low")
    eigenvalues = condition ** -torch.linspace(0, 1, dim, dtype=torch.float64)
    eigenvalues = eigenvalues * dim / eigenvalues.sum()
    basis, triangle = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    basis = basis * triangle.diagonal().sign()
    return (basis * eigenvalues) @ basis.T


class GaussianProcess:
    """Sequences of N frames of d values with mean mu and covariance Gamma (x) Sigma.

    Args:
        length: N >= 1.
        temporal: a `TemporalKernel`, or one's own positive semidefinite (N, N) matrix Gamma.
        spatial: Sigma, a symmetric positive definite (d, d) matrix.
        mean: mu, (N, d); zero where not given.

    Everything is kept in float64 on the CPU and follows the device of what it is used with. Nothing of size (N, N) is
    made before it is asked for, so that long sequences can be sampled in O(N) memory.

    Raises:
        InputError: an argument that is none of the above.
    """

    kind = "gaussian"
    exact = True
    description: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        length: int,
        temporal: TemporalKernel | Tensor | Sequence[Any],
        spatial: Tensor | Sequence[Any],
        mean: Tensor | Sequence[Any] | None = None,
    ):
        self.length = require_integer("length", length)
        self.spatial_covariance: Float[Tensor, "d d"] = _covariance("spatial", spatial, definite=True)
        self.dim = len(self.spatial_covariance)
        if isinstance(temporal, TemporalKernel):
            self.temporal: TemporalKernel | Float[Tensor, "N N"] = temporal
        else:
            self.temporal = _covariance("temporal", temporal, definite=False)
            if len(self.temporal) != length:
                raise InputError(
                    f"temporal: shape {tuple(self.temporal.shape)} is not accepted; accepted: ({length}, {length})"
                )
        mean = torch.zeros(length, self.dim) if mean is None else mean
        self.mean: Float[Tensor, "N d"] = torch.as_tensor(mean, dtype=torch.float64).detach().cpu()
        if self.mean.shape != (length, self.dim):
            raise InputError(f"mean: shape {tuple(self.mean.shape)} is not accepted; accepted: ({length}, {self.dim})")
        if not bool(torch.isfinite(self.mean).all()):
            raise InputError("mean: has NaN or infinite entries; accepted: finite entries")

    def __repr__(self) -> str:
        temporal = self.temporal if isinstance(self.temporal, TemporalKernel) else "matrix"
        return f"GaussianProcess(length={self.length}, dim={self.dim}, temporal={temporal})"

    @cached_property
    def temporal_covariance(self) -> Float[Tensor, "N N"]:
        """Gamma, float64.

        Raises:
            InputError: N > 4096, where the matrix is not made.
        """
        if isinstance(self.temporal, Tensor):
            return self.temporal
        if self.length > DENSE_LENGTH:
            raise InputError(
                f"length: {self.length} is too long for an (N, N) matrix; accepted: a length <= {DENSE_LENGTH}"
                f" (sampling has no such limit, nor has the score of {STATE_SPACE_KERNELS})"
            )
        return self.temporal.matrix(self.length)

    @cached_property
    def temporal_eigen(self) -> tuple[Float[Tensor, " N"], Float[Tensor, "N N"]]:
        """Eigenvalues (ascending, clipped at 0) and eigenvectors of Gamma, float64."""
        return symmetric_eigen(self.temporal_covariance)

    @cached_property
    def spatial_eigen(self) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """Eigenvalues (ascending) and eigenvectors of Sigma, float64."""
        return symmetric_eigen(self.spatial_covariance)

    @cached_property
    def state_space(self) -> StateSpace:
        """The linear system that the frames come from, by which `scan_score` solves.

        Raises:
            InputError: a kernel that is not one of `STATE_SPACE_KERNELS`, or a matrix.
        """
        return state_space(self.temporal, self.length)

    @cached_property
    def sampler(self) -> CirculantSampler | FactorSampler:
        """What draws the unit-variance sequences; its `method` and `covariance_error` say how, and how exactly.

        Raises:
            InputError: N > 4096 with a kernel that has no positive circulant embedding.
        """
        if isinstance(self.temporal, TemporalKernel) and self.length > FACTOR_LENGTH:
            try:
                return CirculantSampler(self.temporal, self.length)
            except ValueError:
                if self.length > DENSE_LENGTH:
                    raise
        return FactorSampler(*self.temporal_eigen)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` independent sequences, float64, on the device of `generator` (CPU without one)."""
        columns = self.sampler(n, self.dim, generator)  # (n, N, d), covariance Gamma (x) I
        eigenvalues, eigenvectors = self.spatial_eigen
        spatial_root = (eigenvectors * eigenvalues.sqrt()).to(columns.device)  # (d, d), root root' = Sigma
        return self.mean.to(columns.device) + columns @ spatial_root.T

    def training_set(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` independent sequences to train on, drawn once."""
        return self.sample(n, generator)

    def sample_held_out(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` sequences to judge a model on: fresh ones, since a process never runs out of them."""
        return self.sample(n, generator)

    def noisy(self, n: int, t: Tensor | float, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` sequences X_t = alpha_t X_0 + sigma_t Z, float64, on the device of `generator`; t > 0 scalar or (n,).

        The clean sequences are drawn first, as `sample` draws them, then the noise.
        """
        x0 = self.sample(n, generator)
        noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64, device=x0.device)
        return add_noise(x0, t, noise)

    def eigenvalues(self, t: Tensor | float) -> Float[Tensor, "*n N d"]:
        """Eigenvalues alpha_t^2 g_i s_j + sigma_t^2 of C_t, float64, on the device of t.

        g_i are the eigenvalues of Gamma and s_j those of Sigma, both ascending. The eigenvector of entry (i, j) is the
        outer product of the i-th column of `temporal_eigen[1]` and the j-th column of `spatial_eigen[1]`.

        Args:
            t: any t > 0: a number or a tensor of shape () gives (N, d), one of shape (n,) gives (n, N, d).
        """
        time = torch.as_tensor(t, dtype=torch.float64)
        g, s = (values.to(time.device) for values in (self.temporal_eigen[0], self.spatial_eigen[0]))
        time = time[..., None, None]
        return alpha(time) ** 2 * (g[:, None] * s) + sigma(time) ** 2

    def gaussian(self) -> "GaussianProcess":
        """The Gaussian process of the data, which is this one."""
        return self

    def score(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        """The exact score -C_t^{-1} (x - alpha_t mu), computed in float64 and returned in the dtype of x.

        With Gamma = U diag(g) U' and Sigma = V diag(s) V', C_t^{-1} divides entry (i, j) of U' (x - alpha_t mu) V by
        alpha_t^2 g_i s_j + sigma_t^2: O(N d (N + d)) for each sequence, whatever t. Beyond 4096 frames it is
        `scan_score`.

        Its relative error is a multiple of eps kappa_t. Where x is near alpha_t mu and mu is large, x - alpha_t mu
        cancels, and the digits that are lost there are lost to any formula (measured against 320-bit arithmetic in 356
        settings: at most 135 eps kappa_t, at N = 1 and mu = 100).

        Args:
            x: (batch, N, d).
            t: any t > 0, scalar or (batch,).

        Raises:
            InputError: t <= 0, shapes that do not fit, or N > 4096 with a kernel that has no scan.
        """
        if self.length > DENSE_LENGTH and has_state_space(self.temporal):
            return self.scan_score(x, t)
        check_sequences(x, self.length, self.dim)
        time = check_time(t, len(x), device=x.device)
        u, v, mean = (table.to(x.device) for table in (self.temporal_eigen[1], self.spatial_eigen[1], self.mean))
        exact = x.double()
        centred = exact - per_sequence(alpha(time), exact) * mean
        return (-u @ ((u.T @ centred @ v) / self.eigenvalues(time)) @ v.T).to(x.dtype)

    def scan_score(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        """The same score in O(N d^2) at any length: channel j of (x - alpha_t mu) V is a sequence of its own, of
        covariance alpha_t^2 s_j Gamma + sigma_t^2 I, which two scans solve for (`unrolled.state_space`).

        Raises:
            InputError: t <= 0, shapes that do not fit, or a kernel that is not one of `STATE_SPACE_KERNELS`.
        """
        space = self.state_space
        check_sequences(x, self.length, self.dim)
        time = check_time(t, len(x), device=x.device)
        times = time.expand(len(x))[:, None]
        s, v, mean = (table.to(x.device) for table in (*self.spatial_eigen, self.mean))

        def smoother(levels: Float[Tensor, "T 1"]) -> Smoother:
            return Smoother(space, alpha(levels) ** 2 * s, sigma(levels) ** 2, self.length)

        common = smoother(times[:1]) if time.ndim == 0 and len(x) else None
        score = torch.empty_like(x)
        rows = max(1, CHUNK // (self.length * self.dim))
        for part in (slice(k, k + rows) for k in range(0, len(x), rows)):
            centred = x[part].double() - alpha(times[part])[..., None] * mean
            solve = common or smoother(times[part])
            score[part] = -solve(centred @ v) @ v.T
        return score

    def conditional(self, missing: Tensor, observed: Tensor) -> Conditional:
        """The law of missing values given the others: its mean, covariance, samples, intervals, and exact score.

        Args:
            missing: (N,) which frames are missing, or (N, d) which values are.
            observed: (batch, N, d) sequences; what stands at missing values is not read.

        Raises:
            InputError: see `unrolled.conditional.Conditional`.
        """
        return Conditional(cast(Any, self), missing, observed)

    def noisy_covariance(self, t: float) -> Float[Tensor, "Nd Nd"]:
        """C_t = alpha_t^2 Gamma (x) Sigma + sigma_t^2 I, dense, float64, row-major in (N, d)."""
        time = check_time(float(t), 1)
        clean = torch.kron(self.temporal_covariance, self.spatial_covariance)
        return alpha(time) ** 2 * clean + sigma(time) ** 2 * torch.eye(len(clean), dtype=torch.float64)

    def extreme_eigenvalues(self, t: float) -> tuple[float, float]:
        """(m_t, L_t), the smallest and the largest eigenvalue of C_t."""
        eigenvalues = self.eigenvalues(float(check_time(float(t), 1)))
        return float(eigenvalues[0, 0]), float(eigenvalues[-1, -1])

    def condition_number(self, t: float) -> float:
        """kappa_t = L_t / m_t, the condition number of C_t."""
        smallest, largest = self.extreme_eigenvalues(t)
        return largest / smallest

    def state(self) -> dict[str, Any]:
        """Plain values and tensors from which `from_state` builds an equal process."""
        temporal = self.temporal.config() if isinstance(self.temporal, TemporalKernel) else self.temporal
        return {"length": self.length, "temporal": temporal, "spatial": self.spatial_covariance, "mean": self.mean}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "GaussianProcess":
        """The process that `state` described."""
        temporal = state["temporal"]
        if isinstance(temporal, Mapping):
            temporal = kernel_from_config(temporal)
        return cls(state["length"], temporal, state["spatial"], state["mean"])

    def exact_score(self) -> "ExactScore":
        """The exact score as a module with the interface of every score model."""
        return ExactScore(self)


class ExactScore(nn.Module):
    """model(x, t) -> score of a `GaussianProcess`, without parameters."""

    def __init__(self, process: GaussianProcess):
        super().__init__()
        self.process = process

    def forward(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        return self.process.score(x, t)
