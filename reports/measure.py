"""What a report says of one checkpoint, as tables: its score error against t and the covariance of what it
generates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.capture.lags import lag_means
from unrolled.checkpoint import Checkpoint
from unrolled.checks import InputError
from unrolled.diffusion import ScoreModel, alpha
from unrolled.evaluate import denoising_losses, generated_covariance, score_errors
from unrolled.folding import fold
from unrolled.process import GaussianProcess
from unrolled.samplers import log_time_grid, probability_flow
from unrolled.series.windows import SeriesData

__all__ = ["Generated", "error_table", "folded", "generate", "same_process"]

CHUNK = 128
"""Sequences in one forward pass: on a CPU larger ones leave the cache (measured, a third slower at 512)."""


def same_process(a: GaussianProcess, b: GaussianProcess) -> bool:
    """Whether two processes have the same law."""
    return (a.length, a.dim) == (b.length, b.dim) and all(
        torch.equal(getattr(a, name), getattr(b, name))
        for name in ("temporal_covariance", "spatial_covariance", "mean")
    )


def folded(model: nn.Module) -> nn.Module:
    """The same scores in less time where the attention maps of a model are constant; the model itself elsewhere."""
    try:
        return fold(model)
    except InputError:
        return model


def error_table(checkpoint: Checkpoint, times: Sequence[float], samples: int, seed: int, device) -> pd.DataFrame:
    """One row per t. For a Gaussian process: t, relative score error (exact score as truth). For real data: t, held-out
    denoising loss of the model and of the Gaussian of the empirical covariance."""
    model = checkpoint.model.to(device)
    dtype = checkpoint.dtype
    if checkpoint.exact:
        errors = score_errors(model, checkpoint.process, times, samples, seed, dtype, device)
        return pd.DataFrame({"t": list(errors), "relative score error": list(errors.values())})
    x0 = checkpoint.data.sample_held_out(samples, torch.Generator().manual_seed(seed)).to(device)
    ours = denoising_losses(model, x0, times, seed, dtype)
    linear = denoising_losses(checkpoint.process.score, x0, times, seed, dtype)
    return pd.DataFrame(
        {"t": list(ours), "held-out loss": list(ours.values()), "empirical Gaussian's loss": list(linear.values())}
    )


@dataclass(frozen=True)
class Generated:
    """Covariances of generated sequences beside the true ones.

    Attributes:
        temporal: temporal matrices (N, N) by name: "true", "model", and "exact score" where there is one.
        by_lag: tidy table (lag, correlation, source, low, high); the interval is the one of the empirical covariance of
            real data, NaN otherwise.
        errors: one row per source: relative Frobenius error of the (N d, N d) covariance, of Gamma and of Sigma, and
            the norm of the error of the mean over the root of tr C.
        samples: sequences generated per source.
        steps: steps of the probability-flow ODE.
        t: the diffusion time at which it stopped; the noise left there is subtracted from the covariance.
    """

    temporal: dict[str, np.ndarray]
    by_lag: pd.DataFrame
    errors: pd.DataFrame
    samples: int
    steps: int
    t: float


def temporal_part(covariance: Float[Tensor, "Nd Nd"], length: int, spatial_trace: float) -> Float[Tensor, "N N"]:
    """The partial trace over the frame's values, divided by the true tr Sigma: Gamma, if the truth is Gamma (x)
    Sigma."""
    dim = len(covariance) // length
    return covariance.reshape(length, dim, length, dim).diagonal(dim1=1, dim2=3).sum(dim=-1) / spatial_trace


def spatial_part(covariance: Float[Tensor, "Nd Nd"], length: int) -> Float[Tensor, "d d"]:
    """The mean over frames of the covariance inside a frame."""
    dim = len(covariance) // length
    return covariance.reshape(length, dim, length, dim).diagonal(dim1=0, dim2=2).mean(dim=-1)


def generate(checkpoint: Checkpoint, samples: int, steps: int, seed: int, device) -> Generated:
    """Sample the model by the probability-flow ODE from N(0, I), and compare its covariance with the truth.

    For a Gaussian process the exact score runs through the same sampler from the same starts: what separates it from
    the truth is the sampler and the number of samples, not a model.
    """
    process = checkpoint.process
    model = checkpoint.model.to(device)
    grid = log_time_grid(checkpoint.t_range, steps)
    start = torch.randn(samples, process.length, process.dim, generator=torch.Generator().manual_seed(seed))
    sources: dict[str, tuple[ScoreModel, Tensor]] = {"model": (model, start.to(device, checkpoint.dtype))}
    if checkpoint.exact:
        sources["exact score"] = (process.score, start.double())
    clean = torch.kron(process.temporal_covariance, process.spatial_covariance)
    trace = float(process.spatial_covariance.trace())
    matrices, rows = {"true": process.temporal_covariance.numpy()}, []
    for name, (score, starts) in sources.items():
        x = torch.cat([list(probability_flow(score, part, grid))[-1][1] for part in starts.split(CHUNK)])
        covariance = generated_covariance(x.cpu(), grid[-1])
        gamma, sigma = temporal_part(covariance, process.length, trace), spatial_part(covariance, process.length)
        matrices[name] = gamma.numpy()
        pairs = (
            ("covariance", covariance, clean),
            ("Gamma", gamma, process.temporal_covariance),
            ("Sigma", sigma, process.spatial_covariance),
        )
        bias = x.cpu().double().mean(dim=0) / alpha(grid[-1]) - process.mean
        row = {what: float((a - b).norm() / b.norm()) for what, a, b in pairs}
        rows.append({"source": name, **row, "mean": float(bias.norm() / clean.trace().sqrt())})
    curves = []
    for name, matrix in matrices.items():
        profile = lag_means(torch.as_tensor(matrix))[process.length - 1 :].numpy()
        curves.append(pd.DataFrame({"lag": np.arange(process.length), "correlation": profile, "source": name}))
    by_lag = pd.concat(curves, ignore_index=True)
    by_lag["low"], by_lag["high"] = np.nan, np.nan
    if isinstance(checkpoint.data, SeriesData):
        low, high = checkpoint.data.correlation_interval(generator=torch.Generator().manual_seed(seed))
        true = by_lag.source == "true"
        by_lag.loc[true, "low"], by_lag.loc[true, "high"] = low.numpy(), high.numpy()
    return Generated(matrices, by_lag, pd.DataFrame(rows), samples, steps, grid[-1])
