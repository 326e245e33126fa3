"""What the stability study prints and writes."""

import math
from pathlib import Path
from typing import Any

from probes.stability.study import STATIC, StabilityStudy
from unrolled.cli import print_table
from unrolled.files import write_csv, write_json

__all__ = ["print_stability", "write_stability"]

MEANING = {
    "seed": "networks, of equal training but for the seed", "head": "heads of a network",
    "t": "diffusion times", "sequence": "sequences, the same at every t", "both": "sequences, differently at each t",
}  # fmt: skip


def print_stability(study: StabilityStudy, networks: int) -> None:
    """The components of all networks together, the kinds of heads, and the least stable heads."""
    over = "networks" if networks > 1 else "sequences"
    rows = [
        (MEANING[row["component"]], f"{row['variance']:.3g}", f"[{row['low']:.2g}, {row['high']:.2g}]",
         f"{100 * row['share']:.3g} %")
        for row in study.components.to_dict("records")
    ]  # fmt: skip
    print_table(
        f"variance of the profiles of heads between ... (95 % intervals over {over})",
        ("between", "variance", "interval", "share"),
        rows,
    )
    rows = [
        (f"{row['network']}: layer {row['layer']} head {row['head']}",
         *(_percent(row, name) for name in ("t", "sequence", "both")), str(row["kind"]))
        for row in study.heads.to_dict("records")
    ]  # fmt: skip
    print_table(
        "deviation of every head's profile relative to its size, in percent, over t, sequences and both (95 % intervals"
        " over sequences)",
        ("head", "t", "sequence", "both", "changes with"),
        rows,
    )
    counts = ", ".join(f"{kind} {count}" for kind, count in study.heads["kind"].value_counts().items())
    print(f"of {len(study.heads)} heads (static: less than {STATIC:.0%} over anything): {counts}")


def _percent(row: dict[Any, Any], name: str) -> str:
    value, low, high = (100 * math.sqrt(max(row[key], 0.0)) for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:.2g} [{low:.2g}, {high:.2g}]"


def write_stability(study: StabilityStudy, settings: dict[str, Any], out: Path) -> list[str]:
    """The tables, the summary and the figure, each written whole or not at all; their names."""
    from probes.figures import save_figure  # plotting is slow to import
    from probes.stability.figures import stability_figure

    write_csv(study.heads, out / "heads.csv")
    write_csv(study.components, out / "components.csv")
    shares = dict(zip(study.components["component"], study.components["share"], strict=True))
    kinds = study.heads["kind"].value_counts().to_dict()
    write_json({**settings, "shares": shares, "kinds": kinds, "static_below": STATIC}, out / "summary.json")
    save_figure(stability_figure(study), out / "stability.png")
    return ["heads.csv", "components.csv", "summary.json", "stability.png"]
