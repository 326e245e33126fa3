"""What the replacement study of a checkpoint prints and writes."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from probes.replacement.laws import STEPS
from probes.replacement.study import MOST_HEADS, MOST_VALUES, ReplacementStudy
from probes.replacement.words import TITLES, relative_change, verdicts
from unrolled.checkpoint import Checkpoint
from unrolled.cli import print_table
from unrolled.files import write_csv, write_json

__all__ = ["print_study", "write_study"]


def print_study(study: ReplacementStudy, checkpoint: Checkpoint) -> None:
    """Errors of the stand-ins at each t, the most important heads, laws, paths, and the answer in words."""
    times = list(dict.fromkeys(study.table["t"]))
    if not checkpoint.exact:
        print(
            "the exact score below is that of the Gaussian with the covariance of the training windows, not of the"
            " data; held-out windows overlap, so that intervals over them are too narrow"
        )
    headings = ("", *(f"t={t:g}" for t in times))
    at_once = study.table.query("layer < 0")
    titles = TITLES | {"reference": f"mean maps of t = {study.reference:g}"}
    rows = [(titles[str(name)], *map(_change, part.to_dict("records"))) for name, part in _groups(at_once)]
    print_table(
        "relative score error with stand-ins for all parts of a kind at once (95 % interval of its change)",
        headings,
        rows,
    )
    single = study.table.query("head >= 0 and stand_in in ('mean', 'removed')")
    if len(single):
        print_table("one head at a time: change of the error with a mean map / removed", headings, _heads(single))
    else:
        print(f"more than {MOST_HEADS} heads: they are not replaced one at a time")
    if study.paths.empty:
        print(f"sequences of more than {MOST_VALUES} values: no laws and no paths")
    else:
        laws = at_once[at_once["kl"].notna()]
        rows = [(TITLES[str(name)], *(f"{value:.3g}" for value in part["kl"])) for name, part in _groups(laws)]
        print_table(f"KL from the data to the samples of {STEPS} steps, exact, of what is affine", headings, rows)
        _print_paths(study.paths, times)
    print(f"largest relative deviation of the rebuilt forward pass from the model's own: {study.deviation:.1e}")
    for line in verdicts(study.table, study.reference):
        print(line)


def _groups(table: Any) -> Any:
    return table.groupby("stand_in", sort=False)


def _change(row: dict[Any, Any]) -> str:
    if row["stand_in"] in ("network", "exact"):
        return f"{row['error']:.3g}"
    own = row["error"] - row["change"]
    low, high = row["low"] / own, row["high"] / own
    interval = f"{relative_change(row['change'] / own)}" if high >= 1 else f"{100 * low:+.2g} to {100 * high:+.2g} %"
    return f"{row['error']:.3g} ({interval})"


def _heads(single: pd.DataFrame) -> list[tuple[str, ...]]:
    rows = []
    for (layer, head), part in single.groupby(["layer", "head"]):  # pyright: ignore[reportGeneralTypeIssues]
        cells = []
        for _, at_t in part.groupby("t"):
            shares = (row["change"] / (row["error"] - row["change"]) for row in at_t.to_dict("records"))
            cells.append(" / ".join(relative_change(share) for share in shares))
        rows.append((f"layer {layer} head {head}", *cells))
    return rows


def _print_paths(paths: pd.DataFrame, times: list[float]) -> None:
    """Norm of each order, and the error of the sum up to it."""
    orders = paths.query("part == 'order'")
    rows: list[tuple[str, ...]] = []
    for order, part in orders.groupby("order"):
        cells = (f"{row['norm']:.2f} ({row['error_up_to']:.3g})" for row in part.to_dict("records"))
        rows.append((f"{order} attention layer" + "s" * (order != 1), *cells))
    first = orders.drop_duplicates("t")
    rows.append(("cancellation", *(f"{value:.3g}" for value in first["cancellation"])))
    print_table(
        "paths of the network made linear: norm relative to the score (error of the sum so far); cancellation: norms"
        " added up over the norm of the sum",
        ("passing", *(f"t={t:g}" for t in times)),
        rows,
    )


def write_study(study: ReplacementStudy, checkpoint: Checkpoint, settings: dict, out: Path) -> list[str]:
    """The tables, the summary and the figures, each written whole or not at all; their names."""
    from probes.figures import save_figure  # plotting is slow to import
    from probes.replacement.figures import chain_figure, heads_figure, paths_figure

    tables = {"replacement.csv": study.table}
    figures = {"chain.png": chain_figure(study.table)}
    if not study.table.query("head >= 0").empty:
        figures["heads.png"] = heads_figure(study.table)
    if not study.paths.empty:
        tables |= {"paths.csv": study.paths, "influence.csv": study.influence}
        figures["paths.png"] = paths_figure(study.influence)
    for name, table in tables.items():
        write_csv(table, out / name)
    own = study.table.query("stand_in == 'network'")
    summary = {
        "settings": settings,
        "checkpoint": {"file": checkpoint.path.name if checkpoint.path else None, **checkpoint.provenance},
        "exact score": "of the process" if checkpoint.exact else "of the Gaussian with the empirical covariance",
        "dtype": str(checkpoint.dtype).removeprefix("torch."),
        "reference_t": study.reference,
        "sampler_steps": STEPS,
        "largest_deviation_of_the_forward_pass": study.deviation,
        "error": {f"{t:g}": error for t, error in zip(own["t"], own["error"], strict=True) if math.isfinite(error)},
        "words": list(verdicts(study.table, study.reference)),
    }
    write_json(summary, out / "summary.json")
    for name, figure in figures.items():
        save_figure(figure, out / name)
    return [*tables, "summary.json", *figures]
