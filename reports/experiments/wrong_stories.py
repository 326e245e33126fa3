"""What the probes say of networks that did not learn the covariance of the data, beside those that did.

A probe is worth something if a wrong story fails it. The wrong stories are networks of random weights, the same network
trained on white noise and on a kernel of four times the lengthscale, and a decoy: a hand-set DiT with all of its maps,
in which every head has the output weights of the next one. What is random about a story, weights or training, is drawn
anew for every seed; the shipped networks and the hand-set ones are there once.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from probes.capture.by_lag import attention_by_lag
from probes.capture.lags import folded_pairs
from probes.controls.comparison import folded_profiles, match
from probes.controls.networks import other_kernel, train_control, white_noise
from probes.figures import panels, theme
from probes.inputs import untrained_networks
from probes.modes.naming import NO_SCORE, NOBODY, OTHER_KERNEL, OWN, WHITE_NOISE, candidates_of, name_operator
from probes.modes.operator import Coordinates, score_residuals
from probes.replacement.words import NOTICED, relative_change
from probes.targets import fit_lag_count, truth_by_lag
from reports.answer import made_linear
from reports.experiment import Budget, Configuration, Experiment, Row
from reports.measure import folded
from reports.networks import parameter_count
from unrolled.checkpoint import Checkpoint, example
from unrolled.diffusion import ScoreModel, relative_error
from unrolled.evaluate import EVALUATION_TIMES
from unrolled.handset import construct
from unrolled.models.dit import DiT
from unrolled.process import GaussianProcess

__all__ = ["DUE", "WRONG", "decoy", "experiment", "sentences", "table"]

TRAINED, UNET, HAND_SET, DECOY = "trained", "UNet", "hand-set", "decoy"
DUE = {
    TRAINED: OWN, UNET: OWN, HAND_SET: OWN, "untrained": NO_SCORE, "trained on white noise": WHITE_NOISE,
    "trained on another kernel": OTHER_KERNEL, DECOY: NOBODY,
}  # fmt: skip
"""Whose score each network has."""
RIGHT = [story for story, name in DUE.items() if name == OWN]
WRONG = [story for story in DUE if story not in RIGHT]
REPEATED = ("untrained", "trained on white noise", "trained on another kernel")
"""Stories with something random in the network itself."""
SEEDS = 3
SHOWN = 0.2
"""The t of what is printed of attention and of networks made linear."""
JUDGED = 128
"""Sequences behind errors and attention."""
LEAST_DRAWN = 0.01
"""Smaller distances are drawn here."""
CPU = torch.device("cpu")


def configurations(budget: Budget) -> list[Configuration]:
    """Every story about the data of shipped networks; `steps` are those of the networks that are trained here."""
    steps, seeds, names = (1000, SEEDS, ("ou", "polynomial")) if budget == "full" else (50, 1, ("ou",))
    return [
        {"example": name, "story": story, "steps": steps, "samples": 600, "seed": seed}
        for name in names for story in DUE if (name, story) != ("polynomial", UNET)  # no such network ships
        for seed in range(seeds if story in REPEATED else 1)
    ]  # fmt: skip


def decoy(model: DiT) -> DiT:
    """A hand-set model with the same maps, in which every head has the output weights of the next one of its block."""
    other = copy.deepcopy(model)
    for block in other.block_list:
        attention = block.attention
        outputs = attention.out.weight.detach().unflatten(1, (attention.heads, attention.head_dim))
        used = outputs.abs().sum(dim=(0, 2)).nonzero().flatten()
        outputs[:, used] = outputs[:, used.roll(1)].clone()
    return other


def _network(base: Checkpoint, story: str, steps: int, seed: int) -> nn.Module:
    """The network of a story about the data of `base` that does not ship with the package."""
    process = base.process
    if story == "untrained":
        return next(untrained_networks(base, 1, seed))
    if story in (HAND_SET, DECOY):
        model = cast(DiT, construct(process, "preconditioned", 1, t_range=base.t_range))
        return decoy(model) if story == DECOY else model
    data = white_noise(process) if story == "trained on white noise" else other_kernel(process, 1.0)
    return train_control(replace(base, config={**base.config, "steps": steps, "seed": seed}), data, CPU)


def run(configuration: Configuration) -> list[Row]:
    """A row for each t; NaN where a probe does not apply."""
    base = example(configuration["example"])
    story, seed, samples = (configuration[name] for name in ("story", "seed", "samples"))
    if story in (TRAINED, UNET):
        shipped = base if story == TRAINED else example("unet")
        model, seconds = shipped.model, shipped.provenance["seconds"]
    else:
        start = time.perf_counter()
        model = _network(base, story, configuration["steps"], seed)
        seconds = time.perf_counter() - start
    process, candidates = base.process, candidates_of(base.process)
    made = replace(base, model=model)
    score = folded(model)
    shared = {"data": configuration["example"], "story": story, "seed": seed}
    sizes = {
        "blocks": float(model.config.depth) if isinstance(model, DiT) else np.nan,
        "parameters": parameter_count(model), "seconds": float(seconds),
    }  # fmt: skip
    rows = []
    for k, t in enumerate(EVALUATION_TIMES):
        x = process.noisy(samples, t, torch.Generator().manual_seed(seed + 10 + k)).to(made.dtype)
        named = name_operator(score, process, x, t, candidates)
        error, longest = _errors(score, process, x, t)
        rows.append({
            **shared, "t": t, "error": error, "longest": longest, "named": named.name, "nearest": named.nearest,
            "distance": named.distance, "high": named.high, "room": named.room,
            **_parts(model, made, x[:JUDGED], t, seed), **sizes,
        })  # fmt: skip
    return rows


@torch.no_grad()
def _errors(score: ScoreModel, process: GaussianProcess, x: Float[Tensor, "n N d"], t: float) -> tuple[float, float]:
    """Relative error in all, and in the longest mode relative to the score in it."""
    residuals = score_residuals(score, process, x, t)
    coordinates = Coordinates(process, t)
    squares = coordinates.rotated(residuals).reshape(-1, *coordinates.eigenvalues.shape)[:, -1].square().mean(dim=0)
    longest = float((squares.sum() / (1 / coordinates.eigenvalues[-1]).sum()).sqrt())
    exact = process.score(x.double(), t)
    return relative_error(exact + residuals, exact), longest


def _parts(model: nn.Module, made: Checkpoint, x: Float[Tensor, "n N d"], t: float, seed: int) -> dict[str, float]:
    """What replacement and attention say: ratios of a network made linear, and the best match of a head with gamma."""
    if not isinstance(model, DiT):
        return dict.fromkeys(("mean maps", "linear", "low", "upper", "match"), np.nan)
    ratios = made_linear(model, made.process, x, t, seed, CPU)
    lags = fit_lag_count(made.process.length)
    heads = folded_profiles(attention_by_lag(model, x.split(64), t, made.registers))
    weights, truth = folded_pairs(made.process.length)[:lags], truth_by_lag(made.process)[:lags]
    matches = [float(match(each.mean(axis=0)[:lags], truth, weights)) for each in heads.values()]
    return {
        "mean maps": ratios["mean maps"], "linear": ratios["linear"], "low": ratios["low"], "upper": ratios["high"],
        "match": float(np.tanh(max(matches))),
    }  # fmt: skip


def _at(results: pd.DataFrame, story: str, data: str, t: float = SHOWN) -> pd.DataFrame:
    """The rows of a story at t, one for each seed."""
    return cast(pd.DataFrame, results[(results.story == story) & (results.data == data) & (results.t == t)])


def _names(part: pd.DataFrame) -> str:
    """The names of a story's networks with the times at which they have them, or with how often, of several seeds."""
    by_name = part.groupby("named", sort=False).t.agg(list)
    if len(by_name) == 1:
        return f"{by_name.index[0]}, at every t"
    if part.seed.nunique() > 1:
        return "; ".join(f"{name} ({len(times)} of {len(part)})" for name, times in by_name.items())
    return "; ".join(f"{name} (t = {', '.join(f'{t:g}' for t in times)})" for name, times in by_name.items())


