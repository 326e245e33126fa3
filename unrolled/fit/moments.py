# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""Mean and covariance of n sequences, and the covariance shrunk by the rule of Ledoit and Wolf."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import InputError

__all__ = ["Moments", "moments", "require_sequences", "shrunk_covariance", "visible_directions"]

CUT = 1e-9
"""Eigenvalues of the frames' covariance below this share of the largest are taken for rounding."""


class Moments(NamedTuple):
    """Mean (N, d) and covariance (N, d, N, d) of n sequences, with 1/n and not 1/(n - 1); float64."""

    mean: Float[Tensor, "N d"]
    covariance: Float[Tensor, "N d N d"]

    @property
    def matrix(self) -> Float[Tensor, "Nd Nd"]:
        """The covariance of the N d values, row-major in (N, d)."""
        return self.covariance.reshape(self.mean.numel(), -1)


def require_sequences(n: int, least: int, kind: str) -> None:
    """Refuse fewer sequences than a model needs.

    Raises:
        InputError: n < least.
    """
    if n < least:
        raise InputError(f"samples: {n} is not accepted; accepted: an integer >= {least}, which {kind} needs")


def moments(sequences: Float[Tensor, "n N d"]) -> Moments:
    """The mean of the sequences, and (1/n) sum_k (x_k - mean) (x_k - mean)', the Gaussian of maximum likelihood."""
    mean = sequences.mean(dim=0)
    rows = (sequences - mean).flatten(1)
    covariance = rows.T @ rows / len(rows)
    return Moments(mean, ((covariance + covariance.T) / 2).reshape(*mean.shape, *mean.shape))


def shrunk_covariance(sequences: Float[Tensor, "n N d"]) -> tuple[Float[Tensor, "Nd Nd"], float]:
    """((1 - rho) S + rho (tr S / p) I, rho): the sample covariance S of the p = N d values, shrunk towards a multiple
    of I.

    rho estimates the intensity of the least expected squared Frobenius error (published: Ledoit and Wolf, J.
    Multivariate Anal. 88, 2004, sections 3.2 and 3.3),

        rho = min(b^2, a^2) / a^2,  a^2 = |S - (tr S / p) I|^2,  b^2 = (1/n^2) sum_k |x_k x_k' - S|^2,

    with centred x_k. Here b^2 is written (sum_k |x_k|^4 / n - |S|^2) / n, which is the same (derived: sum_k x_k' S x_k
    = n |S|^2). It falls like 1/n, so that for many sequences the shrunk covariance is the sample covariance.
    """
    mean, covariance = moments(sequences)
    p = mean.numel()
    s = covariance.reshape(p, p)
    target = s.trace() / p * torch.eye(p, dtype=s.dtype)
    distance = float((s - target).square().sum())
    fourth = (sequences - mean).flatten(1).square().sum(dim=1).square().mean()
    noise = max(float(fourth - s.square().sum()), 0.0) / len(sequences)
    intensity = min(noise / distance, 1.0) if distance > 0 else 1.0
    return (1 - intensity) * s + intensity * target, intensity


def visible_directions(sample: Moments) -> Float[Tensor, "N r"]:
    """Orthonormal directions of R^N in which the frames vary beyond rounding; all N of them unless frames are smooth.

    They are the eigenvectors of the covariance of the frames, summed over values, whose eigenvalue is above `CUT` of
    the largest. A likelihood is that of the sequences projected on them: beyond, a smooth kernel is singular in
    float64, and what the data show there is rounding.
    """
    values, vectors = torch.linalg.eigh(sample.covariance.diagonal(dim1=1, dim2=3).sum(dim=-1))
    return vectors[:, values > CUT * values[-1]]
