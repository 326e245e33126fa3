"""The affine map closest to a score model at one t, estimated from sequences.

W x + w is the affine map closest to f in mean square over X_t. With s(x) = -C_t^{-1} (x - alpha_t mu) and r = f - s the
map is found from r, so that an exact model gives exactly W = -C_t^{-1} and nothing is estimated of what is known. All
is said in whitened coordinates y = C_t^{-1/2} Q' (x - alpha_t mu), Q the eigenvectors of C_t, and outputs Q' r:

    Q' r(x) = m + D y + e,    E e = 0, E e y' = 0,    W = -C_t^{-1} + Q D Q' C_t^{-1/2}        (derived)

Two estimators of (m, D), with p = N d numbers in a sequence:

- Regression: least squares of r on (1, y) from n sequences. It recovers the map of an affine model to rounding once
  n > p, and its squared error is about E|e|^2 p / (n - p - 1): that of the plain mean of r y', which knows E y y' = I
  as well, is about E|r|^2 p / n. So least squares is the better one where the affine part of r is more than p / n of
  it. y is standard normal, so the normal equations are as well conditioned as a QR factorisation.
- Jacobian: Stein's identity (published: Stein, Ann. Statist. 9, 1981) says W = E[J f(X_t)] for Gaussian X_t. The mean
  over n sequences has the squared error E|(J - W) C_t^{1/2}|_F^2 / n. This is at least 2 E|e|^2 / n, since e has no
  constant and no linear part (derived: Gaussian Poincare inequality). Exact for affine models from one sequence.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from unrolled.checks import InputError
from unrolled.diffusion import ScoreModel, alpha
from unrolled.process import GaussianProcess

__all__ = ["GROUPS", "Coordinates", "Fit", "JacobianFit", "Map", "RegressionFit", "fewest_sequences", "score_residuals"]

GROUPS = 10
"""Groups of sequences behind a fit; leaving out one after the other says how uncertain it is."""
BATCH = 128
"""Sequences per forward pass."""
ROWS = 16
"""Rows of a Jacobian that are computed at once."""
SPARE = 1.25
"""A fit has so many times as many sequences as it has unknowns in a row, at least."""


class Coordinates:
    """Whitened coordinates y of X_t and rotated outputs Q' r, for one process and t; float64, row-major in (N, d).

    Attributes:
        eigenvalues: (N, d) those of C_t, `GaussianProcess.eigenvalues`.
    """

    def __init__(self, process: GaussianProcess, t: float):
        self.shift = alpha(t) * process.mean
        self.u, self.v = process.temporal_eigen[1], process.spatial_eigen[1]
        self.eigenvalues = process.eigenvalues(t)

    def rotated(self, outputs: Float[Tensor, "n N d"]) -> Float[Tensor, "n p"]:
        """Q' r of each r."""
        return (self.u.T @ outputs.double() @ self.v).flatten(1)

    def whitened(self, x: Float[Tensor, "n N d"]) -> Float[Tensor, "n p"]:
        """y of each x."""
        return self.rotated(x.double() - self.shift) / self.eigenvalues.sqrt().flatten()


@dataclass(frozen=True)
class Map:
    """m and D of the residual r = f - s, in whitened coordinates.

    Attributes:
        offset: (p,) m.
        matrix: (p, p) D.
    """

    offset: Float[Tensor, " p"]
    matrix: Float[Tensor, "p p"]


def fewest_sequences(values: int) -> int:
    """Sequences that a regression on `values` = N d numbers needs at least."""
    return int(SPARE * (values + 1) * GROUPS / (GROUPS - 1)) + 1


@torch.no_grad()
def score_residuals(
    model: ScoreModel, process: GaussianProcess, x: Float[Tensor, "n N d"], t: float
) -> Float[Tensor, "n N d"]:
    """r = f(x, t) - s(x, t), float64 on the CPU, with s the score of the process at the x that the model saw."""
    parts = [model(part, t).double().cpu() - process.score(part.double().cpu(), t) for part in x.split(BATCH)]
    return torch.cat(parts)


class Fit:
    """An estimate of (m, D) from groups of sequences, and the same without one of them."""

    def __call__(self, without: int | None = None) -> Map:
        """The estimate from all groups, or from all but one."""
        raise NotImplementedError


