"""What trained DiTs compute, over training seeds: sentences one would like to say of them, each with its interval.

Each network is trained as preset `quick` is, on a Gaussian process, and measured on sequences that it never saw:

- its score error, and that of ever simpler networks in its place (`probes.replacement`): attention maps replaced by
  their means over sequences, these also averaged along diagonals, and the whole network made linear;
- the exact KL of what the linear network and the best affine map of the network generate, for t from the longest one;
- the error in every temporal eigenmode, and the parts of the squared error (`probes.modes`);
- in the linear network, the error of the sum of all paths through at most k attention layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from probes.figures import panels, theme
from probes.inputs import double_copy, noisy_batches
from probes.modes.parts import PARTS
from probes.modes.study import enough_sequences, operator_estimates
from probes.replacement.explicit import batched_score
from probes.replacement.laws import AffineScore, best_affine, kl_by_time, sampler_grid
from probes.replacement.means import network_means
from probes.replacement.paths import path_tables
from probes.replacement.stand_ins import Replaced, StandIn, head_stand_ins, part_stand_ins
from reports.experiment import Budget, Configuration, Experiment, Row
from reports.networks import trained_network
from reports.seeds import in_words, interval
from unrolled.checkpoint import Checkpoint
from unrolled.diffusion import relative_error
from unrolled.evaluate import EVALUATION_TIMES
from unrolled.generated import affine_score
from unrolled.models.dit import DiT
from unrolled.options import ProcessOptions

__all__ = ["experiment"]

SEEDS = 3
SEQUENCES = 256
"""Sequences behind the means of a network, and as many again for the errors of what stands in for it."""
PER_VALUE = 8
"""Sequences behind the best affine map for each of the N d values."""
STAND_INS = {"mean": "mean maps", "stationary": "stationary maps", "linear": "linear"}
"""Names of `probes.replacement` and those of the results."""
SMALL = 0.2
"""Times up to this one are called small."""
TICKS = (0.7, 0.8, 1.0, 1.2, 1.5, 2.0, 2.5)
"""Ratios that the figure names."""
FAILED = 3.0
"""A training whose error at the smallest t is more than so many times the median of its kind has failed. It is left out
and named (a rule made after one of 15 did)."""
NEAR = 1.1
"""Paths through k layers are enough if their error is at most this multiple of that of all paths."""


def _plan(label: str, process: ProcessOptions, steps: int, seeds: int, **options: Any) -> list[Configuration]:
    shared = {"process": asdict(process), "steps": steps, **options}
    return [{"label": label, "options": {**shared, "seed": seed}} for seed in range(seeds)]


def configurations(budget: Budget) -> list[Configuration]:
    """Three kernels; for the first one longer training and longer sequences, too."""
    if budget == "quick":
        small = ProcessOptions(length=16, dim=2)
        return _plan("OU 4, N = 16", small, 300, 2, dit={"width": 32, "depth": 2, "heads": 2})
    kernels = {"OU 4": "exponential", "Polynomial 4": "polynomial", "Logarithmic 4": "logarithmic"}
    plans = [_plan(label, ProcessOptions(temporal=cast(Any, name)), 2000, SEEDS) for label, name in kernels.items()]
    plans += [_plan("OU 4, N = 64", ProcessOptions(length=64), 2000, SEEDS)]
    plans += [_plan("OU 4, 8000 steps", ProcessOptions(), 8000, SEEDS)]
    return [each for plan in plans for each in plan]


def run(configuration: Configuration) -> list[Row]:
    """Train a network and measure it; see `columns` of the experiment."""
    made, _ = trained_network(configuration["options"])
    rows = [*_replaced(made), *_divergences(made), *_by_mode(made)]
    label, seed = configuration["label"], configuration["options"]["seed"]
    return [{"data": label, "seed": seed, **row} for row in rows]


def _row(t: float, quantity: str, value: float, index: int = 0) -> Row:
    return {"t": t, "quantity": quantity, "index": index, "value": float(value)}


def _sequences(made: Checkpoint, t: float, count: int, seed: int) -> Tensor:
    return torch.cat(list(noisy_batches(made, t, count, SEQUENCES, seed, torch.device("cpu"))))


def _stand_ins(model: DiT, x: Tensor, t: float) -> dict[str, StandIn]:
    """By name of the results; the network itself first."""
    means = network_means(model, x, t)
    known = {**head_stand_ins(means, means, model.config.registers), **part_stand_ins(means)}
    return {"network": StandIn(), **{name: known[key] for key, name in STAND_INS.items()}}


def _replaced(made: Checkpoint) -> list[Row]:
    """Errors of the network and of what stands in for it, and of the sums of its paths."""
    model, double = cast(DiT, made.model), double_copy(cast(DiT, made.model), torch.device("cpu"))
    rows = []
    for t in EVALUATION_TIMES:
        fit, judged = _sequences(made, t, 2 * SEQUENCES, 0).split(SEQUENCES)
        exact = made.process.score(judged.double(), t)
        for name, stand_in in _stand_ins(model, fit, t).items():
            score = batched_score(model, judged, t, Replaced(model, stand_in))
            rows.append(_row(t, name, relative_error(score.double(), exact)))
        means = network_means(double, fit.double(), t)
        paths, _ = path_tables(double, made.process, means, t, by_head=False)
        orders = zip(paths.order, paths.error_up_to, paths.norm, strict=True)
        rows += [_row(t, name, value, int(order)) for order, error, norm in orders
                 for name, value in (("paths", error), ("path norm", norm))]  # fmt: skip
    return rows


def _divergences(made: Checkpoint) -> list[Row]:
    """KL of what affine scores generate: of the exact one, of the linear network, of the best affine map."""
    process, n, d = made.process, made.process.length, made.process.dim
    model, double = cast(DiT, made.model), double_copy(cast(DiT, made.model), torch.device("cpu"))
    grid = sampler_grid(made.t_range, EVALUATION_TIMES)

    def affine_maps(t: float) -> dict[str, tuple[Tensor, Tensor]]:
        linear = Replaced(double, _stand_ins(double, _sequences(made, t, SEQUENCES, 0).double(), t)["linear"])
        x = _sequences(made, t, PER_VALUE * n * d, 1)
        with torch.no_grad():
            score = torch.cat([model(part, t) for part in x.split(SEQUENCES)])
        return {
            "exact": affine_score(process.score, n, d, t),
            "linear": affine_score(lambda x, t: batched_score(double, x, float(t), linear), n, d, t),
            "best affine": best_affine(process, x, score, t),
        }

    by_time = {t: affine_maps(t) for t in grid}
    rows = []
    for name in ("exact", "linear", "best affine"):
        score = AffineScore({t: maps[name] for t, maps in by_time.items()})
        rows += [
            _row(t, f"KL, {name}", value)
            for t, value in kl_by_time(score, process, grid, EVALUATION_TIMES).items()
        ]  # fmt: skip
    return rows


def _by_mode(made: Checkpoint) -> list[Row]:
    """Error and share of the squared error in every temporal eigenmode, mode 1 of the largest eigenvalue; the parts."""
    rows = []
    count = enough_sequences(made.process.length * made.process.dim)
    for t in EVALUATION_TIMES:
        figures = operator_estimates(made.model, made.process, _sequences(made, t, count, 2), t)
        for name in ("error", "share"):
            values = figures[f"temporal {name}"].value[::-1]
            rows += [_row(t, f"mode {name}", value, mode) for mode, value in enumerate(values, 1)]
        rows += [_row(t, f"{part} share", figures[f"{part} share"].value[0]) for part in PARTS]
    return rows


def _failed(results: pd.DataFrame) -> pd.DataFrame:
    """The errors of the trainings that failed: data, seed, value."""
    errors = results[(results.quantity == "network") & (results.t == results.t.min())]
    return cast(pd.DataFrame, errors[errors.value > FAILED * errors.groupby("data").value.transform("median")])


def _succeeded(results: pd.DataFrame) -> pd.DataFrame:
    """The results without those trainings."""
    key = ["data", "seed"]
    failed, every = (pd.MultiIndex.from_frame(cast(Any, each[key])) for each in (_failed(results), results))
    return cast(pd.DataFrame, results[~every.isin(failed)])


def _by_seed(results: pd.DataFrame, data: str, t: float, quantity: str, index: int = 0) -> np.ndarray:
    """The values of one quantity, (seeds,)."""
    chosen = (results.data == data) & (results.t == t) & (results.quantity == quantity)
    return results.loc[chosen & (results["index"] == index), "value"].to_numpy()


def _ratio(results: pd.DataFrame, data: str, t: float, name: str) -> np.ndarray:
    """Error with a stand-in over that of the network, by seed."""
    return _by_seed(results, data, t, name) / _by_seed(results, data, t, "network")


def _cases(results: pd.DataFrame) -> list[tuple[str, float]]:
    return list(results[["data", "t"]].drop_duplicates().itertuples(index=False, name=None))


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds with 95 % intervals: errors, ratios, the error in mode 1, shares, KL."""
    results = _succeeded(results)
    columns: dict[str, Callable[[str, float], np.ndarray]] = {
        "error": lambda data, t: _by_seed(results, data, t, "network"),
        "mean maps / network": lambda data, t: _ratio(results, data, t, "mean maps"),
        "linear / network": lambda data, t: _ratio(results, data, t, "linear"),
        "stationary / network": lambda data, t: _ratio(results, data, t, "stationary maps"),
        "error in mode 1": lambda data, t: _by_seed(results, data, t, "mode error", 1),
        "affine share": lambda data, t: _by_seed(results, data, t, "affine share"),
        "KL, best affine": lambda data, t: _by_seed(results, data, t, "KL, best affine"),
        "KL, linear": lambda data, t: _by_seed(results, data, t, "KL, linear"),
    }
    return pd.DataFrame([
        {"data": data, "t": t, **{name: in_words(of(data, t)) for name, of in columns.items()}}
        for data, t in _cases(results)
    ])  # fmt: skip


