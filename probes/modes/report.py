"""What the study of modes prints and writes, and says in words: what accuracy alone forces, and what was found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probes.modes.study import ModeStudy
from unrolled.checkpoint import Checkpoint
from unrolled.cli import print_table
from unrolled.files import write_csv, write_json

__all__ = ["print_modes", "sentences", "write_modes"]

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
        table = study.modes[study.modes.kind == kind]
        last = int(table["mode"].max())
        rows = []
        for mode in [k for k in SHOWN if k < last] + [last]:
            of_mode = table[table["mode"] == mode].to_dict("records")
            cells = [f"{row['error']:.3f} ±{(row['high'] - row['low']) / 2:.3f} {row['gain']:.3f}" for row in of_mode]
            rows.append((str(mode), f"{of_mode[0]['eigenvalue']:.3g}", *cells))
        title = f"error relative to the score in each eigenmode of {name} (±95 %), and gain (1: all of the score)"
        print_table(title, columns, rows)
    rows = []
    for part in dict.fromkeys(study.parts.part):
        of_part = study.parts[study.parts.part == part].to_dict("records")
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
    temporal = study.modes.query("kind == 'temporal'")
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
