"""Fit how a profile decays with lag: floor + amplitude * gamma(lag), gamma from the kernel families of the project.

The same fit serves attention profiles and true covariances, so that the two can be set side by side.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import least_squares

from unrolled.kernels import Exponential, Logarithmic, Polynomial, TemporalKernel

__all__ = ["FAMILIES", "MIN_LAGS", "DecayFit", "fit_decay", "fit_families", "fold_lags"]

FAMILIES: dict[str, type[TemporalKernel]] = {
    kernel.name: kernel for kernel in (Exponential, Polynomial, Logarithmic)
}
MIN_LAGS = 6
"""Fewest lags that determine the four parameters of a fit with a residual left to judge it by."""
POWER_RANGE = (0.1, 8.0)
"""Accepted powers; the exponential family stops at 2, where positive definiteness does."""


@dataclass(frozen=True)
class DecayFit:
    """floor + amplitude * gamma((lag)), gamma = family(lengthscale, power).

    Attributes:
        family: name of the kernel family.
        lengthscale: in positions.
        power: the family's second parameter.
        amplitude: height of the decaying part at lag 0; negative for a profile that rises with lag.
        floor: constant part, of either sign (a floor forced to be >= 0 biases the other parameters).
        r2: 1 - weighted residual sum of squares over that of the weighted mean.
        held_out_error: root mean square error on the held-out half relative to its root mean square deviation from its
            mean; NaN where nothing was held out.
        at_boundary: which parameters ended at the edge of what is searched, where their value is a bound.
    """

    family: str
    lengthscale: float
    power: float
    amplitude: float
    floor: float
    r2: float
    held_out_error: float
    at_boundary: str

    def __call__(self, lag: np.ndarray) -> np.ndarray:
        """The fitted curve at lags of any shape."""
        gamma = FAMILIES[self.family](self.lengthscale, self.power)(np.asarray(lag, dtype=float))  # pyright: ignore
        return self.floor + self.amplitude * gamma.numpy()

    def row(self) -> dict[str, float | str]:
        """The attributes as one row of a table."""
        return asdict(self)


def fold_lags(profile: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A profile over signed lags -(N-1)..N-1, last axis, averaged over the sign.

    Returns (lags 0..N-1, folded profile, weights); the weight of a lag is its number of pairs.
    """
    n = (profile.shape[-1] + 1) // 2
    forward, backward = profile[..., n - 1 :], profile[..., n - 1 :: -1]
    lags = np.arange(n)
    return lags, (forward + backward) / 2, (n - lags) * np.where(lags == 0, 1.0, 2.0)


def fit_decay(
    lag: np.ndarray,
    profile: np.ndarray,
    family: str = "exponential",
    weights: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
) -> DecayFit:
    """Weighted least squares over lengthscale and power, amplitude and floor solved exactly inside.

    Variable projection (published: Golub and Pereyra, SIAM J. Numer. Anal. 10, 1973) leaves a problem in (log
    lengthscale, power), searched from the two best points of a grid, which keeps a local minimum from being taken for the
    answer.

    Args:
        lag: (n,) lags >= 0.
        profile: (n,) values at those lags.
        family: a name in `FAMILIES`.
        weights: (n,) weights of the squared residuals; equal where not given.
        held_out: (n,) the same profile from other sequences, on which the fit is judged.

    Raises:
        ValueError: fewer than `MIN_LAGS` lags, an unknown family, or a profile with NaN.
    """
    if family not in FAMILIES:
        raise ValueError(f"family: {family!r} is not accepted; accepted are {', '.join(FAMILIES)}")
    if len(lag) < MIN_LAGS:
        raise ValueError(f"lag: {len(lag)} lags are too few for a decay fit; accepted is at least {MIN_LAGS}")
    if not np.isfinite(profile).all():
        raise ValueError("profile: has NaN or infinite entries; accepted are finite entries")
    weights = np.ones(len(lag)) if weights is None else np.asarray(weights, dtype=float)
    share = weights / weights.sum()
    root = np.sqrt(share)
    target = np.asarray(profile, dtype=float)
    centre = float(share @ target)
    spread = float(share @ (target - centre) ** 2)
    log_range = (math.log(0.2), math.log(4 * float(lag.max())))
    power_range = (POWER_RANGE[0], 2.0 if family == "exponential" else POWER_RANGE[1])
    distance = np.asarray(lag, dtype=float)

    def solve(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(residuals, coefficients) of the best amplitude and floor at (log lengthscale, power)."""
        kernel = FAMILIES[family](math.exp(parameters[0]), float(parameters[1]))  # pyright: ignore[reportCallIssue]
        gamma = kernel(distance).numpy()
        mean = float(share @ gamma)
        swing = gamma - mean
        energy = float(share @ swing**2)
        # A kernel that is constant over the lags to rounding leaves only the floor to fit.
        amplitude = float(share @ (swing * (target - centre))) / energy if energy > 1e-28 else 0.0
        residual = root * (target - centre - amplitude * swing)
        return residual, np.array([amplitude, centre - amplitude * mean])

    if spread <= (1e-12 * (abs(centre) + 1e-300)) ** 2:  # a constant has no decay
        return DecayFit(family, math.nan, math.nan, 0.0, centre, math.nan, math.nan, "constant")
    starts = [(x, p) for x in np.linspace(*log_range, 9) for p in np.linspace(*power_range, 5)]
    best = sorted(starts, key=lambda start: np.sum(solve(np.array(start))[0] ** 2))[:2]
    low, high = np.array([log_range, power_range]).T
    found = [
        least_squares(
            lambda z: solve(z)[0] / math.sqrt(spread), start, bounds=(low, high), xtol=1e-9, ftol=1e-12, gtol=1e-12
        )
        for start in np.clip(best, low + 1e-9, high - 1e-9)
    ]
    parameters = min(found, key=lambda result: result.cost).x
    residual, (amplitude, floor) = solve(parameters)
    loss = float(residual @ residual)
    edges = [
        name
        for name, value, bounds in zip(("lengthscale", "power"), parameters, (log_range, power_range), strict=True)
        if min(value - bounds[0], bounds[1] - value) < 1e-5
    ]
    fit = DecayFit(
        family,
        math.exp(parameters[0]),
        float(parameters[1]),
        float(amplitude),
        float(floor),
        1 - loss / spread,
        math.nan,
        " ".join(edges),
    )
    if held_out is None:
        return fit
    missed, spread = (float(share @ (held_out - guess) ** 2) for guess in (fit(distance), share @ held_out))
    error = math.sqrt(missed / spread) if spread > 0 else math.nan
    return DecayFit(**{**asdict(fit), "held_out_error": error})


def fit_families(
    lag: np.ndarray,
    profile: np.ndarray,
    weights: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
    families: Sequence[str] = tuple(FAMILIES),
) -> list[DecayFit]:
    """`fit_decay` for each family, best weighted R^2 first.

    The order is a description, not a test: residuals at neighbouring lags are correlated, so a small gain in R^2 does not
    show that a family is the right one.
    """
    fits = [fit_decay(lag, profile, family, weights, held_out) for family in families]
    return sorted(fits, key=lambda fit: -fit.r2 if math.isfinite(fit.r2) else math.inf)
