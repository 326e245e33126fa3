"""Influence of the tokens of a video on a model's output, by frame lag and by displacement in the frame.

A token is a patch of the latents with its d values. With J_pq the (d, d) block by which token q moves the output at
token p, at one noise level and with everything else held fixed,

    temporal(df)     mean of tr J_pq / d over the pairs at the same place with f_q - f_p = df
    spatial(dy, dx)  mean of tr J_pq / d over the pairs in the same frame with y_q - y_p = dy and x_q - x_p = dx

The Jacobian is never formed: products with random signs estimate all of these means without bias
(`probes.modes.probing`), and cost one backward pass each, or two forward passes where the model has no gradient. Sums
over the pairs at a displacement are correlations, taken by FFT. So memory is that of a pass of one batch.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from probes.capture.lags import pairs_per_lag
from probes.modes.parts import Estimate
from probes.modes.probing import over_sequences, probed_table, shifted_products
from probes.video.grid import TokenGrid
from unrolled.checks import InputError, require_integer

__all__ = ["GridInfluence", "grid_influence", "influence_table", "latents_of", "tokens_of"]

Pass = tuple[Float[Tensor, "_ F H W d"], Callable[[Tensor], Tensor]]
"""Videos as tokens, and the function of them whose output has their shape."""


@dataclass(frozen=True)
class GridInfluence:
    """What `grid_influence` found.

    Attributes:
        grid: the tokens.
        samples: videos.
        probes: vectors for each of them.
        gradient: whether products are backward passes; else central differences.
        temporal: at frame lags -(F-1)..F-1.
        spatial: at displacements (dy, dx), rows first, flat.
    """

    grid: TokenGrid
    samples: int
    probes: int
    gradient: bool
    temporal: Estimate
    spatial: Estimate


def tokens_of(
    latents: Float[Tensor, "n channels frames rows columns"], patch: tuple[int, int, int]
) -> Float[Tensor, "n F H W d"]:
    """Latents as tokens of patches (frames, rows, columns), each with the values of all channels."""
    parts = latents.unflatten(4, (-1, patch[2])).unflatten(3, (-1, patch[1])).unflatten(2, (-1, patch[0]))
    return parts.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)


def latents_of(
    tokens: Float[Tensor, "n F H W d"], patch: tuple[int, int, int]
) -> Float[Tensor, "n channels frames rows columns"]:
    """The inverse of `tokens_of`."""
    parts = tokens.unflatten(4, (-1, *patch)).permute(0, 4, 1, 5, 2, 6, 3, 7)
    return parts.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _by_displacement(
    products: Float[Tensor, "n F H W d"], signs: Float[Tensor, "n F H W d"]
) -> Float[Tensor, "n displacements"]:
    """Means over pairs of (J v)_p . v_q / d: by frame lag at the same place, then by (dy, dx) in the same frame."""
    frames, height, width, d = signs.shape[1:]
    temporal = shifted_products(products.flatten(2), signs.flatten(2))  # a frame as one vector: pairs at one place
    size = (2 * height - 1, 2 * width - 1)
    first, second = (torch.fft.rfft2(part, s=size, dim=(2, 3)) for part in (products, signs))
    spectrum = (first.conj() * second).sum(dim=(1, 4))
    sums = torch.fft.fftshift(torch.fft.irfft2(spectrum, s=size, dim=(1, 2)), dim=(1, 2))
    pairs = torch.from_numpy(np.outer(pairs_per_lag(height), pairs_per_lag(width)))
    return torch.cat([temporal, (sums / (pairs * frames * d)).flatten(1)], dim=1)


def grid_influence(
    passes: Iterable[Pass],
    grid: TokenGrid,
    probes: int = 1,
    seed: int = 0,
    gradient: bool | None = None,
    progress: Callable[[int], object] = lambda samples: None,
) -> GridInfluence:
    """Influence by frame lag and displacement of any function of a video, with intervals over videos.

    Args:
        passes: batches of videos with the function that takes them, at least two videos together. No output may see
            another video of its batch.
        grid: the tokens.
        probes: random vectors for each video.
        seed: of these.
        gradient: whether to differentiate. Not given, differences serve where there is no gradient.
        progress: called with the number of videos of each pass that is done.

    Raises:
        InputError: no probe; fewer than two videos; videos or outputs of another shape; no gradient where one is asked
            for.
    """
    require_integer("probes", probes)
    generator = torch.Generator().manual_seed(seed)
    tables = []
    for x, function in passes:
        if tuple(x.shape[1:4]) != (grid.frames, grid.height, grid.width):
            raise InputError(f"passes: videos of {tuple(x.shape[1:4])} tokens are not accepted; accepted: {grid}")
        table, gradient = _products(_same_shape(function), x, probes, generator, gradient)
        tables.append(table)
        progress(len(x))
    table = np.concatenate(tables) if tables else np.zeros((0, 0))
    require_integer("samples", len(table), 2)
    lags = 2 * grid.frames - 1
    temporal, spatial = over_sequences(table[:, :lags]), over_sequences(table[:, lags:])
    return GridInfluence(grid, len(table), probes, bool(gradient), temporal, spatial)


def _same_shape(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function, whose outputs are refused where they have another shape than its inputs."""

    def checked(x: Tensor) -> Tensor:
        y = function(x)
        if y.shape != x.shape:
            raise InputError(f"passes: output {tuple(y.shape)} is not accepted; accepted: {tuple(x.shape)}")
        return y

    return checked


def _products(
    function: Callable[[Tensor], Tensor], x: Tensor, probes: int, generator: torch.Generator, gradient: bool | None
) -> tuple[Float[np.ndarray, "n displacements"], bool]:
    """The table of one pass, and whether it comes from gradients.

    A model that runs without recording gradients has the gradient 0 and no error, so that differences check a 0.
    """
    if gradient is None:
        try:
            table = probed_table(function, x, _by_displacement, probes, generator)
            if table.any():
                return table, True
        except InputError:
            pass
    differentiate = bool(gradient)
    return probed_table(function, x, _by_displacement, probes, generator, differentiate), differentiate


def influence_table(found: GridInfluence) -> pd.DataFrame:
    """Tidy: axis, dt, dy, dx, influence, low, high, with 95 % intervals over videos."""
    grid = found.grid
    frames = np.arange(1 - grid.frames, grid.frames)
    dy, dx = np.meshgrid(np.arange(1 - grid.height, grid.height), np.arange(1 - grid.width, grid.width), indexing="ij")
    places = {
        "temporal": (found.temporal, {"dt": frames, "dy": 0, "dx": 0}),
        "spatial": (found.spatial, {"dt": 0, "dy": dy.ravel(), "dx": dx.ravel()}),
    }
    tables = []
    for axis, (estimate, place) in places.items():
        low, high = estimate.interval
        tables.append(pd.DataFrame({"axis": axis, **place, "influence": estimate.value, "low": low, "high": high}))
    return pd.concat(tables, ignore_index=True)
