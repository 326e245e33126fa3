"""The layers of one checkpoint against steps of solvers: depth, nearest steps and, for hand-set models, names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from probes.inputs import noisy_batches
from probes.layers.depth import effective_depth
from probes.layers.matching import match_layers
from probes.layers.names import name_model
from probes.resampling import bootstrap_counts
from unrolled.checkpoint import Checkpoint
from unrolled.models.dit import DiT
from unrolled.models.record import Construction
from unrolled.models.relu import ReluTransformer

__all__ = ["RESAMPLES", "LayerStudy", "study_layers"]

RESAMPLES = 1000
"""Resamples behind every interval."""
BATCH = 64
"""Sequences per forward pass."""


@dataclass(frozen=True)
class LayerStudy:
    """What `study_layers` found, in tidy tables.

    Attributes:
        layers: a row per (t, layer, solver, step), see `probes.layers.matching.Matches.table`.
        nearest: a row per (t, layer, solver), see `probes.layers.matching.Matches.nearest`.
        depth: a row per (t, solver), see `probes.layers.depth.effective_depth`.
        names: a row per (t, step) of a hand-set model, see `probes.layers.names.name_model`; None for others.
    """

    layers: pd.DataFrame
    nearest: pd.DataFrame
    depth: pd.DataFrame
    names: pd.DataFrame | None


def study_layers(
    checkpoint: Checkpoint,
    times: Sequence[float],
    samples: int = 256,
    most: int = 2000,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Callable[[float], object] = lambda t: None,
) -> LayerStudy:
    """Depth, readouts and, where there is a record, names at each t; `progress` is called with each t that is done.

    Args:
        checkpoint: of a model with blocks.
        times: diffusion times.
        samples: sequences; readouts are fitted on half of them.
        most: most steps of a solver.
        seed: of the sequences, their noise and the bootstrap.
        device: of the model.
        progress: see above.
    """
    device = device or torch.device("cpu")
    process, model = checkpoint.process, checkpoint.model
    counts = torch.from_numpy(bootstrap_counts(samples, RESAMPLES, seed))
    noisy = {t: torch.cat(list(noisy_batches(checkpoint, t, samples, BATCH, seed, torch.device("cpu")))) for t in times}
    names = None
    if isinstance(model, DiT | ReluTransformer) and isinstance(model.construction, Construction):
        names = name_model(model, process, noisy)
    model = model.to(device)
    matches, depths = [], []
    for t, sequences in noisy.items():
        x = sequences.to(device)
        with torch.no_grad():
            score = torch.cat([model(part, t) for part in x.split(BATCH)])
        depths.append(effective_depth(score, process, x, t, most, counts))
        matches.append(match_layers(model, process, x, t, checkpoint.registers, most, RESAMPLES, seed))
        progress(t)
    columns = ([match.table for match in matches], [match.nearest for match in matches], depths)
    layers, nearest, depth = (pd.concat(tables, ignore_index=True) for tables in columns)
    return LayerStudy(layers, nearest, depth, names)
