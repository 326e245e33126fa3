"""Bootstrap over sequences: intervals for the parameters of a decay fit.

The residuals of a lag profile are correlated between lags, because every lag is a mean over the same sequences. So the
sequences are drawn again, with replacement, and the whole fit is repeated on each mean profile. An interval lies
between the percentiles of the parameter over the resamples (published: Efron, J. Amer. Statist. Assoc. 82, 1987, where
it is the interval that bias and acceleration correct). Those corrections, and the basic interval, cover no better here
(measured, 1000 runs, Exponential with power 0.5..1.5, N = 64, 200 sequences, B = 200, nominal 95 %: lengthscale and
power covered by percentile in 93.8 and 92.7 %, corrected 93.4 and 92.5 %, basic 93.1 and 90.9 %), and percentiles
respect the box that parameters are searched in.

An end that lies at the edge of the box is no bound: the interval is one-sided there. The other end stays the percentile
of the two-sided interval, since choosing the level after a look at the data would spoil it; a one-sided interval of
nominal 95 % therefore holds with 97.5 %.

**Where every sequence has the same profile**, as in hand-set models and with position codes alone, nothing is sampled
and the bootstrap has no width. The interval is then numerical: what an error of the profile can move the parameters by,
to first order. With X the derivatives of the curve in the parameters and P its weighted pseudo-inverse, an error of at
most e at every lag moves parameter k by at most e sum_i |P_ki| (derived). A narrow Gaussian that has vanished at lag 2
so gets the interval it deserves: nothing tells its power.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np

from probes.decay.curves import SHAPE_RANGES, TABLE_ERROR, curves
from probes.decay.fit import DecayFit, check_profile, fit_decay, shape_for
from probes.decay.projection import EDGE, Projection
from probes.resampling import resampled_means
from unrolled.checks import InputError, require_integer, require_number

__all__ = [
    "LEAST_SEQUENCES",
    "RESAMPLES",
    "DecayIntervals",
    "bootstrap_intervals",
    "numerical_intervals",
    "varies",
]

RESAMPLES = 200
"""B: the percentiles then lose about half a per cent of coverage."""
LEAST_SEQUENCES = 10
"""Fewer sequences do not show how a profile varies."""
LEAST_VARIATION = 1e-6
"""Between sequences, relative to the swing of the mean profile; what lies below is the rounding of float32 maps."""
PARAMETERS = ("lengthscale", "power", "amplitude", "floor")


@dataclass(frozen=True)
class DecayIntervals:
    """Intervals of the parameters of a `DecayFit` of the same sequences.

    Attributes:
        lengthscale_low, lengthscale_high: in the unit of the lags.
        power_low, power_high: of the family's second parameter.
        amplitude_low, amplitude_high: height of the decaying part.
        floor_low, floor_high: constant part.
        one_sided: which ends are the edge of what is searched and bound nothing, such as "power_high".
        interval: "bootstrap"; "numerical" where the profile does not vary between sequences; "too few sequences" or
            "constant" where all ends are NaN.
        level: nominal coverage; 1 for a numerical interval.
    """

    lengthscale_low: float
    lengthscale_high: float
    power_low: float
    power_high: float
    amplitude_low: float
    amplitude_high: float
    floor_low: float
    floor_high: float
    one_sided: str
    interval: str
    level: float

    def row(self) -> dict[str, float | str]:
        """The attributes as part of a row of a table."""
        return asdict(self)

    def covers(self, parameter: str, value: float) -> bool:
        """Whether `value` lies in the interval of `parameter`; an end that bounds nothing excludes nothing."""
        low, high = (getattr(self, f"{parameter}_{end}") for end in ("low", "high"))
        open_ends = self.one_sided.split()
        return (low <= value or f"{parameter}_low" in open_ends) and (value <= high or f"{parameter}_high" in open_ends)


def varies(sequences: np.ndarray, weights: np.ndarray) -> bool:
    """Whether profiles (sequences, n) differ by more than rounding.

    Args:
        sequences: (sequences, n) one profile for each sequence.
        weights: (n,) of sum 1.
    """
    mean = sequences.mean(axis=0)
    swing = math.sqrt(float(weights @ (mean - weights @ mean) ** 2))
    return math.sqrt(float(weights @ sequences.var(axis=0))) > LEAST_VARIATION * max(
        swing, 1e-3 * float(np.abs(mean).max())
    )


def bootstrap_intervals(
    lag: np.ndarray,
    sequences: np.ndarray,
    family: str = "exponential",
    weights: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
    fit: DecayFit | None = None,
) -> DecayIntervals:
    """Percentile intervals of the fit of `family` to the mean profile.

    Sequences must be independent of each other. Coverage was measured with 50 sequences and more
    (`reports.calibration`).

    Args:
        lag: (n,) lags >= 0.
        sequences: (sequences, n) the profile of each sequence.
        family: a name in `unrolled.kernels.KERNELS`.
        weights: (n,) weights of the squared residuals; equal where not given.
        resamples: B.
        level: nominal coverage, in (0, 1).
        seed: of the resampling.
        fit: of the mean profile with the same weights, if it is known already.

    Raises:
        InputError: `resamples` < 20, a level outside (0, 1), or what `check_profile` refuses.
    """
    require_integer("resamples", resamples, 20)
    require_number("level", level, 0, 1)
    if sequences.ndim != 2:
        raise InputError(f"sequences: shape {sequences.shape} is not accepted; accepted: (sequences, lags)")
    lag, share = check_profile(lag, sequences, [family], weights)
    mean = sequences.mean(axis=0)
    centre = float(share @ mean)
    swing = math.sqrt(float(share @ (mean - centre) ** 2))
    steady = not varies(sequences, share)
    if swing <= 1e-12 * abs(centre) + 1e-300 or (len(sequences) < LEAST_SEQUENCES and not steady):
        reason = "too few sequences" if swing > 1e-12 * abs(centre) + 1e-300 else "constant"
        return DecayIntervals(*[math.nan] * 8, one_sided="", interval=reason, level=level)
    fit = fit or fit_decay(lag, mean, family, share)
    if steady:
        return numerical_intervals(lag, fit, share, LEAST_VARIATION * swing)
    projection = Projection(family, lag, share, shape_for(family, lag))
    means = resampled_means((sequences - centre) / swing, resamples, seed)
    fits = projection.fit(means, near=(math.log(fit.lengthscale), math.log(fit.power)))
    drawn = np.stack(
        [fits.log_lengthscale, fits.log_shape, fits.amplitude * swing, fits.floor * swing + centre], axis=1
    )  # (resamples, 4), in the order of PARAMETERS
    return _within(projection, np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0), "bootstrap", level)


def numerical_intervals(
    lag: np.ndarray, fit: DecayFit, weights: np.ndarray | None = None, error: float = 0.0
) -> DecayIntervals:
    """What an error of at most `error` at every lag can move the parameters of a fit by, to first order.

    Args:
        lag: (n,) the lags of the fit.
        fit: of a profile.
        weights: (n,) the weights of the fit.
        error: in the unit of the profile; what the fit's own table of the family may be wrong by is added.

    Raises:
        InputError: what `check_profile` refuses.
    """
    error = error + abs(fit.amplitude) * TABLE_ERROR.get(fit.family, 0.0)
    if math.isnan(fit.lengthscale):
        return DecayIntervals(*[math.nan] * 8, one_sided="", interval="constant", level=1.0)
    lag, share = check_profile(lag, np.asarray(lag, dtype=float), [fit.family], weights)
    projection = Projection(fit.family, lag, share, shape_for(fit.family, lag))
    centre = np.array([math.log(fit.lengthscale), math.log(fit.power), fit.amplitude, fit.floor])
    gamma, *slopes = (curve[0] for curve in curves(fit.family, lag, centre[:1], centre[1:2]))
    design = np.stack([*(fit.amplitude * slope for slope in slopes), gamma, np.ones_like(gamma)], axis=1)
    free = np.array([*(projection.high > projection.low), True, True])
    u, size, v = np.linalg.svd(np.sqrt(share)[:, None] * design[:, free], full_matrices=False)
    inverse = (
        (v.T / np.maximum(size, 1e-15 * size[0])) @ u.T * np.sqrt(share)
    )  # P: no direction is left out as singular
    reach = np.zeros(4)
    reach[free] = error * np.abs(inverse).sum(axis=1)
    ends = np.stack([centre - reach, centre + reach])
    ends[:, :2] = np.clip(ends[:, :2], projection.low, projection.high)
    return _within(projection, ends, "numerical", 1.0)


def _within(projection: Projection, ends: np.ndarray, interval: str, level: float) -> DecayIntervals:
    """Intervals from ends (2, 4) in log lengthscale, log shape, amplitude and floor; ends at the edge bound nothing."""
    free = projection.high > projection.low
    at_low = free & (ends[0, :2] - projection.low < EDGE)
    at_high = free & (projection.high - ends[1, :2] < EDGE)
    near_top = free & (ends[:, :2] > projection.high - EDGE)
    box = np.exp(np.where(near_top, projection.high, ends[:, :2]))  # the edge itself, not a rounding inside it
    box[:, 1] = np.minimum(box[:, 1], SHAPE_RANGES[projection.family][1])  # which exp(log) may exceed
    open_ends = [
        f"{name}_{end}"
        for k, name in enumerate(PARAMETERS[:2])
        for end, at in (("low", at_low[k]), ("high", at_high[k]))
        if at
    ]
    values = np.concatenate([box, ends[:, 2:]], axis=1).T.ravel().tolist()
    return DecayIntervals(*values, one_sided=" ".join(open_ends), interval=interval, level=level)
