"""Whether a DiT needs attention maps that depend on the data, by training it without them.

Three networks of equal heads, width and depth are trained on one process as preset `quick` is: a DiT; a DiT whose
queries and keys are read from positions and t alone; and a DiT whose maps are fixed to the Gaussians of the closed form
(`reports.free_maps`), which leaves values, output maps and MLPs to train.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probes.figures import panels, theme
from reports.experiment import Budget, Configuration, Experiment, Row
from reports.free_maps import with_dictionary_maps, with_position_maps
from reports.networks import parameter_count, trained_network
from reports.seeds import in_words, interval
from unrolled.evaluate import EVALUATION_TIMES, score_errors
from unrolled.options import ProcessOptions

__all__ = ["experiment"]

DATA, POSITIONS, FIXED = "data", "positions and t", "fixed Gaussians"
MAKERS = {DATA: None, POSITIONS: with_position_maps, FIXED: with_dictionary_maps}
SIZES = {"width": 128, "heads": 30, "head_dim": 4}
DEPTHS, STEPS, SEEDS = (1, 4), 2000, 3


def configurations(budget: Budget) -> list[Configuration]:
    """A network for each seed, depth and source of its maps."""
    steps, seeds, depths = (STEPS, SEEDS, DEPTHS) if budget == "full" else (100, 2, (1,))
    process = asdict(ProcessOptions() if budget == "full" else ProcessOptions(length=16, dim=2))
    sizes = SIZES if budget == "full" else {**SIZES, "width": 64}
    return [
        {"maps": maps, "options": {"process": process, "steps": steps, "seed": seed, "dit": {**sizes, "depth": depth}}}
        for seed in range(seeds) for depth in depths for maps in MAKERS
    ]  # fmt: skip


def run(configuration: Configuration) -> list[Row]:
    """A row for each t."""
    options, maps = configuration["options"], configuration["maps"]
    made, seconds = trained_network(options, MAKERS[maps])
    shared = {
        "maps": maps, "depth": options["dit"]["depth"], "seed": options["seed"],
        "parameters": parameter_count(made.model), "seconds": seconds,
    }  # fmt: skip
    process = cast(Any, made.process)
    return [
        {**shared, "t": t, "error": error}
        for t, error in score_errors(made.model, process, EVALUATION_TIMES).items()
    ]  # fmt: skip


def _by_seed(results: pd.DataFrame, maps: str, depth: int, t: float) -> np.ndarray:
    """Errors, (seeds,)."""
    chosen = (results.maps == maps) & (results.depth == depth) & (results.t == t)
    return cast(Any, results[chosen]).sort_values(by="seed").error.to_numpy()


def _depths(results: pd.DataFrame) -> list[int]:
    return [int(depth) for depth in sorted(results.depth.unique())]


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Mean error over seeds by depth and source of the maps at every t, with sizes and seconds."""
    rows = []
    for depth in _depths(results):
        for maps in MAKERS:
            part = results.query("maps == @maps and depth == @depth")
            row: dict[str, Any] = {"blocks": depth, "maps from": maps, "parameters": int(part.parameters.iloc[0])}
            row["seconds"] = part.seconds.mean()
            rows.append(row | {f"t = {t:g}": in_words(_by_seed(results, maps, depth, t)) for t in part.t.unique()})
    return pd.DataFrame(rows)


def _panel(ax: Axes, results: pd.DataFrame, depth: int) -> None:
    for k, maps in enumerate(MAKERS):
        part = results.query("maps == @maps and depth == @depth")
        means = part.groupby("t").error.mean()
        ax.plot(means.index, means, color=f"C{k}", linewidth=1.2, label=f"maps from {maps}" if k < 2 else maps)
        ax.plot(part.t, part.error, "o", color=f"C{k}", markersize=4)
    title = "1 block" if depth == 1 else f"{depth} blocks"
    ax.set(xscale="log", yscale="log", xlabel="t", ylabel="relative score error", title=title)
    ax.grid(which="major", alpha=0.3)


@theme()
def figure(results: pd.DataFrame) -> Figure:
    """Error against t, a panel for each depth; a dot for each seed, a line through their means."""
    depths = _depths(results)
    drawn, axes = panels(1, len(depths), (4.2 * len(depths) + 1, 3.8), sharey=True)
    for ax, depth in zip(axes[0], depths, strict=True):
        _panel(ax, results, depth)
    axes[0, -1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return drawn


def _against(results: pd.DataFrame, maps: str) -> str:
    """In which cases maps without the data are better and worse than those with them."""
    cases = [(depth, t) for depth in _depths(results) for t in results.t.unique()]
    ratios = {
        case: interval(_by_seed(results, maps, *case) / _by_seed(results, DATA, *case)) for case in cases
    }  # fmt: skip
    better = [_case(*case, mean) for case, (mean, _, high) in ratios.items() if high < 1]
    worse = [_case(*case, mean) for case, (mean, low, _) in ratios.items() if low > 1]
    return f"lower in {_count(better, len(cases))} and higher in {_count(worse, len(cases))}"


def _case(depth: int, t: float, mean: float) -> str:
    return f"{'1 block' if depth == 1 else f'{depth} blocks'} at t = {t:g}: {mean:.2f} times"


def _count(cases: Sequence[str], of: int) -> str:
    return f"{len(cases)} of {of} cases" + (f" ({', '.join(cases)})" if cases else "")


def finding(results: pd.DataFrame) -> str:
    """Whether maps that do not see the data cost accuracy."""
    seeds = results.seed.nunique()
    return (
        f"Over {seeds} seeds, with 95 % intervals of the ratio: with maps from positions and t alone the error is"
        f" {_against(results, POSITIONS)}. With maps fixed to Gaussians it is {_against(results, FIXED)}."
    )


def core_seconds(configuration: Configuration) -> float:
    """From networks of the same size whose maps depend on the data."""
    options = configuration["options"]
    return 10 + 0.02 * options["steps"] * options["dit"]["depth"]


experiment = Experiment(
    module=__name__,
    question="Does a DiT need attention maps that depend on the data?",
    columns={
        "maps": str, "depth": int, "seed": int, "parameters": int, "seconds": float, "t": float, "error": float,
    },
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
    about_time=True,
)  # fmt: skip
