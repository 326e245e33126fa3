"""Fit how a profile decays with lag: floor + amplitude * gamma(lag), gamma from the kernel families of the project.

The same fit serves attention profiles and true covariances, so that the two can be set side by side. It has four parameters
besides the family. Where there are fewer than `SHAPE_LAGS` lags they would leave one residual or none, so the shape is
held at the default of its kernel and three are fitted; with fewer than `MIN_LAGS` lags there is no fit.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from probes.curves import DEFAULT_SHAPE, FAMILIES, kernel_of
from probes.projection import Projection

__all__ = ["FAMILIES", "MIN_LAGS", "SHAPE_LAGS", "DecayFit", "check_profile", "fit_decay", "fit_families", "fold_lags"]

MIN_LAGS = 4
"""Fewest lags that determine floor, amplitude and lengthscale with a residual left to judge them by."""
SHAPE_LAGS = 6
"""Fewest lags to which the shape is fitted as well."""


@dataclass(frozen=True)
class DecayFit:
    """floor + amplitude * gamma(lag), gamma = family(lengthscale, power).

    Attributes:
        family: name of the kernel family.
        lengthscale: in the unit of the lags.
        power: the family's second parameter; the smoothness of a Matern kernel.
        amplitude: height of the decaying part at lag 0; negative for a profile that rises with lag.
        floor: constant part, of either sign (a floor forced to be >= 0 biases the other parameters).
        r2: 1 - weighted residual sum of squares over that of the weighted mean.
        held_out_error: root mean square error on the held-out half relative to its root mean square deviation from its
            mean; NaN where nothing was held out.
        at_boundary: which parameters ended at the edge of what is searched, where their value is a bound.
        fixed: "power" where there were too few lags to fit it, else "".
    """

    family: str
    lengthscale: float
    power: float
    amplitude: float
    floor: float
    r2: float
    held_out_error: float
    at_boundary: str
    fixed: str = ""

    def __call__(self, lag: np.ndarray) -> np.ndarray:
        """The fitted curve at lags of any shape."""
        lag = np.asarray(lag, dtype=float)
        if math.isnan(self.lengthscale):
            return np.full(lag.shape, self.floor)
        return self.floor + self.amplitude * kernel_of(self.family, self.lengthscale, self.power)(lag).numpy()

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


def check_profile(
    lag: np.ndarray, profile: np.ndarray, families: Sequence[str], weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """(lags, weights that sum to 1) as float64.

    Raises:
        ValueError: fewer than `MIN_LAGS` lags, negative ones, an unknown family, a profile of another length or with NaN, or
            weights that are not positive.
    """
    for family in families:
        if family not in FAMILIES:
            raise ValueError(f"family: {family!r} is not accepted; accepted are {', '.join(FAMILIES)}")
    lag = np.asarray(lag, dtype=float)
    if lag.ndim != 1 or not (np.isfinite(lag) & (lag >= 0)).all():
        raise ValueError("lag: has negative or infinite entries; accepted are finite lags >= 0")
    if len(np.unique(lag)) < MIN_LAGS:
        raise ValueError(f"lag: {len(np.unique(lag))} lags are too few for a decay fit; accepted is at least {MIN_LAGS}")
    if profile.shape[-1] != len(lag):
        raise ValueError(f"profile: {profile.shape[-1]} values are not accepted; accepted are {len(lag)}, one for each lag")
    if not np.isfinite(profile).all():
        raise ValueError("profile: has NaN or infinite entries; accepted are finite entries")
    weights = np.ones(len(lag)) if weights is None else np.asarray(weights, dtype=float)
    if weights.shape != lag.shape or not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError(f"weights: are not accepted; accepted are {len(lag)} finite numbers > 0")
    return lag, weights / weights.sum()


def shape_for(family: str, lag: np.ndarray) -> float | None:
    """The shape that a fit to these lags holds fixed; None where it is fitted."""
    return DEFAULT_SHAPE[family] if len(np.unique(lag)) < SHAPE_LAGS else None


def fit_decay(
    lag: np.ndarray,
    profile: np.ndarray,
    family: str = "exponential",
    weights: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
) -> DecayFit:
    """Weighted least squares of one profile, see `probes.projection`.

    Args:
        lag: (n,) lags >= 0, not necessarily integers.
        profile: (n,) values at those lags.
        family: a name in `FAMILIES`.
        weights: (n,) weights of the squared residuals; equal where not given.
        held_out: (n,) the same profile from other sequences, on which the fit is judged.

    Raises:
        ValueError: see `check_profile`.
    """
    profile = np.asarray(profile, dtype=float)
    lag, share = check_profile(lag, profile, [family], weights)
    centre = float(share @ profile)
    spread = float(share @ (profile - centre) ** 2)
    if spread <= (1e-12 * abs(centre) + 1e-300) ** 2:  # a constant has no decay
        return DecayFit(family, math.nan, math.nan, 0.0, centre, math.nan, math.nan, "constant")
    shape = shape_for(family, lag)
    # In units of its own spread, so that no threshold depends on the scale of the profile.
    found = Projection(family, lag, share, shape).fit_one((profile - centre) / math.sqrt(spread))
    lengthscale, power = math.exp(found.log_lengthscale[0]), math.exp(found.log_shape[0])
    amplitude, floor = float(found.amplitude[0]) * math.sqrt(spread), centre + float(found.floor[0]) * math.sqrt(spread)
    edges = [name for name, edge in zip(("lengthscale", "power"), found.edge[0], strict=True) if edge]
    power = min(power, 2.0) if family == "exponential" else power
    fixed = "" if shape is None else "power"
    fit = DecayFit(family, lengthscale, power, amplitude, floor, math.nan, math.nan, " ".join(edges), fixed)
    errors = [math.nan, math.nan]
    for k, each in enumerate((profile, held_out)):
        if each is not None:
            missed, total = (float(share @ (each - guess) ** 2) for guess in (fit(lag), share @ each))
            errors[k] = missed / total if total > 0 else math.nan
    return DecayFit(**{**asdict(fit), "r2": 1 - errors[0], "held_out_error": math.sqrt(errors[1])})


def fit_families(
    lag: np.ndarray,
    profile: np.ndarray,
    weights: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
    families: Sequence[str] = tuple(FAMILIES),
) -> list[DecayFit]:
    """`fit_decay` for each family, best weighted R^2 first.

    The order is a description, not a test: residuals at neighbouring lags are correlated, so a small gain in R^2 does not
    show that a family is the right one. `probes.family` tests it.
    """
    fits = [fit_decay(lag, profile, family, weights, held_out) for family in families]
    return sorted(fits, key=lambda fit: -fit.r2 if math.isfinite(fit.r2) else math.inf)
