"""What the stability study prints and writes."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from probes.stability.study import STATIC, StabilityStudy
from unrolled.cli import print_table
from unrolled.files import write_csv, write_json

__all__ = ["print_stability", "write_stability"]

HEADS = 64
"""With more heads than this they are not printed one by one."""
MEANING = {
    "seed": "networks, of equal training but for the seed", "head": "heads of a network",
    "t": "diffusion times", "sequence": "sequences, the same at every t", "both": "sequences, differently at each t",
}  # fmt: skip


def print_stability(study: StabilityStudy, networks: int) -> None:
    """The components of all networks together, up to `HEADS` heads one by one, and the kinds of all."""
    axes = list(dict.fromkeys(study.components["axis"]))
    for axis in axes:
        where = "" if axes == ["temporal"] else f", {axis} profiles"
        heads: Any = study.heads[study.heads["axis"] == axis]
        components: Any = study.components[study.components["axis"] == axis]
        _print_axis(heads, components, where, "networks" if networks > 1 else "sequences")


def _print_axis(heads: pd.DataFrame, components: pd.DataFrame, where: str, over: str) -> None:
    rows = [
        (MEANING[row["component"]], f"{row['variance']:.3g}", f"[{row['low']:.2g}, {row['high']:.2g}]",
         f"{100 * row['share']:.3g} %")
        for row in components.to_dict("records")
    ]  # fmt: skip
    print_table(
        f"variance of the profiles of heads between ...{where} (95 % intervals over {over})",
        ("between", "variance", "interval", "share"),
        rows,
    )
    rows = [
        (f"{row['network']}: layer {row['layer']} head {row['head']}",
         *(_percent(row, name) for name in ("t", "sequence", "both")), str(row["kind"]))
        for row in heads.to_dict("records")
    ]  # fmt: skip
    if len(rows) <= HEADS:
        print_table(
            f"deviation of every head's profile relative to its size, in percent, over t, sequences and both{where} (95"
            " % intervals over sequences)",
            ("head", "t", "sequence", "both", "changes with"),
            rows,
        )
    counts = ", ".join(f"{kind} {count}" for kind, count in heads["kind"].value_counts().items())
    print(f"of {len(heads)} heads{where} (static: less than {STATIC:.0%} over anything): {counts}")


def _percent(row: dict[Any, Any], name: str) -> str:
    value, low, high = (100 * math.sqrt(max(row[key], 0.0)) for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:.2g} [{low:.2g}, {high:.2g}]"


def write_stability(study: StabilityStudy, settings: dict[str, Any], out: Path) -> list[str]:
    """The tables, the summary and the figure, each written whole or not at all; their names."""
    from probes.figures import save_figure  # plotting is slow to import
    from probes.stability.figures import stability_figure

    write_csv(study.heads, out / "heads.csv")
    write_csv(study.components, out / "components.csv")
    shares = {
        axis: dict(zip(part["component"], part["share"], strict=True))
        for axis, part in study.components.groupby("axis")
    }
    kinds = {axis: part["kind"].value_counts().to_dict() for axis, part in study.heads.groupby("axis")}
    write_json({**settings, "shares": shares, "kinds": kinds, "static_below": STATIC}, out / "summary.json")
    save_figure(stability_figure(study), out / "stability.png")
    return ["heads.csv", "components.csv", "summary.json", "stability.png"]
