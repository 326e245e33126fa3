"""Table, figure and finding of the experiment `efficiency`: exponents of n, errors at one n, and what the factors do to
both."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probes.figures import panels, theme
from reports.factors import FACTORS, KERNELS, POWER, explained, factor_effects
from reports.seeds import in_words, interval
from theory.rates import total_variation

__all__ = ["exponents", "figure", "finding", "table", "verdict"]

NETWORKS = ("DiT", "UNet")
FEWEST = 3000
"""Sequences from which the exponent of a classical estimate is taken: there the leading order in 1/n holds; that of a
network is taken from all its n."""
AT = 1000
"""Number of sequences at which errors are compared."""
QUANTITIES = {"error": "score error", "longest": "longest mode", "kl": "KL", "w2": "W2"}
LEAST_EXPONENT, LEAST_RATIO = 0.05, 1.1
"""An effect on an exponent, and a ratio of errors, below which a factor is said to do nothing that matters."""
WORDS = {"decay": "slow decay", "smoothness": "smoothness", "level": "a condition number four times as large"}
NAMES = {"decay": "decay", "smoothness": "smoothness", "level": "the condition number"}
Effects = dict[str, tuple[float, float, float]]


def _finite(results: pd.DataFrame, model: str) -> pd.DataFrame:
    return cast(pd.DataFrame, results[(results.model == model) & ~results.fresh])


def _by_seed(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Logarithms of a column, a row for each process and seed, a column for each n."""
    index = ["kernel", "level", *list(FACTORS)[:2], "seed"]
    return cast(pd.DataFrame, np.log(rows.pivot_table(column, index, "n", sort=False)))


def exponents(results: pd.DataFrame, model: str, column: str = "error") -> pd.DataFrame:
    """Exponent of n of a model, as `response`, for each process and seed: least squares in logarithms."""
    rows: Any = _finite(results, model)
    if model not in NETWORKS:
        rows = rows[rows.n >= FEWEST]
    logs = _by_seed(rows, column)
    log_n = np.log(logs.columns.to_numpy(float))
    weights = (log_n - log_n.mean()) / np.square(log_n - log_n.mean()).sum()
    return (logs @ weights).rename("response").reset_index()


def _log_errors(results: pd.DataFrame, model: str, column: str = "error") -> pd.DataFrame:
    """Logarithm of the error at n = AT, as `response`, for each process and seed."""
    return cast(Any, _by_seed(_finite(results, model), column)[AT]).rename("response").reset_index()


def _expected(decay: str) -> float:
    """Exponent of n that theory has for the score error, and for total variation."""
    family = {"fast": "exponential", "slow": "polynomial"}[decay]
    return total_variation("gradient descent", family).exponents(POWER)["n"]


def _of(responses: pd.DataFrame, kernel: str, level: str) -> np.ndarray:
    return responses[(responses.kernel == kernel) & (responses.level == level)].response.to_numpy()


