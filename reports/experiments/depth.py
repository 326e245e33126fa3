"""How deep a solver must be, against sequence length and against condition number.

The depth is that of the solvers themselves, which the hand-set transformers equal to rounding: a step of gradient
descent or Chebyshev is a block of a DiT, a step of conjugate gradient eleven blocks of a ReluTransformer, j
applications of the preconditioner 2 j - 1 blocks of a DiT. With s = -C^{-1} r and r of covariance C, the expected
squared error of a polynomial iteration is sum_i p_K(c_i)^2/c_i over the eigenvalues c_i of C, so no samples are needed;
conjugate gradient is run on samples. The closed form is built: it counts its blocks where the bound on its error, at t
and at every larger time, is below the target, and is NaN for processes that are not Ornstein-Uhlenbeck.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import cast

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from jaxtyping import Float
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from probes.figures import theme
from reports.experiment import Budget, Configuration, Experiment, Row
from unrolled.checks import InputError
from unrolled.handset import construct
from unrolled.handset.construct import RIDGE
from unrolled.handset.ou_inverse import is_ou
from unrolled.handset.preconditioner_weights import expected_errors
from unrolled.models.record import record_of
from unrolled.options import ProcessOptions
from unrolled.process import GaussianProcess
from unrolled.solvers import chebyshev_nodes, conjugate_gradient

__all__ = [
    "LENGTHS",
    "LENGTHSCALES",
    "TIME",
    "chebyshev_error",
    "conjugate_gradient_errors",
    "depth_needed",
    "descent_error",
    "experiment",
    "growth",
    "plan",
]

TARGETS = (1e-2, 1e-3)
TIME = 1e-3
"""Diffusion time of the experiment: small, so that condition numbers are large."""
LENGTHS = (32, 64, 128, 256, 512)
LENGTHSCALES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
MOST_STEPS = 2**20
"""Steps of gradient descent beyond which the search gives up."""
MOST_CG_STEPS = 400
MOST_APPLICATIONS = 8
LAST = 8.0
"""Largest time at which the closed form holds its error."""
CLOSED = "closed form (blocks)"
SAMPLES = 16
"""Sequences conjugate gradient is run on."""
NEAR = 0.1
"""Distance of an exponent from that of a bound up to which they are said to agree."""


def _relative(polynomial: Float[Tensor, " Nd"], eigenvalues: Float[Tensor, " Nd"]) -> float:
    """Root of the expected squared error over the expected squared solution."""
    return float(((polynomial**2 / eigenvalues).sum() / (1 / eigenvalues).sum()).sqrt())


def _smallest(reached: Callable[[int], bool]) -> float:
    """The smallest K for which a monotone condition holds, by doubling and bisection; NaN beyond MOST_STEPS."""
    high = 1
    while not reached(high):
        high *= 2
        if high > MOST_STEPS:
            return np.nan
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return float(high)


def descent_error(process: GaussianProcess, t: float, steps: int) -> float:
    """Expected relative error of the score after `steps` steps of gradient descent."""
    c = process.eigenvalues(t).flatten()
    eta = 2 / (c.min() + c.max())
    return _relative((1 - eta * c) ** steps, c)


def chebyshev_error(process: GaussianProcess, t: float, steps: int) -> float:
    """Expected relative error of the score after `steps` steps of Chebyshev's method."""
    c = process.eigenvalues(t).flatten()
    middle, half = (c.max() + c.min()) / 2, (c.max() - c.min()) / 2
    polynomial = torch.ones_like(c)
    for node in chebyshev_nodes(steps):
        polynomial = polynomial * (1 - c / (middle + half * node))
    return _relative(polynomial, c)


def _gradient_descent(process: GaussianProcess, t: float, target: float) -> float:
    return _smallest(lambda steps: descent_error(process, t, steps) <= target)


def _chebyshev(process: GaussianProcess, t: float, target: float) -> float:
    return _smallest(lambda steps: chebyshev_error(process, t, steps) <= target)


def conjugate_gradient_errors(process: GaussianProcess, t: float, steps: int) -> Iterator[float]:
    """Relative error of the score after each of up to `steps` steps of conjugate gradient, on `SAMPLES` sequences."""
    c = process.eigenvalues(t).flatten()
    # In the eigenbasis of C the operator is a product and r a vector of independent normals of variance c.
    generator = torch.Generator().manual_seed(0)
    r = torch.randn(SAMPLES, len(c), generator=generator, dtype=torch.float64) * c.sqrt()
    exact = -r / c
    for s in conjugate_gradient(lambda v: v * c, r, steps):
        yield float((s - exact).norm() / exact.norm())


