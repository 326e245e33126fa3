"""The stability study: profiles of every head of one network or several, and their variance components as tables."""

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
from unrolled.checkpoint import Checkpoint

__all__ = ["STATIC", "StabilityStudy", "head_profiles", "kind_of", "study_stability"]

BATCH = 64
"""Sequences per forward pass."""
STATIC = 0.1
"""A head whose profile varies less than this, relative to its size, is static."""


@dataclass(frozen=True)
class StabilityStudy:
    """What `study_stability` found.

    Attributes:
        heads: a row per network, layer and head: kind, and its components t, sequence and both in units of the squared
            size of its mean profile, each with _low and _high.
        components: a row per component of all networks together: component, variance, low, high, and share, that of
            the sum of the estimates that are not below 0.
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
    networks, rows = [], []
    weights = pairs_per_lag(checkpoints[0].data.length)
    for number, checkpoint in enumerate(checkpoints):
        profiles = head_profiles(checkpoint, times, samples, seed, device or torch.device("cpu"))
        networks.append(profiles)
        per_layer = int(getattr(checkpoint.model.config, "heads"))  # noqa: B009
        for k, parts in enumerate(head_components(profiles, weights)):
            row = {"network": number, "layer": k // per_layer, "head": k % per_layer, "kind": kind_of(parts)}
            for name, part in parts.items():
                row |= {name: part.value, f"{name}_low": part.low, f"{name}_high": part.high}
            rows.append(row)
        progress()
    several = len(networks) > 1
    found = between_networks(networks, weights) if several else network_components(networks[0], weights)
    total = sum(max(part.value, 0.0) for part in found.values())
    table = [
        {"component": name, "variance": part.value, "low": part.low, "high": part.high,
         "share": max(part.value, 0.0) / total if total > 0 else 0.0}
        for name, part in found.items()
    ]  # fmt: skip
    return StabilityStudy(pd.DataFrame(rows), pd.DataFrame(table))