def _draw(ax: Axes, x: Sequence[float], values: Sequence[np.ndarray], colour: str, label: str) -> None:
    """A dot for each seed, and a line through their means."""
    for t, by_seed in zip(x, values, strict=True):
        ax.plot([t] * len(by_seed), by_seed, "o", color=colour, markersize=4, alpha=0.7)
    ax.plot(x, [by_seed.mean() for by_seed in values], color=colour, linewidth=1.2, label=label)


@theme()
def figure(results: pd.DataFrame) -> Figure:
    """Errors of the stand-ins over that of the network against t, a dot for each seed, and error by mode."""
    results = _succeeded(results)
    drawn, axes = panels(1, 3, (13.0, 3.9))
    times = list(results.t.unique())
    for k, data in enumerate(results.data.unique()):
        for ax, name in zip(axes[0], ("mean maps", "linear"), strict=False):
            _draw(ax, times, [_ratio(results, data, t, name) for t in times], f"C{k}", data)
        ratios = results[(results.data == data) & (results.t == times[0]) & (results.quantity == "mode error")]
        by_mode = ratios.groupby("index").value.mean()
        axes[0, 2].plot(by_mode.index, by_mode, marker=".", color=f"C{k}", label=data)
    for ax, title in zip(axes[0], ("Attention maps replaced by their means", "Network made linear"), strict=False):
        ax.axhline(1, color="black", linewidth=0.8)
        ax.set(xscale="log", yscale="log", xlabel="t", ylabel="score error / that of the network", title=title)
        ax.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
        ax.minorticks_off()
    axes[0, 2].set(xscale="log", yscale="log", xlabel="eigenmode of Gamma, longest first",
                   ylabel="relative error in the mode", title=f"Error by mode, t = {times[0]:g}")  # fmt: skip
    axes[0, 2].legend(frameon=False, fontsize="small")
    for ax in axes[0]:
        ax.grid(which="major", alpha=0.3)
    return drawn


