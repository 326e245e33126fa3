"""Controls for attention maps: how much better a head matches the true covariance than something that never learned it.

A published objection to reading attention maps is that position codes alone give maps that decay. So a head's match is
never reported alone. The match r of a head is the correlation over lags, weighted by their pairs, of its mean attention
by lag with a target; r = 1 is floor + amplitude * target with a positive amplitude. The targets are

    covariance   gamma(lag), lags 0, 1, ..
    prediction   -C_t^{-1} by lag, lags 1, 2, ..: the weights with which the other frames predict a frame of X_t

Effect sizes are differences of z = atanh r, Cohen's q (published: Cohen, Statistical Power Analysis, 1988, ch. 4, who
calls 0.1 small, 0.3 medium, 0.5 large). Against each control the null hypothesis is that the head matches no better:

    position code only, shuffled frames: the same head on another input
    trained on white noise, on another kernel: the best head of the other network on the same input
    wrong kernel: the same head, and the better of two wrong targets, the true one stretched and shrunk fourfold
    untrained: the best head of each of S networks of random weights

The first two ask whether the map is made from the data or from positions; the others, whether training on this
covariance made it. A head can fail the first and pass the others: its weights then hold the covariance as a function of
position, as those of a hand-set solver do. The p-value of all but the last is that of a paired bootstrap over
sequences, corrected for the number of heads by Holm's method (published: Scand. J. Stat. 6, 1979). It speaks about
sequences, for these two networks: another seed of training is another network; nor is it corrected for the number of
times and targets. Few sequences make it too small (measured, 16 heads without a difference: one or more called better
in 97 % of studies of 2 sequences, 22 to 35 % of 8, 5 to 15 % of 16, 2 to 5 % of 64), hence `LEAST_SEQUENCES`; windows
of a series that overlap count as more sequences than they are. That of the last is the share of untrained networks
whose best head matches at least as well, the single-step correction of Westfall and Young, which accounts for the heads
of one network being dependent.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float

from probes.capture.by_lag import AttentionByLag
from probes.capture.lags import fold_lags, folded_pairs
from probes.resampling import LEVEL, bootstrap_counts, holm
from unrolled.checks import InputError

__all__ = [
    "LEAST_SEQUENCES",
    "SMALL",
    "compare_heads",
    "folded_profiles",
    "has_shape",
    "match",
    "moved_attention",
    "untrained_p_values",
    "verdicts",
]

SMALL = 0.1
"""Effect sizes below this are small even for Cohen: a head counts as better than a control from here on."""
LEAST_SEQUENCES = 64
"""With fewer the bootstrap's p-values are too small."""
INPUT_CONTROLS = ("position code only", "shuffled frames")

Z_LIMIT = 8.0
"""Largest abs(z) reported: beyond it, 1 - r is below 1e-7 and is rounding of float32 maps."""
RESAMPLES = 1999
CONSTANT = 1e-6
"""A profile whose spread over lags is below this share of its mean has no shape in float32: its match is 0."""
FLAT = 1e-10
"""Spread of a target over lags, relative to gamma(0) = 1, below which it is rounding."""


def folded_profiles(attention: AttentionByLag) -> dict[tuple[int, int], Float[np.ndarray, "sequences lags"]]:
    """(layer, head) -> profile of every sequence at lags 0 .. N-1, averaged over the sign of the lag.

    Heads that see no token but their own, or that a layer lacks, are left out.
    """
    seeing = attention.profiles[..., attention.lags != 0].any(axis=(2, 3))
    return {
        (layer, head): fold_lags(attention.profiles[layer, head])[1] for layer, head in np.argwhere(seeing).tolist()
    }


def has_shape(target: Float[np.ndarray, " lags"], weights: Float[np.ndarray, " lags"]) -> bool:
    """Whether a target varies over lags, so that anything can match it; -C_t^{-1} of white noise does not."""
    share = weights / weights.sum()
    return bool(np.sqrt(share @ (target - share @ target) ** 2) > FLAT)


def match(
    profiles: Float[np.ndarray, "*batch lags"], target: Float[np.ndarray, " lags"], weights: Float[np.ndarray, " lags"]
) -> Float[np.ndarray, "*batch"]:
    """z = atanh r of each profile with the target, r the weighted correlation over lags; 0 for a constant profile."""
    share = weights / weights.sum()
    mean = (profiles @ share)[..., None]
    swing, goal = profiles - mean, target - share @ target
    spread, size = np.sqrt(swing**2 @ share), np.sqrt(share @ goal**2)
    shaped = spread > CONSTANT * np.abs(mean[..., 0])
    r = np.where(shaped, (swing * goal) @ share / np.where(shaped, spread * size, 1.0), 0.0)
    return np.asarray(np.arctanh(np.clip(r, -np.tanh(Z_LIMIT), np.tanh(Z_LIMIT))))


