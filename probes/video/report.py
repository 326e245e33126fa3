"""What the probe of a foreign model prints and writes: kinds of heads, their decay, and what was left out."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probes.video.heads import LOCAL, profile_table
from probes.video.influence import GridInfluence, influence_table
from probes.video.study import ForeignProbe
from unrolled.cli import print_table
from unrolled.files import write_csv, write_json
from unrolled.provenance import command_line

__all__ = ["print_foreign", "write_foreign"]

LAGS_SHOWN = 4
"""Largest lag of the printed influence."""
ROWS_SHOWN = 64
"""With more heads than this the table has one row per layer."""


def print_foreign(probe: ForeignProbe) -> None:
    """Kind, contrast and decay of each head, or of each layer of a large model, and what is not in the table."""
    heads, attention = probe.heads, probe.attention
    sizes = f"{attention.grid} tokens, {attention.samples} samples"
    print(f"{probe.model} in {probe.folder}: {sizes}, latents {probe.settings['latents']}, text is noise")
    if len(heads) <= ROWS_SHOWN:
        _print_heads(heads)
    else:
        _print_layers(heads)
    counts = ", ".join(f"{kind} {count}" for kind, count in heads["kind"].value_counts().items())
    uncertain = np.sum(~heads["certain"].to_numpy())
    print(f"kinds of {len(heads)} heads (local from contrast {LOCAL:.2f} on): {counts}; uncertain: {uncertain}")
    for name, what in list(attention.left_out.items())[:3]:
        print(f"left out: {name} ({what})")
    if len(attention.left_out) > 3:
        print(f"left out: {len(attention.left_out) - 3} more calls of that kind, see summary.json")
    text = {layer.text_tokens for layer in attention.layers}
    if text != {0}:
        tokens = " or ".join(map(str, sorted(text)))
        share = heads["text_share"].to_numpy()
        print(
            f"{tokens} text tokens left out; attention of video tokens to them: mean {share.mean():.3f}"
            f" ({share.min():.3f} to {share.max():.3f} over heads)"
        )
    if attention.unseen:
        names = ", ".join(attention.unseen[:3])
        print(f"warning: no attention map was seen in {len(attention.unseen)} modules named after attention: {names}")
    print(f"largest relative deviation of map times values from the model's own output: {attention.deviation:.1e}")
    if probe.influence is not None:
        _print_influence(probe.influence)


def _print_influence(found: GridInfluence) -> None:
    """Influence on the output relative to that of a token on itself, by frame lag and by distance along a row."""
    grid = found.grid
    table: Any = influence_table(found)
    own = float(found.temporal.value[grid.frames - 1])
    places = [("frame lag", table.query("axis == 'temporal'"), "dt"),
              ("columns", table.query("axis == 'spatial' and dy == 0"), "dx")]  # fmt: skip
    rows = []
    for name, part, column in places:
        for row in part[part[column].abs() <= LAGS_SHOWN].to_dict("records"):
            half = (row["high"] - row["low"]) / 2 / abs(own)
            rows.append((f"{name} {row[column]:+d}", f"{row['influence'] / own:+.4f}", f"±{half:.4f}"))
    print_table(
        f"influence of a token on the output at another, relative to its own ({own:.3g}), by {_products(found)}; 95 %"
        " intervals over videos",
        ("place", "influence", "interval"),
        rows,
    )


def _products(found: GridInfluence) -> str:
    kind = "backward passes" if found.gradient else "central differences (no gradient was found)"
    return f"{found.probes} random vector{'s' if found.probes > 1 else ''} for each of {found.samples} videos, {kind}"


def _print_heads(heads: pd.DataFrame) -> None:
    rows = [
        (
            f"{row['module']} {row['head']}",
            row["kind"] + ("" if row["certain"] else "?"),
            *(cell for axis in ("temporal", "spatial") for cell in (_contrast(row, axis), _decay(row, axis))),
            f"{row['text_share']:.3f}",
        )
        for row in heads.to_dict("records")
    ]
    print_table(
        "contrast (near - far) / (near + far) with 95 % interval; l, p and R^2 of floor + amplitude exp(-(lag/l)^p)"
        " (- for a negative amplitude, * at the edge of the search, p in brackets where held fixed)",
        ("head", "kind", "in time", "l p R^2, frames", "in space", "l p R^2, tokens", "to text"),
        rows,
    )


def _print_layers(heads: pd.DataFrame) -> None:
    rows = []
    for _, layer in heads.groupby("layer"):
        kinds = list(layer["kind"])
        cells = [str(kinds.count(kind)) for kind in ("temporal", "spatial", "mixed", "neither")]
        for axis in ("temporal", "spatial"):
            contrast, length = (layer[f"{axis}_{what}"].to_numpy() for what in ("contrast", "lengthscale"))
            cells += [_median(contrast), _median(length[contrast >= LOCAL])]
        rows.append((str(layer["module"].iloc[0]), *cells, f"{layer['text_share'].mean():.3f}"))
    print_table(
        "heads of each kind; medians in time (t) and space (s): contrast over all heads, lengthscale over local ones",
        ("layer", "temporal", "spatial", "mixed", "neither", "contrast t", "l t", "contrast s", "l s", "to text"),
        rows,
    )


def _median(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    return _number(float(np.median(finite)) if len(finite) else math.nan)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _contrast(row: dict[Any, Any], axis: str) -> str:
    low, high = row[f"{axis}_low"], row[f"{axis}_high"]
    interval = "" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    return _number(row[f"{axis}_contrast"]) + interval


def _decay(row: dict[Any, Any], axis: str) -> str:
    if math.isnan(row[f"{axis}_r2"]):
        lags = row[f"{axis}_lags"]
        return "-" if lags == 0 else "constant" if row[f"{axis}_at_boundary"] else f"{lags} lags"
    marks = ("-" if row[f"{axis}_amplitude"] < 0 else "") + ("*" if row[f"{axis}_at_boundary"] else "")
    power = f"{row[f'{axis}_power']:.2f}"
    power = f"({power})" if row[f"{axis}_fixed"] else power
    return f"{row[f'{axis}_lengthscale']:.2f} {power} {row[f'{axis}_r2']:.3f}{marks}"


def write_foreign(probe: ForeignProbe, out: Path) -> list[str]:
    """Tables, summary.json and figures, each written whole or not at all; their names."""
    from probes.figures import save_figure  # plotting is slow to import
    from probes.video.figures import grid_decay_figure, influence_figure, kinds_figure

    tables = {"heads.csv": probe.heads, "profiles.csv": profile_table(probe.attention)}
    figures = {"decay.png": grid_decay_figure(probe.attention), "kinds.png": kinds_figure(probe.heads)}
    if probe.influence is not None:
        tables["influence.csv"] = influence_table(probe.influence)
        figures["influence.png"] = influence_figure(probe.influence)
    for name, table in tables.items():
        write_csv(table, out / name)
    attention = probe.attention
    summary = {
        "command": command_line(),
        "folder": probe.folder,
        "model": probe.model,
        "grid": str(attention.grid),
        "settings": probe.settings,
        "layers": [
            {"module": layer.name, "layout": layer.layout, "text_tokens": layer.text_tokens}
            for layer in attention.layers
        ],
        "kinds": probe.heads["kind"].value_counts().to_dict(),
        "uncertain_heads": int(np.sum(~probe.heads["certain"].to_numpy())),
        "local_from_contrast": LOCAL,
        "left_out": attention.left_out,
        "unseen": attention.unseen,
        "largest_deviation_from_fused": attention.deviation,
        "influence": None if probe.influence is None else _products(probe.influence),
    }
    write_json(summary, out / "summary.json")
    for name, figure in figures.items():
        save_figure(figure, out / name)
    return [*tables, "summary.json", *figures]