def _counted(results: pd.DataFrame, name: str, small: bool) -> str:
    """In how many cases a stand-in is better and worse than the network, by the interval over seeds."""
    cases = [(data, t) for data, t in _cases(results) if (t <= SMALL) == small]
    found = {case: interval(_ratio(results, *case, name)) for case in cases}
    better = sum(high < 1 for _, _, high in found.values())
    worse = [f"{data} at {t:g} ({mean:.2f} times)" for (data, t), (mean, low, _) in found.items() if low > 1]
    return (
        f"lower in {better} of {len(cases)} cases and higher in {len(worse)}"
        + (f" ({', '.join(worse)})" if worse else "")
    )  # fmt: skip


def _verdict(results: pd.DataFrame, name: str) -> str:
    """Whether the stand-in is no worse at small t in every case, and what it is at large t."""
    cases = [case for case in _cases(results) if case[1] <= SMALL]
    survives = all(interval(_ratio(results, *case, name))[1] <= 1 for case in cases)
    what = {"mean maps": "Replacing the maps by their means", "linear": "Making the whole network linear"}[name]
    verdict = "costs nothing that we can tell" if survives else "costs accuracy somewhere"
    return (
        f"{what} {verdict} at t <= {SMALL:g}: the error is {_counted(results, name, True)}; at larger t it is"
        f" {_counted(results, name, False)}."
    )  # fmt: skip


