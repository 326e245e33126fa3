"""`python -m reports.layers --out DIR`: whether the layer probe names what hand-set models are built to be.

Models of every algorithm on several processes, in float64 and float32, named by `probes.layers.names` from their
iterates alone, as a confusion matrix; controls that must be "none": the same models against the candidates of another
process, their class with random weights, and their weights disturbed. With `--readouts` the same question for the
linear readouts of `probes.layers.matching`, which look at the whole stream and do not know where the iterate stands.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
from cyclopts import Parameter
from jaxtyping import Float
from torch import Tensor, nn

from probes.layers.iterates import Name
from probes.layers.matching import RESEMBLES, match_layers
from probes.layers.names import (
    Answer,
    candidates_at,
    confusion,
    inverses_at,
    name_iterates,
    name_model,
    summarise,
    truncation_of,
)
from unrolled.checks import InputError, require_integer
from unrolled.cli import module_app, run_app
from unrolled.files import require_writable_folder, write_csv, write_json
from unrolled.handset import construct, hidden_iterates
from unrolled.kernels import Exponential, Logarithmic, Matern, Polynomial
from unrolled.models.dit import DiT
from unrolled.models.record import record_of
from unrolled.models.relu import ReluTransformer
from unrolled.process import GaussianProcess, random_spatial_covariance
from unrolled.progress import Progress
from unrolled.provenance import command_line, provenance

__all__ = ["MODELS", "PROCESSES", "control_rows", "named_by_readout", "noisy_at", "process_of"]

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
RESAMPLES = 20
"""Draws of the bootstrap of the readouts, whose intervals are not looked at here."""
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
    return {"control": control, "t": t, "step": step, "named": answer.word, "distance": answer.distance}


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


def layers(
    *,
    processes: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = tuple(PROCESSES),
    length: int = 24,
    dim: int = 2,
    samples: int = 16,
    readouts: Annotated[bool, Parameter(negative=())] = False,
    seed: int = 0,
    out: Path = Path("layers-report"),
) -> None:
    """Write cells.csv, controls.csv, summary.json and confusion.png: what hand-set models are named, and what controls
    are.

    Parameters
    ----------
    processes
        Processes: OU 4; Exponential 8, 0.5; Polynomial 4, 1; Logarithmic 4, 1; Matern 4, 1.5.
    length
        Frames of a sequence.
    dim
        Values per frame.
    samples
        Sequences behind every distance.
    readouts
        Also match linear readouts of the DiTs, on 256 sequences; adds readouts.csv and readouts.png.
    seed
        Seed of the processes, the sequences and the random weights.
    out
        Folder for the files.
    """
    if unknown := [name for name in processes if name not in PROCESSES]:
        raise InputError(f"processes: {unknown[0]!r} is not accepted; accepted: {'; '.join(PROCESSES)}")
    if not processes:
        raise InputError(f"processes: () is not accepted; accepted: one or more of {'; '.join(PROCESSES)}")
    for name, value, least in (("length", length, 2), ("dim", dim, 1), ("samples", samples, 1)):
        require_integer(name, value, least)
    require_writable_folder("out", out)
    cells, controls, read = [], [], []
    with Progress(total=len(processes) * len(MODELS) * 2, title="models", unit="model") as bar:
        for number, name in enumerate(processes):
            process = process_of(name, length, dim, seed)
            other = process_of(list(PROCESSES)[list(PROCESSES).index(name) - 1], length, dim, seed)
            for dtype in (torch.float64, torch.float32):
                x = noisy_at(process, TIMES, samples, dtype, seed)
                inverses, wrong = None, None
                for label, options in MODELS.items():
                    model = construct(process, dtype=dtype, **options)
                    where = {"process": name, "dtype": str(dtype).removeprefix("torch."), "model": label}
                    # Every model of the report has the settings that the inverses depend on.
                    inverses = inverses or inverses_at(model, process, list(x))
                    named = name_model(model, process, x, inverses)
                    cells.append(named.assign(**where))
                    if number == 0:
                        own = dict(zip(named.t, named.own_error, strict=True))
                        wrong = wrong or inverses_at(model, other, list(x))
                        true = candidates_at(model, process, x, truncation_of(record_of(model)), inverses)
                        false = candidates_at(model, other, x, None, wrong)  # that truncation may be indefinite here
                        rows = control_rows(model, process, x, own, true, false, seed)
                        controls.append(pd.DataFrame(list(rows)).assign(**where))
                    if readouts and isinstance(model, DiT):
                        readings = named_by_readout(model, process, noisy_at(process, TIMES[1:], 256, dtype, seed), 1)
                        read.append(readings.assign(**where))
                    bar.say({"process": name, "model": label})
                    bar.update()
    tables = {"cells": pd.concat(cells, ignore_index=True), "controls": pd.concat(controls, ignore_index=True)}
    if read:
        tables["readouts"] = pd.concat(read, ignore_index=True)
    print_report(tables)
    settings = {"command": command_line(), "length": length, "dim": dim, "samples": samples, "seed": seed,
                "device": "cpu", "times": list(TIMES), "processes": list(processes), **provenance()}  # fmt: skip
    write_report(tables, settings, out)


def _groups(table: pd.DataFrame, column: str) -> Iterator[tuple[Any, Any]]:
    """The rows of each (value of `column`, dtype), in their order."""
    pairs = table[[column, "dtype"]].drop_duplicates()
    for name, dtype in pairs.itertuples(index=False):
        yield (name, dtype), table[(table[column] == name) & (table["dtype"] == dtype)]


def print_report(tables: dict[str, pd.DataFrame]) -> None:
    """Confusion matrices, counts by model, and what the controls were called."""
    for name in ("cells", "readouts"):
        if name not in tables:
            continue
        cells = tables[name]
        print("named by the iterates in the stream" if name == "cells" else "named by linear readouts of the stream")
        print(confusion(cells).to_string())
        print(summarise(cells))
        for (model, dtype), group in _groups(cells, "model"):
            print(f"  {model}, {dtype}: {summarise(group)}")
    for (control, dtype), group in _groups(tables["controls"], "control"):
        none = int((group.named == "none").sum())
        print(
            f"control {control}, {dtype}: none in {none} of {len(group)} cells; nearest at {group.distance.min():.1e}"
        )


def write_report(tables: dict[str, pd.DataFrame], settings: dict[str, Any], out: Path) -> None:
    """The tables, the counts and the figures."""
    from probes.figures import save_figure  # plotting is slow to import
    from probes.layers.figures import confusion_figure

    files = [f"{name}.csv" for name in tables] + ["summary.json"]
    for name, table in tables.items():
        write_csv(table, out / f"{name}.csv")
    summary = {name: summarise(table) for name, table in tables.items() if name != "controls"}
    write_json({"settings": settings, **summary}, out / "summary.json")
    titles = {
        "cells": ("confusion", "Iterates of hand-set models, cells by name"),
        "readouts": ("readouts", "Linear readouts of hand-set DiTs, cells by name"),
    }
    for name, (file, title) in titles.items():
        if name in tables:
            save_figure(confusion_figure(confusion(tables[name]), title), out / f"{file}.png")
            files.append(f"{file}.png")
    print(f"wrote {out}/" + ", ".join(files))


app = module_app("reports.layers", layers)

if __name__ == "__main__":
    run_app(app)
