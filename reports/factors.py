"""Four kernels, two by two: rough and smooth, of fast and of slow decay, with equal condition numbers; and what a
factorial design says of the three factors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from reports.seeds import interval
from unrolled.options import ProcessOptions

__all__ = ["FACTORS", "KERNELS", "Kernel", "explained", "factor_effects", "matched"]

Family = Literal["exponential", "polynomial", "rough_polynomial"]
POWER = 1.5
"""Power of slow decay: summable over lags, as `theory.rates` asks of it."""
FACTORS = {"decay": ("fast", "slow"), "smoothness": ("rough", "smooth"), "level": ("low", "high")}
"""Columns of the three factors and their two values; the level is that of the condition number."""
BRACKET = (0.1, 300.0)
"""Lengthscales between which the match is sought."""


@dataclass(frozen=True)
class Kernel:
    """One of the four: its family and power, and its two factors."""

    family: Family
    power: float
    decay: str
    smoothness: str


KERNELS = {
    "OU": Kernel("exponential", 1.0, "fast", "rough"),
    "RBF": Kernel("exponential", 2.0, "fast", "smooth"),
    "rough polynomial": Kernel("rough_polynomial", POWER, "slow", "rough"),
    "polynomial": Kernel("polynomial", POWER, "slow", "smooth"),
}


def matched(kernel: Kernel, base: ProcessOptions, kappa: float, t: float) -> ProcessOptions:
    """`base` with that kernel, its lengthscale such that the condition number of C_t is `kappa`.

    The lengthscale is found by Brent's method in its logarithm and rounded to 1e-4, so that every machine has the same.

    Raises:
        ValueError: no lengthscale between 0.1 and 300 has it.
    """
    options = replace(base, temporal=kernel.family, power=kernel.power)

    def excess(logarithm: float) -> float:
        process = replace(options, lengthscale=math.exp(logarithm)).process()
        return math.log(process.condition_number(t) / kappa)

    root: Any = brentq(excess, math.log(BRACKET[0]), math.log(BRACKET[1]), xtol=1e-7)
    return replace(options, lengthscale=round(math.exp(root), 4))


def factor_effects(responses: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    """Factor -> mean over seeds, and 95 % interval, of the response at its second value minus that at its first.

    Args:
        responses: a row for each kernel, level and seed, with the factors, `seed` and `response`. A factor that has one
            value only is left out.
    """
    effects = {}
    for factor, (first, second) in FACTORS.items():
        if len(set(responses[factor])) == 2:
            means = responses.groupby([factor, "seed"]).response.mean().unstack("seed")
            effects[factor] = interval((means.loc[second] - means.loc[first]).to_numpy())
    return effects


def explained(responses: pd.DataFrame, effects: Mapping[str, tuple[float, float, float]]) -> float:
    """Share of the variance between kernels and levels that the effects explain, without interactions.

    In a balanced design of k kernels a factor of effect e has the sum of squares k (e/2)^2.
    """
    cells = responses.groupby(["kernel", "level"]).response.mean()
    total = float(np.square(cells - cells.mean()).sum())
    return len(cells) * sum((effect / 2) ** 2 for effect, _, _ in effects.values()) / total
