"""`python -m reports.tails --out DIR`: what a truncation leaves out, true and bounded, for the three decays.

The true tail delta_J = 2 sum_{l=J}^{N-1} gamma(l) and its bound (theory/truncation.py) are enclosed in ball arithmetic
at every J, so that "below" in the table is a proof at that J.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pandas as pd
import seaborn as sns
import sympy as sp
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from probes.figures import save_figure, theme
from theory.certify.balls import ball
from theory.registry import find
from theory.symbols import J, N, ell, l, p
from unrolled.checks import require_integer, require_number
from unrolled.cli import module_app, print_table, run_app
from unrolled.files import require_writable_folder, write_csv

__all__ = ["DECAYS", "tail_rows", "tails_figure"]

DECAYS: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "exponential": (sp.exp(-((l / ell) ** p)), "tail-exponential", ("1/2", "1", "2")),
    "polynomial": ((1 + (l / ell) ** 2) ** (-p / 2), "tail-polynomial", ("5/4", "2", "4")),
    "polynomial, heavy": ((1 + (l / ell) ** 2) ** (-p / 2), "tail-polynomial-heavy", ("1/4", "1/2", "3/4")),
    "logarithmic": ((1 + sp.log(1 + (l / ell) ** 2)) ** (-p), "tail-logarithmic", ("1/2", "1", "2")),
}
"""gamma(l), the claim that bounds its tail, and the powers shown."""


def tail_rows(length: int, lengthscale: float) -> Iterator[dict[str, Any]]:
    """One row for each decay, power and J: the true tail, its bound, and whether balls separate the two."""
    scale = sp.Rational(str(lengthscale))
    for decay, (kernel, claim, powers) in DECAYS.items():
        expression = find(claim).expression
        for power in powers:
            values = {N: sp.Integer(length), ell: scale, p: sp.Rational(power)}
            terms = [2 * ball(kernel.subs({**values, l: lag}), {}) for lag in range(length)]
            tail = terms[-1] * 0
            for lags in range(length - 1, 0, -1):
                tail = tail + terms[lags]
                bound = ball(expression.subs({**values, J: lags}), {})
                yield {
                    "decay": decay, "power": power, "J": lags, "delta": float(tail.mid()), "bound": float(bound.mid()),
                    "below": bool(tail < bound) or (decay == "logarithmic" and bool(tail <= bound.upper())),
                }  # fmt: skip


@theme()
def tails_figure(table: pd.DataFrame, title: str) -> Figure:
    """delta_J (solid) and its bound (dashed) against J, one panel for each decay."""
    figure, axes = plt.subplots(1, len(DECAYS), figsize=(12.5, 3.4), layout="constrained", sharey=True)
    for ax, decay in zip(axes, DECAYS, strict=True):
        part = table.query("decay == @decay").melt(["J", "power"], ["delta", "bound"], "which", "left out")
        sns.lineplot(part, x="J", y="left out", hue="power", style="which", ax=ax)
        ax.set(xscale="log", yscale="log", title=decay, xlabel="lags kept, J", ylim=(1e-8, None))
        ax.set_ylabel("what is left out, delta_J")
        ax.grid(which="major", alpha=0.3)
        sns.move_legend(ax, "lower left", frameon=False, fontsize="x-small")
    figure.suptitle(title, fontsize="medium")
    return figure


def tails(*, length: int = 64, lengthscale: float = 8.0, out: Path = Path("tails")) -> None:
    """Write tails.csv and tails.png: the tail of each decay and its bound, and print the loosest ratios.

    Parameters
    ----------
    length
        Frames, N.
    lengthscale
        Lengthscale of the kernels, in frames.
    out
        Folder for the two files.
    """
    require_integer("length", length, 2)
    require_number("lengthscale", lengthscale, above=0)
    require_writable_folder("out", out)
    table = pd.DataFrame(tail_rows(length, lengthscale))
    out.mkdir(parents=True, exist_ok=True)
    write_csv(table, out / "tails.csv")
    save_figure(
        tails_figure(table, f"Tails, N = {length}, lengthscale {lengthscale:g}; dashed: the bounds"), out / "tails.png"
    )
    ratio = table.assign(ratio=table.bound / table.delta).groupby(["decay", "power"], sort=False)
    lines = [
        (*map(str, cast(tuple, key)), f"{rows.ratio.min():.3g}", f"{rows.ratio.max():.3g}",
         f"{int(rows.below.sum())} of {len(rows)}")
        for key, rows in ratio
    ]  # fmt: skip
    print_table("bound over true tail", ("decay", "power", "tightest", "loosest", "proved at J"), lines)
    print(f"wrote {out / 'tails.csv'} and {out / 'tails.png'}")


app = module_app("reports.tails", tails)

if __name__ == "__main__":
    run_app(app)
