"""Whether the layer probe names what hand-set models are built to be.

Models of every algorithm on several processes, in float64 and float32, named by `probes.layers.names` from their
iterates alone; controls that must be "none": the same models against the candidates of another process, their class
with random weights, and their weights disturbed. With readouts the same question for the linear readouts of
`probes.layers.matching`, which look at the whole stream and do not know where the iterate stands.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast

import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from probes.layers.figures import confusion_figure
from probes.layers.iterates import Name
from probes.layers.matching import RESEMBLES, match_layers
from probes.layers.names import (
    Answer,
    candidates_at,
    confusion,
    inverses_at,
    name_iterates,
    name_model,
    truncation_of,
)
from reports.experiment import Budget, Configuration, Experiment, Row
from unrolled.handset import construct, hidden_iterates
from unrolled.kernels import Exponential, Logarithmic, Matern, Polynomial
from unrolled.models.dit import DiT
from unrolled.models.record import record_of
from unrolled.models.relu import ReluTransformer
from unrolled.process import GaussianProcess, random_spatial_covariance

__all__ = ["MODELS", "PROCESSES", "control_rows", "experiment", "named_by_readout", "noisy_at", "plan", "process_of"]

Candidates = Mapping[float, Mapping[Name, Tensor]]
"""What `probes.layers.names.candidates_at` returns."""
PROCESSES = {
    "OU 4": Exponential(4.0, 1.0), "Exponential 8, 0.5": Exponential(8.0, 0.5), "Polynomial 4, 1": Polynomial(4.0, 1.0),
    "Logarithmic 4, 1": Logarithmic(4.0, 1.0), "Matern 4, 1.5": Matern(4.0, 1.5),
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "DiT, gradient descent": {"algorithm": "gradient_descent", "steps": 16},
    "DiT, Chebyshev": {"algorithm": "chebyshev", "steps": 16},
    "DiT, preconditioned": {"algorithm": "preconditioned", "steps": 3},
    "ReLU, gradient descent": {"algorithm": "gradient_descent", "steps": 16, "model": "relu"},
    "ReLU, Chebyshev": {"algorithm": "chebyshev", "steps": 16, "model": "relu"},
    "ReLU, conjugate gradient": {"algorithm": "conjugate_gradient", "steps": 8, "model": "relu"},
}
TIMES = (0.001, 0.01, 0.05, 0.2, 1.0, 3.0, 5.0)
OWN, READOUT = "own process", "readouts"
"""Cases that are no controls."""
READOUT_SAMPLES = 256
RESAMPLES = 20
"""Draws of the bootstrap of the readouts, whose intervals are not looked at here."""
TRUSTED = 0.99
"""Share of right names from which on a name is trusted."""
DISTURBANCE = 0.01
"""Relative, of every weight: the control that is nearest to a hand-set model."""


def process_of(name: str, length: int, dim: int, seed: int) -> GaussianProcess:
    """One of PROCESSES with a random Sigma and a random mean."""
    generator = torch.Generator().manual_seed(seed)
    spatial = random_spatial_covariance(dim, generator=generator)
    mean = torch.randn(length, dim, generator=generator, dtype=torch.float64)
    return GaussianProcess(length, PROCESSES[name], spatial, mean)


def noisy_at(
    process: GaussianProcess, times: Sequence[float], samples: int, dtype: torch.dtype, seed: int
) -> dict[float, Float[Tensor, "batch N d"]]:
    """Noisy sequences at each t."""
    generator = torch.Generator().manual_seed(seed)
    return {t: process.noisy(samples, t, generator).to(dtype) for t in times}


def control_rows(
    model: DiT | ReluTransformer,
    process: GaussianProcess,
    x: dict[float, Float[Tensor, "batch N d"]],
    own_error: dict[float, float],
    true: Candidates,
    false: Candidates,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """What iterates that are those of no candidate are called: a row per (control, t, step), named from the same
    sequences.

    Args:
        model: hand-set.
        process: the one it was built for.
        x: noisy sequences of `process` at each t.
        own_error: of `model` at each t.
        true: the candidates of `process`, for wrong weights.
        false: those of another process, for the right ones.
        seed: of the random weights.
    """
    generator = torch.Generator().manual_seed(seed)
    random = type(model)(model.config)  # pyright: ignore[reportArgumentType]
    disturbed = type(model)(model.config)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for free, near, built in zip(random.parameters(), disturbed.parameters(), model.parameters(), strict=True):
            free.copy_(0.1 * torch.randn(built.shape, generator=generator, dtype=torch.float64))
            near.copy_(built * (1 + DISTURBANCE * torch.randn(built.shape, generator=generator, dtype=torch.float64)))
    controls = {"random weights": random, f"weights disturbed by {DISTURBANCE:g}": disturbed}
    for name, control in controls.items():
        controls[name] = control.to(next(model.parameters()).dtype).eval()
        control.construction = model.construction  # pyright: ignore[reportAttributeAccessIssue]
    for t, noisy in x.items():
        cases = [
            ("another process", model, false[t]),
            *((name, control, true[t]) for name, control in controls.items()),
        ]
        for name, candidate, candidates in cases:
            iterates = hidden_iterates(candidate, process, noisy, t)
            answers, _ = name_iterates(iterates, candidates, process.score(noisy.double(), t), own_error[t])
            yield from (_control_row(name, t, k, answer) for k, answer in enumerate(answers, start=1))


def _control_row(control: str, t: float, step: int, answer: Answer) -> dict[str, Any]:
    return {
        "case": control, "t": t, "step": step, "truth": "none", "named": answer.word, "members": "",
        "inside": answer.word == "none", "scored": True, "distance": answer.distance,
    }  # fmt: skip


def named_by_readout(
    model: nn.Module, process: GaussianProcess, x: dict[float, Float[Tensor, "n N d"]], registers: int, most: int = 64
) -> pd.DataFrame:
    """What the readout of each layer at which an iterate stands is nearest to: columns t, step, truth, named, inside
    (the truth has the same readout as the nearest state), scored (no other state has), distance, explained."""
    record = record_of(model)
    rows = []
    for t, noisy in x.items():
        matches = match_layers(model, process, noisy, t, registers, most=most, resamples=RESAMPLES)
        for step, block in enumerate(record.iterate_blocks, start=1):
            best = matches.nearest[(matches.nearest.layer == block + 1) & matches.nearest.best].iloc[0]
            members = matches.equal[best.solver, best.step]
            word = best.solver if len(members) == 1 else "class"
            rows.append({
                "t": t, "step": step, "truth": record.algorithm,
                "named": word if best.explained >= RESEMBLES else "none",
                "inside": (record.algorithm, step) in members and best.explained >= RESEMBLES,
                "scored": len(matches.equal[record.algorithm, step]) == 1, "distance": best.distance,
                "explained": best.explained,
            })  # fmt: skip
    return pd.DataFrame(rows)


def plan(
    processes: Collection[str], length: int, dim: int, samples: int, seed: int, readouts: bool = False
) -> list[Configuration]:
    """A configuration for each process and dtype; controls go with the first process."""
    shared = {"length": length, "dim": dim, "samples": samples, "seed": seed, "readouts": readouts}
    return [
        {"process": name, "dtype": dtype, "controls": number == 0, **shared}
        for number, name in enumerate(processes)
        for dtype in ("float64", "float32")
    ]


def configurations(budget: Budget) -> list[Configuration]:
    """All processes, or the first of them on fewer frames."""
    if budget == "full":
        return plan(tuple(PROCESSES), length=24, dim=2, samples=16, seed=0)
    return plan(tuple(PROCESSES)[:1], length=12, dim=2, samples=8, seed=0)


def run(configuration: Configuration) -> list[Row]:
    """A row for each cell of every model, of the controls and of the readouts."""
    name, seed = configuration["process"], configuration["seed"]
    shape = (configuration["length"], configuration["dim"], seed)
    process = process_of(name, *shape)
    other = process_of(list(PROCESSES)[list(PROCESSES).index(name) - 1], *shape)
    dtype = {"float64": torch.float64, "float32": torch.float32}[configuration["dtype"]]
    x = noisy_at(process, TIMES, configuration["samples"], dtype, seed)
    inverses, wrong, tables = None, None, []
    for label, options in MODELS.items():
        model = construct(process, dtype=dtype, **options)
        # Every model of the report has the settings that the inverses depend on.
        inverses = inverses or inverses_at(model, process, list(x))
        named = name_model(model, process, x, inverses).assign(case=OWN, model=label)
        tables.append(named)
        if configuration["controls"]:
            own = dict(zip(named.t, named.own_error, strict=True))
            wrong = wrong or inverses_at(model, other, list(x))
            true = candidates_at(model, process, x, truncation_of(record_of(model)), inverses)
            false = candidates_at(model, other, x, None, wrong)  # that truncation may be indefinite here
            tables.append(pd.DataFrame(control_rows(model, process, x, own, true, false, seed)).assign(model=label))
        if configuration["readouts"] and isinstance(model, DiT):
            noisy = noisy_at(process, TIMES[1:], READOUT_SAMPLES, dtype, seed)
            tables.append(named_by_readout(model, process, noisy, registers=1).assign(case=READOUT, model=label))
    rows = pd.concat(tables, ignore_index=True).assign(process=name, dtype=configuration["dtype"])
    return rows.reindex(columns=list(experiment.columns)).fillna({"members": ""}).to_dict("records")


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Cells of each case, and how many are named as they should be: by model, controls of all models together."""
    by_model = results.model.where(results.case.isin([OWN, READOUT]), "all")
    rows = []
    for key, part in results.groupby(["case", by_model, "dtype"], sort=False):
        case, model, dtype = cast(tuple[str, str, str], key)
        scored = part.query("scored")
        rows.append({
            "case": case, "model": model, "dtype": dtype, "cells": len(part), "scored": len(scored),
            "scored and right": int(scored.inside.sum()), "truth in the named class": int(part.inside.sum()),
            "nearest candidate at": part.distance.min(),
        })  # fmt: skip
    cases = list(dict.fromkeys(results.case))
    return pd.DataFrame(sorted(rows, key=lambda row: cases.index(row["case"])))


