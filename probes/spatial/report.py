"""What the spatial study of a checkpoint prints and writes."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from probes.resampling import LEVEL
from unrolled.checkpoint import Checkpoint
from unrolled.cli import print_table
from unrolled.files import write_csv, write_json

__all__ = ["print_spatial", "write_spatial"]


def print_spatial(table: pd.DataFrame, dim: int) -> None:
    """Share and corrected p of the score and of each head at each t; the untrained heads as their mean."""
    times = list(dict.fromkeys(table["t"]))
    rows: list[tuple[str, ...]] = []
    for key, part in table.query("kind != 'untrained'").groupby(["layer", "head"]):
        layer, head = cast(tuple[int, int], key)
        cells = {row["t"]: row for row in part.to_dict("records")}
        name = "score of the model" if layer < 0 else f"layer {layer} head {head}"
        rows.append((name, *(_cell(cells[t]) for t in times)))
    untrained = [table.query("kind == 'untrained' and t == @t") for t in times]
    sums = [f"{part['share'].mean():.3f} ({(part['p_corrected'] < LEVEL).sum()} of {len(part)})" for part in untrained]
    rows.append(("untrained heads", *sums))
    print_table(
        f"share on the diagonal in the eigenbasis of Sigma, and its p ({2 / (dim + 2):.2f} in a random basis; of"
        f" untrained heads the mean, and how many have p < {LEVEL:g})",
        ("", *(f"t={t:g}" for t in times)),
        rows,
    )


def _cell(row: dict[Hashable, Any]) -> str:
    p = row["p"] if row["kind"] == "score" else row["p_corrected"]
    return f"{row['share']:.3f} {p:.4f}" if np.isfinite(p) else "-"


def write_spatial(table: pd.DataFrame, checkpoint: Checkpoint, settings: dict[str, Any], out: Path) -> list[str]:
    """The table, the summary and the figure, each written whole or not at all; their names."""
    from probes.figures import save_figure  # plotting is slow to import
    from probes.spatial.figures import spatial_figure

    write_csv(table, out / "spatial.csv")
    summary = {
        **settings,
        "dtype": "float64",
        "eigenvalues": checkpoint.process.spatial_eigen[0].tolist(),
        "checkpoint": {"file": checkpoint.path.name if checkpoint.path else None, **checkpoint.provenance},
    }
    write_json(summary, out / "summary.json")
    save_figure(spatial_figure(table), out / "spatial.png")
    return ["spatial.csv", "summary.json", "spatial.png"]
