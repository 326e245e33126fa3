"""At which lengths and lengthscales a small DiT fails, and which modes of the data it loses first.

One network of fixed width and depth is trained on Ornstein-Uhlenbeck processes of three lengths and four lengthscales,
with equally many frames in a batch, so that a step costs about the same. Its error is taken by octaves of temporal
eigenmodes, mode 1 of the largest eigenvalue. A mode is lost where its error is as large as the score itself, so that
the answer 0 would do as well; a network fails where its error in all modes is half the score.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import pandas as pd
import statsmodels.api as sm
import torch
from matplotlib.figure import Figure

from probes.figures import panels, theme
from probes.modes.operator import Coordinates, score_residuals
from reports.experiment import Budget, Configuration, Experiment, Row
from reports.networks import trained_network
from reports.seeds import in_words
from unrolled.diffusion import ScoreModel
from unrolled.options import ProcessOptions
from unrolled.process import GaussianProcess

__all__ = ["experiment", "exponents", "octaves"]

LENGTHS, LENGTHSCALES = (16, 64, 256), (1.0, 4.0, 16.0, 64.0)
FRAMES, STEPS, SEEDS = 4096, 1000, 2
"""Frames in a batch, and steps."""
SIZES = {"width": 64, "depth": 2, "heads": 4}
TIMES = (0.01, 0.2, 1.0)
SHOWN = 0.01
"""Diffusion time of figure and finding."""
SEQUENCES = 512
FAILS, LOST = 0.5, 1.0
"""Relative error in all modes, and in one octave."""


def configurations(budget: Budget) -> list[Configuration]:
    """A network for each seed, length and lengthscale."""
    full = budget == "full"
    lengths, lengthscales = (LENGTHS, LENGTHSCALES) if full else ((8, 32), (1.0, 16.0))
    frames, steps = (FRAMES, STEPS) if full else (512, 200)
    sizes = SIZES if full else {"width": 32, "depth": 1, "heads": 2}
    return [
        {"options": {
            "process": asdict(ProcessOptions(length=length, lengthscale=lengthscale)), "steps": steps,
            "batch": frames // length, "seed": seed, "dit": sizes,
        }}
        for seed in range(SEEDS) for length in lengths for lengthscale in lengthscales
    ]  # fmt: skip


def octaves(length: int) -> list[tuple[int, int]]:
    """(first, last) mode of each octave: 1, 2, 3 to 4, 5 to 8, and so on up to `length`."""
    lasts = [2**k for k in range(length.bit_length()) if 2**k < length] + [length]
    return list(zip([1, *(last + 1 for last in lasts[:-1])], lasts, strict=True))


def run(configuration: Configuration) -> list[Row]:
    """A row for each t and octave."""
    options = configuration["options"]
    made, _ = trained_network(options)
    shared = {"length": options["process"]["length"], "lengthscale": options["process"]["lengthscale"],
              "seed": options["seed"]}  # fmt: skip
    return [{**shared, **row} for t in TIMES for row in _errors(made.model, made.process, t)]


def _errors(model: ScoreModel, process: GaussianProcess, t: float) -> list[Row]:
    """Relative error in each octave, in all, and the octave's share of the squared error."""
    x = process.noisy(SEQUENCES, t, torch.Generator().manual_seed(1)).float()
    residual = Coordinates(process, t).rotated(score_residuals(model, process, x, t))
    shape = process.length, process.dim
    square = residual.square().mean(dim=0).reshape(shape).sum(dim=1).flip(0).numpy()
    size = (1 / process.eigenvalues(t)).sum(dim=1).flip(0).numpy()
    whole = float(square.sum())
    return [
        {
            "t": t, "kappa": float(process.condition_number(t)), "error": (whole / float(size.sum())) ** 0.5,
            "first": first, "last": last, "mode error": float(square[part].sum() / size[part].sum()) ** 0.5,
            "share": float(square[part].sum()) / whole,
        }
        for first, last in octaves(process.length) for part in [slice(first - 1, last)]
    ]  # fmt: skip


def _cases(results: pd.DataFrame) -> list[tuple[int, float]]:
    """(length, lengthscale) of all networks, in the order of the results."""
    return list(results[["length", "lengthscale"]].drop_duplicates().itertuples(index=False, name=None))


def _part(results: pd.DataFrame, length: int, lengthscale: float, t: float) -> pd.DataFrame:
    chosen = (results.length == length) & (results.lengthscale == lengthscale) & (results.t == t)
    return cast(pd.DataFrame, results[chosen])


def _by_octave(part: pd.DataFrame) -> pd.Series:
    """Mean over seeds of the error in each octave, by its first mode."""
    return cast(pd.Series, part.groupby("first")["mode error"].mean())


def _lost(part: pd.DataFrame) -> list[int]:
    """First modes of the octaves that are lost, by the mean over seeds."""
    errors: Any = _by_octave(part)
    return list(errors.index[errors >= LOST])