def figure(results: pd.DataFrame) -> Figure:
    """Cells by true algorithm and by what they were called."""
    return confusion_figure(confusion(results.query("case == @OWN")), "Iterates of hand-set models, cells by name")


def finding(results: pd.DataFrame) -> str:
    """Whether the names can be trusted, and whether what is no solver is called none."""
    own, controls = results.query("case == @OWN"), results.query("case not in [@OWN, @READOUT]")
    scored = own.query("scored")
    right, none = int(scored.inside.sum()), int(controls.inside.sum())
    trusted = right >= TRUSTED * len(scored) > 0
    said = [
        f"Of {len(own)} iterates of hand-set models {len(scored)} can be told from every other step; {right} of these"
        f" are named right, so a name {'can' if trusted else 'cannot'} be trusted. The truth is in the named class in"
        f" {int(own.inside.sum())} of all."
    ]
    if len(controls):
        held = none >= TRUSTED * len(controls)
        said.append(
            f"What is no step of this process's solvers is {'' if held else 'not reliably '}called none: {none} of"
            f" {len(controls)} cells."
        )
    return " ".join(said)


def core_seconds(configuration: Configuration) -> float:
    """Measured."""
    return 10.0


experiment = Experiment(
    module=__name__,
    question="Does the layer probe name the solver that a hand-set model is built to be, and nothing else?",
    columns={
        "process": str, "dtype": str, "model": str, "case": str, "t": float, "step": int, "truth": str, "named": str,
        "members": str, "inside": bool, "scored": bool, "distance": float, "own_error": float, "explained": float,
    },
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
)  # fmt: skip
