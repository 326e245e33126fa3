"""A small experiment for the tests of the sweep, by its dotted name.

Files in the folder TINY make a run wait, fail or kill its worker, and a line in `log` there counts every run.
"""

import os
import signal
import time
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure

from reports.experiment import Experiment

RUNS = 4


def log_lines(folder: Path) -> list[str]:
    log = folder / "log"
    return log.read_text().splitlines() if log.exists() else []


def run(configuration):
    seed = configuration["seed"]
    folder = Path(os.environ["TINY"])
    with (folder / "log").open("a") as log:
        log.write(f"{seed} {os.getpid()}\n")
    if (folder / f"fail-{seed}").exists():
        raise ArithmeticError("told to fail")
    if (folder / f"kill-{seed}").exists():
        (folder / f"kill-{seed}").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    while (folder / f"hold-{seed}").exists():
        time.sleep(0.01)
    while (folder / "together").exists() and len({line.split()[1] for line in log_lines(folder)}) < 2:
        time.sleep(0.01)  # until another process has begun a run as well
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(96, 96, generator=generator, dtype=torch.float64)
    values = torch.linalg.eigvalsh(matrix @ matrix.T)[:3]
    return [
        {"seed": seed, "name": f"value {k}, of three", "value": float(v), "large": bool(v > 0.1)}
        for k, v in enumerate(values)
    ]


def figure(results):
    drawn = Figure(figsize=(1, 1))
    drawn.subplots().plot(results.value)
    return drawn


experiment = Experiment(
    module=__name__,
    question="Does a sweep do what it says?",
    columns={"seed": int, "name": str, "value": float, "large": bool},
    configurations=lambda budget: [{"seed": seed} for seed in range(RUNS if budget == "quick" else 2 * RUNS)],
    run=run,
    core_seconds=lambda configuration: 1.0 + configuration["seed"],  # the last one first
    table=lambda results: results.head(2),
    figure=figure,
    finding=lambda results: f"The sum is {results.value.sum():.3f}.",
)


def expected() -> pd.DataFrame:
    """The results, computed here without a sweep."""
    return experiment.results(experiment.run(each) for each in experiment.configurations("quick"))
