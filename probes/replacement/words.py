"""What a replacement study says in words: what of the network matters at which t."""

from collections.abc import Hashable, Iterator
from typing import Any

import pandas as pd

__all__ = ["NOTICED", "TITLES", "relative_change", "verdicts"]

TITLES = {
    "network": "the network", "mean": "mean maps", "reference": "mean maps of one t", "stationary": "stationary maps",
    "kernel": "a kernel of the lag", "fitted": "a fitted kernel", "constant": "mean outputs of heads",
    "removed": "no heads", "mlp": "mean slopes of MLPs", "norm": "mean slopes of LayerNorms",
    "linear": "network made linear", "affine": "best affine map", "exact": "exact score",
}  # fmt: skip
"""Names of stand-ins in printed tables and figures."""
NOTICED = 0.01
"""A change counts if its interval excludes 0 and it is at least this share of the network's error."""


def _verdict(row: dict[Hashable, Any], own: float) -> str:
    """What a stand-in does: "costs", "helps", or "same"."""
    if abs(row["change"]) < NOTICED * own or row["low"] <= 0 <= row["high"]:
        return "same"
    return "costs" if row["change"] > 0 else "helps"


def relative_change(change: float) -> str:
    """A change relative to the error of the network: +12 %, or the factor where it is at least 2."""
    return f"{100 * change:+.2g} %" if change < 1 else f"{1 + change:.3g} times"


def _size(row: dict[Hashable, Any], own: float) -> str:
    return relative_change(row["error"] / own - 1)


def verdicts(table: pd.DataFrame, reference: float) -> Iterator[str]:
    """A line for each t, then lines over all t.

    Args:
        table: of a `ReplacementStudy`.
        reference: the t of its reference maps.
    """
    seen: dict[str, dict[str, list[float]]] = {}
    for t, part in table.groupby("t"):
        at_once = {row["stand_in"]: row for row in part.query("layer < 0").to_dict("records")}
        own = at_once["network"]["error"]
        said = {name: _verdict(row, own) for name, row in at_once.items()}
        for name, verdict in said.items():
            seen.setdefault(name, {}).setdefault(verdict, []).append(float(str(t)))
        size = {name: _size(row, own) for name, row in at_once.items()}
        words = [
            {
                "costs": f"maps have to see the data (mean maps: {size['mean']})",
                "helps": f"what maps see of the data makes them worse (mean maps: {size['mean']})",
                "same": "maps need not see the data",
            }[said["mean"]],
            {
                "costs": f"the network made linear is worse ({size['linear']})",
                "helps": f"the network made linear is better ({size['linear']})",
                "same": "the network made linear is as good",
            }[said["linear"]],
        ]
        if t != reference and said["reference"] == "costs":
            words.append(f"maps of t = {reference:g} do not serve ({size['reference']})")
        if said["kernel"] == "costs" and at_once["kernel"]["error"] > (1 + NOTICED) * at_once["mean"]["error"]:
            words.append(f"one function of the lag is too little for a map ({size['kernel']})")
        words += _heads(part, own)
        yield f"t = {t:g}, error {own:.3g}: " + "; ".join(words)
    yield from _over_times(seen)


def _heads(part: pd.DataFrame, own: float) -> list[str]:
    """Which head matters most, and how many can go."""
    removed = part.query("stand_in == 'removed' and head >= 0")
    if removed.empty:
        return []
    worst = removed.loc[removed["error"].idxmax()].to_dict()
    idle = sum(_verdict(row, own) != "costs" for row in removed.to_dict("records"))
    return [
        f"the head that matters most is {worst['head']} of layer {worst['layer']} (without it {_size(worst, own)})",
        f"{idle} of {len(removed)} heads can go one at a time",
    ]


def _over_times(seen: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    """Which verdicts hold at which t."""
    subjects = {
        "mean": "what maps see of the data", "mlp": "curvature of the MLPs", "norm": "curvature of the LayerNorms",
        "linear": "all that is not linear",
    }  # fmt: skip
    for name, subject in subjects.items():
        words = [
            f"{word} at t = {', '.join(f'{t:g}' for t in seen[name][verdict])}"
            for verdict, word in (("costs", "needed"), ("helps", "harmful"), ("same", "no difference"))
            if verdict in seen.get(name, {})
        ]
        if words:
            yield f"{subject}: " + "; ".join(words)
