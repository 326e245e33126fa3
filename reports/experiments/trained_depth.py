"""Whether training needs depth as the condition number grows: DiTs of 1 to 8 blocks with about equally many parameters.

Width falls as depth grows, and heads times depth is 16. The largest learning rate of each depth is that of the lowest
error after a short training on one process; this search is part of the results. Beside the networks stand what takes
its steps in the blocks of a hand-set model: gradient descent and Chebyshev a step for each block, the preconditioned
solver, and conjugate gradient a step for each block, too, which flatters it, for a hand-set step takes eleven blocks.
The closed form is one block; it is asked for an error of 1e-5, and there is none for processes that are not
Ornstein-Uhlenbeck.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from scipy import stats

from probes.figures import panels, theme
from reports.experiment import Budget, Configuration, Experiment, Row
from reports.experiments.depth import chebyshev_error, conjugate_gradient_errors, descent_error
from reports.networks import parameter_count, trained_network
from unrolled.evaluate import EVALUATION_TIMES, score_errors
from unrolled.folding import fold
from unrolled.handset import construct
from unrolled.handset.construct import RIDGE
from unrolled.handset.ou_inverse import is_ou
from unrolled.handset.preconditioner_weights import expected_errors
from unrolled.options import ProcessOptions
from unrolled.process import GaussianProcess

__all__ = ["experiment"]

WIDTHS = {1: 144, 2: 96, 4: 64, 8: 42}
"""Depth -> width, for 310000 to 331000 parameters."""
HEADS = 16
"""Heads of all blocks together."""
RATES = (2.5e-3, 5e-3, 1e-2, 2e-2)
CHOSEN = {1: 5e-3, 2: 5e-3, 4: 1e-2, 8: 1e-2}
"""Depth -> largest learning rate, from the search."""
SEARCH_STEPS, STEPS, SEEDS = 400, 2000, 2
PROCESSES = {
    "OU 1": ProcessOptions(lengthscale=1.0),
    "OU 4": ProcessOptions(lengthscale=4.0),
    "OU 16": ProcessOptions(lengthscale=16.0),
    "Polynomial 4": ProcessOptions(temporal="polynomial"),
}
SEARCH, TRAINED, CLOSED = "search", "trained", "closed form"
PRECONDITIONED = "preconditioned"
SLOW = ("gradient descent", "Chebyshev", "conjugate gradient")
"""Solvers whose steps the condition number slows down."""
SOLVERS = (*SLOW, PRECONDITIONED)
ASKED = 1e-5
"""Error that the closed form is asked for."""
SHOWN = (0.01, 0.2)
"""Diffusion times of figure and finding."""


def _network(label: str, depth: int, rate: float, steps: int, seed: int, **process: Any) -> Configuration:
    options = {"process": {**asdict(PROCESSES[label]), **process}, "steps": steps, "seed": seed, "learning_rate": rate}
    sizes = {"depth": depth, "width": WIDTHS[depth], "heads": HEADS // depth}
    return {"kind": TRAINED, "data": label, "options": {**options, "dit": sizes}}


def configurations(budget: Budget) -> list[Configuration]:
    """The solvers of every process, the search, and a network for each process, depth and seed."""
    if budget == "quick":
        labels, depths, steps, seeds, rates, process = ("OU 1", "OU 16"), (1, 4), 150, 1, (), {"length": 16, "dim": 2}
    else:
        labels, depths, steps, seeds, rates, process = tuple(PROCESSES), tuple(WIDTHS), STEPS, SEEDS, RATES, {}
    solved = [
        {"kind": name, "data": label, "depth": depth, "process": {**asdict(PROCESSES[label]), **process}}
        for label in labels for name in SOLVERS for depth in depths
    ]  # fmt: skip
    searched = [
        {**_network("OU 4", depth, rate, SEARCH_STEPS, 0), "kind": SEARCH} for depth in depths for rate in rates
    ]
    trained = [
        _network(label, depth, CHOSEN[depth], steps, seed, **process)
        for seed in range(seeds) for label in labels for depth in depths
    ]  # fmt: skip
    closed = [
        {"kind": CLOSED, "data": label, "depth": 1, "process": {**asdict(PROCESSES[label]), **process}}
        for label in labels
    ]
    return [*solved, *closed, *searched, *trained]


def run(configuration: Configuration) -> list[Row]:
    """A row for each t: the error of a network, or the expected error of a solver of that many blocks."""
    kind = configuration["kind"]
    if "process" in configuration:
        process, depth = ProcessOptions(**configuration["process"]).process(), configuration["depth"]
        if kind == CLOSED:
            errors = _closed_errors(process)
        else:
            errors = {t: _solver_error(kind, process, t, depth) for t in EVALUATION_TIMES}
        size, rate, seed = 0, 0.0, 0
    else:
        options = configuration["options"]
        made, _ = trained_network(options)
        process, depth, size = made.process, options["dit"]["depth"], parameter_count(made.model)
        errors, rate, seed = (
            score_errors(made.model, process, EVALUATION_TIMES),
            options["learning_rate"],
            options["seed"],
        )
    return [
        {
            "kind": kind, "data": configuration["data"], "depth": depth, "parameters": size, "rate": rate, "seed": seed,
            "t": t, "kappa": float(process.condition_number(t)), "error": error,
        }
        for t, error in errors.items()
    ]  # fmt: skip


def _closed_errors(process: GaussianProcess) -> dict[float, float]:
    """Relative errors of the closed form, by t; NaN where there is none."""
    if not is_ou(process):
        return dict.fromkeys(EVALUATION_TIMES, np.nan)
    model = fold(construct(process, "closed_form", error=ASKED))
    return score_errors(model, process, EVALUATION_TIMES, dtype=torch.float64)


def _solver_error(name: str, process: GaussianProcess, t: float, depth: int) -> float:
    """Expected relative error of the score of a hand-set model with `depth` blocks."""
    if name == "gradient descent":
        return descent_error(process, t, depth)
    if name == "Chebyshev":
        return chebyshev_error(process, t, depth)
    if name == "conjugate gradient":
        *_, last = conjugate_gradient_errors(process, t, depth)
        return last
    *_, last = expected_errors(process, t, (depth + 1) // 2, RIDGE)  # j applications are 2 j - 1 blocks
    return last


def _depths(results: pd.DataFrame) -> list[int]:
    """Numbers of blocks of the networks, ascending."""
    return [int(depth) for depth in sorted(results[results.kind == TRAINED].depth.unique())]


def _errors(results: pd.DataFrame, kind: str, t: float, depth: int) -> pd.DataFrame:
    """By process and seed, smallest condition number first."""
    chosen = (results.kind == kind) & (results.t == t) & (results.depth == depth)
    return cast(pd.DataFrame, results[chosen]).sort_values(by=["kappa", "seed"])


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Error at each of two t by process: of networks by depth (mean over seeds), and of the solvers at most blocks."""
    rows = []
    deepest = _depths(results)[-1]
    for t in SHOWN:
        for data, part in results.query("t == @t").groupby("data", sort=False):
            trained = part.query("kind == @TRAINED").groupby("depth").error.mean()
            solved = part.query("depth == @deepest and kind in @SOLVERS").set_index("kind").error
            row: dict[str, Any] = {"t": t, "data": data, "kappa": part.kappa.iloc[0]}
            row |= {f"trained, {_blocks(depth)}": trained[depth] for depth in _depths(results)}
            row |= {f"{name}, {deepest} blocks": solved[name] for name in SOLVERS}
            rows.append(row | {f"{CLOSED}, 1 block": part.query("kind == @CLOSED").error.iloc[0]})
    return pd.DataFrame(rows).sort_values(by=["t", "kappa"], ignore_index=True)