def _names(part: pd.DataFrame, firsts: Sequence[int]) -> str:
    """Octaves in words."""
    lasts: Any = part.groupby("first")["last"].first()
    return ", ".join(f"{first}" if lasts[first] == first else f"{first} to {lasts[first]}" for first in firsts)


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Errors by length and lengthscale, means over seeds with 95 % intervals, and the modes that are lost."""
    rows = []
    for length, lengthscale in _cases(results):
        row: dict[str, Any] = {"length": length, "lengthscale": lengthscale}
        shown = _part(results, length, lengthscale, SHOWN)
        row["kappa"] = shown.kappa.iloc[0]
        for t in results.t.unique():
            part = _part(results, length, lengthscale, t)
            row[f"error, t = {t:g}"] = in_words(part.groupby("seed").error.first().to_numpy())
        errors = _by_octave(shown)
        row[f"mode 1, t = {SHOWN:g}"] = errors.iloc[0]
        row[f"last octave, t = {SHOWN:g}"] = errors.iloc[-1]
        rows.append(row | {f"modes lost, t = {SHOWN:g}": _names(shown, _lost(shown)) or "none"})
    return pd.DataFrame(rows)


@theme()
def figure(results: pd.DataFrame) -> Figure:
    """Error against the condition number, and error by mode at each length; t = SHOWN."""
    lengths = sorted({length for length, _ in _cases(results)})
    drawn, axes = panels(1, 1 + len(lengths), (3.7 * (1 + len(lengths)), 3.7))
    for k, length in enumerate(lengths):
        part = results[(results.length == length) & (results.t == SHOWN)]
        means = part.groupby("kappa").error.mean()
        axes[0, 0].plot(means.index, means, color=f"C{k}", linewidth=1.2, label=f"N = {length}")
        axes[0, 0].plot(part.kappa, part.error, "o", color=f"C{k}", markersize=4)
        for j, lengthscale in enumerate(each for one, each in _cases(results) if one == length):
            errors = _by_octave(_part(results, length, lengthscale, SHOWN))
            axes[0, 1 + k].plot(errors.index, errors, marker=".", color=f"C{j}", label=f"lengthscale {lengthscale:g}")
        axes[0, 1 + k].axhline(LOST, color="black", linewidth=0.8)
        axes[0, 1 + k].set(xlabel="first mode of the octave", ylabel="relative error in it", title=f"N = {length}")
    axes[0, 0].axhline(FAILS, color="black", linewidth=0.8, linestyle="--")
    axes[0, 0].set(xlabel="condition number of C_t", ylabel="relative score error", title=f"t = {SHOWN:g}")
    axes[0, -1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes[0, 0].legend(frameon=False, fontsize="small")
    for ax in axes[0]:
        ax.set(xscale="log", yscale="log")
        ax.grid(which="major", alpha=0.3)
    return drawn


def exponents(results: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    """Exponents of the length and of the lengthscale in the error at t = SHOWN, with 95 % intervals: least squares in
    logarithms over all networks."""
    rows = results[results.t == SHOWN].groupby(["length", "lengthscale", "seed"], as_index=False).error.first()
    names = ["length", "lengthscale"]
    fit: Any = sm.OLS(np.log(rows.error.to_numpy()), sm.add_constant(np.log(rows[names].to_numpy(float)))).fit()
    ends = fit.conf_int()
    return {
        name: (float(fit.params[k]), float(ends[k][0]), float(ends[k][1])) for k, name in enumerate(names, start=1)
    }  # fmt: skip


def finding(results: pd.DataFrame) -> str:
    """Whether the error grows with length and lengthscale, where networks fail, and which modes go first."""
    said = []
    for name, (mean, low, high) in exponents(results).items():
        verb = "grows with" if low > 0 else "falls with" if high < 0 else "does not change with"
        said.append(f"{verb} the {name} (exponent {mean:.2f} [{low:.2f}, {high:.2f}])")
    cases = {case: _part(results, *case, SHOWN) for case in _cases(results)}
    errors = {case: part.groupby("seed").error.first().mean() for case, part in cases.items()}
    failed = [f"N = {n}, lengthscale {ell:g} ({error:.2g})" for (n, ell), error in errors.items() if error >= FAILS]
    fails = f"It fails (error at least {FAILS:g}) at {'; '.join(failed)}." if failed else (
        f"It fails (error at least {FAILS:g}) nowhere: the largest error is {max(errors.values()):.2g}."
    )  # fmt: skip
    lost = {case: _lost(part) for case, part in cases.items() if _lost(part)}
    seeds = results.seed.nunique()
    return (
        f"{seeds} seeds, {len(cases)} processes, means over seeds. At t = {SHOWN:g} the error {', and it '.join(said)}."
        f" {fails} {_order(lost, cases)}"
    )


def _order(lost: dict[tuple[int, float], list[int]], cases: dict[tuple[int, float], pd.DataFrame]) -> str:
    """Which modes are lost, and whether they are the longest."""
    worst = sum(_by_octave(part).idxmax() == 1 for part in cases.values())
    first = f"Mode 1, the longest, has the largest relative error in {worst} of {len(cases)} processes."
    if not lost:
        return f"No octave of modes is lost. {first}"
    longest = sum(firsts == list(_by_octave(cases[case]).index[: len(firsts)]) for case, firsts in lost.items())
    which = "; ".join(f"modes {_names(cases[n, ell], firsts)} at N = {n}, lengthscale {ell:g}"
                      for (n, ell), firsts in lost.items())  # fmt: skip
    order = "the longest go first" if longest == len(lost) else f"the longest go first in {longest} of {len(lost)} only"
    return f"Modes are lost (error at least that of the answer 0) in {len(lost)} of them, and {order}: {which}. {first}"


def core_seconds(configuration: Configuration) -> float:
    """A guess, from short runs on a busy machine."""
    options = configuration["options"]
    length = options["process"]["length"]
    return 5 + options["steps"] * 1e-5 * options["batch"] * length * (1 + length / 256)


experiment = Experiment(
    module=__name__,
    question="At which lengths and lengthscales does a DiT fail, and which modes does it lose first?",
    columns={
        "length": int, "lengthscale": float, "seed": int, "t": float, "kappa": float, "error": float, "first": int,
        "last": int, "mode error": float, "share": float,
    },
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
)  # fmt: skip