def _conjugate_gradient(process: GaussianProcess, t: float, target: float) -> float:
    errors = enumerate(conjugate_gradient_errors(process, t, MOST_CG_STEPS), start=1)
    return next((float(k) for k, error in errors if error <= target), np.nan)


def _preconditioned(process: GaussianProcess, t: float, target: float) -> float:
    for j, error in enumerate(expected_errors(process, t, MOST_APPLICATIONS, RIDGE), start=1):
        if error <= target:
            return 2.0 * j - 1
    return np.nan


def _closed_form(process: GaussianProcess, t: float, target: float) -> float:
    if not is_ou(process):
        return np.nan
    try:
        model = construct(process, "closed_form", error=target, t_range=(t, LAST))
    except InputError:  # its gates cannot hold the error
        return np.nan
    return float(record_of(model).sizes["L"])


SOLVERS: dict[str, Callable[[GaussianProcess, float, float], float]] = {
    "gradient descent": _gradient_descent,
    "Chebyshev": _chebyshev,
    "conjugate gradient": _conjugate_gradient,
    "preconditioned (blocks)": _preconditioned,
    CLOSED: _closed_form,
}


def depth_needed(process: GaussianProcess, t: float) -> Iterator[dict[str, float | str]]:
    """One row (solver, target, steps) for each solver and target; NaN where the solver does not get there."""
    for solver, needed in SOLVERS.items():
        for target in TARGETS:
            yield {"solver": solver, "target": target, "steps": needed(process, t, target)}


def growth(table: pd.DataFrame) -> pd.DataFrame:
    """Exponent of kappa in the depth, by least squares in logarithms over the sweep of the lengthscale."""
    rows = []
    for key, rows_of_key in table.query("sweep == 'lengthscale'").groupby(["solver", "target"], sort=False):
        solver, target = cast(tuple[str, float], key)
        reached = rows_of_key.dropna(subset="steps")
        slope = np.polyfit(np.log(reached.kappa), np.log(reached.steps), 1)[0] if len(reached) > 2 else np.nan
        rows.append(
            {"solver": solver, "target": target, "exponent": slope, "reached": f"{len(reached)} of {len(rows_of_key)}"}
        )
    return pd.DataFrame(rows)


@theme()
def figure(table: pd.DataFrame) -> Figure:
    """Steps against N and against kappa_t, with lines of slope 1 and 1/2 in kappa."""
    drawn, axes = plt.subplots(1, 2, figsize=(9.4, 3.8), layout="constrained", sharey=True)
    names = {1e-2: "1e-2", 1e-3: "1e-3"}
    for ax, sweep, column in ((axes[0], "length", "length"), (axes[1], "lengthscale", "kappa")):
        part = table.query("sweep == @sweep").assign(error=lambda rows: rows.target.map(names))
        sns.lineplot(
            part, x=column, y="steps", hue="solver", style="error", markers=True, dashes=True, ax=ax,
            legend=sweep == "lengthscale",
        )  # fmt: skip
        ax.set(xscale="log", yscale="log")
        ax.grid(which="major", alpha=0.3)
    kappa = np.array([table.query("sweep == 'lengthscale'").kappa.min(), table.kappa.max()])
    for power, lowest, label in ((1.0, 1.0, "slope of kappa"), (0.5, 0.6, "slope of its root")):
        axes[1].plot(kappa, lowest * kappa**power, color="grey", linewidth=0.8, linestyle=":")
        middle = np.sqrt(kappa.prod())
        axes[1].annotate(label, (middle, 0.9 * lowest * middle**power), fontsize="x-small", color="grey", va="top")
    axes[0].set(xlabel="sequence length N", ylabel="steps", title="against length")
    lengths = sorted(table.query("sweep == 'length'").length.unique())
    axes[0].set_xticks(lengths, [str(n) for n in lengths])
    axes[0].minorticks_off()
    axes[1].set(xlabel="condition number of C_t", title="against condition number, by lengthscale")
    sns.move_legend(axes[1], "upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small")
    first = table.iloc[0]
    drawn.suptitle(f"Depth for a relative score error, t = {first.t:g}, {first.kernel}, float64", fontsize="medium")
    return drawn