def _blocks(depth: int) -> str:
    return "1 block" if depth == 1 else f"{depth} blocks"


def _panel(ax: Axes, results: pd.DataFrame, t: float) -> None:
    deepest = _depths(results)[-1]
    for k, depth in enumerate(_depths(results)):
        part = _errors(results, TRAINED, t, depth)
        means = part.groupby("kappa").error.mean()
        ax.plot(means.index, means, color=f"C{k}", linewidth=1.2, label=f"trained, {_blocks(depth)}")
        ax.plot(part.kappa, part.error, "o", color=f"C{k}", markersize=4)
    for style, name in zip(("--", "-.", ":"), SLOW, strict=True):
        part = _errors(results, name, t, deepest)
        label = f"{name}, {deepest} {'steps' if name == 'conjugate gradient' else 'blocks'}"
        ax.plot(part.kappa, part.error, color="black", linestyle=style, linewidth=1, label=label)
    below = []
    for name, blocks in ((PRECONDITIONED, deepest), (CLOSED, 1)):
        errors = _errors(results, name, t, blocks).error.dropna()
        below.append(f"{name}, {_blocks(blocks)}: {errors.min():.0e} to {errors.max():.0e}")
    ax.text(0.02, 0.02, "below:\n" + "\n".join(below), transform=ax.transAxes, fontsize="x-small", va="bottom")
    ax.set(
        xscale="log", yscale="log", xlabel="condition number of C_t", ylabel="relative score error", title=f"t = {t:g}"
    )
    ax.set_ylim(bottom=_errors(results, TRAINED, t, deepest).error.min() / 2)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(which="major", alpha=0.3)


