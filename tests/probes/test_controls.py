"""Controls say yes to what was learned and no to what was not; their p-values are honest under the null."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from probes.attention.__main__ import app as attention_app
from probes.controls import comparison as controls
from probes.controls.__main__ import app
from probes.controls.comparison import compare_heads, match, moved_attention, untrained_p_values, verdicts
from probes.controls.networks import kept_control, other_kernel, train_control, white_noise
from probes.controls.study import study_controls
from probes.inputs import untrained_networks
from tests.builders import TINY, checkpoint_of, generator, refused, run
from unrolled import Exponential, GaussianProcess, load_checkpoint
from unrolled.handset import construct
from unrolled.train.__main__ import app as train_app

LAGS = np.arange(9)
WEIGHTS = np.where(LAGS == 0, 1.0, 2.0) * (16 - LAGS)
TRUTH = np.exp(-LAGS / 4)


def noisy_heads(shape: np.ndarray, rng: np.random.Generator, noise: float = 0.3, count: int = 60) -> np.ndarray:
    """Profiles of `count` sequences around `shape`, errors correlated over lags as those of real profiles are."""
    steps = rng.standard_normal((count, len(shape)))
    return shape + noise * np.cumsum(steps, axis=1) / np.sqrt(np.arange(1, len(shape) + 1))


def test_match_is_the_correlation_weighted_by_pairs():
    rng = np.random.default_rng(0)
    profile = rng.standard_normal(len(LAGS))
    repeated = [np.repeat(each, WEIGHTS.astype(int)) for each in (profile, TRUTH)]
    r = np.corrcoef(*repeated)[0, 1]
    assert float(match(profile, TRUTH, WEIGHTS)) == pytest.approx(np.arctanh(r), rel=1e-12)
    # A floor and a positive amplitude change nothing, a negative one turns the sign, a constant matches nothing.
    assert float(match(3 + 0.1 * profile, TRUTH, WEIGHTS)) == pytest.approx(np.arctanh(r), rel=1e-9)
    assert float(match(3 - 0.1 * profile, TRUTH, WEIGHTS)) == pytest.approx(-np.arctanh(r), rel=1e-9)
    assert float(match(np.full(len(LAGS), 0.2), TRUTH, WEIGHTS)) == 0


@pytest.mark.parametrize(("shape", "exact"), [((LAGS < 3).astype(float), False), (TRUTH, True)])
def test_p_values_hold_their_level_under_the_null(shape, exact, monkeypatch):
    """Head and control of one law: p <= 0.05 in a twentieth of the cases, up to the binomial limits at 1e-4; in fewer
    where the misfit is all noise, since resampling adds to it."""
    monkeypatch.setattr(controls, "RESAMPLES", 199)
    rng = np.random.default_rng(1)
    runs = 300
    heads, others = ({(0, k): noisy_heads(shape, rng) for k in range(runs)} for _ in range(2))
    small = int((compare_heads(heads, TRUTH, WEIGHTS, rng, same_head=others)["p"] <= 0.05).sum())
    assert small <= stats.binom.isf(1e-4, runs, 0.05)
    assert exact or small >= stats.binom.isf(1 - 1e-4, runs, 0.05)


def test_a_better_head_is_found_and_a_worse_one_is_not():
    rng = np.random.default_rng(2)
    box = (LAGS < 3).astype(float)
    heads = {(0, 0): noisy_heads(TRUTH, rng, 0.05), (0, 1): noisy_heads(box, rng, 0.05)}
    other = {(0, 0): noisy_heads(box, rng, 0.05), (1, 0): noisy_heads(box[::-1], rng, 0.05)}
    table = compare_heads(heads, TRUTH, WEIGHTS, rng, best_of=other)
    assert list(table.p_corrected < 0.05) == [True, False]
    assert table.q.iloc[0] > 0.5 and table.q_low.iloc[0] < table.q.iloc[0] < table.q_high.iloc[0]
    wrong = np.stack([TRUTH**4, TRUTH**0.25])
    table = compare_heads(heads, TRUTH, WEIGHTS, rng, wrong_targets=wrong)
    assert table.p_corrected.iloc[0] < 0.05
    with pytest.raises(ValueError, match="exactly one"):
        compare_heads(heads, TRUTH, WEIGHTS, rng)


def z_by_hand(profile: np.ndarray, target: np.ndarray) -> float:
    """atanh of the correlation over lags, each lag repeated as often as it has pairs."""
    return float(np.arctanh(np.corrcoef(*(np.repeat(each, WEIGHTS.astype(int)) for each in (profile, target)))[0, 1]))


@pytest.mark.parametrize("kind", ["same_head", "best_of", "wrong_targets"])
def test_comparison_is_the_paired_bootstrap_written_out(kind, monkeypatch):
    """Every resample by a loop: sequences repeated as often as they were drawn, the same ones for head and control."""
    monkeypatch.setattr(controls, "RESAMPLES", 39)
    rng = np.random.default_rng(4)
    heads = {(0, k): noisy_heads(TRUTH ** (1 + k), rng, 0.4, count=7) for k in range(3)}
    other = {key: noisy_heads(TRUTH**2, rng, 0.4, count=7) for key in heads}
    wrong = np.stack([TRUTH**4, TRUTH**0.25])
    control = {"same_head": other, "best_of": other, "wrong_targets": wrong}[kind]
    table = compare_heads(heads, TRUTH, WEIGHTS, np.random.default_rng(5), **{kind: control})
    draws = np.random.default_rng(5).multinomial(7, np.full(7, 1 / 7), 39)
    p = []
    for key, row in zip(heads, table.itertuples(), strict=True):
        q = []
        for counts in [np.ones(7, dtype=int), *draws]:
            ours, theirs = (
                heads[key].repeat(counts, axis=0).mean(axis=0),
                other[key].repeat(counts, axis=0).mean(axis=0),
            )
            if kind == "same_head":
                best = z_by_hand(theirs, TRUTH)
            elif kind == "best_of":
                best = max(z_by_hand(each.repeat(counts, axis=0).mean(axis=0), TRUTH) for each in other.values())
            else:
                best = max(z_by_hand(ours, each) for each in wrong)
            q.append(z_by_hand(ours, TRUTH) - best)
        p.append((1 + sum(value <= 0 for value in q[1:])) / 40)
        expected = [q[0], np.quantile(q[1:], 0.025), np.quantile(q[1:], 0.975)]
        np.testing.assert_allclose([row.q, row.q_low, row.q_high], expected, rtol=0, atol=1e-10)
    assert table.p.tolist() == p
    assert table.p_corrected.tolist() == pytest.approx([min(1, max(
        value * (3 - k) for k, value in enumerate(sorted(p)) if value <= own)) for own in p], rel=1e-14)  # fmt: skip


def test_untrained_p_is_a_rank():
    heads = {(0, 0): TRUTH[None].repeat(2, axis=0) + 0.01 * np.sin(LAGS)}
    z = float(match(heads[0, 0][0], TRUTH, WEIGHTS))
    best = np.array([z - 1, z + 1, z - 2, z - 3])
    assert untrained_p_values(heads, best, TRUTH, WEIGHTS).p.iloc[0] == pytest.approx(2 / 5)


def test_moved_attention_is_total_variation_of_the_mass_by_lag():
    """All attention at lag 0 against all of it at lag 1, circularly none lost: everything has moved."""
    own, next_ = np.zeros((1, 6)), np.zeros((1, 6))
    own[0, 0] = 1.0  # the mean over the N pairs of lag 0
    next_[0, 1] = 6 / 10  # mass 1 over the 2 (N - 1) pairs of lags +-1
    assert moved_attention(own, next_) == pytest.approx(1.0)
    assert moved_attention(own, own) == 0


def test_hand_set_heads_are_positions_and_match_the_kernel():
    """Gaussian heads see positions only: input controls change nothing. Their dictionary is the same for every kernel,
    so a hand-set model of another kernel matches as well: no head may count as learned against it."""
    spatial = torch.diag(torch.tensor([1.0, 0.5]))
    process, wrong = (GaussianProcess(16, Exponential(lengthscale), spatial) for lengthscale in (4, 1))
    model, other = (construct(each, "chebyshev", 2, heads=14) for each in (process, wrong))
    table = study_controls(checkpoint_of(model, process), [0.2], {"other kernel": other}, samples=64, untrained=19)
    given = table[table.control.isin(["position code only", "shuffled frames"])]
    assert float(given.q.abs().max()) < 1e-6 and float(given.moved.max()) < 1e-9
    learned = verdicts(table).query("target == 'covariance'")
    assert not learned.learned.any() and not learned.from_data.any()
    assert table.query("control == 'untrained'").p.min() == pytest.approx(1 / 20)


def test_networks_of_the_controls(tmp_path):
    path = tmp_path / "run.pt"
    run(train_app, *TINY, "--length", 8, "--dim", 2, "--out", path)
    checkpoint = load_checkpoint(path)
    fresh = list(untrained_networks(checkpoint, 2, seed=5))
    assert not torch.equal(fresh[0].embed.weight, fresh[1].embed.weight)
    data = white_noise(checkpoint.process)
    assert torch.equal(data.temporal_covariance, torch.eye(8, dtype=torch.float64))
    assert other_kernel(checkpoint.process, 1.0).temporal == Exponential(16.0)
    assert other_kernel(GaussianProcess(3, torch.eye(3), torch.eye(2)), 2.0).temporal == Exponential(8.0)
    device, steps = torch.device("cpu"), []
    kept = tmp_path / "white.pt"
    model = train_control(checkpoint, data, device, kept, lambda step, _: steps.append(step))
    again = kept_control(checkpoint, data, kept)
    assert steps == [1, 2, 3, 4]
    x = torch.randn(2, 8, 2, generator=generator())
    assert torch.equal(model(x, 0.5), again(x, 0.5))
    with pytest.raises(ValueError, match="^out: .* holds another run"):
        kept_control(checkpoint, other_kernel(checkpoint.process, 1.0), kept)


def test_command_trains_the_controls_once(tmp_path, capsys):
    path, out = tmp_path / "run.pt", tmp_path / "out"
    run(train_app, *TINY, "--length", 8, "--dim", 2, "--out", path)
    options = ["--ckpt", path, "--samples", 64, "--untrained", 20]
    run(app, *options, "--out", out)
    printed = capsys.readouterr().out
    for name in ("position code only", "shuffled frames", "white noise", "other kernel", "wrong kernel", "untrained"):
        assert name in printed
    assert {file.name for file in out.iterdir()} == {
        "controls.csv", "controls.png", "white_noise.pt", "other_kernel.pt",
    }  # fmt: skip
    table = pd.read_csv(out / "controls.csv")
    assert len(table) == 2 * 2 * 6 and set(table.t) == {0.2}  # targets, heads, controls; the middle time
    kept = {name: (out / f"{name}.pt").stat().st_mtime_ns for name in ("white_noise", "other_kernel")}
    given = ["--white-noise", out / "white_noise.pt", "--other-kernel", out / "other_kernel.pt"]
    run(app, *options, *given, "--out", out)
    assert kept == {name: (out / f"{name}.pt").stat().st_mtime_ns for name in kept}
    assert pd.read_csv(out / "controls.csv").equals(table)
    for option, value, named in (
        ("--untrained", 0, "untrained: 0"), ("--samples", 63, "samples: 63"), ("--batch", 0, "batch: 0"),
        ("--t", 99, "t: 99"), ("--white-noise", path, "white_noise: "), ("--grid", "4x2x2", "Unknown option"),
    ):  # fmt: skip
        assert refused(capsys, app, "--ckpt", path, option, value).startswith(f"error: {named}")
    shutil.copy(out / "white_noise.pt", out / "other_kernel.pt")  # found before the other one is trained again
    (out / "white_noise.pt").unlink()
    assert "holds another run" in refused(capsys, app, *options, "--out", out)
    run(app, *options, "--out", tmp_path / "again")
    shutil.copytree(tmp_path / "again", out, dirs_exist_ok=True)
    for name, changed in (("length", 6), ("registers", 1), ("lengthscale", 4.0), ("t-range", (0.3, 3.0))):
        other = tmp_path / f"{name}.pt"
        values = {"length": 8, "registers": 0, "lengthscale": 1.0, name: changed}
        flat = [word for key, value in values.items() for word in (f"--{key}", *np.ravel(value))]
        run(train_app, *TINY, "--dim", 2, *flat, "--out", other)
        never = tmp_path / "never"
        line = refused(capsys, app, *options, "--other-kernel", other, "--out", never)
        assert "other_kernel: " in line and not list(never.iterdir()), name
    assert "white_noise: " in refused(capsys, app, *options, "--white-noise", out / "other_kernel.pt")


@pytest.mark.parametrize(
    ("option", "command"),
    [
        ("--controls", "controls"), ("--white-noise", "controls"), ("--other-kernel=x.pt", "controls"),
        ("--untrained", "controls"), ("--grid", "video"), ("--timestep=500", "video"), ("--latents", "video"),
    ],
)  # fmt: skip
def test_options_of_other_commands_are_named(option, command, capsys):
    line = refused(capsys, attention_app, "--ckpt", "run.pt", option)
    assert line == f"error: {option.split('=')[0][2:]}: is no option here; it belongs to python -m probes.{command}"


def test_a_target_without_shape_is_no_target():
    """White noise predicts nothing from other frames: -C_t^{-1} is 0 at every lag from 1 on, and nothing can match
    it."""
    process = GaussianProcess(8, torch.eye(8), torch.diag(torch.tensor([1.0, 0.5])))
    model = construct(GaussianProcess(8, Exponential(2), process.spatial_covariance), "chebyshev", 1, heads=14)
    table = study_controls(checkpoint_of(model, process), [0.2], {}, samples=64, untrained=20)
    assert set(table.target) == {"covariance"} and table.p.notna().all()
    with pytest.raises(ValueError, match="same at every lag"):
        compare_heads({(0, 0): noisy_heads(TRUTH, np.random.default_rng(0))}, 0 * TRUTH, WEIGHTS,
                      np.random.default_rng(0), best_of={})  # fmt: skip
    with pytest.raises(ValueError, match="^samples: 63"):
        study_controls(checkpoint_of(model, process), [0.2], {}, samples=63)
