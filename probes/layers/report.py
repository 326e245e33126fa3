"""What the layer study of a checkpoint prints and writes."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from probes.layers.iterates import preconditioner_fits
from probes.layers.matching import RESEMBLES
from probes.layers.names import confusion, summarise
from probes.layers.study import LayerStudy
from unrolled.checkpoint import Checkpoint
from unrolled.cli import print_table
from unrolled.files import write_csv, write_json

__all__ = ["depth_cell", "print_study", "step_cell", "write_study"]

SHORT = {
    "gradient_descent": "GD", "chebyshev_final": "Chebyshev", "chebyshev": "Cheb. run", "conjugate_gradient": "CG",
    "preconditioned": "precond.", "closed_form": "exact inverse",
}  # fmt: skip
"""Names of the solvers in printed columns."""


def print_study(study: LayerStudy, checkpoint: Checkpoint) -> None:
    """Names of a hand-set model, the nearest step of each layer, the effective depth."""
    if not checkpoint.exact:
        print(
            "the exact score below is that of the Gaussian with the covariance of the training windows, not of the"
            " data; held-out windows overlap, so that intervals over them are too narrow"
        )
    if not preconditioner_fits(checkpoint.process):
        print("the preconditioned iteration is left out: its dictionary is not fitted for sequences this long")
    if study.names is not None:
        print_names(study.names)
    for t, rows in study.nearest.groupby("t", sort=False):
        kappa = checkpoint.process.condition_number(float(str(t)))
        print_table(f"t = {t:g}, kappa = {kappa:.3g}: nearest step of each layer's readout", *_nearest_rows(rows))
    print(
        "error: of the layer's readout; explained: share of its square that the step accounts for, 0 where the exact"
        " score is as near, and then nearest is none; [..] 95 % intervals; same: solvers with a step that is not"
        " distinguishable; >= the last step looked at"
    )
    rows = []
    for t, solvers in study.depth.groupby("t", sort=False):
        first = solvers.iloc[0]
        error = f"{first.error:.3g} [{first.error_low:.3g}, {first.error_high:.3g}]"
        rows.append((f"{t:g}", error, *(depth_cell(row) for row in solvers.to_dict("records"))))
    columns = ("t", "score error", *(SHORT[name] for name in dict.fromkeys(study.depth.solver)))
    print_table("effective depth: solver steps of the same score error", columns, rows)


def print_names(names: pd.DataFrame) -> None:
    """What each iterate of a hand-set model was called, and the counts."""
    times = list(dict.fromkeys(names.t))
    rows = []
    for step, iterates in names.groupby("step"):
        cells = {row["t"]: row for row in iterates.to_dict("records")}
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
    if len(members) == 1:
        return f"{SHORT[algorithm]} {step}"
    return f"class of {len(members)}" + ("" if row["inside"] else "!")


def _nearest_rows(rows: pd.DataFrame) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    solvers = list(dict.fromkeys(rows.solver))
    columns = ("layer", "error", "nearest", "distance", "explained", "cosine", "same", *(SHORT[s] for s in solvers))
    cells = []
    for layer, by_solver in rows.groupby("layer"):
        best = by_solver[by_solver.best].iloc[0]
        interval = f"[{best.explained_low:.2f}, {best.explained_high:.2f}]"
        others = [SHORT[name] for name in best.rivals.split("; ") if name != best.solver]
        own = {row["solver"]: row for row in by_solver.to_dict("records")}
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
        write_csv(table, out / name)
    times = list(dict.fromkeys(study.depth.t))
    summary = {
        "settings": settings,
        "checkpoint": {"file": checkpoint.path.name if checkpoint.path else None, **checkpoint.provenance},
        "exact score": "of the process" if checkpoint.exact else "of the Gaussian with the empirical covariance",
        "dtype": str(checkpoint.dtype).removeprefix("torch."),
        "condition_number": {f"{t:g}": checkpoint.process.condition_number(t) for t in times},
        "names": None if study.names is None else summarise(study.names),
    }
    write_json(summary, out / "summary.json")
    save_figure(heat_figure(study.layers, study.nearest, "explained"), out / "layers.png")
    save_figure(heat_figure(study.layers, study.nearest, "cosine"), out / "cosines.png")
    save_figure(depth_figure(study.depth), out / "depth.png")
    return [*tables, "summary.json", "layers.png", "cosines.png", "depth.png"]