def _change(ratio: float) -> str:
    if np.isnan(ratio):
        return "no attention"
    return "the same" if abs(ratio - 1) < NOTICED else relative_change(ratio - 1)


def _correlation(match: float) -> str:
    return "no attention" if np.isnan(match) else f"{match:.3f}"


def table(results: pd.DataFrame) -> pd.DataFrame:
    """A row for each story: what every probe says of it; errors and matches are means over seeds."""
    first, rows = results.t.min(), []
    for key, part in results.groupby(["data", "story"], sort=False):
        data, story = cast(tuple[str, str], key)
        shown, last = _at(results, story, data), _at(results, story, data, first)
        rows.append({
            "data": data, "network": story, "operator: whose score it is": _names(part),
            f"score error, t = {first:g}": last.error.mean(), f"t = {SHOWN:g}": shown.error.mean(),
            f"replacement: error when made linear, t = {SHOWN:g}": _change(shown.linear.mean()),
            f"attention: best head's match with gamma, t = {SHOWN:g}": _correlation(shown.match.mean()),
        })  # fmt: skip
    shown = pd.DataFrame(rows)
    return shown if shown.data.nunique() > 1 else shown.drop(columns="data")


@theme()
def figure(results: pd.DataFrame) -> Figure:
    """Distance to the nearest candidate over the room that a name has, and the best head's match, against t; the
    largest distance and the mean match over seeds."""
    names = list(results.data.unique())
    drawn, axes = panels(len(names), 2, (10.4, 3.4 * len(names)), sharex=True)
    colours = dict(zip(DUE, sns.color_palette("colorblind", len(DUE)), strict=True))
    for (near, match_of), data in zip(axes, names, strict=True):
        for story, colour in colours.items():
            part = (
                results[(results.data == data) & (results.story == story)]
                .groupby("t", as_index=False)
                .agg({"high": "max", "room": "first", "match": "mean"})
            )
            if part.empty:
                continue
            style: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 4, "linewidth": 1.2}
            style["linestyle"] = "-" if story in RIGHT else "--"
            near.plot(part.t, np.maximum(part.high / part.room, LEAST_DRAWN), label=f"{story}: {DUE[story]}", **style)
            match_of.plot(part.t, part.match, **style)
        near.axhline(1, color="black", linewidth=0.8)
        near.set(xscale="log", yscale="log", ylabel="distance / largest with the name", title=f"nearest score, {data}")
        match_of.set(ylabel="correlation", title=f"best head and gamma, {data}")
    for ax in axes.flat:
        ax.grid(which="major", alpha=0.3)
        ax.set_xlabel("diffusion time t")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside right center", frameon=False, fontsize="small")
    return drawn


