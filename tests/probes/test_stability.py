"""Variance components of the profiles of heads: planted ones are found, and intervals cover what they should."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from probes.stability.__main__ import app
from probes.stability.components import between_networks, head_components, network_components
from probes.stability.study import kind_of
from tests.builders import TINY, make, refused, run
from unrolled import Exponential, construct, save_checkpoint
from unrolled.train.__main__ import app as train_app

LAG = np.arange(-7, 8)
PAIRS = 8.0 - np.abs(LAG)
SHAPES = np.stack([np.exp(-np.abs(LAG) / (k + 1)) for k in range(4)])
UNIT = float((SHAPES**2 @ PAIRS).sum() / PAIRS.sum())
"""Expected squared norm of one draw of `effects`."""
SEQUENCE, BOTH = 0.25 * UNIT, 0.16 * UNIT


def effects(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random curves over lags, correlated along them."""
    return rng.standard_normal((*shape, 4)) @ SHAPES


def planted(rng: np.random.Generator, level: np.ndarray, n: int, sequence: float = 0.5, both: float = 0.4):
    """(heads, times, n, lags) with means (heads, times, lags), and effects of these standard deviations."""
    heads, times, _ = level.shape
    common = sequence * effects(rng, heads, 1, n)
    return level[:, :, None] + common + both * effects(rng, heads, times, n)


def spread(curves: np.ndarray) -> float:
    """Variance over the first axis, in the norm of the components."""
    return float(curves.var(axis=0, ddof=1) @ PAIRS / PAIRS.sum())


def test_components_are_those_of_a_plain_analysis_of_variance():
    """Mean squares by definition, a lag at a time."""
    rng = np.random.default_rng(0)
    y = planted(rng, 5 + effects(rng, 3, 4), 9)
    found = network_components(y, PAIRS)
    expected = dict.fromkeys(("t", "sequence", "both"), 0.0)
    for head in y:
        for lag, weight in enumerate(PAIRS / PAIRS.sum()):
            table = pd.DataFrame(head[:, :, lag])
            residual = table.sub(table.mean(axis=1), axis=0).sub(table.mean(axis=0), axis=1) + table.to_numpy().mean()
            error = float((residual**2).to_numpy().sum()) / (3 * 8)
            expected["both"] += weight * error / 3
            expected["t"] += weight * (table.mean(axis=1).var() - error / 9) / 3
            expected["sequence"] += weight * (table.mean(axis=0).var() - error / 4) / 3
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-10)


def test_closed_forms_without_a_sequence_are_the_analysis_without_it():
    """The jackknife from its definition: every sequence left out in turn."""
    rng = np.random.default_rng(1)
    y = planted(rng, 5 + effects(rng, 3, 4), 8)
    found = network_components(y, PAIRS)
    for name, component in found.items():
        without = [network_components(np.delete(y, k, axis=2), PAIRS)[name].value for k in range(8)]
        error = np.sqrt(7 / 8 * ((without - np.mean(without)) ** 2).sum())
        assert component.high - component.value == pytest.approx(stats.t.ppf(0.975, 7) * error, rel=1e-8), name


def test_intervals_over_sequences_cover():
    """93 to 97 % of them, widened by 4 binomial standard errors of 300 runs; heads and times are what they are."""
    rng = np.random.default_rng(2)
    level = 5 + effects(rng, 4, 1) + 0.3 * effects(rng, 4, 5)
    truth = {
        "head": spread(level.mean(axis=1)), "t": np.mean([spread(head) for head in level]), "sequence": SEQUENCE,
        "both": BOTH,
    }  # fmt: skip
    runs, hits = 300, dict.fromkeys(truth, 0)
    for _ in range(runs):
        for name, part in network_components(planted(rng, level, 64), PAIRS).items():
            hits[name] += part.low <= truth[name] <= part.high
    for name, count in hits.items():
        assert 0.93 - 4 * np.sqrt(0.93 * 0.07 / runs) <= count / runs <= 0.97 + 4 * np.sqrt(0.97 * 0.03 / runs), name


