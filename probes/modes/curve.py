"""Which modes training learns first: error and gain by mode over the models that a run kept on its way."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from probes.modes.study import Method, study_modes
from unrolled.checkpoint import load_checkpoint

__all__ = ["LEARNED", "half_way", "study_curve"]

LEARNED = 0.5
"""A mode counts as learned when its error has fallen to this, of 1 for a score of 0."""


def study_curve(
    paths: Sequence[Path],
    times: Sequence[float],
    samples: int,
    seed: int = 0,
    device: torch.device | None = None,
    method: Method = "regression",
    progress: Callable[[], object] = lambda: None,
) -> pd.DataFrame:
    """The rows of `ModeStudy.modes` for each model, with its step in front.

    Args:
        paths: what `unrolled.train --snapshots` keeps; their provenance holds the step.
        times: diffusion times.
        samples: see `study_modes`, as the rest.
        seed: every model sees the same sequences.
        device: where the models run.
        method: how the affine map is found.
        progress: called after each model and t.
    """
    tables = []
    for path in paths:
        checkpoint = load_checkpoint(path, "snapshots")
        study = study_modes([checkpoint], times, samples, seed, device, method, progress)
        table = study.modes
        table.insert(0, "step", checkpoint.provenance["step"])
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def half_way(curve: pd.DataFrame) -> pd.DataFrame:
    """One row per (kind, t, mode): eigenvalue, and the step at which its error has fallen to `LEARNED` for good.

    Between two models the step is interpolated in the logarithm of both; NaN where the error does not get there.
    """
    rows = []
    groups: Any = curve.sort_values("step").groupby(["kind", "t", "mode"], sort=False)
    for (kind, t, mode), part in groups:
        steps, errors = part.step.to_numpy(float), part.error.to_numpy(float)
        above = np.flatnonzero(errors > LEARNED)
        last = int(above[-1]) if len(above) else -1
        if last == len(steps) - 1:
            step = np.nan
        elif last < 0:
            step = steps[0]
        else:
            share = np.log(errors[last] / LEARNED) / np.log(errors[last] / errors[last + 1])
            step = steps[last] * (steps[last + 1] / steps[last]) ** share
        rows.append({"kind": kind, "t": t, "mode": mode, "eigenvalue": part.eigenvalue.iloc[0], "step": step})
    return pd.DataFrame(rows)