def compare_heads(
    heads: Mapping[tuple[int, int], Float[np.ndarray, "sequences lags"]],
    target: Float[np.ndarray, " lags"],
    weights: Float[np.ndarray, " lags"],
    rng: np.random.Generator,
    same_head: Mapping[tuple[int, int], Float[np.ndarray, "sequences lags"]] | None = None,
    best_of: Mapping[tuple[int, int], Float[np.ndarray, "sequences lags"]] | None = None,
    wrong_targets: Float[np.ndarray, "targets lags"] | None = None,
) -> pd.DataFrame:
    """One row per head: its match, that of one control, effect size q, p and the p corrected for the number of heads.

    Exactly one of the last three arguments says what the control is.

    Args:
        heads: profiles of each sequence, see `folded_profiles`.
        target: what they are matched with.
        weights: of the lags.
        rng: of the bootstrap.
        same_head: the same heads on another input, from the same sequences in the same order.
        best_of: heads of another network on the same sequences, of which each resample takes the best.
        wrong_targets: targets for the same heads, of which each resample takes the best.
    """
    if sum(control is not None for control in (same_head, best_of, wrong_targets)) != 1:
        raise InputError("same_head, best_of, wrong_targets: accepted: exactly one of them")
    if not all(has_shape(goal, weights) for goal in (target, *([] if wrong_targets is None else wrong_targets))):
        raise InputError("target: a target is the same at every lag; accepted: targets that vary")
    count = len(next(iter(heads.values())))
    # Row 0 is the sample itself, the others resamples of it: mean profiles are products with these shares.
    shares = np.vstack([np.ones(count), bootstrap_counts(count, RESAMPLES, rng)]) / count

    def z(profiles: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return match(shares @ profiles, goal, weights)

    best = None
    if best_of is not None:
        best = np.max([z(profiles, target) for profiles in best_of.values()] or [np.zeros(len(shares))], axis=0)
    rows = []
    for (layer, head), profiles in heads.items():
        ours = z(profiles, target)
        if best is not None:
            theirs = best
        elif same_head is not None:
            theirs = z(same_head[layer, head], target)
        else:
            assert wrong_targets is not None
            theirs = np.max([z(profiles, wrong) for wrong in wrong_targets], axis=0)
        q = ours - theirs
        rows.append(
            {
                "layer": layer, "head": head, "r": np.tanh(ours[0]), "r_control": np.tanh(theirs[0]), "q": q[0],
                "q_low": np.quantile(q[1:], 0.025), "q_high": np.quantile(q[1:], 0.975),
                "p": (1 + np.sum(~(q[1:] > 0))) / (1 + RESAMPLES),
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    return table.assign(p_corrected=holm(table["p"].to_numpy()))


def untrained_p_values(
    heads: Mapping[tuple[int, int], Float[np.ndarray, "sequences lags"]],
    best_untrained: Float[np.ndarray, " networks"],
    target: Float[np.ndarray, " lags"],
    weights: Float[np.ndarray, " lags"],
) -> pd.DataFrame:
    """The rows of `compare_heads` for untrained networks, whose best z are given; q is against their median."""
    middle, rows = float(np.median(best_untrained)), []
    for (layer, head), profiles in heads.items():
        z = float(match(profiles.mean(axis=0), target, weights))
        low, high = (z - np.quantile(best_untrained, level) for level in (0.975, 0.025))
        p = (1 + np.sum(best_untrained >= z)) / (1 + len(best_untrained))
        rows.append(
            {
                "layer": layer, "head": head, "r": np.tanh(z), "r_control": np.tanh(middle), "q": z - middle,
                "q_low": low, "q_high": high, "p": p, "p_corrected": p,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def moved_attention(
    profiles: Float[np.ndarray, "sequences lags"], control: Float[np.ndarray, "sequences lags"]
) -> float:
    """Share of the attention inside the sequence that a control moves to other lags, from 0 to 1.

    Half the sum over lags 0 .. N-1 of abs(difference of mass), the mass at a lag being mean attention times pairs over
    that of all lags; attention to registers has no lag and does not count. 1 where the control has no attention.
    """
    pairs = folded_pairs(profiles.shape[1])
    ours, theirs = (pairs * sequences.mean(axis=0) for sequences in (profiles, control))
    if not theirs.any():
        return 1.0
    return float(0.5 * np.abs(ours / ours.sum() - theirs / theirs.sum()).sum())


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """(t, target, layer, head) -> `learned`: better than every control that never saw this covariance; `from_data`:
    better than both input controls. Better is p_corrected below `LEVEL` and q at least `SMALL`."""
    better = table.assign(better=(table["p_corrected"] < LEVEL) & (table["q"] >= SMALL))
    keys = ["t", "target", "layer", "head"]
    given = better["control"].isin(INPUT_CONTROLS)
    answers = {
        name: rows.groupby(keys, sort=False)["better"].all()
        for name, rows in (("learned", better[~given]), ("from_data", better[given]))
    }
    return pd.DataFrame(answers).reset_index()
