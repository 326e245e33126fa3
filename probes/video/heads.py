"""What kind of head: does attention fall with the distance in time, in space, with both or with neither?

The effect is the contrast of a profile between near and far,

    contrast = (near - far) / (near + far)        in [-1, 1]

near: mean attention over the pairs of different tokens at lags up to 1 (frames, or token spacings within the frame);
far: over the pairs at more than half of the largest lag. A token's attention to itself is left out, since it shows no
reach: content alone can raise it. 0 is no dependence on the axis, 1/3 is near = 2 far, negative is attention that rises
with distance (as it does towards a fixed frame). Without its own token, a head that is sharply local on one axis and
flat on the other has a contrast of 0 to -0.3 on the flat one (derived: those pairs are then missing from lag 0), so
locality is rather understated. A head is local on an axis from 1/3 on, and is called

    temporal   local in time alone        spatial   local in space alone
    mixed      local in both              neither   local on no axis that it sees

This says what the attention depends on, and differs from names by function: a head that looks at its own frame alone is
local in time here, and is called a spatial head by Sparse VideoGen (arXiv 2502.01776).

Uncertainty is that over samples: percentile bootstrap of the contrast of the mean profile, 95 %, from `LEAST_SEQUENCES`
samples on; fewer, or one, have no interval (NaN), and `certain` is then False. A head is certain where each of its
intervals lies on one side of 1/3. Intervals do not cover another noise level, prompt or kind of video, and heads are
not corrected for their number. Axes so short that no lag is near or none is far have no contrast.

Decay is fitted by `probes.decay.fit` to all pairs, those of a token with itself included, where an axis has enough
lags: frame lags folded over the sign, and distances sqrt(dy^2 + dx^2), each weighted by its number of pairs. Softmax
divides every row by its own sum, which is smaller at the ends of the grid: logits -lag/l give a profile close to
exp(-lag/l), not equal to it.
"""

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from probes.capture.lags import pairs_per_lag
from probes.decay.fit import MIN_LAGS, fit_decay
from probes.decay.intervals import LEAST_SEQUENCES, bootstrap_intervals
from probes.resampling import bootstrap_counts
from probes.video.grid import TokenGrid
from probes.video.grid_attention import GridAttention, GridLayer
from unrolled.checks import InputError

__all__ = ["LOCAL", "axis_profiles", "check_grid", "contrast", "head_table", "profile_table"]

LOCAL = 1 / 3
"""Contrast from which a head is local on an axis: the nearest tokens get twice the attention of the far ones."""
RESAMPLES = 1000
AXES = ("temporal", "spatial")
KINDS: dict[tuple[bool, ...], str] = {
    (True, False): "temporal",
    (False, True): "spatial",
    (True, True): "mixed",
    (False, False): "neither",
}
"""By whether the head is local in time and in space."""


def check_grid(grid: TokenGrid) -> None:
    """Raise an InputError unless an axis of the grid has at least `MIN_LAGS` lags for a decay fit."""
    distances = len(_axis_lags((grid.height, grid.width))[1])
    if max(grid.frames, distances) < MIN_LAGS:
        raise InputError(
            f"grid: {grid} has {grid.frames} frame lags and {distances} distances; accepted: at least {MIN_LAGS} of"
            " one, fewer are too few for a decay fit"
        )


