"""Where the linear description of a trained DiT stops: data whose exact score is not linear, and controls where it is.

For Gaussian data the exact score is affine, so everything else in a network is error. Here are data for which it is
not: a function y = x + exp(-x^2) + 2 sin x of a latent Ornstein-Uhlenbeck process, and processes whose lengthscale
falls at a frame that differs from sequence to sequence. Their exact scores are known all the same
(`unrolled.synthetic.latent`), and so are their covariances, so that the affine denoiser here is the best one and the
share that it leaves is known. Two controls are Gaussian: an Ornstein-Uhlenbeck process, and one whose lengthscale
changes in time in the same way in every sequence. There the method must find nothing; if it does, it is no method.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch

from reports.experiment import Budget, Configuration, Experiment, Row
from reports.linearity import COLUMNS, DIT, bought_somewhere, by_seed, cases, costs, figure, measured, table
from reports.networks import trained_on
from unrolled.kernels import Exponential
from unrolled.process import GaussianProcess
from unrolled.synthetic.drawn import DrawnData
from unrolled.synthetic.latent import FunctionOfOU, RegimeSwitch, changing_lengthscale

__all__ = ["CONTROLS", "experiment"]

OU, CHANGING, FUNCTION, SWITCH = "OU", "a changing lengthscale", "a function of OU", "a switch"
CONTROLS = (OU, CHANGING)
"""Gaussian data."""
SHORT, LONG, MIDDLE = 1.0, 16.0, 4.0
"""Lengthscales."""
SOURCES: dict[str, Callable[[int, int], Any]] = {
    OU: lambda n, d: GaussianProcess(n, Exponential(MIDDLE), torch.eye(d, dtype=torch.float64)),
    CHANGING: lambda n, d: changing_lengthscale(n, d, LONG, SHORT),
    FUNCTION: lambda n, d: FunctionOfOU(n, d, MIDDLE),
    SWITCH: lambda n, d: RegimeSwitch(n, d, LONG, SHORT),
}
SIZES = {"full": {"width": 64, "depth": 4}, "quick": {"width": 32, "depth": 2}}
STEPS, SEEDS = 3000, 3
PARTS = {
    "mean maps": "Replacing the attention maps by their means", "linear": "Making the whole network linear",
    "own affine map": "Its best affine map in its place",
}  # fmt: skip
"""Stand-ins, as the finding calls them."""
JUDGED = 1024
"""Held-out sequences."""


def configurations(budget: Budget) -> list[Configuration]:
    """A DiT for each data and seed."""
    steps, seeds, length, judged = (STEPS, SEEDS, 32, JUDGED) if budget == "full" else (400, 2, 8, 256)
    return [
        {"data": name, "length": length, "dim": 2, "seed": seed, "steps": steps, "judged": judged, "dit": SIZES[budget]}
        for seed in range(seeds) for name in SOURCES
    ]  # fmt: skip


def run(configuration: Configuration) -> list[Row]:
    """Rows of `reports.linearity.measured` for the DiT of a run."""
    name, seed = configuration["data"], configuration["seed"]
    source = SOURCES[name](configuration["length"], configuration["dim"])
    gaussian = source.gaussian()
    data = DrawnData(configuration["length"], configuration["dim"], source.sample, gaussian)
    model, _ = trained_on(data, {"dit": configuration["dit"], "steps": configuration["steps"], "seed": seed})
    x0 = data.sample_held_out(configuration["judged"], torch.Generator().manual_seed(5000 + seed))
    rows = measured(model, gaussian.score, data, gaussian, x0, seed, source.score)
    return [{"data": name, "model": DIT, "seed": seed, **row} for row in rows]


def _control(results: pd.DataFrame) -> str:
    """Whether the method says "linear" where the exact score is."""
    wrong = {name: bought_somewhere(results, name, DIT)[0] for name in _named(results, True)}
    if not any(wrong.values()):
        return (
            f"The controls are right: on {_listed(list(wrong))}, whose exact scores are affine, the DiT is nowhere"
            " better than the affine denoiser."
        )
    failed = [f"{name} ({_listed(where)})" for name, where in wrong.items() if where]
    return (
        f"The control fails: the DiT is better than the affine denoiser on Gaussian data, {'; '.join(failed)}, so what"
        " follows may be the affine denoiser's own error."
    )


def _named(results: pd.DataFrame, controls: bool) -> list[str]:
    return [name for name in results.data.unique() if (name in CONTROLS) == controls]


def _listed(values: list[str]) -> str:
    return ", ".join(values)


def _stops(results: pd.DataFrame, data: str) -> str:
    """Where the DiT explains more than an affine denoiser can, beside what there is to explain."""
    above, _ = bought_somewhere(results, data, DIT)
    exact = {t: by_seed(results, data, t, DIT, "exact").mean() for name, t in cases(results) if name == data}
    most = max(exact, key=lambda t: exact[t])
    there = f"the exact score buys at most {100 * exact[most]:.2g} % (at t = {most:g})"
    if not above:
        return f"On {data} the DiT is nowhere better than the affine denoiser; {there}"
    own = by_seed(results, data, most, DIT, "bought").mean()
    return (
        f"On {data} the linear description stops: the DiT explains more than the affine denoiser, {_listed(above)};"
        f" {there}, of which the DiT gets {100 * own / exact[most]:.0f} %"
    )


def finding(results: pd.DataFrame) -> str:
    """Whether the controls are right, where the linear description stops, and what the linear network loses there."""
    data = list(results.data.unique())
    return " ".join([
        f"{results.seed.nunique()} seeds, 95 % intervals over them; shares of what the affine denoiser explains.",
        _control(results),
        f"{'. '.join(_stops(results, name) for name in _named(results, False))}.",
        *(f"{what} costs {'; '.join(f'{costs(results, name, quantity)} ({name})' for name in data)}."
          for quantity, what in PARTS.items()),
    ])  # fmt: skip


def core_seconds(configuration: Configuration) -> float:
    """A guess, from short runs on a busy machine."""
    return (30.0 + 0.06 * configuration["steps"]) * configuration["length"] / 32


experiment = Experiment(
    module=__name__,
    question="Where does the linear description of a trained DiT stop, when the data are not Gaussian?",
    columns=COLUMNS,
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
)
