"""Which kernel families a profile is compatible with, and when it does not tell.

The family of the smallest residual sum is no answer: residuals at neighbouring lags are correlated, and every family
bends after them. Here each family F in turn is the null hypothesis, with the statistic

    T_F = log(RSS_F / min over the other families G of RSS_G),

whose distribution under F is that of a parametric bootstrap: the fitted curve of F plus the mean of centred sequences
drawn with replacement, times sqrt(S/(S-1)), with all families fitted again. p_F = (1 + #{T* >= T})/(1 + B) is, up to
what follows, the chance that data of which F is the truth lose to another family by as much. The compatible families
are those with p_F >= level; the answer names one, or says that several are not distinguishable.

**Goodness of fit** is another question: RSS_F against its own bootstrap distribution. Where no compatible family passes
it, the answer is "none": the residuals are larger than the sequences vary.

**Metric.** Residuals are weighed by the inverse of (1-s) C + s diag(C), C the covariance of the profile between
sequences and s = 0.1, and not by the number of pairs as in `probes.decay.fit`: a difference of neighbouring lags is
known far better than either. Measured (200 runs each, N = 64, 200 sequences, Exponential truth, level 5 %): Exponential
rejected in 5 %, Polynomial in 99 %; with weights of pairs in 8 and 84 %. The plain inverse, s = 0, is worse in its
goodness of fit, which rejects the truth in 18 % (60 runs). Fits that describe a profile keep the weights of pairs:
where no family is the truth, the inverse covariance fits the best-known differences at the cost of the curve that one
sees.

**What the p-value is not.** (1) F has free parameters and the null uses their fitted values; so the level is right only
to what the calibration shows (`reports.calibration`). (2) It says nothing of families that are not listed. (3) With
many sequences every family fails for every trained head, since none is the exact truth; then the size of the residual
(R^2) is what counts. (4) A family that contains another as a limit is never excluded by data from that limit: Matern
1/2 is Exponential 1, and large smoothness tends to power 2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probes.decay.curves import curves
from probes.decay.fit import check_profile, shape_for
from probes.decay.intervals import varies
from probes.decay.projection import Projection
from probes.resampling import resampled_means
from unrolled.checks import InputError
from unrolled.kernels import KERNELS

__all__ = ["CHOICE_RESAMPLES", "FamilyChoice", "choose_family", "shrunken_metric"]

CHOICE_RESAMPLES = 99
"""B: the smallest p-value is 1/(1+B); each resample is fitted once for every pair of families."""
SHRINKAGE = 0.1
"""Share of the diagonal in the covariance between lags."""
LEAST_VARIANCE = 1e-6
"""Smallest variance of a lag, relative to their mean, that the metric believes."""
LEAST_SEQUENCES = 20
"""Fewer sequences do not give a covariance between lags."""


@dataclass(frozen=True)
class FamilyChoice:
    """What `choose_family` found.

    Attributes:
        answer: a family; "not distinguishable: " and several; "none" where no compatible family fits the data; or why
            there is no answer: "same in every sequence", "too few sequences" or "constant".
        compatible: the families whose p-value is at least the level.
        p_values: p_F of each family; NaN without an answer.
        fit_p_values: p-value of the goodness of fit of each family; NaN without an answer.
        level: below which a p-value excludes.
        resamples: B.
    """

    answer: str
    compatible: tuple[str, ...]
    p_values: dict[str, float]
    fit_p_values: dict[str, float]
    level: float
    resamples: int

    def row(self) -> dict[str, float | str]:
        """The answer and all p-values as part of a row of a table."""
        return {
            "answer": self.answer,
            **{f"p_{family}": value for family, value in self.p_values.items()},
            **{f"fit_p_{family}": value for family, value in self.fit_p_values.items()},
        }


def shrunken_metric(sequences: np.ndarray) -> np.ndarray:
    """Inverse of the covariance between lags, shrunk to its diagonal, (n, n), scaled to mean variance 1."""
    covariance = np.cov(sequences.T)
    variance = np.diag(covariance)
    covariance = covariance / variance.mean()
    diagonal = np.maximum(np.diag(covariance), LEAST_VARIANCE)
    mixed = (1 - SHRINKAGE) * covariance
    np.fill_diagonal(mixed, diagonal)
    inverse = np.linalg.inv(mixed)
    return (inverse + inverse.T) / 2


def choose_family(
    lag: np.ndarray,
    sequences: np.ndarray,
    families: Sequence[str] = tuple(KERNELS),
    resamples: int = CHOICE_RESAMPLES,
    level: float = 0.05,
    seed: int = 0,
) -> FamilyChoice:
    """Test every family against the others on the mean profile.

    Args:
        lag: (n,) lags >= 0.
        sequences: (sequences, n) the profile of each sequence, independent of each other.
        families: two or more names in `unrolled.kernels.KERNELS`.
        resamples: B.
        level: below which a p-value excludes a family.
        seed: of the resampling.

    Raises:
        InputError: fewer than two families, `resamples` too few for the level, or what `check_profile` refuses.
    """
    if len(families) < 2:
        raise InputError(f"families: {list(families)} is not accepted; accepted: two or more names")
    if not 0 < level < 1 or resamples + 1 < 1 / level:
        raise InputError(f"resamples: {resamples} with level {level!r} is not accepted; accepted: at least 1/level - 1")
    lag, share = check_profile(lag, sequences, families, None)
    mean = sequences.mean(axis=0)
    centre = float(share @ mean)
    swing = math.sqrt(float(share @ (mean - centre) ** 2))
    unknown = dict.fromkeys(families, math.nan)
    for fails, reason in (
        (swing <= 1e-12 * abs(centre) + 1e-300, "constant"),
        (not varies(sequences, share), "same in every sequence"),
        (len(sequences) < LEAST_SEQUENCES, "too few sequences"),
    ):
        if fails:
            return FamilyChoice(reason, (), unknown, unknown, level, resamples)
    metric = shrunken_metric(sequences)
    fitters = [Projection(family, lag, metric, shape_for(family, lag)) for family in families]
    scaled = (sequences - centre) / swing
    count = len(sequences)
    noise = resampled_means(scaled - scaled.mean(axis=0), resamples, seed)
    noise = noise * math.sqrt(count / (count - 1))
    observed = [fitter.fit_closely(scaled.mean(axis=0)[None]) for fitter in fitters]
    worlds = []  # of each null hypothesis, its curve with the noise of each resample
    for family, fit in zip(families, observed, strict=True):
        gamma = curves(family, lag, fit.log_lengthscale, fit.log_shape)[0]
        worlds.append(fit.floor[:, None] + fit.amplitude[:, None] * gamma + noise)
    stacked = np.concatenate(worlds)
    starts = [(float(fit.log_lengthscale[0]), float(fit.log_shape[0])) for fit in observed]
    drawn = np.stack([fitter.fit(stacked, near).rss for fitter, near in zip(fitters, starts, strict=True)])
    drawn = np.log(np.maximum(drawn, 1e-300)).reshape(
        len(families), len(families), resamples
    )  # (fitted, null, resample)
    real = np.log([max(float(fit.rss[0]), 1e-300) for fit in observed])
    p_values, fit_p_values = {}, {}
    for k, family in enumerate(families):
        others = [j for j in range(len(families)) if j != k]
        lost = drawn[k, k] - drawn[others, k].min(axis=0) >= real[k] - real[others].min()
        p_values[family] = float((1 + lost.sum()) / (1 + resamples))
        fit_p_values[family] = float((1 + (drawn[k, k] >= real[k]).sum()) / (1 + resamples))
    compatible = tuple(family for family in families if p_values[family] >= level)
    if not compatible or max(fit_p_values[family] for family in compatible) < level:
        answer = "none"
    else:
        answer = compatible[0] if len(compatible) == 1 else "not distinguishable: " + ", ".join(compatible)
    return FamilyChoice(answer, compatible, p_values, fit_p_values, level, resamples)