@theme()
def figure(results: pd.DataFrame) -> Figure:
    """Error against the condition number, a line for each depth and a dot for each seed, with the solvers that it slows
    down; those that it does not are far below, and said."""
    drawn, axes = panels(1, 2, (11.0, 4.0), sharey=True)
    for ax, t in zip(axes[0], SHOWN, strict=True):
        _panel(ax, results, t)
    axes[0, 1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return drawn


def gain(results: pd.DataFrame, t: float) -> tuple[list[float], float, float, float]:
    """How many times smaller the error of the deepest networks is than that of the shallowest, smallest kappa first,
    and the exponent of kappa in it with its 95 % interval, by least squares in logarithms over processes and seeds."""
    depths = _depths(results)
    shallow, deep = (_errors(results, TRAINED, t, depth) for depth in (depths[0], depths[-1]))
    ratio = shallow.error.to_numpy() / deep.error.to_numpy()
    line = cast(Any, stats.linregress(np.log(shallow.kappa), np.log(ratio)))
    slope, half = float(line.slope), np.inf
    if len(ratio) > 2:
        half = float(stats.t.isf(0.025, len(ratio) - 2) * line.stderr)
    factors = [float(ratio[shallow.kappa == kappa].mean()) for kappa in shallow.kappa.unique()]
    return factors, slope, slope - half, slope + half


def _searched(results: pd.DataFrame) -> str:
    """Whether the rates that were used are those of the search."""
    part = results.query("kind == @SEARCH and t == @SHOWN[1] and error == error")
    if part.empty:
        return "No learning rate was searched for."
    best = part.loc[part.groupby("depth").error.idxmin()].set_index("depth").rate
    others = [depth for depth, rate in best.items() if CHOSEN[int(str(depth))] != rate]
    rates = _listed([f"{rate:g} for {_blocks(int(str(depth)))}" for depth, rate in best.items()])
    used = f"not what was used for {_listed(others)}" if others else "what was used"
    return f"The learning rate of the lowest error in the search is {rates}, which is {used}."


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _said(results: pd.DataFrame, t: float) -> str:
    """Networks of few and many blocks at one t, and the solvers in as many."""
    depths = _depths(results)
    factors, slope, low, high = gain(results, t)
    verdict = "does not depend on kappa, as far as we can tell"
    if low > 0 or high < 0:
        verdict = "grows with kappa" if low > 0 else "falls with kappa"
    deep = _errors(results, TRAINED, t, depths[-1])
    kappas = _listed([f"{kappa:.3g}" for kappa in deep.kappa.unique()])
    own = deep[deep.kappa == deep.kappa.max()].error.mean()
    left = [f"{name} {_errors(results, name, t, depths[-1]).error.iloc[-1]:.2g}" for name in SOLVERS]
    built = _errors(results, CLOSED, t, 1).error.max()
    return (
        f"At t = {t:g} the error of {_blocks(depths[0])} is {_listed([f'{factor:.2f}' for factor in factors])} times"
        f" that of {_blocks(depths[-1])} for kappa = {kappas}: the gain from depth {verdict} (exponent {slope:.2f}"
        f" [{low:.2f}, {high:.2f}]). At the largest kappa the networks of {_blocks(depths[-1])} have error {own:.2g};"
        f" hand-set models of as many have {_listed(left)}; the closed form has at most {built:.1e} in one block, where"
        " there is one."
    )


def finding(results: pd.DataFrame) -> str:
    """Whether the gain from depth grows with the condition number, and how the solvers do with as many blocks."""
    trained = results[results.kind == TRAINED]
    sizes = trained.parameters
    end = f"{trained.seed.nunique()} seeds, {sizes.min()} to {sizes.max()} parameters. {_searched(results)}"
    return " ".join([*(_said(results, t) for t in SHOWN), end])


def core_seconds(configuration: Configuration) -> float:
    """Measured."""
    return 1.0 if "process" in configuration else 5 + 0.07 * configuration["options"]["steps"]


experiment = Experiment(
    module=__name__,
    question="Does a trained network need more blocks as the condition number grows?",
    columns={
        "kind": str, "data": str, "depth": int, "parameters": int, "rate": float, "seed": int, "t": float,
        "kappa": float, "error": float,
    },
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
)  # fmt: skip