class RegressionFit(Fit):
    """Least squares of residuals on (1, y).

    Args:
        y: whitened coordinates.
        r: rotated residuals of the same sequences.

    Raises:
        InputError: fewer sequences than `fewest_sequences`.
    """

    def __init__(self, y: Float[Tensor, "n p"], r: Float[Tensor, "n p"]):
        if len(y) < (least := fewest_sequences(y.shape[1])):
            raise InputError(f"samples: {len(y)} in a fit are not accepted; accepted: {least} or more for this data")
        z = torch.cat([torch.ones(len(y), 1, dtype=torch.float64), y], dim=1)
        pairs = list(zip(z.tensor_split(GROUPS), r.tensor_split(GROUPS), strict=True))
        self._grams = torch.stack([a.T @ a for a, _ in pairs])  # (groups, 1+p, 1+p)
        self._products = torch.stack([a.T @ b for a, b in pairs])  # (groups, 1+p, p)

    def __call__(self, without: int | None = None) -> Map:
        gram, product = self._grams.sum(dim=0), self._products.sum(dim=0)
        if without is not None:
            gram, product = gram - self._grams[without], product - self._products[without]
        solution = torch.cholesky_solve(product, torch.linalg.cholesky(gram))
        return Map(solution[0], solution[1:].T)


class JacobianFit(Fit):
    """Mean Jacobian of the residual; the offset is the mean of what it leaves of residuals.

    Args:
        model: differentiable.
        coordinates: of the process at t.
        x: sequences whose Jacobians are taken, at least `GROUPS`, as the model takes them.
        y: whitened coordinates of sequences from which the offset is found.
        r: their rotated residuals.
        t: diffusion time.

    Raises:
        InputError: fewer than `GROUPS` sequences, or a model without a gradient.
    """

    def __init__(
        self,
        model: ScoreModel,
        coordinates: Coordinates,
        x: Float[Tensor, "n N d"],
        y: Float[Tensor, "m p"],
        r: Float[Tensor, "m p"],
        t: float,
    ):
        if len(x) < GROUPS:
            raise InputError(f"jacobians: {len(x)} in a fit are not accepted; accepted: {GROUPS} or more")
        parts = x.tensor_split(GROUPS)
        self._counts = torch.tensor([float(len(part)) for part in parts], dtype=torch.float64)
        self._sums = torch.stack([summed_jacobians(model, part, t) for part in parts])
        self._coordinates = coordinates
        self._means = torch.stack([part.mean(dim=0) for part in r.tensor_split(GROUPS)])
        self._points = torch.stack([part.mean(dim=0) for part in y.tensor_split(GROUPS)])

    def __call__(self, without: int | None = None) -> Map:
        kept = torch.ones(GROUPS, dtype=torch.float64)
        if without is not None:
            kept[without] = 0
        mean = torch.einsum("g,gij->ij", kept, self._sums) / (kept @ self._counts)
        u, v, values = self._coordinates.u, self._coordinates.v, self._coordinates.eigenvalues.flatten()
        q = torch.kron(u, v)
        matrix = (q.T @ mean @ q) * values.sqrt() + torch.diag(values.rsqrt())
        return Map((kept @ (self._means - self._points @ matrix.T)) / kept.sum(), matrix)


def summed_jacobians(model: ScoreModel, x: Float[Tensor, "n N d"], t: float) -> Float[Tensor, "p p"]:
    """Sum over sequences of the Jacobian of vec f by vec x, float64 on the CPU, `ROWS` rows at a time.

    Raises:
        InputError: a model whose score has no gradient.
    """
    basis = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device).reshape(-1, 1, *x.shape[1:])
    try:
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no rule for batches of gradients
            pull: Any = torch.func.vjp(lambda z: model(z, t), x)[1]
            rows = torch.func.vmap(lambda row: pull(row.expand_as(x))[0].sum(dim=0))
            found = torch.cat([rows(part).flatten(1) for part in basis.split(ROWS)])
        return found.detach().double().cpu()
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"method: 'jacobian' is not accepted for this model ({reason}); accepted: regression"
        ) from None
