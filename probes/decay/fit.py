"""Fit how a profile decays with lag: floor + amplitude * gamma(lag), gamma from the kernel families of the project.

The same fit serves attention profiles and true covariances, so that the two can be set side by side. It has four
parameters besides the family. Where there are fewer than `SHAPE_LAGS` lags they would leave one residual or none, so
the shape is held at the default of its kernel and three are fitted; with fewer than `MIN_LAGS` lags there is no fit.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from probes.decay.curves import SHAPE_RANGES, kernel_of
from probes.decay.projection import Projection
from unrolled.checks import InputError, require_choice
from unrolled.kernels import KERNELS

__all__ = [
    "MIN_LAGS",
    "SHAPE_LAGS",
    "DecayFit",
    "check_profile",
    "fit_decay",
    "fit_families",
    "fit_profiles",
    "require_fit_lags",
]

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


def check_profile(
    lag: np.ndarray, profile: np.ndarray, families: Sequence[str], weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """(lags, weights that sum to 1) as float64.

    Raises:
        InputError: fewer than `MIN_LAGS` lags, negative ones, an unknown family, a profile of another length or with
            NaN, or weights that are not positive.
    """
    for family in families:
        require_choice("family", family, KERNELS)
    lag = np.asarray(lag, dtype=float)
    if lag.ndim != 1 or not (np.isfinite(lag) & (lag >= 0)).all():
        raise InputError("lag: has negative or infinite entries; accepted: finite lags >= 0")
    if len(np.unique(lag)) < MIN_LAGS:
        raise InputError(f"lag: {len(np.unique(lag))} lags are too few for a decay fit; accepted: at least {MIN_LAGS}")
    if profile.shape[-1] != len(lag):
        raise InputError(
            f"profile: {profile.shape[-1]} values are not accepted; accepted: {len(lag)}, one for each lag"
        )
    if not np.isfinite(profile).all():
        raise InputError("profile: has NaN or infinite entries; accepted: finite entries")
    weights = np.ones(len(lag)) if weights is None else np.asarray(weights, dtype=float)
    if weights.shape != lag.shape or not (np.isfinite(weights) & (weights > 0)).all():
        raise InputError(f"weights: are not accepted; accepted: {len(lag)} finite numbers > 0")
    return lag, weights / weights.sum()


def require_fit_lags(length: int) -> None:
    """Raise an InputError where the sequences of a checkpoint are too short for a decay fit."""
    if length < MIN_LAGS:
        raise InputError(f"ckpt: its sequences have {length} frames; accepted: at least {MIN_LAGS}")


def shape_for(family: str, lag: np.ndarray) -> float | None:
    """The shape that a fit to these lags holds fixed; None where it is fitted."""
    return astuple(KERNELS[family](1.0))[-1] if len(np.unique(lag)) < SHAPE_LAGS else None


def fit_profiles(
    lag: np.ndarray,
    profiles: np.ndarray,
    families: Sequence[str] = tuple(KERNELS),
    weights: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
) -> list[list[DecayFit]]:
    """Weighted least squares of many profiles, see `probes.decay.projection`: for each profile, a fit of each family.

    Args:
        lag: (n,) lags >= 0, not necessarily integers.
        profiles: (batch, n) values at those lags.
        families: names in `unrolled.kernels.KERNELS`.
        weights: (n,) weights of the squared residuals; equal where not given.
        held_out: (batch, n) the same profiles from other sequences, on which the fits are judged.

    Raises:
        InputError: see `check_profile`.
    """
    profiles = np.asarray(profiles, dtype=float)
    lag, share = check_profile(lag, profiles, families, weights)
    centre = profiles @ share
    spread = np.sqrt((profiles - centre[:, None]) ** 2 @ share)
    decays = spread > 1e-12 * np.abs(centre) + 1e-300
    # In units of its own spread, so that no threshold depends on the scale of a profile.
    scaled = (profiles[decays] - centre[decays, None]) / spread[decays, None]
    fits: list[list[DecayFit]] = [[] for _ in profiles]
    for family in families:
        shape = shape_for(family, lag)
        batch = Projection(family, lag, share, shape).fit_closely(scaled)
        top = SHAPE_RANGES[family][1]  # which exp(log) may exceed by rounding
        position = 0
        for k, rows in enumerate(fits):
            if not decays[k]:
                rows.append(DecayFit(family, math.nan, math.nan, 0.0, centre[k], math.nan, math.nan, "constant"))
                continue
            edges = zip(("lengthscale", "power"), batch.edge[position], strict=True)
            fit = DecayFit(
                family,
                lengthscale=math.exp(batch.log_lengthscale[position]),
                power=min(math.exp(batch.log_shape[position]), top),
                amplitude=float(batch.amplitude[position] * spread[k]),
                floor=float(centre[k] + batch.floor[position] * spread[k]),
                r2=math.nan,
                held_out_error=math.nan,
                at_boundary=" ".join(name for name, edge in edges if edge),
                fixed="" if shape is None else "power",
            )
            curve = fit(lag)
            error = _relative_error(curve, profiles[k], share)
            missed = math.nan if held_out is None else math.sqrt(_relative_error(curve, held_out[k], share))
            rows.append(replace(fit, r2=1 - error, held_out_error=missed))
            position += 1
    return fits


def _relative_error(curve: np.ndarray, target: np.ndarray, share: np.ndarray) -> float:
    """Weighted squared error over the weighted variance of the target; NaN where that is 0."""
    variance = float(share @ (target - share @ target) ** 2)
    return float(share @ (target - curve) ** 2) / variance if variance > 0 else math.nan


def fit_decay(
    lag: np.ndarray,
    profile: np.ndarray,
    family: str = "exponential",
    weights: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
) -> DecayFit:
    """The fit of one family to one profile (n,), see `fit_profiles`.

    Raises:
        InputError: see `check_profile`.
    """
    return fit_families(lag, profile, weights, held_out, [family])[0]


def fit_families(
    lag: np.ndarray,
    profile: np.ndarray,
    weights: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
    families: Sequence[str] = tuple(KERNELS),
) -> list[DecayFit]:
    """The fit of each family to one profile (n,), best weighted R^2 first.

    The order is a description, not a test: residuals at neighbouring lags are correlated, so a small gain in R^2 does
    not show that a family is the right one. `probes.decay.family` tests it.
    """
    held_out = None if held_out is None else np.asarray(held_out, dtype=float)[None]
    fits = fit_profiles(lag, np.asarray(profile)[None], families, weights, held_out)[0]
    return sorted(fits, key=lambda fit: -fit.r2 if math.isfinite(fit.r2) else math.inf)
