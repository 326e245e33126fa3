"""Intervals cover what they should, the choice of a family holds its level, and both say where they know nothing."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from probes.decay.family import choose_family, shrunken_metric
from probes.decay.fit import fit_decay
from probes.decay.intervals import bootstrap_intervals, numerical_intervals, varies
from probes.resampling import resampled_means
from reports.calibration import app
from reports.experiments.calibration import rates, sequence_profiles
from tests.builders import generator, refused, run
from unrolled import Exponential, GaussianProcess, Polynomial
from unrolled.kernels import KERNELS

LAGS = np.arange(17)
PAIRS = np.where(LAGS == 0, 32.0, 2.0 * (32 - LAGS))


def profiles(kernel, sequences, seed=0, length=32):
    return sequence_profiles(kernel, length, sequences, seed)[:, : len(LAGS)]


def test_sequence_profiles_are_lag_means_of_exact_sequences():
    """Their mean is gamma to five standard errors at every lag, and a plain double loop gives the same numbers."""
    found = sequence_profiles(Exponential(3, 1.3), 12, 4000, 0)
    error = found.std(axis=0) / math.sqrt(4000)
    assert (np.abs(found.mean(axis=0) - Exponential(3, 1.3)(np.arange(12)).numpy()) < 5 * error).all()
    x = GaussianProcess(12, Exponential(3, 1.3), [[1.0]]).sample(4000, generator())[:3, :, 0].numpy()
    loop = [[np.mean([row[i] * row[i + lag] for i in range(12 - lag)]) for lag in range(12)] for row in x]
    np.testing.assert_allclose(found[:3], loop, atol=1e-14)


def test_resampled_means_have_the_moments_of_the_bootstrap():
    """Mean and covariance/S of the sequences; over B resamples known to about 1/sqrt(B) of themselves."""
    sequences = profiles(Exponential(4), 40)[:, :5]
    means = resampled_means(sequences, 20_000, np.random.default_rng(0))
    covariance = np.cov(sequences.T, bias=True) / 40
    assert (np.abs(means.mean(axis=0) - sequences.mean(axis=0)) < 5 * np.sqrt(np.diag(covariance) / 20_000)).all()
    size = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert (np.abs(np.cov(means.T) - covariance) < 5 * math.sqrt(2 / 20_000) * size).all()


def test_intervals_are_percentiles_of_refits():
    """Against a loop that fits every resample by itself, each to rounding from several starts."""
    sequences = profiles(Exponential(4), 100)
    found = bootstrap_intervals(LAGS, sequences, weights=PAIRS, resamples=60, level=0.9, seed=3)
    means = resampled_means(sequences, 60, np.random.default_rng(3))
    fits = [fit_decay(LAGS, each, weights=PAIRS) for each in means]
    for name in ("lengthscale", "power", "amplitude", "floor"):
        values = np.array([getattr(fit, name) for fit in fits])
        in_logarithms = name in ("lengthscale", "power")
        ends = np.exp(np.quantile(np.log(values), [0.05, 0.95])) if in_logarithms else np.quantile(values, [0.05, 0.95])
        for end, value in zip(("low", "high"), ends, strict=True):  # the fits stop at 1e-6 in logarithms
            assert getattr(found, f"{name}_{end}") == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert found.interval == "bootstrap" and found.level == 0.9


def test_intervals_narrow_like_the_root_of_the_number_of_sequences():
    """100 times the sequences, a tenth of the width; each width is known to about 1/sqrt(2 B) = 5 %, and the
    non-linearity of the fit at 100 sequences adds some of its own."""
    widths = []
    for count in (100, 10_000):
        found = bootstrap_intervals(LAGS, profiles(Exponential(4), count), weights=PAIRS, resamples=200)
        widths.append([math.log(found.lengthscale_high / found.lengthscale_low), found.power_high - found.power_low])
    ratio = np.array(widths[0]) / np.array(widths[1])
    assert ((ratio > 7) & (ratio < 15)).all()


def test_interval_is_one_sided_at_power_two():
    found = bootstrap_intervals(LAGS, profiles(Exponential(3, 2), 100), weights=PAIRS)
    assert found.one_sided == "power_high" and found.power_high == 2.0 and found.power_low < 2.0 + 1e-12
    assert found.covers("power", 2.0) and found.covers("lengthscale", found.lengthscale_low)
    assert found.covers("power", 3.0) and not found.covers(
        "power", found.power_low * 0.999
    )  # an open end bounds nothing
    assert not found.covers("lengthscale", found.lengthscale_high * 1.001)


def test_what_does_not_decay_or_vary_is_said():
    sequences = profiles(Exponential(4), 9)
    few = bootstrap_intervals(LAGS, sequences)
    assert few.interval == "too few sequences" and math.isnan(few.lengthscale_low) and not few.covers("power", 1.0)
    assert choose_family(LAGS, sequences).answer == "too few sequences"
    flat = np.full((50, 17), 0.25)
    assert bootstrap_intervals(LAGS, flat).interval == choose_family(LAGS, flat).answer == "constant"
    same = np.repeat(Exponential(4, 1.5)(LAGS).numpy()[None], 50, axis=0).astype(np.float32).astype(np.float64)
    assert not varies(same, np.ones(17) / 17)
    choice = choose_family(LAGS, same)
    assert (
        choice.answer == "same in every sequence" and choice.compatible == () and math.isnan(choice.p_values["matern"])
    )
    found = bootstrap_intervals(LAGS, same)
    assert found.interval == "numerical" and found.covers("power", 1.5) and found.covers("lengthscale", 4.0)
    assert found.power_high - found.power_low < 1e-4


def test_numerical_intervals_hold_every_disturbance_and_are_reached():
    """Errors of +-e at every lag: refits stay inside to second order, and come near the ends."""
    profile = 0.1 + 0.4 * Polynomial(3, 1.5)(LAGS).numpy()
    fit = fit_decay(LAGS, profile, "polynomial", PAIRS)
    found = numerical_intervals(LAGS, fit, PAIRS, 1e-7)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (200, 17))
    refits = [fit_decay(LAGS, profile + 1e-7 * each, "polynomial", PAIRS) for each in signs]
    for name in ("lengthscale", "power", "amplitude", "floor"):
        low, high, centre = (getattr(found, f"{name}_low"), getattr(found, f"{name}_high"), getattr(fit, name))
        moved = np.array([getattr(each, name) for each in refits]) - centre
        assert moved.max() < 1.01 * (high - centre) and moved.min() > 1.01 * (low - centre)
        assert moved.max() > 0.3 * (high - centre)  # random signs add like a root, the worst like a sum
    assert numerical_intervals(LAGS, fit_decay(LAGS, np.ones(17))).interval == "constant"


def test_a_vanished_gaussian_says_nothing_of_its_power():
    sequences = np.repeat(np.exp(-8.0 * LAGS**2)[None], 12, axis=0)
    found = bootstrap_intervals(LAGS, sequences, weights=PAIRS)
    assert set(found.one_sided.split()) == {"lengthscale_low", "lengthscale_high", "power_low", "power_high"}


def test_metric_whitens_and_shrinks():
    sequences = profiles(Exponential(4), 5000)
    inverse = np.linalg.inv(shrunken_metric(sequences))
    covariance = np.cov(sequences.T)
    expected = 0.9 * covariance + 0.1 * np.diag(np.diag(covariance))
    np.testing.assert_allclose(inverse, expected / np.diag(covariance).mean(), rtol=1e-9, atol=1e-12)


def test_families_are_told_apart_where_they_can_be():
    choice = choose_family(LAGS, profiles(Exponential(3, 0.7), 1000), seed=1)
    assert "exponential" in choice.compatible and "polynomial" not in choice.compatible
    assert choice.p_values["logarithmic"] == 0.01 == 1 / (1 + choice.resamples)
    near = choose_family(LAGS, profiles(Exponential(3, 1), 100))
    assert near.answer == "not distinguishable: " + ", ".join(near.compatible)
    assert {"exponential", "matern"} <= set(near.compatible)  # Matern 1/2 is Exponential 1
    assert list(near.row())[:2] == ["answer", "p_exponential"] and len(near.row()) == 1 + 2 * len(KERNELS)


@pytest.mark.parametrize("level", [0.05, 0.1])
@pytest.mark.parametrize("disturbance", [0.0, 0.02, 0.2])
def test_the_answer_is_what_the_p_values_say(level, disturbance):
    """A family stays from p = level on; without one that fits as well the answer is none. With 19 resamples p-values
    are multiples of 1/20, and one of a family that always loses is 1/20."""
    sequences = profiles(Exponential(3, 0.7), 400, seed=2) + disturbance * np.cos(LAGS)
    choice = choose_family(LAGS, sequences, resamples=19, level=level)
    p, fit_p = choice.p_values, choice.fit_p_values
    counts = 20 * np.array([*p.values(), *fit_p.values()])
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-12)
    assert counts.min() == 1 and counts.max() <= 20
    compatible = [family for family in KERNELS if p[family] >= level]
    assert list(choice.compatible) == compatible and (level > 0.05 or compatible == list(KERNELS))
    several = compatible[0] if len(compatible) == 1 else "not distinguishable: " + ", ".join(compatible)
    assert choice.answer == (several if any(fit_p[family] >= level for family in compatible) else "none")


def test_none_where_no_family_fits():
    sequences = profiles(Exponential(3), 1000) + 0.2 * np.cos(LAGS)
    choice = choose_family(LAGS, sequences)
    assert choice.answer == "none" and max(choice.fit_p_values.values()) == 0.01


def test_choice_does_not_depend_on_scale_and_offset():
    sequences = profiles(Polynomial(3, 1), 200)
    a, b = choose_family(LAGS, sequences), choose_family(LAGS, 5.0 - 1e-3 * sequences)
    assert a.answer == b.answer and a.p_values == pytest.approx(b.p_values, abs=0.011)  # one resample may change sides


def test_calibration_at_small_scale(tmp_path, capsys):
    """30 runs: a coverage of at least 90 % and an error of at most 10 % pass with 99.9 %, by the binomial law."""
    run(
        app, "--runs", 30, "--sequences", 200, "--length", 32, "--edge-runs", 6, "--curve-runs", 2, "--counts", 100,
        "--resamples", 100, "--choice-resamples", 39, "--out", tmp_path / "cal",
    )  # fmt: skip
    table = pd.read_csv(tmp_path / "cal" / "calibration.csv", keep_default_na=False)
    found = table[table.section == "exponential"]
    least, most = binom.ppf(1e-3, 30, 0.9), binom.ppf(1 - 1e-3, 30, 0.1)
    assert len(found) == 30 and found.true_power.min() >= 0.5 and found.true_power.max() <= 1.5
    edge = table[table.section == "power 2"]
    assert len(edge) == 6 and (edge.true_power == 2).all()
    for name in ("lengthscale", "power"):
        for rows in (found, edge):
            inside = [
                (rows[f"{name}_low"] <= rows[f"true_{name}"]) | rows.one_sided.str.contains(f"{name}_low"),
                (rows[f"true_{name}"] <= rows[f"{name}_high"]) | rows.one_sided.str.contains(f"{name}_high"),
            ]
            assert (rows[f"covers_{name}"] == (inside[0] & inside[1])).all()
        assert found[f"covers_{name}"].sum() >= least
    assert found.excluded.sum() <= most
    # At power 2 nothing lies above the truth: an interval covers it exactly if its upper end is open.
    assert (edge.covers_power == edge.one_sided.str.contains("power_high")).all()
    assert edge.covers_power.sum() >= binom.ppf(1e-3, 6, 0.9)
    summary = rates(table)
    row = summary.query("section == 'exponential' and what == 'power covered'").iloc[0]
    assert row.rate == found.covers_power.mean()
    assert row.standard_error == pytest.approx((row.rate * (1 - row.rate) / 30) ** 0.5)
    assert (tmp_path / "cal" / "calibration.png").read_bytes().startswith(b"\x89PNG")
    assert "plain AIC picks another" in capsys.readouterr().out


def test_bad_input_is_named(tmp_path, capsys):
    sequences = profiles(Exponential(4), 30)
    with pytest.raises(ValueError, match="^resamples: 5 is not"):
        bootstrap_intervals(LAGS, sequences, resamples=5)
    with pytest.raises(ValueError, match="^level: "):
        bootstrap_intervals(LAGS, sequences, level=95)
    with pytest.raises(ValueError, match="^sequences: "):
        bootstrap_intervals(LAGS, sequences[0])
    with pytest.raises(ValueError, match="^families: "):
        choose_family(LAGS, sequences, ["exponential"])
    with pytest.raises(ValueError, match="^resamples: 9 with level 0.05"):
        choose_family(LAGS, sequences, resamples=9)
    with pytest.raises(ValueError, match="^lag: 3 lags"):
        choose_family(LAGS[:3], sequences[:, :3])
    for option, value in (("runs", 1), ("sequences", 5), ("length", 6), ("counts", 3)):
        assert f"{option}: {value} " in refused(capsys, app, f"--{option}", value, "--out", tmp_path / "x")
