"""What is said of the best affine map at one t: error and gain by mode, influence by lag, the parts of the error.

Sequences come in three parts A, B and C. With (m_A, D_A) and (m_B, D_B) fitted on A and B apart, and
e_A = r - m_A - D_A y on C, the squared error of each output splits into three parts (Pythagoras; derived):

    affine (D_A S D_B')_kk      mean (m_A + D_A y_0)_k (m_B + D_B y_0)_k      rest E_C[e_A e_B]_k

S and y_0 are covariance and mean of y: I and 0 for a Gaussian process, estimates for real data. What is fitted on
different sequences is independent, so no part is too large for the noise of the fit, as a square of one estimate would
be. For an affine model all three are exact.

How uncertain a figure is follows by leaving out groups of sequences one after the other, in each part by itself
(published: the stratified jackknife, Efron and Stein, Ann. Statist. 9, 1981).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from probes.capture.lags import lag_means
from probes.modes.operator import GROUPS, Coordinates, Fit, Map

__all__ = ["PARTS", "Estimate", "Judged", "estimates", "influence_of"]

LEVEL = 0.95
"""Nominal coverage of the intervals."""
PARTS = ("affine", "mean", "rest")
"""Parts of the squared error."""


@dataclass(frozen=True)
class Judged:
    """The sequences of part C, and the law of y.

    Attributes:
        y: whitened coordinates.
        r: rotated residuals.
        covariance: S, (p, p).
        centre: y_0, (p,).
    """

    y: Float[Tensor, "n p"]
    r: Float[Tensor, "n p"]
    covariance: Float[Tensor, "p p"]
    centre: Float[Tensor, " p"]

    def without(self, group: int) -> "Judged":
        """The same without one of `GROUPS` groups of sequences."""
        y, r = (
            torch.cat([part for k, part in enumerate(whole.tensor_split(GROUPS)) if k != group])
            for whole in (self.y, self.r)
        )
        return Judged(y, r, self.covariance, self.centre)


@dataclass(frozen=True)
class Estimate:
    """A figure or a row of figures, and its standard error.

    Attributes:
        value: (n,).
        error: (n,) standard error; 0 to rounding for an affine model.
        freedom: degrees of freedom of the standard error.
    """

    value: np.ndarray
    error: np.ndarray
    freedom: int

    @property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the 95 % interval, by Student's t."""
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.freedom)) * self.error
        return self.value - half, self.value + half


def influence_of(matrix: Float[Tensor, "p p"], coordinates: Coordinates) -> Float[Tensor, " lags"]:
    """Influence by signed lag -(N-1)..N-1 of a linear map W = Q matrix Q' of sequences.

    At lag l it is the mean over frames i of tr(W_{i,i+l}) / d, W_ij the (d, d) block by which frame j moves the output
    at frame i. The trace is the same in every basis of a frame, that of Sigma's eigenvectors too.
    """
    n, d = coordinates.eigenvalues.shape
    traces = torch.einsum("iaja->ij", matrix.reshape(n, d, n, d)) / d
    return lag_means(coordinates.u @ traces @ coordinates.u.T)


def _figures(first: Map, second: Map, judged: Judged, coordinates: Coordinates) -> dict[str, Tensor]:
    """All figures by name: (1,), (N,), (d,) or (2N - 1,)."""
    shape = coordinates.eigenvalues.shape
    inverse = 1 / coordinates.eigenvalues
    # E|s|^2 of each output: that of y over the eigenvalue.
    size = (judged.covariance.diagonal() + judged.centre**2).reshape(shape) * inverse
    centres = [part.offset + part.matrix @ judged.centre for part in (first, second)]
    errors = [judged.r - part.offset - judged.y @ part.matrix.T for part in (first, second)]
    of = {
        "affine": ((first.matrix @ judged.covariance) * second.matrix).sum(dim=1),
        "mean": centres[0] * centres[1],
        "rest": (errors[0] * errors[1]).mean(dim=0),
    }
    parts = {name: value.reshape(shape) for name, value in of.items()}
    whole = parts["affine"] + parts["mean"] + parts["rest"]
    matrix = (first.matrix + second.matrix) / 2
    missing = matrix.diagonal().reshape(shape) * inverse.sqrt()
    root = inverse.flatten().sqrt()
    found = {
        "influence": influence_of(matrix * root - torch.diag(root**2), coordinates),
        "error": _root(whole.sum() / size.sum())[None],
        **{f"{name} part": (part.sum() / size.sum())[None] for name, part in parts.items()},
        **{f"{name} share": (part.sum() / _positive(whole.sum()))[None] for name, part in parts.items()},
    }
    for kind, axis in (("temporal", 1), ("spatial", 0)):
        found |= {
            f"{kind} error": _root(whole.sum(axis) / size.sum(axis)),
            f"{kind} affine": _root(parts["affine"].sum(axis) / size.sum(axis)),
            f"{kind} share": whole.sum(axis) / _positive(whole.sum()),
            f"{kind} gain": 1 - missing.sum(axis) / inverse.sum(axis),
        }
    return found


def _root(square: Tensor) -> Tensor:
    """Square root; an unbiased estimate of a square that is 0 may fall below."""
    return square.clamp(min=0).sqrt()


def _positive(total: Tensor) -> Tensor:
    """A total to divide by; shares of nothing are 0."""
    return total if total > 0 else torch.full_like(total, torch.inf)


def estimates(first: Fit, second: Fit, judged: Judged, coordinates: Coordinates) -> dict[str, Estimate]:
    """Every figure with its standard error.

    Names: "influence" (2N - 1 signed lags), "error" (relative score error), "affine part" .. "rest part" (of its
    square), "affine share" .. (of the whole), and for each kind of mode, "temporal" (N) and "spatial" (d), eigenvalues
    ascending: "temporal error" (relative to the score in that mode), "temporal affine" (the affine part of that),
    "temporal share" (of the whole squared error) and "temporal gain", the slope of the output on the score in that
    mode.
    """
    maps = first(), second()
    value = _figures(*maps, judged, coordinates)
    replicas: list[Callable[[int], dict[str, Tensor]]] = [
        lambda k: _figures(first(k), maps[1], judged, coordinates),
        lambda k: _figures(maps[0], second(k), judged, coordinates),
        lambda k: _figures(*maps, judged.without(k), coordinates),
    ]
    variance = {name: torch.zeros_like(figure) for name, figure in value.items()}
    for replica in replicas:
        left_out = [replica(k) for k in range(GROUPS)]
        for name in value:
            stack = torch.stack([each[name] for each in left_out])
            variance[name] += (GROUPS - 1) / GROUPS * (stack - stack.mean(dim=0)).square().sum(dim=0)
    freedom = 3 * (GROUPS - 1)
    return {name: Estimate(value[name].numpy(), variance[name].sqrt().numpy(), freedom) for name in value}