def _models(results: pd.DataFrame) -> list[str]:
    return list(results.model.unique())


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Exponents of n and errors at n = AT with 95 % intervals over seeds, by model and process; below each model the
    effects of the factors, differences of exponents and ratios of errors."""
    rows = []
    for model in _models(results):
        slopes = {name: exponents(results, model, column) for column, name in QUANTITIES.items()}
        errors = _log_errors(results, model)
        for kernel, level in errors[["kernel", "level"]].drop_duplicates().itertuples(index=False, name=None):
            chosen = results[(results.kernel == kernel) & (results.level == level)]
            row: dict[str, Any] = {"model": model, "kernel": kernel, "kappa": f"{chosen.kappa.iloc[0]:.4g}"}
            row["exponent in theory"] = f"{_expected(KERNELS[kernel].decay):g}"
            row |= {f"exponent, {name}": in_words(_of(each, kernel, level)) for name, each in slopes.items()}
            rows.append(row | {f"error, n = {AT}": in_words(np.exp(_of(errors, kernel, level)))})
        effects = {name: factor_effects(each) for name, each in slopes.items()}
        for factor, ratio in factor_effects(errors).items():
            row = {"model": model, "kernel": f"{' / '.join(FACTORS[factor][::-1])}", "kappa": "", **_theory(factor)}
            row |= {f"exponent, {name}": _said(each[factor]) for name, each in effects.items()}
            rows.append(row | {f"error, n = {AT}": _said(tuple(np.exp(ratio)))})
    return pd.DataFrame(rows)


def _theory(factor: str) -> dict[str, str]:
    difference = _expected("slow") - _expected("fast") if factor == "decay" else 0.0
    return {"exponent in theory": f"{difference:g}"}


def _said(effect: Sequence[float]) -> str:
    mean, low, high = effect
    return f"{mean:.3g} [{low:.3g}, {high:.3g}]"


def verdict(effects: Effects, least: float) -> str:
    """Which factor governs: none (no effect of at least `least` whose interval leaves out 0), the only one, or the one
    whose effect is larger than every other by their intervals; otherwise several."""
    present = {name for name, (mean, low, high) in effects.items() if abs(mean) >= least and low * high > 0}
    if not present:
        return "none of them"
    first = max(present, key=lambda name: abs(effects[name][0]))
    if len(present) == 1:
        return f"{NAMES[first]} alone"
    nearest = min(map(abs, effects[first][1:]))
    others = [max(map(abs, effects[name][1:])) for name in effects if name != first]
    return f"{NAMES[first]} most" if nearest > max(others) else "several of them, none clearly most"


@theme()
def figure(results: pd.DataFrame) -> Figure:
    """Error against n by kernel; exponents by model beside theory; effects of the factors on the error at n = AT."""
    drawn, axes = panels(1, 3, (14.0, 4.2))
    _errors_panel(axes[0, 0], results)
    _exponents_panel(axes[0, 1], results)
    _effects_panel(axes[0, 2], results)
    for ax in axes[0]:
        ax.grid(which="major", alpha=0.3)
    return drawn


def _errors_panel(ax: Axes, results: pd.DataFrame) -> None:
    for k, kernel in enumerate(KERNELS):
        for model, style, marker in (("DiT", "-", "o"), ("affine", "--", "")):
            rows: Any = results[(results.model == model) & (results.kernel == kernel) & (results.level == "low")]
            finite = rows[~rows.fresh]
            means = np.exp(np.log(finite.error).groupby(finite.n).mean())
            ax.plot(means.index, means, color=f"C{k}", linestyle=style, linewidth=1.2, label=f"{kernel}, {model}")
            ax.plot(finite.n, finite.error, marker, color=f"C{k}", markersize=3)
            fresh = rows[rows.fresh]
            ax.plot(fresh.n, fresh.error, "o", color=f"C{k}", markersize=4, fillstyle="none")
    kappa = results[results.level == "low"].kappa.iloc[0]
    ax.set(
        xscale="log", yscale="log", xlabel="sequences, n (rings: fresh ones)", ylabel="relative score error",
        title=f"kappa = {kappa:.3g}",
    )  # fmt: skip
    ax.legend(frameon=False, fontsize="x-small")


def _dots(ax: Axes, rows: Iterator[tuple[int, int, str, tuple[float, float, float]]], count: int) -> None:
    """An interval for each (model, place beside it, label, effect)."""
    labelled: set[str] = set()
    for at, k, label, (mean, low, high) in rows:
        x, named = at + 0.18 * (k - (count - 1) / 2), label not in labelled
        ax.errorbar(
            x, mean, [[mean - low], [high - mean]], fmt="o", markersize=4, color=f"C{k}", linewidth=1.2,
            label=label if named else None,
        )  # fmt: skip
        labelled.add(label)


def _exponents_panel(ax: Axes, results: pd.DataFrame) -> None:
    models = _models(results)
    rows = (
        (at, k, kernel, interval(_of(exponents(results, model), kernel, "low")))
        for at, model in enumerate(models) for k, kernel in enumerate(KERNELS)
    )  # fmt: skip
    _dots(ax, rows, len(KERNELS))
    for decay, style in (("fast", "--"), ("slow", ":")):
        ax.axhline(_expected(decay), color="black", linestyle=style, linewidth=0.9, label=f"theory, {decay} decay")
    ax.set_xticks(range(len(models)), [model.replace("-", "\n") for model in models])
    ax.set(ylabel="exponent of n", title="Exponent of n in the score error")
    ax.legend(frameon=False, fontsize="x-small")


def _effects_panel(ax: Axes, results: pd.DataFrame) -> None:
    models = _models(results)
    rows = (
        (at, list(FACTORS).index(factor), WORDS[factor], tuple(np.exp(effect)))
        for at, model in enumerate(models) for factor, effect in factor_effects(_log_errors(results, model)).items()
    )  # fmt: skip
    _dots(ax, cast(Any, rows), len(FACTORS))
    ax.axhline(1, color="black", linewidth=0.8)
    ax.set_xticks(range(len(models)), [model.replace("-", "\n") for model in models])
    ax.set(yscale="log", ylabel="ratio of errors", title=f"What multiplies the score error at n = {AT}")
    ax.legend(frameon=False, fontsize="x-small")


def _grouped(verdicts: dict[str, str]) -> str:
    """Verdicts, and behind each the models it is of."""
    groups: dict[str, list[str]] = {}
    for model, said in verdicts.items():
        groups.setdefault(said, []).append(model)
    return "; ".join(f"{said} ({', '.join(models)})" for said, models in groups.items())


def _slopes(results: pd.DataFrame) -> str:
    """Exponents of every model by decay, and whether decay moves them as theory has it."""
    expected, said = _expected("slow") - _expected("fast"), []
    for model in _models(results):
        responses = exponents(results, model)
        fast, slow = (responses[responses.decay == decay].groupby("seed").response.mean() for decay in ("fast", "slow"))
        mean, low, high = factor_effects(responses)["decay"]
        as_theory = "as theory has it" if low <= expected <= high else "not as theory has it"
        difference = f"difference {mean:.3f} [{low:.3f}, {high:.3f}], {as_theory}"
        said.append(f"{model} {fast.mean():.2f} for fast and {slow.mean():.2f} for slow decay ({difference})")
    theory = f"theory has {_expected('fast'):g} and {_expected('slow'):g}"
    return f"Exponents of n in the score error, over kernels and levels: {'; '.join(said)}; {theory}."


def _ratios(results: pd.DataFrame) -> tuple[str, dict[str, str]]:
    """What the factors do to the error at n = AT, and the verdict of each model."""
    said, verdicts = [], {}
    for model in _models(results):
        responses = _log_errors(results, model)
        effects = factor_effects(responses)
        verdicts[model] = verdict(effects, float(np.log(LEAST_RATIO)))
        parts = ", ".join(f"{NAMES[name]} {np.exp(mean):.2f}" for name, (mean, _, _) in effects.items())
        said.append(f"{model}: {parts} (the factors explain {100 * explained(responses, effects):.0f} %)")
    return f"Ratios of the error at n = {AT}: {'; '.join(said)}.", verdicts


def _limited(results: pd.DataFrame) -> str:
    """Whether it is n or the training that limits networks at the largest n."""
    said = []
    for model in (name for name in NETWORKS if name in _models(results)):
        rows = results[(results.model == model) & (results.level == "low")].set_index(["kernel", "seed"])
        most = rows[~rows.fresh].n.max()
        if not rows.fresh.any():
            continue
        ratio = np.log(rows[~rows.fresh & (rows.n == most)].error / rows[rows.fresh].error)
        mean, low, high = np.exp(interval(ratio.groupby("seed").mean().to_numpy()))
        limit = "so n still limits it" if low > 1 else "so training may limit it, and not n"
        said.append(f"that of the {model} on {most} sequences is {mean:.2f} [{low:.2f}, {high:.2f}] times that on fresh"
                    f" ones, {limit}")  # fmt: skip
    return f" Of the errors of networks, {'; '.join(said)}." if said else ""


def finding(results: pd.DataFrame) -> str:
    """Which of the three factors governs the exponent of n, and which the error at one n."""
    slopes = {
        model: verdict(factor_effects(exponents(results, model)), LEAST_EXPONENT) for model in _models(results)
    }  # fmt: skip
    ratios, errors = _ratios(results)
    kappas = " and ".join(f"{kappa:.0f}" for kappa in results.groupby("level", sort=False).kappa.mean())
    seeds = ", ".join(f"{own.seed.nunique()} of {model}" for model, own in results.groupby("model", sort=False))
    return (
        f"Kernels matched to kappa = {kappas} at t = 0.01; seeds: {seeds}; 95 % intervals over seeds."
        f" {_slopes(results)} The exponent is governed by {_grouped(slopes)}. {ratios} The error is governed by"
        f" {_grouped(errors)}.{_limited(results)} {_decision(slopes, errors)}"
    )


def _decision(slopes: dict[str, str], errors: dict[str, str]) -> str:
    """One sentence that decides, or says that it does not."""
    said = []
    for what, verdicts in (("how fast the error falls", slopes), ("how large it is", errors)):
        found = set(verdicts.values())
        if len(found) > 1:
            said.append(f"on {what} the models do not agree")
        else:
            said.append(f"{what} is governed by {found.pop()}, for every model")
    return f"So: {'; '.join(said)}."
