"""What a truncation of the covariance leaves out, true and bounded, for every decay of the kernels.

The true tail delta_J = 2 sum_{l=J}^{N-1} gamma(l) and its bound (theory/truncation.py) are enclosed in ball arithmetic
at every J, so that "below" in the results is a proof at that J.
"""

from typing import Any, cast

import pandas as pd
import seaborn as sns
import sympy as sp
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from probes.figures import theme
from reports.experiment import Budget, Configuration, Experiment, Row
from theory.registry import find
from theory.symbols import J, N, ell, l, p

__all__ = ["DECAYS", "experiment", "plan"]

DECAYS: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "exponential": (sp.exp(-((l / ell) ** p)), "tail-exponential", ("1/2", "1", "2")),
    "polynomial": ((1 + (l / ell) ** 2) ** (-p / 2), "tail-polynomial", ("5/4", "2", "4")),
    "polynomial, heavy": ((1 + (l / ell) ** 2) ** (-p / 2), "tail-polynomial-heavy", ("1/4", "1/2", "3/4")),
    "rough polynomial": ((1 + l / ell) ** (-p), "tail-rough-polynomial", ("5/4", "2", "4")),
    "logarithmic": ((1 + sp.log(1 + (l / ell) ** 2)) ** (-p), "tail-logarithmic", ("1/2", "1", "2")),
}
"""gamma(l), the claim that bounds its tail, and the powers shown."""
LITTLE = 0.01
"""Share of the tail that may be left out where cutting off is said to pay."""


def plan(length: int, lengthscale: float) -> list[Configuration]:
    """A configuration for each decay and power."""
    return [
        {"decay": decay, "power": power, "length": length, "lengthscale": lengthscale}
        for decay, (_, _, powers) in DECAYS.items()
        for power in powers
    ]


def configurations(budget: Budget) -> list[Configuration]:
    """Lengthscale an eighth of the sequence."""
    return plan(64, 8.0) if budget == "full" else plan(32, 4.0)


def run(configuration: Configuration) -> list[Row]:
    """A row for each J: the true tail, its bound, and whether balls separate the two."""
    from theory.certify.balls import ball  # needs the extra `theory`

    decay, power, length = (configuration[name] for name in ("decay", "power", "length"))
    kernel, claim, _ = DECAYS[decay]
    expression = find(claim).expression
    scale = sp.Rational(str(configuration["lengthscale"]))
    values = {N: sp.Integer(length), ell: scale, p: sp.Rational(power)}
    terms = [2 * ball(kernel.subs({**values, l: lag}), {}) for lag in range(length)]
    rows, tail = [], terms[-1] * 0
    for lags in range(length - 1, 0, -1):
        tail = tail + terms[lags]
        bound = ball(expression.subs({**values, J: lags}), {})
        below = bool(tail < bound)
        if lags == length - 1 and not below:  # with one lag left the two may be the same number
            below = sp.simplify(expression.subs({**values, J: lags}) - 2 * kernel.subs({**values, l: lags})) == 0
        rows.append(
            {**configuration, "J": lags, "delta": float(tail.mid()), "bound": float(bound.mid()), "below": below}
        )
    return rows


def table(results: pd.DataFrame) -> pd.DataFrame:
    """How tight each bound is, where it is proved, and what half of the lags leave out of the whole tail."""
    rows = []
    for key, part in results.groupby(["decay", "power"], sort=False):
        decay, power = cast(tuple[str, str], key)
        ratio = part.bound / part.delta
        half = part.set_index("J").delta
        rows.append({
            "decay": decay, "power": power, "tightest bound over tail": ratio.min(), "loosest": ratio.max(),
            "proved at J": f"{int(part.below.sum())} of {len(part)}",
            "share left out by half of the lags": half[part.J.max() // 2 + 1] / half[1],
        })  # fmt: skip
    return pd.DataFrame(rows)


@theme()
def figure(results: pd.DataFrame) -> Figure:
    """delta_J (solid) and its bound (dashed) against J, one panel for each decay."""
    drawn, axes = plt.subplots(1, len(DECAYS), figsize=(14.5, 3.4), layout="constrained", sharey=True)
    for ax, decay in zip(axes, DECAYS, strict=True):
        part = results.query("decay == @decay").melt(["J", "power"], ["delta", "bound"], "which", "left out")
        sns.lineplot(part, x="J", y="left out", hue="power", style="which", ax=ax)
        ax.set(xscale="log", yscale="log", title=decay, xlabel="lags kept, J", ylim=(1e-8, None))
        ax.set_ylabel("what is left out, delta_J")
        ax.grid(which="major", alpha=0.3)
        sns.move_legend(ax, "lower left", frameon=False, fontsize="x-small")
    first = results.iloc[0]
    drawn.suptitle(
        f"Tails, N = {first.length}, lengthscale {first.lengthscale:g}; dashed: the bounds", fontsize="medium"
    )
    return drawn


def finding(results: pd.DataFrame) -> str:
    """Whether the bounds are proved, and for which decays cutting off pays."""
    proved = (
        f"The bound is proved at each of {len(results)} pairs of kernel and J."
        if results.below.all()
        else f"The bound is not proved at {int((~results.below).sum())} of {len(results)} pairs of kernel and J."
    )
    pays, rest = [], []
    for row in table(results).to_dict("records"):
        kernel, share = f"{row['decay']} {row['power']}", row["share left out by half of the lags"]
        if share <= LITTLE:
            pays.append(kernel)
        else:
            rest.append(f"{kernel} ({share:.0%})")
    return (
        f"{proved} Half of the lags leave out at most {LITTLE:.0%} of the whole tail for"
        f" {', '.join(pays) or 'no kernel'}; more for {', '.join(rest) or 'none'}."
    )


def core_seconds(configuration: Configuration) -> float:
    """Measured."""
    return 0.02 * configuration["length"]


experiment = Experiment(
    module=__name__,
    question="Does cutting off the covariance pay for every decay, and do the bounds of the theory say so?",
    columns={
        "decay": str, "power": str, "length": int, "lengthscale": float, "J": int, "delta": float, "bound": float,
        "below": bool,
    },
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
    needs={"flint": "theory"},
)  # fmt: skip
