"""Hand-set models are named what they are, controls are none, and the commands say so."""

import json
import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from probes.layers.__main__ import app
from probes.layers.iterates import solver_states
from probes.layers.names import candidates_at, indistinguishable, name_iterates, name_model, truncation_of
from reports.experiments import layers as report_module
from reports.experiments.layers import control_rows
from reports.layers import app as report_app
from tests.builders import TINY, make, noisy, random_dit, refused, run, write_csv
from unrolled import Exponential, GaussianProcess, Polynomial, construct, save_checkpoint
from unrolled.handset import hidden_iterates, reference_iterates
from unrolled.handset.construct import RIDGE
from unrolled.handset.dense_inverses import held_preconditioners, solved_preconditioners
from unrolled.train.__main__ import app as train_app

TIMES = (0.01, 0.05, 0.3, 1.0, 5.0)
KINDS = [("gradient_descent", 6, "dit"), ("chebyshev", 6, "dit"), ("preconditioned", 2, "dit"),
         ("chebyshev", 4, "relu"), ("conjugate_gradient", 3, "relu")]  # fmt: skip


@pytest.fixture(scope="module")
def line() -> GaussianProcess:
    """One value per frame, for what is slow."""
    return make(10, 1, Exponential(4))


@pytest.fixture(scope="module")
def inverses(line) -> dict[float, torch.Tensor]:
    """P_1, P_2, P_3 of the candidates at each of TIMES, the same for every model of the process."""
    return dict(zip(TIMES, held_preconditioners(line, TIMES, 3, RIDGE, (1e-3, 8.0), 96), strict=True))


def test_reference_of_the_preconditioned_model():
    """Independent of the forward pass, and as near to it as the model's gates are to their functions."""
    process = make(10, 1, Exponential(4), mean=False)
    model = construct(process, "preconditioned", 2)
    off = sum(error for name, error in model.construction.gate_errors.items() if "mean" not in name)
    for t in (0.001, 0.3):
        x = noisy(process, t, 8)
        expected = reference_iterates(model.construction, process, x, t)
        exact = process.score(x, t)
        for ours, theirs in zip(hidden_iterates(model, process, x, t), expected, strict=True):
            assert float((ours - theirs).norm() / exact.norm()) <= off < 1e-8


def test_weights_that_the_ramps_hold_are_nearly_those_of_one_t(line, inverses):
    solved = solved_preconditioners(line, 0.05, 2, RIDGE)
    assert 1e-9 < float((inverses[0.05][0] - solved[0]).norm() / solved[0].norm()) < 0.1


def test_classes_are_chains():
    points = {("a", 1): 0.0, ("b", 1): 0.9, ("b", 2): 1.8, ("a", 2): 3.0}
    candidates = {name: torch.tensor([[[value]]], dtype=torch.float64) for name, value in points.items()}
    found = indistinguishable(candidates, size=2.0, threshold=0.5)
    assert set(found) == {frozenset({("a", 1), ("b", 1), ("b", 2)}), frozenset({("a", 2)})}
    assert len(indistinguishable(candidates, 2.0, 0.4)) == 4


