"""The fit of one score model to n sequences, by the name of its kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from jaxtyping import Float
from torch import Tensor

from unrolled.checks import require_choice, require_t_range
from unrolled.fit.kernel import fit_kernel
from unrolled.fit.kronecker import flip_flop, least_samples
from unrolled.fit.moments import moments, require_sequences, shrunk_covariance
from unrolled.kernels import KERNELS
from unrolled.models.empirical import EmpiricalScore
from unrolled.models.gaussian import GaussianScore

__all__ = ["KINDS", "Fit", "Kind", "fit_model"]

Kind = Literal["affine", "empirical", "nearest", "sample-covariance", "kronecker", "kernel"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Fit:
    """A fitted score model, and plain values that say what was found on the way."""

    model: GaussianScore | EmpiricalScore
    facts: dict[str, Any]


def fit_model(
    kind: Kind,
    sequences: Float[Tensor, "n N d"],
    t_range: tuple[float, float] = (1e-3, 8.0),
    temporal: str = "exponential",
    progress: Callable[[], object] = lambda: None,
) -> Fit:
    """The score model of this kind, fitted to the sequences; float64, on the CPU.

    | kind | score |
    | --- | --- |
    | affine | of the Gaussian with sample mean and shrunk covariance (`shrunk_covariance`): the Wiener denoiser |
    | empirical | of the n sequences themselves (`EmpiricalScore`) |
    | nearest | the same, with all weight on the nearest sequence |
    | sample-covariance | of the Gaussian with sample mean and sample covariance (`moments`) |
    | kronecker | of the Gaussian of maximum likelihood with a covariance Gamma (x) Sigma (`flip_flop`) |
    | kernel | the same, with Gamma from a family of kernels (`fit_kernel`) |

    Args:
        kind: one of `KINDS`.
        sequences: to fit to.
        t_range: diffusion times that the model accepts.
        temporal: family of kernels, a name in `unrolled.kernels.KERNELS`; for `kernel` alone.
        progress: called after each step of an iteration.

    Raises:
        InputError: an unknown kind, or fewer sequences than it needs.
    """
    require_choice("kind", kind, KINDS)
    require_t_range(t_range)
    sequences = sequences.double()
    n, length, dim = sequences.shape
    if kind in ("empirical", "nearest"):
        require_sequences(n, 1, kind)
        return Fit(EmpiricalScore.of(sequences, kind == "nearest", t_range), {})
    least = {"kronecker": least_samples(length, dim), "kernel": 1 + -(-length // dim)}
    require_sequences(n, max(2, least.get(kind, 2)), kind)
    if kind == "affine":
        covariance, intensity = shrunk_covariance(sequences)
        return Fit(GaussianScore.dense(sequences.mean(dim=0), covariance, t_range), {"shrinkage": intensity})
    sample = moments(sequences)
    if kind == "sample-covariance":
        return Fit(GaussianScore.dense(sample.mean, sample.matrix, t_range), {})
    if kind == "kronecker":
        process, sweeps = flip_flop(sample, progress)
        return Fit(GaussianScore.separable(process, t_range), {"sweeps": sweeps})
    require_choice("temporal", temporal, KERNELS)
    process, kernel = fit_kernel(sample, KERNELS[temporal], progress)
    parameters = kernel.config()
    return Fit(GaussianScore.separable(process, t_range), {"kernel": parameters.pop("name"), **parameters})