def plan(
    options: ProcessOptions, t: float, lengths: Sequence[int] = LENGTHS, lengthscales: Sequence[float] = LENGTHSCALES
) -> list[Configuration]:
    """A configuration for each length at the given lengthscale, and for each lengthscale at the given length."""
    swept = [("length", replace(options, length=length)) for length in lengths]
    swept += [("lengthscale", replace(options, lengthscale=lengthscale)) for lengthscale in lengthscales]
    return [{"sweep": sweep, "t": t, "process": asdict(each)} for sweep, each in swept]


def configurations(budget: Budget) -> list[Configuration]:
    """Ornstein-Uhlenbeck, t = 0.001."""
    if budget == "full":
        return plan(ProcessOptions(length=64, lengthscale=8.0), t=TIME)
    return plan(ProcessOptions(length=32, lengthscale=8.0), t=TIME, lengths=(16, 32, 64), lengthscales=(1.0, 4.0, 16.0))


def run(configuration: Configuration) -> list[Row]:
    """A row for each solver and target."""
    options = ProcessOptions(**configuration["process"])
    process, t = options.process(), configuration["t"]
    shared = {
        "sweep": configuration["sweep"], "kernel": str(process.temporal), "length": options.length,
        "lengthscale": options.lengthscale, "t": t, "kappa": float(process.condition_number(t)),
    }  # fmt: skip
    return [{**shared, **row} for row in depth_needed(process, t)]


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Exponent of kappa and steps needed for each solver and target."""
    swept = results.query("sweep == 'lengthscale'").groupby(["solver", "target"], sort=False).steps
    ends = swept.agg(["min", "max"]).reset_index()
    return growth(results).assign(fewest=ends["min"], most=ends["max"])


def finding(results: pd.DataFrame) -> str:
    """Whether depth grows with the condition number as the bounds of the solvers say, and whether that of the
    preconditioned transformer and of the closed form does."""
    rows = table(results).query("target == @TARGETS[0]").set_index("solver")
    said = []
    for solver, bound in (("gradient descent", 1.0), ("Chebyshev", 0.5)):
        p = rows.exponent[solver]
        agrees = "as" if abs(p - bound) <= NEAR else "not as"
        said.append(f"like kappa^{p:.2f} for {solver}, {agrees} its bound says ({bound:g})")
    said.append(f"like kappa^{rows.exponent['conjugate gradient']:.2f} for conjugate gradient")
    preconditioned = rows.loc["preconditioned (blocks)"]
    reached, swept = map(int, preconditioned.reached.split(" of "))
    if reached < swept:
        last = f"does not get there at {swept - reached} of {swept} lengthscales"
    elif preconditioned.most - preconditioned.fewest <= 2:
        last = f"does not need more as kappa grows: {preconditioned.fewest:g} to {preconditioned.most:g} blocks"
    else:
        last = (
            f"needs more as kappa grows, too: {preconditioned.fewest:g} to {preconditioned.most:g} blocks,"
            f" like kappa^{preconditioned.exponent:.2f}"
        )
    return (
        f"Depth for an error of {TARGETS[0]:g} at t = {results.t[0]:g} grows over the lengthscales {'; '.join(said)}."
        f" The preconditioned transformer {last}. {_closed(results)}"
    )


def _closed(results: pd.DataFrame) -> str:
    """What is said of the closed form."""
    built = results.query("solver == @CLOSED and target == @TARGETS[0]")
    reached = built.dropna(subset="steps")
    if reached.empty:
        return "There is no closed form: the process is not Ornstein-Uhlenbeck."
    if len(reached) < len(built):
        return f"The closed form does not get there at {len(built) - len(reached)} of {len(built)} processes."
    most = f"{reached.steps.max():g} block" + ("s" if reached.steps.max() > 1 else "")
    return f"The closed form takes {most} at every kappa, from {built.kappa.min():.0f} to {built.kappa.max():.0f}."


def core_seconds(configuration: Configuration) -> float:
    """Measured."""
    return 0.5 + 17 * (configuration["process"]["length"] / 512) ** 3


experiment = Experiment(
    module=__name__,
    question="Must a transformer that solves for the score be deeper for longer sequences and worse condition numbers?",
    columns={
        "sweep": str, "kernel": str, "length": int, "lengthscale": float, "t": float, "kappa": float, "solver": str,
        "target": float, "steps": float,
    },
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
)  # fmt: skip
