"""The spatial study of one checkpoint: what its heads and untrained heads carry of a frame, as a table."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import pandas as pd
import torch

from probes.inputs import double_copy, noisy_batches, untrained_networks
from probes.resampling import holm
from probes.spatial.gains import diagonal_share, random_bases, spatial_gains
from unrolled.checkpoint import Checkpoint
from unrolled.models.dit import DiT
from unrolled.models.relu import ReluTransformer

__all__ = ["study_spatial"]

BASES = 9999
"""Random bases, at least; more where a p-value could not fall below 0.025 after its correction for the number of
heads."""


def study_spatial(
    checkpoint: Checkpoint,
    times: Sequence[float],
    samples: int = 64,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Callable[[], object] = lambda: None,
) -> pd.DataFrame:
    """One row per t and head, one for the score, one per head of an untrained network: share, p, and the gain of each
    eigenvector.

    Columns: kind ("head", "score", "untrained"), t, layer, head (-1 for the score), share, p and p_corrected (for
    heads), gain_1 .. gain_d: root of diag(V'GV), eigenvalues of Sigma ascending, relative to the largest.

    Args:
        checkpoint: the model and its data.
        times: diffusion times.
        samples: sequences over which what a head writes is averaged.
        seed: of sequences, noise, random bases and untrained weights.
        device: where the models run; the CPU where not given.
        progress: called after each t.
    """
    device = device or torch.device("cpu")
    tables = []
    for t in times:
        tables.append(_study_at(checkpoint, t, samples, seed, device))
        progress()
    return pd.concat(tables, ignore_index=True)


def _study_at(checkpoint: Checkpoint, t: float, samples: int, seed: int, device: torch.device) -> pd.DataFrame:
    """The rows of one t."""
    x = torch.cat(list(noisy_batches(checkpoint, t, samples, samples, seed, device))).double()
    model = cast(DiT | ReluTransformer, checkpoint.model)
    untrained = cast(DiT | ReluTransformer, next(untrained_networks(checkpoint, 1, seed)))
    networks = {"head": model, "untrained": untrained}
    by_kind = {kind: spatial_gains(double_copy(network, device), x, t) for kind, network in networks.items()}
    basis = checkpoint.process.spatial_eigen[1].numpy()
    gains = [("score", (-1, -1), by_kind["head"].score)]
    gains += [(kind, head, gain) for kind, part in by_kind.items() for head, gain in part.heads.items()]
    exceeded = np.zeros(len(gains))
    bases_drawn = max(BASES, 40 * len(gains))
    shares = np.array([diagonal_share(gain, basis[None])[0] for _, _, gain in gains])
    for bases in random_bases(len(basis), bases_drawn, seed):
        for k, (_, _, gain) in enumerate(gains):
            exceeded[k] += np.sum(diagonal_share(gain, bases) >= shares[k])
    rows = []
    for (kind, (layer, head), gain), share, count in zip(gains, shares, exceeded, strict=True):
        p = (1 + count) / (1 + bases_drawn) if np.isfinite(share) else np.nan
        strength = np.sqrt(np.diag(basis.T @ gain @ basis))
        relative = strength / strength.max() if strength.max() > 0 else strength
        columns = {f"gain_{k + 1}": value for k, value in enumerate(relative)}
        rows.append({"kind": kind, "t": t, "layer": layer, "head": head, "share": share, "p": p, **columns})
    table = pd.DataFrame(rows)
    for kind in by_kind:
        tested = (table["kind"] == kind) & table["p"].notna()
        table.loc[tested, "p_corrected"] = holm(table.loc[tested, "p"].to_numpy())
    return table