def test_answers_are_the_nearest_class_or_none():
    exact = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    candidates = {("a", 1): exact, ("b", 1): exact + 1e-6, ("a", 2): 2 * exact}
    found = [exact + 4e-7, 2 * exact, 1.5 * exact, exact * math.nan, 2 * exact + torch.tensor([0.0, 1.1e-3])]
    answers, classes = name_iterates(found, candidates, exact, own_error=2e-7)
    assert [each.word for each in answers] == ["class", "a", "none", "none", "none"]
    assert answers[0].members == {("a", 1), ("b", 1)} and len(classes) == 2
    assert answers[4].distance == pytest.approx(1.1e-3) and math.isinf(answers[3].distance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_hand_set_models_are_named(line, inverses, dtype):
    """At least 95 % of scored and 99 % of all cells; own errors are as predicted, so that classes stay small."""
    times = TIMES[:4]
    x = {t: noisy(line, t, 8).to(dtype) for t in times}
    cells = []
    for algorithm, steps, kind in KINDS if dtype == torch.float64 else (KINDS[0], KINDS[2], KINDS[4]):
        model = construct(line, algorithm, steps, kind, dtype=dtype)
        cells.append(name_model(model, line, x, [inverses[t] for t in times]))
        assert len(cells[-1]) == steps * len(times) and set(cells[-1].truth) == {algorithm}
        if algorithm in ("gradient_descent", "chebyshev"):
            assert cells[-1].own_error.max() <= max(model.construction.predicted_error)
    cells = pd.concat(cells)
    scored = cells[cells.scored]
    assert len(scored) > 0.7 * len(cells) and scored.inside.mean() >= 0.95 and cells.inside.mean() >= 0.99
    assert set(scored.named) == set(cells.truth)


def test_naming_does_not_read_the_algorithm_of_the_record(line, inverses):
    """A model whose record lies is named what it is, at the scale of classes of another."""
    model = construct(line, "chebyshev", 5)
    model.construction = replace(model.construction, algorithm="gradient_descent")
    x = {0.05: noisy(line, 0.05, 8)}
    candidates = candidates_at(model, line, x, 0, [inverses[0.05]])[0.05]
    found = hidden_iterates(model, line, x[0.05], 0.05)
    answers, _ = name_iterates(found, candidates, line.score(x[0.05], 0.05), 1e-9)
    assert [answer.members for answer in answers] == [{("chebyshev", k)} for k in range(1, 6)]
    # Its own error is then so large that one class holds everything, and no cell is scored.
    assert not name_model(model, line, x, [inverses[0.05]]).scored.any()


def test_converged_iterates_are_one_class(line, inverses):
    t = 5.0
    x = noisy(line, t, 8)
    model = construct(line, "gradient_descent", 12)
    candidates = candidates_at(model, line, {t: x}, 0, [inverses[t]])[t]
    exact = line.score(x, t)
    converged = {name for name, s in candidates.items() if float((s - exact).norm()) < 1e-9 * float(exact.norm())}
    assert {name for name, _ in converged} >= {"gradient_descent", "conjugate_gradient", "preconditioned"}
    _, classes = name_iterates([], candidates, exact, own_error=2e-10)
    assert any(converged <= each for each in classes)
    # At an error as large as the first step's everything is one class.
    assert len(name_iterates([], candidates, exact, own_error=0.1)[1]) == 1


@pytest.mark.parametrize(("algorithm", "steps", "kind"), [KINDS[1], KINDS[2], KINDS[4]])
def test_controls_are_none(line, inverses, algorithm, steps, kind):
    model = construct(line, algorithm, steps, kind)
    x = {t: noisy(line, t, 8) for t in (0.01, 0.3)}
    true = candidates_at(model, line, x, truncation_of(model.construction), [inverses[t] for t in x])
    false = candidates_at(model, make(10, 1, Polynomial(4, 1)), x, 0)
    rows = pd.DataFrame(control_rows(model, line, x, dict.fromkeys(x, 1e-9), true, false, seed=0))
    assert len(rows) == 3 * steps * 2 and (rows.named == "none").all()
    assert rows[rows.case == "random weights"].distance.min() > 0.05


def test_an_untrained_network_is_none():
    process = make(6, 2, Exponential(3))
    x = noisy(process, 0.1, 8)
    with torch.no_grad():
        score = random_dit().double()(x, 0.1)
    candidates = {(n, k): s for n, k, s in solver_states(process, x, 0.1, 4, 16)}
    (answer,), _ = name_iterates([score], candidates, process.score(x, 0.1), own_error=1e-6)
    assert answer.word == "none" and answer.distance > 0.1


def test_command_on_a_trained_model(tmp_path, capsys):
    run(train_app, *TINY, "--length", 12, "--dim", 2, "--out", tmp_path / "run.pt")
    out = tmp_path / "out"
    run(app, "--ckpt", tmp_path / "run.pt", "--t", 0.05, 1, "--samples", 32, "--steps", 30, "--out", out)
    printed = capsys.readouterr().out
    assert "effective depth" in printed and "named by its iterates" not in printed
    names = {each.name for each in out.iterdir()}
    assert names == {"layers.csv", "nearest.csv", "depth.csv", "summary.json", "layers.png", "cosines.png", "depth.png"}
    table, depth = pd.read_csv(out / "layers.csv"), pd.read_csv(out / "depth.csv")
    assert set(table.layer) == {0, 1} and set(table.t) == {0.05, 1.0} and table.distance.notna().all()
    assert len(depth) == 8 and ((depth.low <= depth.depth) & (depth.depth <= depth.high)).all()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["settings"]["samples"] == 32 and summary["dtype"] == "float32" and summary["settings"]["seed"] == 0
    line = refused(capsys, app, "--ckpt", tmp_path / "run.pt", "--samples", 4)
    assert line == "error: samples: 4 is not accepted; accepted: an integer >= 8 for this model's width"
    assert "steps: 0 is not" in refused(capsys, app, "--ckpt", tmp_path / "run.pt", "--steps", 0)
    assert "t: 99 is not accepted" in refused(capsys, app, "--ckpt", tmp_path / "run.pt", "--t", 99)
    assert refused(capsys, app, "--ckpt", tmp_path / "none.pt").startswith("error: ckpt: ")
    assert "out: " in refused(capsys, app, "--ckpt", tmp_path / "run.pt", "--out", tmp_path / "run.pt")


def test_command_on_a_hand_set_model(tmp_path, capsys):
    process = make(8, 1, Exponential(3))
    save_checkpoint(tmp_path / "hand.pt", construct(process, "chebyshev", 4), process, {}, {})
    out = tmp_path / "out"
    run(app, "--ckpt", tmp_path / "hand.pt", "--t", 0.05, "--samples", 64, "--steps", 12, "--out", out)
    names = pd.read_csv(out / "names.csv")
    assert list(names.named) == ["chebyshev"] * 4 and names.inside.all()
    assert "4 of 4 cells are scored" in capsys.readouterr().out
    depth = pd.read_csv(out / "depth.csv").set_index("solver")
    assert depth.depth["chebyshev_final"] == pytest.approx(4, abs=1e-3)


def test_command_on_real_data(tmp_path, capsys):
    run(train_app, *TINY, "--data", write_csv(tmp_path), "--length", 10, "--out", tmp_path / "run.pt")
    capsys.readouterr()
    run(app, "--ckpt", tmp_path / "run.pt", "--t", 0.2, "--samples", 32, "--steps", 10)
    assert "the exact score below is that of the Gaussian" in capsys.readouterr().out


def test_report_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report_module, "MODELS", {"DiT, Chebyshev": {"algorithm": "chebyshev", "steps": 2}})
    monkeypatch.setattr(report_module, "TIMES", (0.05, 0.5))
    out = tmp_path / "report"
    run(report_app, "--processes", "OU 4", "--length", 6, "--dim", 1, "--samples", 4, "--readouts", "--out", out)
    printed = capsys.readouterr().out
    assert "so a name" in printed and "random weights" in printed
    assert {each.name for each in out.iterdir()} == {"README.md", "layers.csv", "layers.png", "provenance.json"}
    table = pd.read_csv(out / "layers.csv")
    assert table.groupby("case").size().to_dict() == {
        "own process": 8, "another process": 8, "random weights": 8, "weights disturbed by 0.01": 8, "readouts": 4,
    }  # fmt: skip
    assert (table[table.case == "random weights"].named == "none").all()
    assert "processes: 'Wiener'" in refused(capsys, report_app, "--processes", "Wiener", "--out", out)
    assert "samples: 0" in refused(capsys, report_app, "--samples", 0, "--out", out)
