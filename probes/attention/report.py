"""What the attention study of a checkpoint prints and writes."""

import math
from collections.abc import Hashable
from pathlib import Path
from typing import Any, cast

import pandas as pd

from probes.attention.study import AttentionStudy, best_families
from unrolled.checkpoint import Checkpoint
from unrolled.cli import print_table
from unrolled.files import write_csv, write_json

__all__ = ["interval_cell", "print_study", "write_study"]

ROWS_SHOWN = 24
"""Rows of a printed table: a screen."""


def print_study(study: AttentionStudy, times: list[float]) -> None:
    """The exponential family's lengthscale, power and R^2 for each head and t, under those of the truth."""
    fits = study.fits.query("family == 'exponential'")
    rows: list[tuple[str, ...]] = []

    def add(name: str, selected: pd.DataFrame) -> None:
        by_time = {float(row["t"]): row for row in selected.fillna({"t": 0.0}).to_dict("records")}
        rows.append((name, *(_cell(by_time.get(t, by_time.get(0.0))) for t in times)))

    add(study.truth_name, fits.query("kind == 'true covariance'"))
    add("inverse of C_t", fits.query("kind == 'inverse of C_t'"))
    for kind, reference in study.references.query("family == 'exponential'").groupby("kind", sort=False):
        layer = int(reference["layer"].iloc[0])
        add(str(kind) if layer < 0 else f"{kind}, layer {layer}", reference)
    of_heads: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for key, of_head in fits.query("kind == 'attention'").groupby(["layer", "head"]):
        add("", of_head)
        of_heads.setdefault(rows.pop()[1:], []).append(cast(tuple[int, int], key))
    rows += _shown([(_name(heads), *cells) for cells, heads in of_heads.items()])
    print_table(
        "floor + amplitude exp(-(lag/l)^p): l, p, R^2 (- for a negative amplitude, * at the edge of the search)",
        ("", *(f"t={t:g}" for t in times)),
        rows,
    )
    print_intervals(study)
    deviation = max(attention.deviation for attention in study.attention)
    print(f"largest relative deviation of map times values from the model's own attention output: {deviation:.1e}")


def print_intervals(study: AttentionStudy) -> None:
    """Intervals of the exponential family at the middle time, and which family each head is there."""
    t = study.middle.t
    rows = study.fits.query("kind == 'attention' and family == 'exponential' and t == @t")
    merged = rows.merge(study.choices.query("t == @t"), on=["layer", "head", "t"])
    of_heads: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for row in merged.to_dict("records"):
        cells = [interval_cell(row, name) for name in ("lengthscale", "power", "amplitude", "floor")]
        cells += [f"{row['r2']:.3f}", str(row["answer"])]
        of_heads.setdefault(tuple(cells), []).append((row["layer"], row["head"]))
    print_table(
        f"t = {t:g}: exponential fit with 95 % intervals over sequences, and the family",
        ("", "l", "p", "amplitude", "floor", "R^2", "family"),
        _shown([(_name(heads), *cells) for cells, heads in of_heads.items()]),
    )
    for row in best_families(study.references.query("kind == 'held kernel'"), ["layer", "t"]).to_dict("records"):
        where = f"kernel held by the heads of layer {row['layer']} together at t = {row['t']:g}"
        print(f"{where}: {row['family']}, lengthscale {_within(row, 'lengthscale')}, power {_within(row, 'power')}")
    counts = ", ".join(f"{answer} {count}" for answer, count in study.choices["answer"].value_counts().items())
    print(f"families over heads and t (none: further from every family than the sequences vary): {counts}")


def _name(heads: list[tuple[int, int]]) -> str:
    """One head, or those of equal rows."""
    layer, head = heads[0]
    if len(heads) == 1:
        return f"layer {layer} head {head}"
    if {other for _, other in heads} == {head}:
        return f"head {head} of {len(heads)} layers"
    return f"{len(heads)} heads, as layer {layer} head {head}"


def _shown(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """All rows, or of many the first and the last ones, with a row that says how many stand between them in
    fits.csv."""
    if len(rows) <= ROWS_SHOWN:
        return rows
    ends = ROWS_SHOWN // 2
    rest = (f"{len(rows) - 2 * ends} more in fits.csv", *[""] * (len(rows[0]) - 1))
    return [*rows[:ends], rest, *rows[-ends:]]


def _within(row: dict[Hashable, Any], name: str) -> str:
    """A parameter and how far its interval reaches."""
    return f"{row[name]:.7g} (to {max(row[f'{name}_high'] - row[name], row[name] - row[f'{name}_low']):.1e})"


def interval_cell(row: dict[Hashable, Any], name: str) -> str:
    """A parameter with its interval, of a row of fits; an end that bounds nothing is left empty."""
    if row["interval"] != "bootstrap":  # a reference, or the same in every sequence
        return f"{row[name]:.3g}"
    low, high = (
        "" if f"{name}_{end}" in row["one_sided"].split() else f"{row[f'{name}_{end}']:.3g}" for end in ("low", "high")
    )
    return f"{row[name]:.3g} [{low}, {high}]" if low or high else "not determined"


def _cell(row: dict[Hashable, Any] | None) -> str:
    if row is None or not math.isfinite(row["r2"]):
        return "constant"
    marks = ("-" if row["amplitude"] < 0 else "") + ("*" if row["at_boundary"] else "")
    return f"{row['lengthscale']:5.2f} {row['power']:4.2f} {row['r2']:6.3f}{marks:2}"


def _of_first(table: pd.DataFrame, twins: pd.DataFrame) -> pd.DataFrame:
    """The rows of heads that equal no earlier one."""
    if twins.empty:
        return table
    key = ["t", "layer", "head"]
    rows, equal = (pd.MultiIndex.from_frame(cast(Any, each[key])) for each in (table, twins))
    return cast(pd.DataFrame, table[~rows.isin(equal)])


def write_study(study: AttentionStudy, checkpoint: Checkpoint, settings: dict, out: Path) -> list[str]:
    """The tables, the summary and the figures of a study, each written whole or not at all; their names."""
    from probes.attention.figures import decay_figure, map_figure  # plotting is slow to import
    from probes.figures import save_figure

    fits, choices = (_of_first(table, study.twins) for table in (study.fits, study.choices))
    tables = {"attention": study.profiles, "fits": fits, "choices": choices, "references": study.references}
    if len(study.twins):
        tables["equal_heads"] = study.twins
    for name, table in tables.items():
        write_csv(table, out / f"{name}.csv")
    process = checkpoint.process
    summary = {
        "settings": settings,
        "checkpoint": {"file": checkpoint.path.name if checkpoint.path else None, **checkpoint.provenance},
        "truth": study.truth_name,
        "truth_by_lag": study.truth.tolist(),
        "layers": study.middle.layers,
        "attention_to_registers": {f"{one.t:g}": one.outside.tolist() for one in study.attention},
        "largest_deviation_from_fused": max(attention.deviation for attention in study.attention),
        "dtype": str(checkpoint.dtype).removeprefix("torch."),
        "condition_number": {f"{one.t:g}": process.condition_number(one.t) for one in study.attention},
    }
    write_json(summary, out / "summary.json")
    covariance = process.temporal_covariance.numpy()
    save_figure(decay_figure(study.middle, study.truth, study.truth_name), out / "decay.png")
    save_figure(map_figure(study.middle, covariance, study.truth_name), out / "maps.png")
    return [*(f"{name}.csv" for name in tables), "summary.json", "decay.png", "maps.png"]
