"""The controls of a checkpoint as tables, a file and a figure."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any, cast

import pandas as pd

from probes.controls.comparison import SMALL, verdicts
from probes.controls.networks import NETWORKS
from probes.resampling import LEVEL
from unrolled.cli import print_table
from unrolled.files import write_csv

__all__ = ["print_controls", "write_controls"]


def print_controls(table: pd.DataFrame, exact: bool = True) -> None:
    """For each t and target, one row per head: its r, and r, q and p of each control; `exact` as in `Checkpoint`."""
    controls = list(dict.fromkeys(table["control"]))
    decided = verdicts(table).set_index(["t", "target", "layer", "head"])
    for key, part in table.groupby(["t", "target"], sort=False):
        t, target = cast(tuple[float, str], key)
        rows = []
        for head_key, of_head in part.groupby(["layer", "head"], sort=False):
            layer, head = cast(tuple[int, int], head_key)
            by_control = {row["control"]: row for row in of_head.to_dict("records")}
            cells = [_cell(by_control[name]) if name in by_control else "-" for name in controls]
            learned, from_data = decided.loc[(t, target, layer, head), ["learned", "from_data"]]
            verdict = ("learned" if learned else "-") + (", from data" if from_data else "")
            rows.append((f"layer {layer} head {head}", f"{of_head['r'].iloc[0]:.3f}", *cells, verdict))
        print_table(
            f"match with the {target} at t = {t:g}: r, then r q p of each control", ("", "r", *controls, ""), rows
        )
    print(
        f"learned: q >= {SMALL:g} and p < {LEVEL:g}, corrected for the number of heads, against all controls but the"
        " first two; from data: against those two"
    )
    if not set(NETWORKS) <= set(controls):
        absent = " and ".join(name for name in NETWORKS if name not in controls)
        print(f"control networks that are missing, since the checkpoint is no training run: {absent}")
    if not exact:
        print("held-out windows overlap and count as independent sequences, so that p-values over them are too small")


def _cell(row: dict[Hashable, Any]) -> str:
    return f"{row['r_control']:6.3f} {row['q']:+5.2f} {row['p_corrected']:.3f}"


def write_controls(table: pd.DataFrame, out: Path) -> list[str]:
    """controls.csv and controls.png, each written whole or not at all; their names."""
    from probes.controls.figures import control_figure  # plotting is slow to import
    from probes.figures import save_figure

    write_csv(table, out / "controls.csv")
    save_figure(control_figure(table), out / "controls.png")
    return ["controls.csv", "controls.png"]
