"""What of a network is linear, judged by its denoising loss, so that no exact score is needed.

sigma_t^2 times the squared error of a score, per value, is the denoising loss less a constant that no model changes
(Vincent, see `unrolled.diffusion.denoising_loss`). A score of 0 has loss 1, and 1 - loss is the part of the noise that
a score explains. For the exact score s with its best affine map W x + w this part splits (Pythagoras; derived):

    1 - loss(s) = [1 - loss(W x + w)] + sigma_t^2 E|s - W x - w|^2 / (N d)

The first term is what the best affine denoiser explains. So of a model f there are two figures, which agree if f = s:

- bought: the loss of the affine denoiser less that of f, at most 0 for Gaussian data but for what the affine denoiser
  itself lacks;
- computed: sigma_t^2 E|f - W x - w|^2 / (N d) with the best affine map of f itself.

Stand-ins are those of the chain (`probes.replacement.stand_ins`), with means over training sequences. All losses are of
the same noisy held-out sequences. How uncertain a difference is follows from its means over `GROUPS` groups of
consecutive sequences, which may depend on each other within a group: windows of a series in time order, say.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probes.modes.operator import BATCH, Coordinates, RegressionFit, score_residuals
from probes.modes.parts import Estimate
from probes.replacement.explicit import batched_score
from probes.replacement.means import network_means
from probes.replacement.stand_ins import Replaced, part_stand_ins, plain_stand_ins
from unrolled.diffusion import ScoreModel, add_noise, sigma
from unrolled.models.dit import DiT
from unrolled.process import GaussianProcess
from unrolled.series.data import SequenceData

__all__ = ["GROUPS", "HeldOut", "best_affine_of", "linear_stand_ins", "not_affine", "over_groups", "scores_at"]

GROUPS = 16
"""Groups of held-out sequences."""
PER_VALUE = 8
"""Sequences behind the best affine map of a model for each of the N d values."""
MEANS = 256
"""Sequences behind the means of a network."""


class HeldOut(NamedTuple):
    """Clean sequences and their noise at one t, float64: what every model is judged on.

    Where the exact score s is known, losses are taken by their mean over the noise given X_t, which is the same loss
    with less chance in it: sigma_t^2 |f - s|^2 + 1 - sigma_t^2 |s|^2, squares being means over values (derived).
    """

    x0: Float[Tensor, "n N d"]
    noise: Float[Tensor, "n N d"]
    t: float
    exact: ScoreModel | None = None

    @property
    def noisy(self) -> Float[Tensor, "n N d"]:
        """X_t."""
        return add_noise(self.x0, self.t, self.noise)

    def losses(self, score: Float[Tensor, "n N d"]) -> Float[np.ndarray, " n"]:
        """The denoising loss of every sequence, of a score at `noisy`."""
        scaled = sigma(self.t) * score.double()
        if self.exact is None:
            return (scaled + self.noise).square().mean(dim=(1, 2)).numpy()
        truth = sigma(self.t) * scores_at(self.exact, self.noisy, self.t)
        return ((scaled - truth).square() + 1 - truth.square()).mean(dim=(1, 2)).numpy()


def over_groups(values: Float[np.ndarray, " n"]) -> Estimate:
    """Mean over sequences, with the standard error of means over groups of consecutive ones."""
    means = np.array([part.mean() for part in np.array_split(values, GROUPS)])
    return Estimate(values.mean(keepdims=True), means.std(ddof=1, keepdims=True) / GROUPS**0.5, GROUPS - 1)


@torch.no_grad()
def scores_at(model: ScoreModel, x: Float[Tensor, "n N d"], t: float) -> Float[Tensor, "n N d"]:
    """The scores of many sequences."""
    return torch.cat([model(part, t) for part in x.split(BATCH)])


@torch.no_grad()
def linear_stand_ins(model: DiT, data: SequenceData, held_out: HeldOut, seed: int) -> dict[str, Float[Tensor, "n N d"]]:
    """Scores of a DiT with mean maps, and made linear, at the held-out sequences.

    Args:
        model: with at least one block.
        data: draws the training sequences behind the means.
        held_out: at which sequences and t.
        seed: of those sequences and their noise.
    """
    x, t = _training(data, MEANS, held_out.t, seed).to(model.position.dtype), held_out.t
    means = network_means(model, x, t)
    judged = held_out.noisy.to(x)
    stand_ins = {"mean maps": plain_stand_ins(means)["mean"], "linear": part_stand_ins(means)["linear"]}
    return {name: batched_score(model, judged, t, Replaced(model, each)) for name, each in stand_ins.items()}


def best_affine_of(
    model: ScoreModel, data: SequenceData, process: GaussianProcess, held_out: HeldOut, dtype: torch.dtype, seed: int
) -> Float[Tensor, "n N d"]:
    """Scores of the best affine map of a model at the held-out sequences, by regression on training sequences.

    Args:
        model: anything called as model(x, t).
        data: draws the training sequences.
        process: in whose coordinates the regression is done; it changes nothing but rounding.
        held_out: at which sequences and t.
        dtype: in which the model takes its sequences.
        seed: of the training sequences and their noise.
    """
    t, coordinates = held_out.t, Coordinates(process, held_out.t)
    x = _training(data, PER_VALUE * process.length * process.dim, t, seed).to(dtype)
    residuals = coordinates.rotated(score_residuals(model, process, x, t))
    fit = RegressionFit(coordinates.whitened(x), residuals)()
    judged = held_out.noisy
    rotated = (coordinates.whitened(judged) @ fit.matrix.T + fit.offset).reshape(judged.shape)
    return process.score(judged, t) + coordinates.u @ rotated @ coordinates.v.T


def _training(data: SequenceData, n: int, t: float, seed: int) -> Float[Tensor, "n N d"]:
    generator = torch.Generator().manual_seed(seed)
    x0 = data.sample(n, generator)
    return add_noise(x0, t, torch.randn(x0.shape, generator=generator, dtype=torch.float64))


def not_affine(
    score: Float[Tensor, "n N d"], affine: Float[Tensor, "n N d"], held_out: HeldOut
) -> Float[np.ndarray, " n"]:
    """sigma_t^2 |f - W x - w|^2 of every sequence, the mean over values, from the scores of a model and of its best
    affine map at held-out sequences."""
    return (sigma(held_out.t) ** 2 * (score.double() - affine).square().mean(dim=(1, 2))).numpy()