def sentences(results: pd.DataFrame) -> list[str]:
    """What each probe can tell, in words that turn with the numbers."""
    return [_of_operator(results), _of_attention(results), _of_replacement(results)]


def _of_operator(results: pd.DataFrame) -> str:
    due = results.story.map(DUE)
    right = results.named == due
    silent = ~right & (results.named == NOBODY)
    wrong: Any = results[~right & ~silent]
    said = (
        f"Over {results.seed.nunique()} seeds of what is random in a network, the operator names {int(right.sum())} of"
        f" {len(results)} cases (network, data, seed, t) as what they are;"
        f" {int(silent.sum())} get no name"
    )
    if len(wrong):
        counts = wrong.groupby(["story", "data", "named"], sort=False).size()
        cases = ", ".join(f"{story} of {data} as {named} ({n})" for (story, data, named), n in counts.items())
        return f"{said}, and a wrong name comes out for {len(wrong)}: {cases}."
    return f"{said}, and none a wrong one."


def _alike(results: pd.DataFrame, fools: Callable[[dict[str, Any], dict[str, Any]], bool]) -> list[str]:
    """Wrong stories of which a probe says at `SHOWN`, for some seed, what it says of the trained network."""
    several = results.data.nunique() > 1
    return [
        f"{story} ({data})" if several else story
        for data in results.data.unique()
        for story in WRONG
        if any(fools(row, trained) for row in _rows(results, story, data) for trained in _rows(results, TRAINED, data))
    ]


def _rows(results: pd.DataFrame, story: str, data: str) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], _at(results, story, data).to_dict("records"))


def _of_attention(results: pd.DataFrame) -> str:
    fooled = _alike(results, lambda wrong, trained: wrong["match"] >= trained["match"])
    if fooled:
        return (
            f"Attention by lag alone does not tell: at t = {SHOWN:g} the best head matches gamma at least as well as"
            f" that of the trained network in these: {', '.join(fooled)}."
        )
    return f"Attention by lag alone tells: at t = {SHOWN:g} no wrong story has a head that matches gamma as well."


def _linear_serves(row: dict[str, Any]) -> bool:
    return row["low"] <= 1 + NOTICED


def _of_replacement(results: pd.DataFrame) -> str:
    fooled = _alike(results, lambda wrong, trained: _linear_serves(wrong) == _linear_serves(trained))
    if fooled:
        return (
            f"Replacement alone does not tell: what it says at t = {SHOWN:g} of the trained network, it says of"
            f" these too: {', '.join(fooled)}."
        )
    return f"Replacement alone tells: of no wrong story does it say at t = {SHOWN:g} what it says of the trained one."


def finding(results: pd.DataFrame) -> str:
    """Which probe tells wrong stories from right ones."""
    return " ".join(sentences(results))


def core_seconds(configuration: Configuration) -> float:
    """From the seconds of a busy machine."""
    trains = configuration["story"].startswith("trained on")
    return configuration["samples"] / 60 + (0.08 * configuration["steps"] if trains else 0)


experiment = Experiment(
    module=__name__,
    question="Do the probes tell networks that did not learn the covariance of the data from those that did?",
    columns={
        "data": str, "story": str, "seed": int, "t": float, "error": float, "longest": float, "named": str,
        "nearest": str, "distance": float, "high": float, "room": float, "mean maps": float, "linear": float,
        "low": float, "upper": float, "match": float, "blocks": float, "parameters": int, "seconds": float,
    },
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
    needs={"diffusers": "diffusers"},
    about_time=True,
)  # fmt: skip
