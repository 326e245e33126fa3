"""Whose score a network computes: that of its own data, of other data, none at all, or nobody's.

With f the best affine map of a network at t and s_k the scores of some candidates, all as functions of X_t, distances
are

    d(f, k)^2 = E |f(X_t) - s_k(X_t)|^2 / E |s(X_t)|^2,    s the exact score.

A network has the name k where d(f, k) is less than half of the distance from s_k to every other candidate, and less
than `NEAR` times the larger of 1 and the size of s_k in these units. By the triangle inequality f is then nearer to s_k
than to any other, and no second candidate is within half of its own distances (derived): an operator that has a name of
the list cannot get another one. What is further away from every candidate is nobody's. Where candidates are close to
each other, as at large t, only an accurate network has a name.

Distances come from two fits on different sequences, so that the noise of neither counts. The upper end of the 95 %
interval of d must be below these bounds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probes.controls.networks import STRETCH, other_kernel, white_noise
from probes.modes.operator import GROUPS, Coordinates, Map, RegressionFit, score_residuals
from probes.modes.parts import Estimate
from unrolled.diffusion import ScoreModel
from unrolled.process import GaussianProcess

__all__ = [
    "NEAR",
    "NOBODY",
    "NO_SCORE",
    "OTHER_KERNEL",
    "OWN",
    "WHITE_NOISE",
    "Named",
    "candidates_of",
    "name_operator",
]

OWN, WHITE_NOISE, NO_SCORE, NOBODY = "its own data", "white noise", "no score", "nobody's"
NEAR = 0.15
"""A name needs a distance below this share of the size of the exact score, or of the named one where that is larger."""
OTHER_KERNEL = f"{STRETCH:g} times the lengthscale"


@dataclass(frozen=True)
class Named:
    """What an operator is called at one t.

    Attributes:
        name: of a candidate, or `NOBODY`.
        nearest: the nearest candidate.
        distance: to it, relative to the size of the exact score.
        high: upper end of the 95 % interval of the distance.
        room: half of the distance from the nearest candidate to the one next to it, or what `NEAR` allows where that is
            less: a name needs `high` below it.
    """

    name: str
    nearest: str
    distance: float
    high: float
    room: float


def candidates_of(process: GaussianProcess, lengthscale: float = 1.0) -> dict[str, ScoreModel]:
    """The scores that a network may have learned instead of its own: of white noise, of a kernel of `STRETCH` times the
    lengthscale, and a score of 0.

    Args:
        process: the data.
        lengthscale: of the kernel that was fitted to data without one.
    """
    return {
        OWN: process.score,
        WHITE_NOISE: white_noise(process).score,
        OTHER_KERNEL: other_kernel(process, lengthscale).score,
        NO_SCORE: lambda x, t: torch.zeros_like(x),
    }


def name_operator(
    model: ScoreModel,
    process: GaussianProcess,
    x: Float[Tensor, "n N d"],
    t: float,
    candidates: Mapping[str, ScoreModel],
) -> Named:
    """What the best affine map of a model at t is called.

    Args:
        model: anything called as model(x, t).
        process: of the data.
        x: sequences X_t, as the model takes them; half of them for either fit.
        t: diffusion time.
        candidates: affine scores by name, two or more.

    Raises:
        InputError: too few sequences for a fit.
    """
    coordinates = Coordinates(process, t)
    y, r = coordinates.whitened(x.cpu()), coordinates.rotated(score_residuals(model, process, x, t))
    fits = [RegressionFit(*half) for half in zip(y.tensor_split(2), r.tensor_split(2), strict=True)]
    known = {name: _map_of(score, process, coordinates, t) for name, score in candidates.items()}
    size = float((1 / coordinates.eigenvalues).sum())
    distances = {name: _distance(fits[0], fits[1], each, size) for name, each in known.items()}
    nearest = min(distances, key=lambda name: float(distances[name].value[0]))
    gaps = [_product(known[nearest], each, known[nearest], each) for name, each in known.items() if name != nearest]
    nothing = Map(torch.zeros_like(known[nearest].offset), torch.diag(coordinates.eigenvalues.flatten().rsqrt()))
    own = (_product(known[nearest], nothing, known[nearest], nothing) / size) ** 0.5
    room = min((min(gaps) / size) ** 0.5 / 2, NEAR * max(1.0, own))
    square = distances[nearest]
    distance, high = (float(each[0].clip(min=0)) ** 0.5 for each in (square.value, square.interval[1]))
    return Named(nearest if high < room else NOBODY, nearest, distance, high, room)


def _map_of(score: ScoreModel, process: GaussianProcess, coordinates: Coordinates, t: float) -> Map:
    """m and D of an affine score, from its values at the mean and at one standard deviation along each eigenvector."""
    roots = coordinates.eigenvalues.sqrt().flatten()
    steps = torch.diag(roots).unflatten(1, coordinates.eigenvalues.shape)
    points = torch.cat([torch.zeros_like(steps[:1]), steps])
    x = coordinates.shift + coordinates.u @ points @ coordinates.v.T
    values = coordinates.rotated(score_residuals(score, process, x, t))
    return Map(values[0], (values[1:] - values[0]).T)


def _product(a: Map, b: Map, c: Map, d: Map) -> float:
    """E (a - b)(y)' (c - d)(y) for standard normal y."""
    matrices = (a.matrix - b.matrix) * (c.matrix - d.matrix)
    return float(matrices.sum() + (a.offset - b.offset) @ (c.offset - d.offset))


def _distance(first: RegressionFit, second: RegressionFit, known: Map, size: float) -> Estimate:
    """The squared distance with its standard error, by leaving out groups of sequences in each fit by itself."""
    maps = first(), second()
    value = _product(maps[0], known, maps[1], known) / size
    replicas = [
        [_product(first(k), known, maps[1], known) / size for k in range(GROUPS)],
        [_product(maps[0], known, second(k), known) / size for k in range(GROUPS)],
    ]
    spread = torch.tensor(replicas, dtype=torch.float64).var(dim=1, correction=0).sum() * (GROUPS - 1)
    return Estimate(torch.tensor([value]).double().numpy(), spread.sqrt()[None].numpy(), 2 * (GROUPS - 1))
