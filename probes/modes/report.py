"""What the study of modes prints and writes, and says in words: what accuracy alone forces, and what was found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probes.modes.curve import LEARNED, half_way
from probes.modes.study import ModeStudy
from unrolled.checkpoint import Checkpoint
from unrolled.cli import print_table
from unrolled.files import write_csv, write_json

__all__ = [
    "print_curve",
    "print_generated",
    "print_modes",
    "sentences",
    "write_curve",
    "write_generated",
    "write_modes",
]

SHOWN = (1, 2, 3, 4, 6, 9, 16, 32, 64, 128, 256, 512)
"""Modes of a printed table, and the last one."""
WHITE = 3.0
"""A squared error is called white if no temporal mode has more than so many times, or less than this part of, what an
even spread gives it."""


def print_modes(study: ModeStudy) -> None:
    """Error and gain by mode, the parts of the error, and what they say in words."""
    times = study.times
    columns = ("mode", "eigenvalue", *(f"t={t:g}" for t in times))
    for kind, name in (("temporal", "Gamma"), ("spatial", "Sigma")):
        table: Any = study.modes[study.modes.kind == kind]
        rows = []
        for mode in _shown(table):
            of_mode = table[table["mode"] == mode].to_dict("records")
            cells = [f"{row['error']:.3f} ±{(row['high'] - row['low']) / 2:.3f} {row['gain']:.3f}" for row in of_mode]
            rows.append((str(mode), f"{of_mode[0]['eigenvalue']:.3g}", *cells))
        title = f"error relative to the score in each eigenmode of {name} (±95 %), and gain (1: all of the score)"
        print_table(title, columns, rows)
    rows = []
    for part in dict.fromkeys(study.parts.part):
        of_part = study.parts.query("part == @part").to_dict("records")
        cells = [f"{row['share']:.1%} ±{(row['share_high'] - row['share_low']) / 2:.1%}" for row in of_part]
        rows.append((str(part), *cells))
    whole = [f"{row['error']:.4f} ±{(row['high'] - row['low']) / 2:.4f}" for row in study.errors.to_dict("records")]
    print_table(
        "shares of the squared error: of the best affine map, of the mean, and what no affine map can be",
        ("part", *(f"t={t:g}" for t in times)),
        [*rows, ("relative score error", *whole)],
    )
    for sentence in sentences(study):
        print(sentence)


def _shown(table: Any) -> list[int]:
    """Modes of a table with a column `mode` that are printed."""
    last = int(table["mode"].max())
    return [mode for mode in SHOWN if mode < last] + [last]


def sentences(study: ModeStudy) -> list[str]:
    """What accuracy forces, and what was found, in words."""
    gaps = study.influence.assign(gap=(study.influence.influence - study.influence.inverse).abs())
    scale = gaps.inverse.abs().groupby(gaps.t).max()
    gap, forced = (gaps.groupby("t")[name].max() / scale for name in ("gap", "forced"))
    said = [
        "forced by accuracy, and no finding: influence by lag is that of -C_t^{-1} for every model of a small score"
        " error, whatever it is. It is within "
        + _by_time(gap, "{:.2g}")
        + " of the largest entry; the score error alone forces it to be within "
        + _by_time(forced, "{:.2g}")
    ]
    temporal: Any = study.modes.query("kind == 'temporal'")
    modes = int(temporal["mode"].max())
    even = temporal.groupby("t").share.agg(["min", "max"]) * modes
    white = bool((even["max"] <= WHITE).all() and (even["min"] >= 1 / WHITE).all())
    said.append(
        f"found: the squared error is {'' if white else 'not '}white over the {modes} modes of Gamma: relative to an"
        " even spread, the modes have "
        + ", ".join(f"{row['min']:.2g} to {row['max']:.2g} (t={t:g})" for t, row in even.iterrows())
    )
    first = temporal[temporal["mode"] == 1]
    said.append(
        "found: in the longest mode the error is "
        + ", ".join(
            f"{row['error']:.2g} with gain {row['gain']:.2g} (t={row['t']:g})" for row in first.to_dict("records")
        )
        + "; the data decide a mode where alpha_t^2 times its eigenvalue exceeds sigma_t^2"
    )
    rest = study.parts.query("part == 'rest'").set_index("t").share
    said.append("found: of the squared error no affine map can be " + _by_time(rest, "{:.0%}"))
    return said


def _by_time(values: Any, form: str) -> str:
    """Values of a series by t, in words."""
    return ", ".join(f"{form.format(value)} (t={t:g})" for t, value in values.items() if np.isfinite(value))


def write_modes(study: ModeStudy, checkpoints: Sequence[Checkpoint], settings: dict[str, Any], out: Path) -> list[str]:
    """The tables, the summary and the figures, each written whole or not at all; their names."""
    from probes.figures import save_figure  # plotting is slow to import
    from probes.modes.figures import influence_figure, mode_figure, part_figure

    tables = {"modes": study.modes, "influence": study.influence, "parts": study.parts, "errors": study.errors}
    for name, table in tables.items():
        write_csv(table, out / f"{name}.csv")
    summary = {
        **settings,
        "intervals": "95 %, over " + ("sequences" if study.checkpoints == 1 else f"{study.checkpoints} checkpoints"),
        "truth": "exact score" if checkpoints[0].exact else "score of the Gaussian of the training windows",
        "dtype": str(checkpoints[0].dtype).removeprefix("torch."),
        "sentences": sentences(study),
        "checkpoints": [{"file": each.path.name if each.path else None, **each.provenance} for each in checkpoints],
    }
    write_json(summary, out / "summary.json")
    drawn = {"modes": mode_figure(study), "influence": influence_figure(study), "parts": part_figure(study)}
    for name, figure in drawn.items():
        save_figure(figure, out / f"{name}.png")
    return [*(f"{name}.csv" for name in tables), "summary.json", *(f"{name}.png" for name in drawn)]


def print_curve(curve: pd.DataFrame) -> None:
    """The step at which each mode of Gamma is learned, and which came first."""
    table: Any = half_way(curve).query("kind == 'temporal'")
    times = list(dict.fromkeys(table.t))
    rows = []
    for mode in _shown(table):
        of_mode = table[table["mode"] == mode]
        rows.append((str(mode), f"{of_mode.eigenvalue.iloc[0]:.3g}", *(_step(step) for step in of_mode.step)))
    title = f"training step at which the error in each eigenmode of Gamma has fallen to {LEARNED:g} (-: never)"
    print_table(title, ("mode", "eigenvalue", *(f"t={t:g}" for t in times)), rows)
    for t, part in table.groupby("t"):
        # A mode that is never learned comes last; ties share their rank.
        order = part.step.fillna(np.inf).rank().corr(part["mode"].rank())
        if np.isfinite(order):
            said = "shortest first" if order < 0 else "longest first"
            print(f"t = {t:g}: rank correlation of mode and step {order:.2f} ({said})")


def _step(step: float) -> str:
    return f"{step:.0f}" if np.isfinite(step) else "-"


def write_curve(curve: pd.DataFrame, settings: dict[str, Any], out: Path) -> list[str]:
    """The tables, the summary and the figure, each written whole or not at all; their names."""
    from probes.figures import save_figure  # plotting is slow to import
    from probes.modes.figures import curve_figure

    write_csv(curve, out / "curve.csv")
    write_csv(half_way(curve), out / "learned.csv")
    write_json({**settings, "learned_at_error": LEARNED}, out / "summary.json")
    save_figure(curve_figure(curve), out / "curve.png")
    return ["curve.csv", "learned.csv", "summary.json", "curve.png"]


def print_generated(table: Any) -> None:
    """Variance of samples in each mode, relative to the data; a table as `generated_by_mode` returns it."""
    rows = [
        (
            str(mode), f"{row.eigenvalue:.3g}", f"{row.exact_score:.4f}", f"{row.affine:.4f}",
            f"{row.network:.4f} ±{(row.high - row.low) / 2:.4f}",
        )
        for mode in _shown(table)
        for row in table[table["mode"] == mode].itertuples()
    ]  # fmt: skip
    print_table(
        f"variance of samples of X_t at t = {table.t.iloc[0]:g} in each eigenmode of Gamma, relative to the true one",
        ("mode", "eigenvalue", "exact score", "affine part", "network"),
        rows,
    )


def write_generated(table: pd.DataFrame, out: Path) -> list[str]:
    """The table, whole or not at all; its name."""
    write_csv(table, out / "generated.csv")
    return ["generated.csv"]
