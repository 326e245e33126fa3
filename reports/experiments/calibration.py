"""Do the decay fits know how sure they are? Simulation where the truth is known.

Every run draws exact sequences of a Gaussian process of known kernel, d = 1, takes the profile of each sequence, the
mean of x_i x_{i+lag} over i, and asks `probes.decay.intervals` and `probes.decay.family` what they see in lags up to
half the length.

1. Exponential, power uniform in [0.5, 1.5]: how often do the 95 % intervals cover the true lengthscale and power, and
   how often is a family declared that is not the true one? Beside it plain AIC on the same data: all families have as
   many parameters, so its choice is the smallest residual sum.
2. Exponential at power 2, the edge of positive definiteness: how often is the interval one-sided, and what does it
cover?
3. Polynomial, against the number of sequences: how often is Exponential excluded, how often Polynomial declared?
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from probes.decay.family import CHOICE_RESAMPLES, choose_family
from probes.decay.fit import fit_families
from probes.decay.intervals import RESAMPLES, bootstrap_intervals
from probes.figures import theme
from probes.targets import fit_lag_count
from reports.experiment import Budget, Column, Configuration, Experiment, Row
from unrolled.kernels import Exponential, Polynomial, TemporalKernel
from unrolled.process import GaussianProcess

__all__ = ["COUNTS", "experiment", "plan", "rates", "sequence_profiles"]

POWERS = (0.5, 1.5)
LENGTHSCALES = (2.0, 8.0)
"""Lengthscales for N = 64: from twice the spacing to an eighth of the sequence; scaled with N."""
ACCEPTED = (0.90, 0.99)
"""Coverage of a nominal 95 % interval that is accepted."""
PARAMETERS = ("lengthscale", "power", "amplitude", "floor")
COUNTS = (50, 100, 200, 400, 800, 1600, 3200)
"""Sequences of the runs with polynomial truth."""
TOGETHER = 25
"""Simulations in one run of the experiment."""


def sequence_profiles(kernel: TemporalKernel, length: int, sequences: int, seed: int) -> np.ndarray:
    """(sequences, N) mean over i of x_i x_{i+lag} of each exact sequence of unit variance, d = 1."""
    process = GaussianProcess(length, kernel, [[1.0]])
    x = process.sample(sequences, torch.Generator().manual_seed(seed))[..., 0].numpy()
    spectrum = np.fft.rfft(x, 2 * length)  # padded, so that no lag wraps around
    return np.fft.irfft(np.abs(spectrum) ** 2, 2 * length)[:, :length] / (length - np.arange(length))


def simulate(
    kernel: TemporalKernel, length: int, sequences: int, seed: int, resamples: int, choice_resamples: int
) -> dict[str, Any]:
    """One run: the fit of the true family with its intervals, the answers, and which of them are right."""
    truth = {"lengthscale": kernel.lengthscale, "power": float(getattr(kernel, "power", np.nan))}
    profiles = sequence_profiles(kernel, length, sequences, seed)[:, : fit_lag_count(length)]
    lag = np.arange(profiles.shape[1])
    pairs = (length - lag) * np.where(lag == 0, 1.0, 2.0)
    fits = fit_families(lag, profiles.mean(axis=0), pairs)
    fit = next(fit for fit in fits if fit.family == kernel.name)
    intervals = bootstrap_intervals(lag, profiles, kernel.name, pairs, resamples, seed=seed + 1)
    choice = choose_family(lag, profiles, resamples=choice_resamples, seed=seed + 2)
    values = {**truth, "amplitude": 1.0, "floor": 0.0}
    return {
        "truth": kernel.name, **{f"true_{name}": value for name, value in truth.items()}, "sequences": sequences,
        "seed": seed, "lengthscale": fit.lengthscale, "power": fit.power, **intervals.row(),
        **{f"covers_{name}": intervals.covers(name, values[name]) for name in PARAMETERS}, "answer": choice.answer,
        "p_exponential": choice.p_values["exponential"], "aic": fits[0].family,
        "excluded": kernel.name not in choice.compatible and choice.answer != "none",
    }  # fmt: skip


def _kernel(section: str, length: int, number: int, seed: int) -> tuple[TemporalKernel, int]:
    """Kernel and seed of a simulation."""
    rng = np.random.default_rng([seed, number, *section.encode()])
    lengthscale, power = rng.uniform(*LENGTHSCALES) * length / 64, rng.uniform(*POWERS)
    kernel = Polynomial(lengthscale, power) if section == "polynomial" else Exponential(
        lengthscale, 2.0 if section == "power 2" else power
    )  # fmt: skip
    return kernel, int(rng.integers(2**31))


def rates(table: pd.DataFrame) -> pd.DataFrame:
    """Rates with their binomial standard errors: columns section, sequences, what, rate, standard_error, runs."""
    rows: list[tuple] = []
    for key, part in table.groupby(["section", "sequences"], sort=False):
        section, sequences = cast(tuple[str, int], key)
        one_sided = part["one_sided"].str.contains("power_high")
        outcomes = {f"{name} covered": part[f"covers_{name}"] for name in PARAMETERS}
        if section == "power 2":
            outcomes["power interval one-sided"] = one_sided
        truth = part["truth"].iloc[0]
        outcomes |= {
            "the true family excluded": part["excluded"],
            f"declared {truth} alone": part["answer"] == truth,
            "not distinguishable": part["answer"].str.startswith("not"),
            "declared none": part["answer"] == "none",
            "plain AIC picks another": part["aic"] != truth,
        }
        if truth != "exponential":
            outcomes["exponential excluded"] = part["p_exponential"] < 0.05
        for what, hits in outcomes.items():
            rate, runs = float(hits.mean()), len(hits)
            rows.append((section, sequences, what, rate, (rate * (1 - rate) / runs) ** 0.5, runs))
    return pd.DataFrame(rows, columns=["section", "sequences", "what", "rate", "standard_error", "runs"])


@theme()
def figure(table: pd.DataFrame) -> Figure:
    """Coverage with the accepted band, the answers on exponential data, and the power against polynomial truth."""
    shares = rates(table)
    drawn, axes = plt.subplots(1, 3, figsize=(11.5, 3.5), layout="constrained")
    blue, orange, green = sns.color_palette("colorblind", 3)
    ax = axes[0]
    ax.axhspan(*ACCEPTED, color="0.9", zorder=0)
    ax.axhline(0.95, color="0.5", linewidth=1, linestyle="--")
    for k, (section, colour) in enumerate((("exponential", blue), ("power 2", orange))):
        part = shares[(shares["section"] == section) & shares["what"].str.endswith("covered")]
        if len(part):
            ax.errorbar(
                np.arange(len(part)) + 0.16 * k - 0.08, part["rate"], 2 * part["standard_error"], fmt="o", color=colour,
                capsize=3, label="power in [0.5, 1.5]" if section == "exponential" else section,
            )  # fmt: skip
    ax.set_xticks(range(len(PARAMETERS)), PARAMETERS)
    ax.set(
        ylim=(min(0.85, ax.get_ylim()[0]), 1.005), ylabel="share of runs", title="95 % intervals that cover the truth"
    )
    ax.legend(frameon=False, fontsize="small", loc="lower right")

    ax = axes[1]
    wanted = ["declared exponential alone", "not distinguishable", "declared none", "the true family excluded",
              "plain AIC picks another"]  # fmt: skip
    part = shares[(shares["section"] == "exponential") & shares["what"].isin(wanted)].set_index("what").reindex(wanted)
    ax.barh(range(len(wanted)), part["rate"], xerr=2 * part["standard_error"], color=[blue] * 4 + ["0.6"], capsize=3)
    ax.set_yticks(range(len(wanted)), wanted)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of runs", title="Answers, exponential truth")

    ax = axes[2]
    curves = (("exponential excluded", blue, "o"), ("declared polynomial alone", orange, "s"),
              ("the true family excluded", green, "^"))  # fmt: skip
    for what, colour, marker in curves:
        part = shares[(shares["section"] == "polynomial") & (shares["what"] == what)]
        error = 2 * part["standard_error"]
        ax.errorbar(part["sequences"], part["rate"], error, fmt=f"-{marker}", color=colour, capsize=3, label=what)
    ax.set(xscale="log", ylim=(-0.03, 1.03), xlabel="sequences", title="Answers, polynomial truth")
    ticks = sorted(table.loc[table["section"] == "polynomial", "sequences"].unique())
    ax.set_xticks(ticks, [str(tick) for tick in ticks], rotation=45)
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize="small", loc="center right")
    return drawn


def plan(
    runs: int, sequences: int, edge_runs: int, curve_runs: int, counts: Sequence[int], **settings: int
) -> list[Configuration]:
    """Simulations of the three kinds, TOGETHER of them in a configuration.

    Args:
        runs: with exponential truth.
        sequences: of each of those, and of those at power 2.
        edge_runs: at power 2.
        curve_runs: with polynomial truth, at each number of sequences.
        counts: those numbers.
        settings: length, resamples, choice_resamples and seed.
    """
    parts = [("exponential", sequences, runs), ("power 2", sequences, edge_runs)]
    parts += [("polynomial", count, curve_runs) for count in counts]
    return [
        {"section": section, "sequences": count, "first": first, "runs": min(TOGETHER, number - first), **settings}
        for section, count, number in parts
        for first in range(0, number, TOGETHER)
    ]


def configurations(budget: Budget) -> list[Configuration]:
    """64 frames, with the resamples that probes use."""
    settings = {"length": 64, "resamples": RESAMPLES, "choice_resamples": CHOICE_RESAMPLES, "seed": 0}
    if budget == "full":
        return plan(500, 200, 100, 100, COUNTS, **settings)
    return plan(100, 200, 25, 25, (50, 200), **settings)


def run(configuration: Configuration) -> list[Row]:
    """A row for each simulation."""
    section, length, sequences = (configuration[name] for name in ("section", "length", "sequences"))
    resamples, choice_resamples = configuration["resamples"], configuration["choice_resamples"]
    rows = []
    for number in range(configuration["first"], configuration["first"] + configuration["runs"]):
        kernel, seed = _kernel(section, length, number, configuration["seed"])
        row = simulate(kernel, length, sequences, seed, resamples, choice_resamples)
        rows.append({"section": section, "length": length, **row})
    return rows


def finding(results: pd.DataFrame) -> str:
    """Whether intervals cover as they claim, and how often a family is excluded that is the true one."""
    shares = rates(results).set_index(["section", "sequences", "what"])
    exponential = shares.loc["exponential"].droplevel("sequences")
    covered = {name: exponential.rate[f"{name} covered"] for name in ("lengthscale", "power")}
    well = all(ACCEPTED[0] <= rate <= ACCEPTED[1] for rate in covered.values())
    excluded, other = exponential.rate["the true family excluded"], exponential.rate["plain AIC picks another"]
    said = [
        f"On exponential data the 95 % intervals {'cover' if well else 'do not cover'} as they claim: the lengthscale"
        f" in {covered['lengthscale']:.1%} and the power in {covered['power']:.1%} of"
        f" {exponential.runs['power covered']:.0f} runs.",
        f"The true family is excluded in {excluded:.1%}, {'less' if excluded < other else 'no less'} often than plain"
        f" AIC picks another ({other:.1%}).",
    ]
    told = (
        shares.query("section == 'polynomial' and what == 'exponential excluded'").droplevel(["section", "what"]).rate
    )
    if len(told) > 1:
        grows = told.iloc[-1] > told.iloc[0]
        said.append(
            f"On polynomial data exponential is excluded in {told.iloc[0]:.0%} of runs at {told.index[0]} sequences and"
            f" {told.iloc[-1]:.0%} at {told.index[-1]}: more sequences {'tell' if grows else 'do not tell'} more."
        )
    return " ".join(said)


def core_seconds(configuration: Configuration) -> float:
    """Measured."""
    return 0.17 * configuration["runs"]


COLUMNS: dict[str, Column] = {
    "section": str, "length": int, "truth": str, "true_lengthscale": float, "true_power": float, "sequences": int,
    "seed": int, "lengthscale": float, "power": float,
    **{f"{name}_{end}": float for name in PARAMETERS for end in ("low", "high")}, "one_sided": str, "interval": str,
    "level": float, **{f"covers_{name}": bool for name in PARAMETERS}, "answer": str, "p_exponential": float,
    "aic": str, "excluded": bool,
}  # fmt: skip

experiment = Experiment(
    module=__name__,
    question="Do the decay fits know how sure they are, where the truth is known?",
    columns=COLUMNS,
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=rates,
    figure=figure,
    finding=finding,
)
