"""The answer of a page in words, as a table, and as a figure; the words say the opposite where the numbers do."""

from collections.abc import Iterator

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from probes.figures import panels, theme
from reports.answer import Answer
from reports.stories import UNET

__all__ = ["answer_figure", "answer_table", "sentences"]

LARGE = 1.5
"""The error in the longest mode is called larger than in all from this factor on."""
FORCED = (
    "Two things are forced by accuracy alone and are no finding about transformers: that the influence of one frame on"
    " another looks like the inverse covariance, which holds for any accurate model; and that the best affine map of a"
    " network is no worse than the network, which holds for any model of Gaussian data."
)


def sentences(found: Answer) -> Iterator[str]:
    """What was found, a few sentences for each trained DiT, then what no model decides."""
    errors = found.errors.set_index(["model", "t"])
    first = float(found.errors.t.min())
    names = found.linear["model"].unique() if len(found.linear) else []
    for name in names:
        part = found.linear.query("model == @name").set_index("t")
        yield from _of_linear(str(name), part, errors)
        error, longest = (float(errors.loc[(name, first), column]) for column in ("error", "longest"))
        if longest >= LARGE * error:
            yield (
                f"It is most wrong where the dependence is longest: at t = {first:g} its error is {longest:.2g} of the"
                f" score in the longest mode, and {error:.2g} in all."
            )
        else:
            yield (
                f"It is no worse where the dependence is longest: at t = {first:g} its error is {longest:.2g} of the"
                f" score in the longest mode, and {error:.2g} in all."
            )
        yield from _beside(str(name), found, errors)
        yield from _beside_unet(str(name), found, errors)
    if len(names):
        yield FORCED


def _of_linear(name: str, part: pd.DataFrame, errors: pd.DataFrame) -> Iterator[str]:
    """Whether the network made linear is worse, and at which t."""
    worse = [float(t) for t in part.index[part.low > 1]]
    others = [float(t) for t in part.index if t not in worse]

    def pair(t: float) -> str:
        error = float(errors.loc[(name, t), "error"])
        return f"{error:.2g} becomes {error * float(part.loc[t, 'linear']):.2g} at t = {t:g}"

    if others:
        yield (
            f"At t = {', '.join(f'{t:g}' for t in others)} the trained network {name} needs nothing that is not linear"
            " in its input: with every attention map replaced by its mean over sequences, and every LayerNorm and"
            f" activation by an affine map, its error is no larger ({pair(others[0])})."
        )
    if worse:
        yield f"At t = {', '.join(f'{t:g}' for t in worse)} that makes {name} worse ({pair(worse[-1])})."


def _beside(name: str, found: Answer, errors: pd.DataFrame) -> Iterator[str]:
    """How far the best model that was set by hand is from the trained one."""
    hand = [model for model in found.models.model if str(model).startswith("hand-set")]
    if not hand:
        return
    best = min(hand, key=lambda model: float(errors.loc[model, "error"].max()))
    ratio = errors.loc[name, "error"] / errors.loc[best, "error"]
    blocks = int(found.models.set_index("model").loc[best, "blocks"])
    sizes = f"{blocks} block{'s' if blocks > 1 else ''}"
    if float(ratio.min()) > 1:
        yield (
            f"Weights set by hand, in the same class of network with {sizes}, have {_count(ratio.min())} to"
            f" {_count(ratio.max())} times less error: training does not find them."
        )
    else:
        yield (
            f"Weights set by hand, in the same class of network with {sizes}, have no less error at every t:"
            f" {1 / ratio.max():.2g} to {1 / ratio.min():.2g} times that of {name}."
        )


def _count(ratio: float) -> str:
    """Two digits, without an exponent."""
    return f"{float(f'{ratio:.2g}'):,.15g}"


def _beside_unet(name: str, found: Answer, errors: pd.DataFrame) -> Iterator[str]:
    """Where a network without attention is better, and where it is worse."""
    if UNET not in set(found.models.model):
        return
    pairs = {
        float(t): (float(row["error"]), float(errors.loc[(name, t), "error"])) for t, row in errors.loc[UNET].iterrows()
    }
    said = []
    for verb, times in (
        ("has less error than", [t for t, (theirs, ours) in pairs.items() if theirs < ours]),
        ("has no less error than", [t for t, (theirs, ours) in pairs.items() if theirs >= ours]),
    ):
        if times:
            theirs, ours = pairs[times[-1]]
            when = ", ".join(f"{t:g}" for t in times)
            said.append(f"{verb} {name} at t = {when} ({theirs:.2g} against {ours:.2g} at t = {times[-1]:g})")
    yield f"A UNet, which has no attention, {', and '.join(said)}."


def answer_table(found: Answer) -> pd.DataFrame:
    """A row for each model: what it is, then errors in all and in the longest mode at each t."""
    wide = found.errors.pivot(index="model", columns="t", values=["error", "longest"]).reset_index()
    wide.columns = [
        "model" if what == "model" else f"{'error' if what == 'error' else 'longest mode'}, t = {t:g}"
        for what, t in wide.columns
    ]
    return found.models.merge(wide, on="model")


@theme()
def answer_figure(found: Answer) -> Figure:
    """Left, error in each mode at the smallest t; right, error against t, dashed for networks made linear."""
    first = found.errors.t.min()
    figure, (left, right) = _two_panels()
    drawn = [model for model in found.models.model if model != "exact score"]
    colours = dict(zip(drawn, sns.color_palette("colorblind", len(drawn)), strict=True))
    for model in drawn:
        by_mode, by_time = (table[table.model == model] for table in (found.modes, found.errors))
        left.plot(by_mode["mode"], by_mode.error, color=colours[model], label=model)
        right.plot(by_time.t, by_time.error, color=colours[model], marker="o", markersize=3)
        if len(found.linear) and (made := found.linear[found.linear.model == model]).size:
            right.plot(made.t, made.linear.to_numpy() * by_time.error.to_numpy(), color=colours[model], linestyle="--",
                       label=f"{model}, made linear")  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel="temporal mode, longest dependence first", ylabel="relative error")
    left.set_title(f"error in each mode, t = {first:g}")
    right.set(xscale="log", yscale="log", xlabel="diffusion time t", title="error in all")
    for ax in (left, right):
        ax.grid(which="major", alpha=0.3)
    handles = [*left.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    labels = [*left.get_legend_handles_labels()[1], *right.get_legend_handles_labels()[1]]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return figure


def _two_panels() -> tuple[Figure, tuple]:
    figure, axes = panels(1, 2, (9.0, 3.9))
    return figure, (axes[0, 0], axes[0, 1])
