"""Does the error by mode matter for samples? Variance of generated sequences in each eigenmode of the data.

The probability-flow sampler on a fixed grid of times asks the score at these times only. So the best affine map at each
of them is a score model by itself, its samples have an exact Gaussian law (`unrolled.generated.discrete_law`), and so
have those of the exact score on the same grid. Held beside them is the second moment of what the network generates. All
are about the mean of the data, relative to the variance of X_t at the last t:

- exact score: what the grid alone changes;
- affine part: what the learned operator changes;
- network: the rest as well, with an interval over sequences.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from probes.inputs import noisy_batches
from probes.modes.operator import Coordinates, RegressionFit, score_residuals
from unrolled.checkpoint import Checkpoint
from unrolled.diffusion import ScoreModel, check_time
from unrolled.gaussian import GaussianLaw
from unrolled.generated import discrete_law
from unrolled.process import GaussianProcess
from unrolled.samplers import log_time_grid, probability_flow

__all__ = ["AffineParts", "generated_by_mode", "mode_moments"]

BATCH = 256
"""Sequences generated at once."""


class AffineParts:
    """A score model: at each t of a grid the best affine map of another model, estimated by regression.

    Args:
        model: what is approximated.
        process: of the data.
        draw: t -> (n, N, d) sequences X_t, as the model takes them.
        times: the grid.
        progress: called after each t.
    """

    def __init__(
        self,
        model: ScoreModel,
        process: GaussianProcess,
        draw: Callable[[float], Float[Tensor, "n N d"]],
        times: Sequence[float],
        progress: Callable[[], object] = lambda: None,
    ):
        self.process = process
        self.maps: dict[float, tuple[Coordinates, Tensor, Tensor]] = {}
        for t in times:
            x, coordinates = draw(t), Coordinates(process, t)
            residual = coordinates.rotated(score_residuals(model, process, x, t))
            fitted = RegressionFit(coordinates.whitened(x.cpu()), residual)()
            self.maps[t] = (coordinates, fitted.matrix, fitted.offset)
            progress()

    def __call__(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        coordinates, matrix, offset = self.maps[float(check_time(t, len(x)))]
        residual = (coordinates.whitened(x) @ matrix.T + offset).reshape(x.shape)
        return self.process.score(x, t) + coordinates.u @ residual @ coordinates.v.T


def mode_moments(law: GaussianLaw, process: GaussianProcess, t: float) -> Float[Tensor, " N"]:
    """Second moment of a Gaussian law about alpha_t mu in each eigenmode of Gamma, eigenvalues ascending, relative to
    X_t."""
    coordinates = Coordinates(process, t)
    q = torch.kron(coordinates.u, coordinates.v)
    shift = q.T @ (law.mean - coordinates.shift.flatten())
    moment = ((q.T @ law.covariance) * q.T).sum(dim=1) + shift**2
    return moment.reshape(coordinates.eigenvalues.shape).sum(1) / coordinates.eigenvalues.sum(1)


def generated_by_mode(
    checkpoint: Checkpoint,
    steps: int,
    fitted: int,
    generated: int,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Callable[[], object] = lambda: None,
) -> pd.DataFrame:
    """One row per eigenmode of Gamma, mode 1 of the largest eigenvalue: relative variance of samples.

    Columns: t (of the samples, the smallest of the model), mode, eigenvalue; `exact_score`, `affine`, `network`, see
    above, 1 for samples of X_t; `low` and `high` of the network.

    Args:
        checkpoint: the model and its data.
        steps: of the sampler.
        fitted: sequences behind the affine map at each t.
        generated: sequences that the network generates.
        seed: of everything random.
        device: where the model runs.
        progress: called `steps` + 1 times.
    """
    device = device or torch.device("cpu")
    process, model = checkpoint.process, checkpoint.model.to(device)
    grid = log_time_grid(checkpoint.t_range, steps)
    last = grid[-1]

    def draw(t: float) -> Tensor:
        return torch.cat(list(noisy_batches(checkpoint, t, fitted, BATCH, seed, device)))

    affine = AffineParts(model, process, draw, grid, progress)
    laws = [discrete_law(score, process.length, process.dim, grid, "ode") for score in (process.score, affine)]
    exact, of_affine = (mode_moments(law, process, last).numpy() for law in laws)
    coordinates = Coordinates(process, last)
    squares = []
    for first in range(0, generated, BATCH):
        shape = (min(BATCH, generated - first), process.length, process.dim)
        start = torch.randn(shape, generator=torch.Generator().manual_seed(seed + first), dtype=torch.float64)
        *_, (_, x) = probability_flow(model, start.to(device, checkpoint.dtype), grid)
        y = coordinates.rotated(x.double().cpu() - coordinates.shift).reshape(shape)
        squares.append(y.square().sum(dim=2) / coordinates.eigenvalues.sum(dim=1))
    table = torch.cat(squares).numpy()
    mean = table.mean(axis=0)
    half = float(stats.norm.ppf(0.975)) * table.std(axis=0, ddof=1) / len(table) ** 0.5
    columns = {
        "eigenvalue": process.temporal_eigen[0].numpy(), "exact_score": exact, "affine": of_affine, "network": mean,
        "low": mean - half, "high": mean + half,
    }  # fmt: skip
    rows = pd.DataFrame({name: column[::-1] for name, column in columns.items()})
    rows.insert(0, "mode", np.arange(1, len(rows) + 1))
    rows.insert(0, "t", last)
    return rows