def _axis_lags(sides: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(index of the distance of each displacement along the sides, flat; distances in increasing order)."""
    steps = np.meshgrid(*(np.arange(1 - side, side) for side in sides), indexing="ij")
    squares, index = np.unique(sum(step**2 for step in steps), return_inverse=True)
    return index.ravel(), np.sqrt(squares)


def axis_profiles(layer: GridLayer, grid: TokenGrid, axis: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(lags >= 0, profile (heads, samples, lags), pairs of tokens at each lag); None where the layer lacks the axis."""
    temporal = axis == "temporal"
    sides = (grid.frames,) if temporal else (grid.height, grid.width)
    profile = layer.temporal if temporal else layer.spatial
    if profile is None:
        return None
    index, lags = _axis_lags(sides)
    others = grid.tokens // math.prod(sides)
    pairs = reduce(np.outer, map(pairs_per_lag, sides)).ravel() * float(others ** (1 if layer.layout == axis else 2))
    which = np.eye(len(lags))[index]  # (displacements, lags)
    total = pairs @ which
    return lags, (profile.reshape(*profile.shape[:2], -1) * pairs) @ which / total, total


def contrast(layer: GridLayer, grid: TokenGrid, axis: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Contrast of each head on an axis, and the ends of its 95 % interval over samples, (heads,) and (heads, 2).

    NaN where the layer lacks the axis, the axis is too short, or there are too few samples for an interval.
    """
    heads, samples = layer.own.shape
    profiles = axis_profiles(layer, grid, axis)
    unknown = np.full(heads, np.nan), np.full((heads, 2), np.nan)
    if profiles is None:
        return unknown
    lags, profile, pairs = profiles
    sums, pairs = profile * pairs, pairs.copy()
    sums[..., 0] -= layer.own * grid.tokens
    pairs[0] -= grid.tokens
    far = lags > lags[-1] / 2
    near = (lags <= 1) & ~far & (pairs > 0)
    if not near.any() or not far.any():
        return unknown
    near, far = (sums[..., part].sum(axis=-1) / pairs[part].sum() for part in (near, far))  # (heads, samples)
    value = _relative(near.mean(axis=1), far.mean(axis=1))
    if samples < LEAST_SEQUENCES:
        return value, unknown[1]
    draws = bootstrap_counts(samples, RESAMPLES, seed) / samples
    ends = np.quantile(_relative(near @ draws.T, far @ draws.T), [0.025, 0.975], axis=1).T
    return value, ends


def _relative(near: np.ndarray, far: np.ndarray) -> np.ndarray:
    """(near - far) / (near + far); 0 for a head that attends to neither."""
    total = near + far
    return np.divide(near - far, total, out=np.zeros_like(total), where=total > 0)


def head_table(attention: GridAttention, seed: int = 0) -> pd.DataFrame:
    """One row per layer and head: kind, contrasts with intervals, exponential decay on each axis, text and own share.

    Columns `temporal_*` and `spatial_*`: contrast, low, high, lags; lengthscale, power, amplitude, floor, r2,
    at_boundary and fixed of the exponential fit, and lengthscale_low and _high, NaN where there is none. Lengthscales
    are in frames or token spacings.
    """
    rows: list[dict[str, Any]] = []
    for number, layer in enumerate(attention.layers):
        axes = {
            axis: (*contrast(layer, attention.grid, axis, seed), axis_profiles(layer, attention.grid, axis))
            for axis in AXES
        }
        for head in range(len(layer.own)):
            values = [(value[head], *ends[head]) for value, ends, _ in axes.values()]
            row = {
                "layer": number,
                "module": layer.name,
                "layout": layer.layout,
                "head": head,
                "kind": KINDS[tuple(bool(value >= LOCAL) for value, _, _ in values)],
                "certain": all(math.isnan(value) or low >= LOCAL or high < LOCAL for value, low, high in values),
                "text_share": float(layer.text_share[head].mean()),
                "own": float(layer.own[head].mean()),
            }
            for (axis, (_, _, profiles)), (value, low, high) in zip(axes.items(), values, strict=True):
                row |= {f"{axis}_contrast": value, f"{axis}_low": low, f"{axis}_high": high}
                row |= {f"{axis}_{key}": cell for key, cell in _fit(profiles, head, seed).items()}
            rows.append(row)
    return pd.DataFrame(rows)


def _fit(profiles: tuple[np.ndarray, np.ndarray, np.ndarray] | None, head: int, seed: int) -> dict[str, Any]:
    """The exponential decay of one head on one axis."""
    names = ("lengthscale", "power", "amplitude", "floor", "r2")
    nothing = dict.fromkeys((*names, "lengthscale_low", "lengthscale_high"), math.nan) | {
        "at_boundary": "",
        "fixed": "",
    }
    if profiles is None or len(profiles[0]) < MIN_LAGS:
        return {"lags": 0 if profiles is None else len(profiles[0]), **nothing}
    lags, profile, pairs = profiles
    fit = fit_decay(lags, profile[head].mean(axis=0), "exponential", pairs)
    ends = bootstrap_intervals(lags, profile[head], "exponential", pairs, seed=seed)
    values = {name: getattr(fit, name) for name in names}
    bounds = {"lengthscale_low": ends.lengthscale_low, "lengthscale_high": ends.lengthscale_high}
    return {"lags": len(lags), **values, **bounds, "at_boundary": fit.at_boundary, "fixed": fit.fixed}


def profile_table(attention: GridAttention) -> pd.DataFrame:
    """Mean profiles, tidy: layer, module, head, axis, dt, dy, dx, attention; dt or (dy, dx) is NaN on the other
    axis."""
    grid = attention.grid
    parts: list[pd.DataFrame] = []
    frames = np.arange(1 - grid.frames, grid.frames)
    dy, dx = np.meshgrid(np.arange(1 - grid.height, grid.height), np.arange(1 - grid.width, grid.width), indexing="ij")
    for number, layer in enumerate(attention.layers):
        for head in range(len(layer.own)):
            first = {"layer": number, "module": layer.name, "head": head}
            if layer.temporal is not None:
                mean = layer.temporal[head].mean(axis=0)
                parts.append(pd.DataFrame({**first, "axis": "temporal", "dt": frames, "attention": mean}))
            if layer.spatial is not None:
                mean = layer.spatial[head].mean(axis=0).ravel()
                lags = {"dy": dy.ravel(), "dx": dx.ravel()}
                parts.append(pd.DataFrame({**first, "axis": "spatial", **lags, "attention": mean}))
    columns = ["layer", "module", "head", "axis", "dt", "dy", "dx", "attention"]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)
