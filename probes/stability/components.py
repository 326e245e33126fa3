"""Variance components of the profiles of heads, with intervals.

The profile of a head is its mean attention y_{t,q} at each lag, a vector for each time t and sequence q. The same
sequences, with the same noise, are seen at every t and by every head. In the norm that counts every pair of frames
alike, with a times, n sequences, deviations r = y_{t,q} - y_{.,q} from the mean over times, and bars for means over
sequences:

    both      sum_{t,q} |r - r_bar|^2 / ((a-1)(n-1))             times and sequences together, not their sum
    sequence  sum_q |y_{.,q} - y_{.,bar}|^2 / (n-1) - both/a     sequences, the same at every t
    t         sum_t |r_bar|^2 / (a-1) - both/n                   times, the same for every sequence
    head      the variance over the heads of a network of their means, in the same way
    seed      the variance over networks of the means over their heads, less head/heads

(method of moments of the crossed layout; published: Searle, Casella and McCulloch, Variance Components, 1992, ch. 4).
Each is unbiased, so that an estimate of nothing may be below 0. Times and heads are those that were looked at;
sequences are a sample.

**Intervals.** Over the sequences of one network by the jackknife: every component is a polynomial of degree 2 in the
profiles, whose values without one sequence have closed forms. Over several networks by Student's t of their values,
which are independent; for `seed` by a chi-squared whose degrees of freedom are those of the heads' deviations
(published: Satterthwaite, Biometrics Bulletin 2, 1946).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

__all__ = ["Component", "between_networks", "head_components", "network_components"]

LEVEL = 0.95
"""Nominal coverage of the intervals."""


@dataclass(frozen=True)
class Component:
    """An estimate with its interval, either of which may be below 0."""

    value: float
    low: float
    high: float


def _level_variance(y: Float[np.ndarray, "levels n lags"]) -> Float[np.ndarray, " resamples"]:
    """Unbiased variance over levels of their means over sequences: of all n, then without each sequence in turn.

    The deviations of the levels are taken from their mean in each sequence.
    """
    levels, n, _ = y.shape
    r = y - y.mean(axis=0)
    mean = r.mean(axis=1, keepdims=True)
    squares = ((r - mean) ** 2).sum(axis=(0, 2))
    without = mean - (r - mean) / (n - 1)  # of each level without each sequence
    spread = np.concatenate([[(mean**2).sum()], (without**2).sum(axis=(0, 2))]) / (levels - 1)
    count = np.concatenate([[n], np.full(n, n - 1)])
    return spread - _without(squares) / ((count - 1) * count * (levels - 1))


def _without(squares: Float[np.ndarray, " n"]) -> Float[np.ndarray, " resamples"]:
    """A sum of squared deviations from a mean: of all n terms, then without each of them in turn."""
    n, total = len(squares), squares.sum()
    return np.concatenate([[total], total - n / (n - 1) * squares])


def _resampled(y: Float[np.ndarray, "times n lags"]) -> dict[str, Float[np.ndarray, " resamples"]]:
    """t, sequence and both of one head, of all sequences and without each in turn."""
    times, n, _ = y.shape
    count = np.concatenate([[n], np.full(n, n - 1)])
    mean = y.mean(axis=0)
    squares = ((mean - mean.mean(axis=0)) ** 2).sum(axis=1)
    r = y - mean
    both = _without(((r - r.mean(axis=1, keepdims=True)) ** 2).sum(axis=(0, 2))) / ((times - 1) * (count - 1))
    return {"t": _level_variance(y), "sequence": _without(squares) / (count - 1) - both / times, "both": both}


def _jackknife(values: Float[np.ndarray, " resamples"]) -> Component:
    estimate, without = float(values[0]), values[1:]
    n = len(without)
    error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    reach = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * error)
    return Component(estimate, estimate - reach, estimate + reach)


def head_components(
    y: Float[np.ndarray, "heads times n lags"], weights: Float[np.ndarray, " lags"]
) -> list[dict[str, Component]]:
    """t, sequence and both of each head, with intervals over sequences, in units of |mean profile|^2.

    Args:
        y: profiles, at two times and for three sequences or more.
        weights: of the lags, the number of pairs behind each.
    """
    scaled = y * np.sqrt(weights / weights.sum())
    size = (scaled.mean(axis=(1, 2)) ** 2).sum(axis=1)
    heads = zip(scaled, size, strict=True)
    return [{name: _jackknife(v / s) for name, v in _resampled(head).items()} for head, s in heads]


def network_components(
    y: Float[np.ndarray, "heads times n lags"], weights: Float[np.ndarray, " lags"]
) -> dict[str, Component]:
    """head, and the means over heads of t, sequence and both, of one network, with intervals over sequences."""
    scaled = y * np.sqrt(weights / weights.sum())
    inner = [_resampled(head) for head in scaled]
    means = {name: np.mean([part[name] for part in inner], axis=0) for name in inner[0]}
    if len(y) > 1:
        means = {"head": _level_variance(scaled.mean(axis=1)), **means}
    return {name: _jackknife(values) for name, values in means.items()}


def between_networks(
    networks: Sequence[Float[np.ndarray, "heads times n lags"]], weights: Float[np.ndarray, " lags"]
) -> dict[str, Component]:
    """All five components over two networks or more of equally many heads, with intervals over networks."""
    each = [network_components(y, weights) for y in networks]
    count, found = len(networks), {}
    for name in each[0]:
        values = np.array([components[name].value for components in each])
        reach = float(stats.t.ppf((1 + LEVEL) / 2, count - 1) * values.std(ddof=1) / np.sqrt(count))
        found[name] = Component(float(values.mean()), float(values.mean()) - reach, float(values.mean()) + reach)
    return {"seed": _seed(networks, weights), **found}


def _seed(networks: Sequence[np.ndarray], weights: np.ndarray) -> Component:
    """Variance between networks of the means over their heads, which vary between heads as well."""
    scale = np.sqrt(weights / weights.sum())
    heads = np.stack([y.mean(axis=(1, 2)) * scale for y in networks])  # (networks, heads, lags)
    count, size = heads.shape[:2]
    deviations = (heads - heads.mean(axis=1, keepdims=True)).reshape(-1, heads.shape[2])
    covariance = deviations.T @ deviations / (count * (size - 1))
    within = float(np.trace(covariance)) / size
    between = float(heads.mean(axis=1).var(axis=0, ddof=1).sum())
    freedom = (count - 1) * np.trace(covariance) ** 2 / (covariance**2).sum()
    low, high = (between * freedom / stats.chi2.ppf(q, freedom) for q in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    return Component(between - within, float(low) - within, float(high) - within)