def _paths(results: pd.DataFrame, data: str, t: float) -> int:
    """Most attention layers on the paths that are needed, the largest over seeds."""
    part = results.query("data == @data and t == @t and quantity == 'paths'")
    needed = [
        own.loc[own.value <= NEAR * own.value.iloc[-1], "index"].min()
        for _, own in part.sort_values(by="index").groupby("seed")
    ]
    return int(max(needed))


def finding(results: pd.DataFrame) -> str:
    """Which sentences about trained networks hold over seeds."""
    lost = [
        f"Seed {row['seed']} of {row['data']} failed, with error {row['value']:.2g}, and is left out."
        for row in _failed(results).to_dict("records")
    ]
    results = _succeeded(results)
    first, names = results.t.min(), list(results.data.unique())
    stationary = [interval(_ratio(results, data, first, "stationary maps"))[0] for data in names]
    longest = [f"{in_words(_by_seed(results, data, first, 'mode error', 1))} ({data})" for data in names]
    shares = results[(results.quantity == "mode share") & (results.t == first)]
    even = shares.groupby(["data", "index"]).value.mean() * shares.groupby("data")["index"].max()
    white = even.min() >= 1 / 3 and even.max() <= 3
    paths = {data: _paths(results, data, first) for data in names}
    seeds = results.groupby("data", sort=False).seed.nunique()
    counts = ", ".join(f"{count} of {data}" for data, count in seeds.items())
    return " ".join([
        _verdict(results, "mean maps"),
        _verdict(results, "linear"),
        f"Mean maps made stationary multiply the error at t = {first:g} by {min(stationary):.2g} to"
        f" {max(stationary):.2g}, so the ends of a sequence {'' if min(stationary) > 1 else 'do not always '}matter.",
        f"At t = {first:g} the relative error in the longest mode is {', '.join(longest)}; the squared error"
        f" {'is spread evenly' if white else 'is not spread evenly'} over modes (from {even.min():.2g} to"
        f" {even.max():.2g} times an even share).",
        f"Paths through at most {_range(list(paths.values()))} attention layers carry the linear network there.",
        f"Seeds: {counts}; 95 % intervals, where there are several.",
        *lost,
    ])  # fmt: skip


def _range(values: Sequence[int]) -> str:
    return str(min(values)) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def core_seconds(configuration: Configuration) -> float:
    """Measured."""
    options = configuration["options"]
    return (45 + 0.07 * options["steps"]) * (options["process"]["length"] / 32) ** 1.6


experiment = Experiment(
    module=__name__,
    question="What does a trained DiT compute, and which sentences about it hold for every training seed?",
    columns={"data": str, "seed": int, "t": float, "quantity": str, "index": int, "value": float},
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
)
