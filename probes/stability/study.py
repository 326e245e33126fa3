"""The stability study: profiles of every head of one network or several, and their variance components as tables.

Of a video model the profiles are those over frames and over the frame, each by itself, and the times are the training
steps that it is told. It sees the same videos and the same text at all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from probes.capture.by_lag import attention_by_lag
from probes.capture.lags import pairs_per_lag
from probes.inputs import noisy_batches
from probes.stability.components import Component, between_networks, head_components, network_components
from probes.video.study import Videos
from unrolled.checkpoint import Checkpoint
from unrolled.checks import InputError

__all__ = ["AXES", "STATIC", "StabilityStudy", "head_profiles", "kind_of", "study_stability", "study_videos"]

BATCH = 64
"""Sequences per forward pass."""
AXES = ("temporal", "spatial")
"""Axes along which a head of a video model has a profile."""
STATIC = 0.1
"""A head whose profile varies less than this, relative to its size, is static."""


@dataclass(frozen=True)
class StabilityStudy:
    """What `study_stability` found.

    Attributes:
        heads: a row per axis, network, layer and head: kind, and its components t, sequence and both in units of the
            squared size of its mean profile, each with _low and _high. axis is "temporal", or "spatial" for the profile
            of a video model over the frame.
        components: a row per axis and component of all networks together: component, variance, low, high, and share,
            that of the sum of the estimates that are not below 0.
    """

    heads: pd.DataFrame
    components: pd.DataFrame


def head_profiles(
    checkpoint: Checkpoint, times: Sequence[float], samples: int, seed: int, device: torch.device
) -> Float[np.ndarray, "heads times n lags"]:
    """Profiles of all heads, layer by layer, on the same sequences with the same noise at every t."""
    model = checkpoint.model.to(device)
    seen = []
    for t in times:
        batches = noisy_batches(checkpoint, t, samples, BATCH, seed, device)
        seen.append(attention_by_lag(model, batches, t, checkpoint.registers).profiles)
    profiles = np.stack(seen, axis=2)  # (layers, heads, times, n, lags)
    return profiles.reshape(-1, *profiles.shape[2:])


def kind_of(parts: dict[str, Component]) -> str:
    """What a head is: "static", or what its profile changes with: "t", "input", or "t and input".

    Input is sequence and both together. One of the two is named alone if its interval lies above that of the other.
    """
    if all(part.high < STATIC**2 for part in parts.values()):
        return "static"
    t, sequence, both = parts["t"], parts["sequence"], parts["both"]
    if t.low > sequence.high + both.high:
        return "t"
    return "input" if sequence.low + both.low > t.high else "t and input"


def study_stability(
    checkpoints: Sequence[Checkpoint],
    times: Sequence[float],
    samples: int = 128,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Callable[[], object] = lambda: None,
) -> StabilityStudy:
    """Variance components of the profiles of heads.

    Args:
        checkpoints: networks of the same sizes on sequences of the same length, such as training seeds.
        times: two diffusion times or more.
        samples: sequences, at least 3.
        seed: of the sequences and their noise, the same for every network.
        device: where the models run; the CPU where not given.
        progress: called after each network.
    """
    networks = []
    for checkpoint in checkpoints:
        networks.append(head_profiles(checkpoint, times, samples, seed, device or torch.device("cpu")))
        progress()
    per_layer = int(getattr(checkpoints[0].model.config, "heads"))  # noqa: B009
    places = [(k // per_layer, k % per_layer) for k in range(len(networks[0]))]
    return StabilityStudy(*_tables("temporal", networks, pairs_per_lag(checkpoints[0].data.length), places))


def study_videos(
    videos: Sequence[Videos], timesteps: Sequence[int], progress: Callable[[int], object] = lambda samples: None
) -> StabilityStudy:
    """Variance components of the profiles of the heads of video models, over frames and over the frame.

    Args:
        videos: models of the same sizes with what they run on, at least 3 videos.
        timesteps: two training steps or more, 0 to 999.
        progress: called with the number of videos of each pass that is done.

    Raises:
        InputError: models whose layers differ, and what `attention_on_grid` refuses.
    """
    grid = videos[0].grid
    weights = {
        "temporal": pairs_per_lag(grid.frames),
        "spatial": np.outer(pairs_per_lag(grid.height), pairs_per_lag(grid.width)).ravel(),
    }
    seen = [[source.attention(step, progress).layers for step in timesteps] for source in videos]
    tables = []
    for axis in AXES:
        layers = [k for k, layer in enumerate(seen[0][0]) if getattr(layer, axis) is not None]
        if not layers:
            continue
        networks = [
            np.concatenate([
                np.stack([getattr(at[k], axis).reshape(*at[k].own.shape, -1) for at in times], axis=1) for k in layers
            ])
            for times in seen
        ]  # fmt: skip
        if any(each.shape != networks[0].shape for each in networks):
            raise InputError("ckpt: the folders hold models of other layers or heads; accepted: equal ones")
        places = [(k, head) for k in layers for head in range(len(seen[0][0][k].own))]
        tables.append(_tables(axis, networks, weights[axis], places))
    heads, components = (pd.concat(parts, ignore_index=True) for parts in zip(*tables, strict=True))
    return StabilityStudy(heads, components)


def _tables(
    axis: str,
    networks: Sequence[Float[np.ndarray, "heads times n lags"]],
    weights: Float[np.ndarray, " lags"],
    places: Sequence[tuple[int, int]],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Heads and components, see `StabilityStudy`; places are the layer and head of each profile."""
    rows = []
    for number, profiles in enumerate(networks):
        for (layer, head), parts in zip(places, head_components(profiles, weights), strict=True):
            row = {"axis": axis, "network": number, "layer": layer, "head": head, "kind": kind_of(parts)}
            for name, part in parts.items():
                row |= {name: part.value, f"{name}_low": part.low, f"{name}_high": part.high}
            rows.append(row)
    several = len(networks) > 1
    found = between_networks(networks, weights) if several else network_components(networks[0], weights)
    total = sum(max(part.value, 0.0) for part in found.values())
    table = [
        {"axis": axis, "component": name, "variance": part.value, "low": part.low, "high": part.high,
         "share": max(part.value, 0.0) / total if total > 0 else 0.0}
        for name, part in found.items()
    ]  # fmt: skip
    return pd.DataFrame(rows), pd.DataFrame(table)