def test_intervals_over_networks_cover():
    """The same over three networks, for the variance between them as well."""
    rng = np.random.default_rng(3)
    truth = {"seed": 0.36 * UNIT, "t": 0.09 * UNIT, "sequence": SEQUENCE, "both": BOTH}
    runs, hits = 200, dict.fromkeys(truth, 0)
    for _ in range(runs):
        levels = [5 + 0.6 * effects(rng, 1, 1) + effects(rng, 12, 1) + 0.3 * effects(rng, 12, 4) for _ in range(3)]
        found = between_networks([planted(rng, level, 8) for level in levels], PAIRS)
        for name, value in truth.items():
            hits[name] += found[name].low <= value <= found[name].high
    for name, count in hits.items():
        assert 0.93 - 4 * np.sqrt(0.93 * 0.07 / runs) <= count / runs <= 0.97 + 4 * np.sqrt(0.97 * 0.03 / runs), name


def test_heads_alone_make_no_difference_between_networks():
    """Unbiased: 200 estimates of nothing are 0 in the mean, to 4 standard errors: less than half of what heads add."""
    rng = np.random.default_rng(5)
    values = []
    for _ in range(200):
        levels = [5 + effects(rng, 6, 1) + np.zeros((6, 2, 1)) for _ in range(3)]
        values.append(between_networks([planted(rng, level, 4) for level in levels], PAIRS)["seed"].value)
    error = float(np.std(values)) / np.sqrt(200)
    assert abs(np.mean(values)) < 4 * error < UNIT / 6 / 2


def test_planted_heads_are_recovered():
    """Static, changing with t, with the input, and with both; times shuffled within sequences are no effect of t."""
    rng = np.random.default_rng(4)
    still = np.repeat(5 + effects(rng, 1, 1), 5, axis=1)
    moving = still + 2 * effects(rng, 1, 5)
    cases = {
        "static": planted(rng, still, 64, 0.01, 0.01),
        "t": planted(rng, moving, 64, 0.2, 0.2),
        "input": planted(rng, still, 64, 2.0, 1.0),
        "t and input": planted(rng, moving, 64, 2.0, 0.2),
    }
    for kind, y in cases.items():
        assert kind_of(head_components(y, PAIRS)[0]) == kind
    shuffled = cases["t"].copy()
    for q in range(64):
        shuffled[0, :, q] = rng.permutation(shuffled[0, :, q])
    assert kind_of(head_components(shuffled, PAIRS)[0]) == "input"
    parts = head_components(shuffled, PAIRS)[0]
    assert parts["t"].low < 0 < parts["t"].high and parts["both"].value > 10 * parts["t"].value


def test_command(tmp_path, capsys):
    paths = [tmp_path / f"{seed}.pt" for seed in range(2)]
    for seed, path in enumerate(paths):
        run(train_app, *TINY, "--length", 8, "--dim", 2, "--seed", seed, "--out", path)
    out = tmp_path / "out"
    run(app, "--ckpt", *paths, "--t", 0.05, 1, "--samples", 16, "--out", out)
    assert "networks, of equal training" in capsys.readouterr().out
    assert {each.name for each in out.iterdir()} == {"heads.csv", "components.csv", "summary.json", "stability.png"}
    assert list(pd.read_csv(out / "components.csv").component) == ["seed", "head", "t", "sequence", "both"]
    assert len(pd.read_csv(out / "heads.csv")) == 4
    process = make(8, 2, Exponential(3))
    save_checkpoint(tmp_path / "h.pt", construct(process, "chebyshev", 2, heads=12), process, {}, {})
    run(app, "--ckpt", tmp_path / "h.pt", "--t", 0.1, 1, "--samples", 4)
    assert "of 24 heads" in (printed := capsys.readouterr().out) and "static 24" in printed
    assert "other frames, blocks or heads" in refused(capsys, app, "--ckpt", paths[0], tmp_path / "h.pt")
    assert "two times or more" in refused(capsys, app, "--ckpt", paths[0], "--t", 0.1)
    assert "samples: 2 is not" in refused(capsys, app, "--ckpt", paths[0], "--samples", 2)
