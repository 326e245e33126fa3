"""`python -m reports.basin --ckpt handset.pt --out DIR`: the experiment on the basin of hand-set weights, about any
model."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from reports.experiments.basin import TIMES, experiment, measured, plan
from reports.report import report_here
from unrolled.checkpoint import load_checkpoint
from unrolled.checks import InputError, require_integer
from unrolled.cli import module_app, run_app
from unrolled.models.dit import DiT
from unrolled.models.record import Construction


def basin(*, ckpt: Path, out: Path = Path("basin"), steps: int = 100, batch: int = 32, seed: int = 0) -> None:
    """How narrow is the basin of hand-set weights, and does training stay in it?

    Example: `python -m reports.basin --ckpt handset.pt --steps 60`

    The answer: excess loss of disturbed hand-set weights and of training from them, written with figure and page.

    Parameters
    ----------
    ckpt
        Checkpoint written by python -m unrolled.handset, of a DiT.
    out
        Folder for the files.
    steps
        Optimiser steps of each training.
    batch
        Sequences per step.
    seed
        Seed of disturbances, batches and random weights.
    """
    for name, value in (("steps", steps), ("batch", batch)):
        require_integer(name, value)
    checkpoint = load_checkpoint(ckpt)
    model = checkpoint.model
    record = getattr(model, "construction", None)
    if not isinstance(model, DiT) or not isinstance(record, Construction) or checkpoint.dtype != torch.float64:
        raise InputError(f"ckpt: {str(ckpt)!r} is not accepted; accepted: a DiT with hand-set float64 weights")
    low, high = checkpoint.t_range
    if low > TIMES[0] or high < TIMES[1]:
        raise InputError(f"ckpt: t_range [{low:g}, {high:g}] is not accepted; accepted: one around {list(TIMES)}")
    of_this_model = replace(experiment, run=partial(measured, model, checkpoint.process))
    report_here(of_this_model, plan(steps, batch, seed), out)


app = module_app("reports.basin", basin)

if __name__ == "__main__":
    run_app(app)
