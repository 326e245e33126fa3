"""`python -m probes.layers --ckpt run.pt`: which solver the layers resemble, and how many steps the network is worth.

Three answers. Effective depth: `probes.layers.depth`. Nearest step of each layer by linear readouts:
`probes.layers.readout`. For hand-set models, whose record says where their iterate stands, the name of every iterate:
`probes.layers.names`.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import torch
from cyclopts import Parameter
from tqdm import tqdm

from probes.attention.study import noisy_batches
from probes.layers.depth import effective_depth
from probes.layers.iterates import preconditioner_fits
from probes.layers.matching import RESEMBLES, bootstrap_counts, match_layers
from probes.layers.names import confusion, name_model, summarise
from probes.layers.readout import fewest_sequences
from unrolled.checkpoint import Checkpoint, load_checkpoint
from unrolled.checks import InputError
from unrolled.cli import module_app, print_table, resolve_device, run_app
from unrolled.evaluate import chosen_times
from unrolled.files import atomic_path, require_writable_folder
from unrolled.models.dit import DiT
from unrolled.models.record import Construction
from unrolled.models.relu import ReluTransformer
from unrolled.provenance import command_line

__all__ = ["LayerStudy", "study_layers"]

RESAMPLES = 1000
"""Of every bootstrap."""
BATCH = 64
"""Sequences per forward pass."""
SHORT = {
    "gradient_descent": "GD", "chebyshev_final": "Chebyshev", "chebyshev": "Cheb. run", "conjugate_gradient": "CG",
    "preconditioned": "precond.",
}  # fmt: skip
"""Heads of the printed columns."""


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
    whole = bootstrap_counts(samples, RESAMPLES, seed)
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
        depths.append(effective_depth(score, process, x, t, most, whole))
        matches.append(match_layers(model, process, x, t, checkpoint.registers, most, RESAMPLES, seed))
        progress(t)
    tables = [pd.concat([getattr(each, name) for each in matches], ignore_index=True) for name in ("table", "nearest")]
    return LayerStudy(tables[0], tables[1], pd.concat(depths, ignore_index=True), names)


def layers(
    *,
    ckpt: Path,
    t: Annotated[tuple[float, ...], Parameter(consume_multiple=True, negative=())] = (),
    samples: int = 256,
    steps: int = 2000,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    out: Path | None = None,
) -> None:
    """Match the layers of a model with the steps of solvers, and give its effective depth, at several t.

    Solvers: gradient descent with its best step, Chebyshev, conjugate gradient, and the preconditioned iteration of the
    hand-set models. A readout of a layer is matched with the same readout of the solver's state, since a linear readout
    of a stream that holds x is never a bare iterate. Iterates of hand-set models are also named directly, in classes of
    those that cannot be told apart. For real data the exact score is that of the Gaussian of the same covariance.

    Parameters
    ----------
    ckpt
        Checkpoint to look at.
    t
        Diffusion times; 0.01, 0.05, 0.2, 1 and 3, as far as the model accepts them, where not given.
    samples
        Sequences; readouts are fitted on the first half and judged on the second.
    steps
        Most steps of a solver; six for the preconditioned one.
    seed
        Seed of the sequences, their noise and the bootstrap.
    device
        auto is CUDA where there is one.
    out
        Folder for layers.csv, nearest.csv, depth.csv, names.csv (hand-set models), summary.json and PNG figures.
    """
    target = resolve_device(device)
    if steps < 1:
        raise InputError(f"steps: {steps} is not accepted; accepted: an integer >= 1")
    checkpoint = load_checkpoint(ckpt)
    config: Any = checkpoint.model.config
    if not len(getattr(checkpoint.model, "blocks", ())):
        raise InputError(f"ckpt: {str(ckpt)!r} holds a model without blocks; accepted: one with at least one block")
    if samples < (least := fewest_sequences(config.width, checkpoint.data.length)):
        raise InputError(f"samples: {samples} is not accepted; accepted: an integer >= {least} for this model's width")
    times = chosen_times(t, checkpoint.t_range)
    if out is not None:
        require_writable_folder("out", out)
    with tqdm(total=len(times), desc="layers", unit="t") as bar:

        def progress(done: float) -> None:
            bar.set_postfix(t=f"{done:g}")
            bar.update()

        study = study_layers(checkpoint, times, samples, steps, seed, target, progress)
    print_study(study, checkpoint)
    if out is not None:
        settings = {"command": command_line(), "samples": samples, "steps": steps, "seed": seed, "device": str(target),
                    "resamples": RESAMPLES}  # fmt: skip
        files = write_study(study, checkpoint, settings, out)
        print(f"wrote {out}/" + ", ".join(files))


def print_study(study: LayerStudy, checkpoint: Checkpoint) -> None:
    """Names of a hand-set model, the nearest step of each layer, the effective depth."""
    if not checkpoint.exact:
        print(
            "the exact score below is that of the Gaussian with the covariance of the training windows, not of the data;"
            " held-out windows overlap, so that intervals over them are too narrow"
        )
    if not preconditioner_fits(checkpoint.process):
        print("the preconditioned iteration is left out: its dictionary is not fitted for sequences this long")
    if study.names is not None:
        print_names(study.names)
    for t, rows in study.nearest.groupby("t", sort=False):
        kappa = checkpoint.process.condition_number(float(str(t)))
        print_table(f"t = {t:g}, kappa = {kappa:.3g}: nearest step of each layer's readout", *_nearest_rows(rows))
    print(
        "error: of the layer's readout; explained: share of its square that the step accounts for, 0 where the exact score"
        " is as near, and then nearest is none; [..] 95 % intervals; same: solvers with a step that is not distinguishable;"
        " >= the last step looked at"
    )
    rows = []
    for t, each in study.depth.groupby("t", sort=False):
        first = each.iloc[0]
        error = f"{first.error:.3g} [{first.error_low:.3g}, {first.error_high:.3g}]"
        rows.append((f"{t:g}", error, *(depth_cell(row) for row in each.to_dict("records"))))
    solvers = [SHORT[name] for name in dict.fromkeys(study.depth.solver)]
    print_table("effective depth: solver steps of the same score error", ("t", "score error", *solvers), rows)


def print_names(names: pd.DataFrame) -> None:
    """What each iterate of a hand-set model was called, and the counts."""
    times = list(dict.fromkeys(names.t))
    rows = []
    for step, each in names.groupby("step"):
        cells = {row["t"]: row for row in each.to_dict("records")}
        rows.append((str(step), *(_name_cell(cells[t]) for t in times)))
    truth = names.truth.iloc[0]
    title = f"named by its iterates (it is {truth}; none with the distance of the nearest candidate; ! wrong class)"
    print_table(title, ("step", *(f"t={t:g}" for t in times)), rows)
    print(confusion(names).to_string())
    print(summarise(names))


def _name_cell(row: dict[Any, Any]) -> str:
    if row["named"] == "none":
        return f"none ({row['distance']:.0e})"
    members = row["members"].split("; ")
    algorithm, step = members[0].split()
    return (
        f"{SHORT[algorithm]} {step}"
        if len(members) == 1
        else f"class of {len(members)}" + ("" if row["inside"] else "!")
    )


def _nearest_rows(rows: pd.DataFrame) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    solvers = list(dict.fromkeys(rows.solver))
    columns = (
        "layer",
        "error",
        "nearest",
        "distance",
        "explained",
        "cosine",
        "same",
        *(SHORT[each] for each in solvers),
    )
    cells = []
    for layer, each in rows.groupby("layer"):
        best = each[each.best].iloc[0]
        interval = f"[{best.explained_low:.2f}, {best.explained_high:.2f}]"
        others = [SHORT[name] for name in best.rivals.split("; ") if name != best.solver]
        own = {row["solver"]: row for row in each.to_dict("records")}
        cells.append((
            "embedding" if layer == 0 else f"block {layer}", f"{best.layer_error:.2e}",
            f"{SHORT[best.solver]} {best.step}" if best.explained >= RESEMBLES else "none",
            f"{best.distance:.2e}", f"{best.explained:.2f} {interval}", f"{best.cosine:.2f}", ", ".join(others) or "-",
            *(step_cell(own[name]) for name in solvers),
        ))  # fmt: skip
    return columns, cells


def step_cell(row: dict[Any, Any]) -> str:
    """The nearest step of one solver with its interval."""
    sign = ">=" if row["at_most"] else ""
    interval = "" if row["low"] == row["high"] == row["step"] else f" [{row['low']}, {row['high']}]"
    return f"{sign}{row['step']}{interval}"


def depth_cell(row: dict[Any, Any]) -> str:
    """A depth with its interval; what lies beyond the steps looked at says so."""

    def number(value: float) -> str:
        if not math.isfinite(value):
            return f"> {row['steps']}"
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"

    return f"{number(row['depth'])} [{number(row['low'])}, {number(row['high'])}]"


def write_study(study: LayerStudy, checkpoint: Checkpoint, settings: dict, out: Path) -> list[str]:
    """The tables, the summary and the figures, each written whole or not at all; their names."""
    from probes.figures import save_figure  # plotting is slow to import
    from probes.layers.figures import depth_figure, heat_figure

    tables = {"layers.csv": study.layers, "nearest.csv": study.nearest, "depth.csv": study.depth}
    if study.names is not None:
        tables["names.csv"] = study.names
    for name, table in tables.items():
        with atomic_path(out / name) as temporary:
            table.to_csv(temporary, index=False)
    times = list(dict.fromkeys(study.depth.t))
    summary = {
        "settings": settings,
        "checkpoint": {"file": checkpoint.path.name if checkpoint.path else None, **checkpoint.provenance},
        "exact score": "of the process" if checkpoint.exact else "of the Gaussian with the empirical covariance",
        "dtype": str(checkpoint.dtype).removeprefix("torch."),
        "condition_number": {f"{t:g}": checkpoint.process.condition_number(t) for t in times},
        "names": None if study.names is None else summarise(study.names),
    }
    with atomic_path(out / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1))
    save_figure(heat_figure(study.layers, study.nearest, "explained"), out / "layers.png")
    save_figure(heat_figure(study.layers, study.nearest, "cosine"), out / "cosines.png")
    save_figure(depth_figure(study.depth), out / "depth.png")
    return [*tables, "summary.json", "layers.png", "cosines.png", "depth.png"]


app = module_app("probes.layers", layers)

if __name__ == "__main__":
    run_app(app)
