# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""The law of missing values given those that are observed, and its exact diffusion score, by one solve.

**The score.** Observed values stay clean and missing ones are noised. With x the sequence that holds both, A = alpha_t
at missing values and 1 at observed ones, and C_0 = Gamma (x) Sigma, x is Gaussian with mean A mu and covariance

    C_A = A C_0 A + I - A^2

since the noise of a missing value has variance 1 - alpha_t^2 and that of an observed one is 0. The gradient of
log p(x_m | x_o) in x_m is that of the joint log p(x_m, x_o), so (derived; published as two nested solves:
arXiv 2510.02216)

    score_m = -[ C_A^{-1} (x - A mu) ]_m

**The law at t = 0** has the mean mu_m + C_mo C_oo^{-1} (x_o - mu_o) and the covariance C_mm - C_mo C_oo^{-1} C_om; a
sample of it is a sample z of the process plus C_mo C_oo^{-1} (x_o - z_o) (published: Journel and Huijbregts, Mining
Geostatistics, 1978).

Where whole frames are missing, all of this is done for each eigenvector of Sigma by itself, with matrices of N frames;
where single values are missing, with the matrix of all N d values. The code is the same.

**Rounding.** Systems are solved by Cholesky factors in float64; the relative error is a small multiple of eps times the
largest of the condition numbers of C_oo, of the covariance given what is observed, and of C_A.
"""

from collections import OrderedDict
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor

from unrolled.checks import InputError, require_integer, require_number
from unrolled.diffusion import alpha, check_time, per_sequence

__all__ = ["Conditional", "Intervals"]

LARGEST = 8192
"""Values of a matrix side beyond which no matrix is made."""
KEPT = 64
"""Diffusion times whose factors are kept."""


class Intervals(NamedTuple):
    """Ends of central intervals, (batch, N, d) each; at observed values both are the value."""

    low: Float[Tensor, "batch N d"]
    high: Float[Tensor, "batch N d"]


@runtime_checkable
class _Process(Protocol):
    """What is asked of a process."""

    length: int
    dim: int
    mean: Tensor

    @property
    def temporal_covariance(self) -> Tensor: ...
    @property
    def spatial_covariance(self) -> Tensor: ...
    @property
    def spatial_eigen(self) -> tuple[Tensor, Tensor]: ...
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor: ...


class Conditional:
    """The law of the missing values of sequences, given the others.

    Args:
        process: of the sequences.
        missing: (N,) which frames are missing, or (N, d) which values are, bool.
        observed: (batch, N, d) sequences in any floating dtype; what stands at missing values is not read.

    Raises:
        InputError: shapes that do not fit, observed values that are not finite, more than 8192 values in a system, or a
            covariance of the observed values that is singular in float64.
    """

    def __init__(self, process: _Process, missing: Tensor, observed: Tensor):
        self.process = process
        self.missing = _mask(process, missing)
        self._frames = self.missing.ndim == 1
        side = process.length * (1 if self._frames else process.dim)
        if side > LARGEST:
            raise InputError(f"missing: a system of {side} values is not accepted; accepted: at most {LARGEST}")
        if self._frames:
            levels, self._basis = process.spatial_eigen
            self._prior = levels[:, None, None] * process.temporal_covariance  # (d, N, N)
        else:
            self._basis = torch.eye(process.dim, dtype=torch.float64)
            self._prior = torch.kron(process.temporal_covariance, process.spatial_covariance)[None]
        flat = self.missing.flatten()
        self._m, self._o = flat.nonzero()[:, 0], (~flat).nonzero()[:, 0]
        self.observed = self._checked(observed)
        self._root = _factor("observed", self._block(self._o, self._o))
        self._gain = torch.cholesky_solve(self._block(self._o, self._m), self._root).mT  # C_mo C_oo^{-1}
        self._factors: OrderedDict[float, Tensor] = OrderedDict()

    def _checked(self, observed: Tensor) -> Float[Tensor, "batch N d"]:
        """The observed values with the mean at missing ones, float64."""
        process = self.process
        if observed.ndim != 3 or observed.shape[1:] != (process.length, process.dim):
            shape = f"(batch, {process.length}, {process.dim})"
            raise InputError(f"observed: shape {tuple(observed.shape)} is not accepted; accepted: {shape}")
        kept = torch.where(self._at_values(), process.mean, observed.detach().cpu().double())
        if not bool(torch.isfinite(kept).all()):
            raise InputError("observed: has NaN or infinite values that are not missing; accepted: finite ones")
        return kept

    def _at_values(self) -> Bool[Tensor, "N d"]:
        """Which values are missing."""
        return self.missing[:, None].expand(-1, self.process.dim) if self._frames else self.missing

    def _block(self, rows: Tensor, columns: Tensor) -> Float[Tensor, "channels rows columns"]:
        return self._prior[:, rows[:, None], columns]

    def _split(self, x: Float[Tensor, "batch N d"]) -> Float[Tensor, "channels values batch"]:
        """Sequences by channel: coordinates along the eigenvectors of Sigma, or all values of a sequence."""
        return (x @ self._basis).permute(2, 1, 0) if self._frames else x.flatten(1).T[None]

    def _joined(self, y: Float[Tensor, "channels values batch"]) -> Float[Tensor, "batch N d"]:
        if self._frames:
            return y.permute(2, 1, 0) @ self._basis.T
        return y[0].T.unflatten(1, (self.process.length, self.process.dim))

    def _filled(self, part: Float[Tensor, "channels missing batch"]) -> Float[Tensor, "batch N d"]:
        """Values at missing places, 0 elsewhere."""
        return self._joined(self._placed(part))

    def _placed(self, part: Float[Tensor, "channels missing *batch"]) -> Float[Tensor, "channels values *batch"]:
        whole = part.new_zeros(*self._prior.shape[:2], *part.shape[2:])
        whole[:, self._m] = part
        return whole

    @property
    def mean(self) -> Float[Tensor, "batch N d"]:
        """The mean given what is observed, which stands at observed values as it is. float64."""
        return self._moved(self.process.mean.expand_as(self.observed))

    def _moved(self, z: Float[Tensor, "batch N d"]) -> Float[Tensor, "batch N d"]:
        """z + C_mo C_oo^{-1} (x_o - z_o) at missing values, x_o elsewhere."""
        surprise = self._split(torch.where(self._at_values(), 0.0, self.observed - z))[:, self._o]
        return torch.where(self._at_values(), z + self._filled(self._gain @ surprise), self.observed)

    @cached_property
    def covariance(self) -> Float[Tensor, "channels missing missing"]:
        """The covariance of the missing values given the others, float64: of whole frames one matrix for each
        eigenvector of Sigma, along which the values are independent; of single values one matrix, row-major in
        (N, d)."""
        explained = torch.linalg.solve_triangular(self._root, self._block(self._o, self._m), upper=False)
        return self._block(self._m, self._m) - explained.mT @ explained

    def covariance_times(self, v: Float[Tensor, "batch N d"]) -> Float[Tensor, "batch N d"]:
        """The covariance given what is observed, as a map of sequences; 0 at observed values."""
        return self._filled(self.covariance @ self._split(v.double())[:, self._m])

    @cached_property
    def variance(self) -> Float[Tensor, "N d"]:
        """The variance of each value given what is observed, 0 at observed ones. float64."""
        by_channel = self._placed(self.covariance.diagonal(dim1=1, dim2=2).clamp(min=0.0))
        if self._frames:  # value k of a frame is sum_j basis_kj coordinate_j
            return by_channel.T @ self._basis.square().T
        return by_channel.unflatten(1, (self.process.length, self.process.dim))[0]

    def intervals(self, level: float = 0.95) -> Intervals:
        """Central intervals of each value by itself, of probability `level`.

        Raises:
            InputError: a level outside (0, 1).
        """
        require_number("level", level, above=0, below=1)
        half = float(stats.norm.isf((1 - level) / 2)) * self.variance.sqrt()
        mean = self.mean
        return Intervals(mean - half, mean + half)

    def inside(self, x: Float[Tensor, "batch N d"], level: float = 0.95) -> Bool[Tensor, " batch"]:
        """Whether the missing values of x are in the central ellipsoid of probability `level`.

        Raises:
            InputError: a level outside (0, 1), or a covariance that is singular in float64.
        """
        require_number("level", level, above=0, below=1)
        count = len(self._m) * len(self._prior)
        if count == 0:
            return torch.ones(len(x), dtype=torch.bool)
        away = self._split(x.double() - self.mean)[:, self._m]
        whitened = torch.linalg.solve_triangular(_factor("missing", self.covariance), away, upper=False)
        return whitened.square().sum(dim=(0, 1)) <= float(stats.chi2.ppf(level, count))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n batch N d"]:
        """`n` sequences for each one that is observed, with the missing values drawn. float64.

        Raises:
            InputError: n < 1.
        """
        require_integer("n", n)
        batch = len(self.observed)
        z = self.process.sample(n * batch, generator).cpu().unflatten(0, (n, batch))
        return torch.stack([self._moved(each) for each in z])

    def score(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        """The exact score of noised missing values given clean observed ones, in the dtype of x; 0 at observed values.

        Args:
            x: (batch, N, d) with noised values at missing places; the observed ones are those of this law.
            t: any t > 0, scalar or (batch,).

        Raises:
            InputError: t <= 0, or shapes that do not fit.
        """
        if x.shape != self.observed.shape:
            raise InputError(f"x: shape {tuple(x.shape)} is not accepted; accepted: {tuple(self.observed.shape)}")
        time = check_time(t, len(x), device=torch.device("cpu"))
        noised = x.detach().cpu().double() - per_sequence(alpha(time), x.double()) * self.process.mean
        centred = self._split(torch.where(self._at_values(), noised, self.observed - self.process.mean))
        if time.ndim == 0:
            score = self._solved(centred, float(time))
        else:
            alone = [self._solved(centred[..., k : k + 1], float(one)) for k, one in enumerate(time)]
            score = torch.cat(alone, dim=2) if alone else centred
        return self._filled(-score[:, self._m]).to(x)

    def _solved(self, centred: Tensor, t: float) -> Float[Tensor, "channels values batch"]:
        """C_A^{-1} of what is centred."""
        if t not in self._factors:
            self._factors[t] = _factor("missing", self.noisy_covariance(t))
            while len(self._factors) > KEPT:
                self._factors.popitem(last=False)
        return torch.cholesky_solve(centred, self._factors[t])

    def noisy_covariance(self, t: float) -> Float[Tensor, "channels values values"]:
        """C_A, float64, for each channel as in `covariance`."""
        level = torch.as_tensor(t, dtype=torch.float64)
        a = torch.ones(self._prior.shape[1], dtype=torch.float64)
        a[self._m] = alpha(level)
        noise = torch.zeros_like(a)
        noise[self._m] = -torch.expm1(-level)  # 1 - alpha^2 without cancellation
        return a[:, None] * self._prior * a + torch.diag(noise)


def _mask(process: _Process, missing: Tensor) -> Bool[Tensor, "N *d"]:
    """The mask, checked."""
    shapes = ((process.length,), (process.length, process.dim))
    if missing.dtype != torch.bool or tuple(missing.shape) not in shapes:
        raise InputError(
            f"missing: {str(missing.dtype).removeprefix('torch.')} of shape {tuple(missing.shape)} is not accepted;"
            f" accepted: bool of shape {shapes[0]} or {shapes[1]}"
        )
    return missing.detach().cpu()


def _factor(argument: str, matrices: Float[Tensor, "channels n n"]) -> Float[Tensor, "channels n n"]:
    """Lower Cholesky factors."""
    factor, info = torch.linalg.cholesky_ex(matrices)
    if bool(info.any()):
        raise InputError(f"{argument}: the covariance of these values is singular in float64; accepted: fewer of them")
    return factor
