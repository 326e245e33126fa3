"""Layers against iterations: planted truths are found, what is none is called none, depth counts the steps of a solver."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from probes import readout as readout_module
from probes.classes import candidates_at, indistinguishable, name_iterates, name_model
from probes.depth import effective_depth, fractional_depth, solver_errors
from probes.iterates import APPLICATIONS, Spectral, ladder, polynomial, solver_states
from probes.layers import app, depth_cell, step_cell
from probes.matching import bootstrap_counts, match_layers, match_readouts
from probes.readout import fewest_sequences, readout, streams
from reports import layers as report_module
from reports.layers import app as report_app
from reports.layers import control_rows, named_by_readout
from tests.conftest import generator
from tests.test_commands import TINY, refused, run, write_csv
from tests.test_dit import random_dit
from tests.test_handset import make, noisy
from unrolled import Exponential, GaussianProcess, Polynomial, alpha, construct, save_checkpoint, sigma
from unrolled.handset import hidden_iterates, reference_iterates
from unrolled.handset.construct import RIDGE
from unrolled.handset.preconditioner_matrices import held_preconditioners, precondition, solved_preconditioners
from unrolled.solvers import chebyshev, conjugate_gradient, gradient_descent
from unrolled.train import app as train_app

EPS = torch.finfo(torch.float64).eps
KINDS = [("gradient_descent", 6, "dit"), ("chebyshev", 6, "dit"), ("preconditioned", 2, "dit"), ("chebyshev", 4, "relu"),
         ("conjugate_gradient", 3, "relu")]  # fmt: skip


@pytest.fixture(scope="module")
def process() -> GaussianProcess:
    return make(10, 2, Exponential(4))


TIMES = (0.01, 0.05, 0.3, 1.0, 5.0)


@pytest.fixture(scope="module")
def line() -> GaussianProcess:
    """One value per frame, for what is slow."""
    return make(10, 1, Exponential(4))


@pytest.fixture(scope="module")
def inverses(line) -> dict[float, torch.Tensor]:
    """P_1, P_2, P_3 of the candidates at each of TIMES, the same for every model of the process."""
    return dict(zip(TIMES, held_preconditioners(line, TIMES, 3, RIDGE, (1e-3, 8.0), 96), strict=True))


def dense_iterates(process: GaussianProcess, x: torch.Tensor, t: float, steps: int) -> dict[str, list[torch.Tensor]]:
    """Solvers on the dense C_t, row-major vectors."""
    c, r = process.noisy_covariance(t), (x - alpha(t) * process.mean).flatten(1)
    extremes = process.extreme_eigenvalues(t)
    return {
        "gradient_descent": list(gradient_descent(lambda v: v @ c, r, *extremes, steps)),
        "chebyshev_final": [
            list(chebyshev(lambda v: v @ c, r, *extremes, k))[-1] for k in range(1, steps + 1)
        ],
        "chebyshev": list(chebyshev(lambda v: v @ c, r, *extremes, steps)),
        "conjugate_gradient": list(conjugate_gradient(lambda v: v @ c, r, steps)),
    }  # fmt: skip


@pytest.mark.parametrize("t", [0.02, 1.0])
def test_states_are_those_of_the_solvers_on_the_dense_matrix(process, t):
    x = noisy(process, t, 4)
    expected = dense_iterates(process, x, t, 6)
    exact = process.score(x, t)
    seen = {}
    for solver, step, s in solver_states(process, x, t, 6, 6):
        seen.setdefault(solver, []).append(step)
        if step == 0:
            assert not s.any()
        elif solver in expected:
            # Six steps, each of a few roundings amplified by at most the condition number.
            allowed = 100 * EPS * process.condition_number(t) * float(exact.norm())
            assert float((s.flatten(1) - expected[solver][step - 1]).norm()) <= allowed
    assert seen == {solver: list(range(7)) for solver in [*expected, "preconditioned"]}


def test_preconditioners_act_as_their_dense_matrices(process):
    """The error of the iteration is prod_j (I - P_j C) times that of 0, with P_j built entry by entry."""
    t, basis = 0.05, process.spatial_eigen[1]
    x = noisy(process, t, 5)
    exact = process.score(x, t).flatten(1)
    matrices = solved_preconditioners(process, t, 3, 2e-3)
    c, error = process.noisy_covariance(t), -exact
    states = [s for solver, k, s in solver_states(process, x, t, 3, 3) if solver == "preconditioned" and k > 0]
    for matrix, s in zip(matrices, states, strict=True):
        dense = torch.einsum("kij,ak,bk->iajb", matrix, basis, basis).reshape(20, 20)
        error = error - error @ c.T @ dense.T
        torch.testing.assert_close(s.flatten(1) - exact, error, rtol=0, atol=1e-11 * float(exact.norm()))
    v = noisy(process, t, 2)
    torch.testing.assert_close(
        precondition(process, matrices)[1](v).flatten(1),
        v.flatten(1) @ torch.einsum("kij,ak,bk->iajb", matrices[1], basis, basis).reshape(20, 20).T,
    )


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


@pytest.mark.parametrize("solver", ["gradient_descent", "chebyshev_final"])
def test_polynomials_start_at_one_and_are_one_at_zero(solver):
    c = torch.linspace(0.1, 3, 7, dtype=torch.float64)
    assert torch.equal(polynomial(solver, c, [0]), torch.ones(1, 7, dtype=torch.float64))
    # p_k(c) = 1 - c q(c): towards c = 0 the polynomial of the same steps tends to 1.
    near = polynomial(solver, torch.tensor([1e-9, 3.0], dtype=torch.float64), [3])[0, 0]
    assert float(near) == pytest.approx(1, abs=1e-3)
    assert not polynomial(solver, torch.ones(3, dtype=torch.float64), [1, 5]).any()
    with pytest.raises(ValueError, match=r"^solver: 'newton'"):
        polynomial("newton", c, [1])


def test_ladder_has_both_parities():
    steps = ladder(2000)
    assert steps[:25] == list(range(25)) and steps[-1] == 2000 and len(steps) < 100
    assert all(any(k + 1 == other or k - 1 == other for other in steps) for k in steps[:-1])
    assert ladder(1) == [0, 1] and ladder(30)[-1] == 30


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
    true = candidates_at(model, line, x, model.construction.truncation, [inverses[t] for t in x])
    false = candidates_at(model, make(10, 1, Polynomial(4, 1)), x, 0)
    rows = pd.DataFrame(control_rows(model, line, x, dict.fromkeys(x, 1e-9), true, false, seed=0))
    assert len(rows) == 3 * steps * 2 and (rows.named == "none").all()
    assert rows[rows.control == "random weights"].distance.min() > 0.05


def test_an_untrained_network_is_none():
    process = make(6, 2, Exponential(3))
    x = noisy(process, 0.1, 8)
    with torch.no_grad():
        score = random_dit().double()(x, 0.1)
    candidates = {(n, k): s for n, k, s in solver_states(process, x, 0.1, 4, 16)}
    (answer,), _ = name_iterates([score], candidates, process.score(x, 0.1), own_error=1e-6)
    assert answer.word == "none" and answer.distance > 0.1


def test_planted_iterates_are_found_by_readout():
    """End to end on streams of known content: (solver, step) is named, and explains all of the layer's error."""
    process, t = make(12, 2, Exponential(4)), 0.05
    x = noisy(process, t, 128)
    planted = [("gradient_descent", 7), ("chebyshev_final", 5), ("conjugate_gradient", 4), ("preconditioned", 1)]
    states = {(n, k): s for n, k, s in solver_states(process, x, t, 4, 20)}
    u = sigma(t) * process.score(x, t)
    mean = process.mean.expand(len(x), -1, -1)
    mixes = torch.randn(4, 6, 6, generator=generator(7), dtype=torch.float64)
    layers = [
        readout(torch.cat([x, sigma(t) * states[n], mean], dim=2) @ mix, u, EPS)
        for n, mix in zip(planted, mixes, strict=True)
    ]
    found = {
        name: readout(torch.cat([x, sigma(t) * s, mean], dim=2), u, EPS) for name, s in states.items()
    }  # fmt: skip
    matches = match_readouts(layers, found, u[64:], bootstrap_counts(64, 100, 0), t, EPS)
    best = matches.nearest[matches.nearest.best]
    assert list(zip(best.solver, best.step, strict=True)) == planted
    assert (best.explained > 1 - 1e-6).all() and (best.cosine > 1 - 1e-6).all()
    assert (best.low == best.step).all() and (best.high == best.step).all() and (best.alike == best.step.astype(str)).all()
    assert list(best.rivals) == [name for name, _ in planted]


@pytest.mark.parametrize(("algorithm", "steps", "kind"), KINDS[:3])
def test_hand_set_dits_are_named_by_readout(algorithm, steps, kind):
    """The path of trained models, which knows neither where the iterate stands nor that there is one."""
    process = make(10, 2, Exponential(4), mean=False)
    model = construct(process, algorithm, steps, kind)
    cells = named_by_readout(model, process, {0.05: noisy(process, 0.05, 192)}, registers=1)
    assert cells.inside.all() and (cells.explained > 0.9).all()
    # The first two steps of every solver, the third of gradient descent and the last of Chebyshev equal another's.
    assert cells.scored.sum() >= 2


def test_early_steps_are_equal_readouts(process):
    """s_1 is a multiple of r = x - alpha mu and s_2 a combination of r and C r, whatever the polynomial; at three steps that
    of gradient descent, z^3, and that of Chebyshev, z^3 - 3z/4 up to factors, differ by what x takes up."""
    x = noisy(process, 0.1, 64)
    model = construct(process, "chebyshev", 4)
    matches = match_layers(model, process, x, 0.1, registers=1, most=4, resamples=20)
    for solver in ("chebyshev", "chebyshev_final"):
        assert ("gradient_descent", 0) in matches.equal[solver, 1]
        assert ("gradient_descent", 2) in matches.equal[solver, 2]
        assert ("gradient_descent", 4) not in matches.equal[solver, 4]
    assert ("gradient_descent", 3) in matches.equal["chebyshev_final", 3]
    table = matches.table
    assert len(table) == 5 * (5 + 5 + 5 + 5 + 5) and set(table.layer) == {0, 1, 2, 3, 4}
    expected = 1 - (table.distance / table.layer_error) ** 2
    np.testing.assert_allclose(table.explained, expected, atol=1e-12)


def test_readout_is_least_squares():
    scales = torch.tensor([1e-3, 1.0, 50.0], dtype=torch.float64)
    x = scales * torch.randn(20, 6, 3, generator=generator(1), dtype=torch.float64)
    y = torch.randn(20, 6, 2, generator=generator(2), dtype=torch.float64)
    design = np.concatenate([x.flatten(0, 1).numpy(), np.ones((120, 1))], axis=1)
    weights = np.linalg.lstsq(design[:60], y[:10].flatten(0, 1).numpy(), rcond=None)[0]
    np.testing.assert_allclose(readout(x, y, EPS).flatten(0, 1).numpy(), design[60:] @ weights, rtol=1e-9, atol=1e-12)
    noise = 1e-15 * torch.randn(20, 6, 1, generator=generator(3), dtype=torch.float64)
    constant = torch.ones(20, 6, 1, dtype=torch.float64)
    same = readout(torch.cat([x, noise, constant], dim=2), y, EPS)
    torch.testing.assert_close(same, readout(x, y, EPS), rtol=1e-12, atol=1e-12)
    # A feature that repeats another changes nothing, in spite of the singular matrix.
    torch.testing.assert_close(readout(torch.cat([x, x], dim=2), y, EPS), readout(x, y, EPS), rtol=1e-6, atol=1e-6)


def test_readout_needs_tokens():
    assert fewest_sequences(64, 32) == 10 and fewest_sequences(1, 100) == 8
    with pytest.raises(ValueError, match=r"^samples: 8 is not accepted; accepted is at least 18"):
        readout(torch.zeros(8, 2, 8), torch.zeros(8, 2, 1, dtype=torch.float64), EPS)
    with pytest.raises(ValueError, match=r"^model: Identity is not accepted"):
        list(streams(nn.Identity(), torch.zeros(2, 3, 1), 0.1))


@pytest.mark.parametrize("entries", [2**25, 1])
def test_streams_are_what_the_blocks_return(entries, monkeypatch):
    monkeypatch.setattr(readout_module, "STREAM_ENTRIES", entries)
    model = random_dit(registers=2, depth=3).double()
    x = torch.randn(5, 6, 2, generator=generator(1), dtype=torch.float64)
    with torch.no_grad():
        stream = torch.cat([model.register.expand(5, -1, -1), model.embed(x) + model.position], dim=1)
        expected, c = [stream], model.time(torch.tensor([[0.3]], dtype=torch.float64))
        for block in model.blocks:
            expected.append(block(expected[-1], c))
    found = list(streams(model, x, 0.3, registers=2, batch=2))
    assert [layer for layer, _ in found] == [0, 1, 2, 3]
    for (_, ours), theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs[:, 2:], rtol=1e-12, atol=1e-12)
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in model.blocks)


def test_depth_is_interpolated_in_logarithms():
    errors = np.array([[1.0, 1.0, 1.0, 1.0, 1.0], [0.1, 0.1, 0.1, 0.1, 0.1], [0.01, 0.01, 0.01, 0.2, 0.0]])
    level = np.array([1.5, math.sqrt(1e-3), 1e-3, 0.1, 0.1])
    np.testing.assert_allclose(fractional_depth(errors, level), [0.0, 1.5, math.inf, 1.0, 1.0], atol=1e-12)
    assert fractional_depth(np.array([[1.0], [0.0]]), np.array([0.0])) == [1.0]


@pytest.mark.parametrize("t", [0.02, 1.0])
def test_depth_of_a_solver_is_its_step_count(process, t):
    x = noisy(process, t, 32)
    counts = bootstrap_counts(32, 50, 0)
    steps = 5
    expected = dense_iterates(process, x, t, steps)
    expected["preconditioned"] = [s for n, k, s in solver_states(process, x, t, steps, 3) if n == "preconditioned" and k]
    for solver, iterates in expected.items():
        if solver == "chebyshev":
            continue  # a run on the way to its last step: an iterate there is not the best of its number of steps
        for k, s in enumerate(iterates, start=1):
            rows = effective_depth(s.reshape(x.shape), process, x, t, 12, counts).set_index("solver")
            own = rows.loc[solver]
            slack = 1e-6 if own.error > 1e-8 else 0.5
            assert own.depth == pytest.approx(k, abs=slack) and own.low == pytest.approx(k, abs=slack)
            # Better polynomials need fewer steps: CG is the best in the C-norm, and nearly so in this one.
            assert rows.depth["chebyshev_final"] <= rows.depth["gradient_descent"] + slack


def test_depth_grows_with_accuracy_and_says_when_it_is_beyond(process):
    t = 0.05
    x = noisy(process, t, 32)
    exact = process.score(x, t)
    noise = torch.randn(exact.shape, generator=generator(4), dtype=torch.float64) * float(exact.square().mean().sqrt())
    counts = bootstrap_counts(32, 50, 0)
    depths = [effective_depth(exact + size * noise, process, x, t, 40, counts) for size in (0.3, 0.1, 0.03, 0.01)]
    for before, after in pairwise(depths):
        assert (after.depth >= before.depth).all() and (after.error < before.error).all()
    assert ((depths[0].low <= depths[0].depth) & (depths[0].depth <= depths[0].high)).all()
    perfect = effective_depth(exact, process, x, t, 4, counts)
    assert np.isinf(perfect.depth).all() and np.isinf(perfect.high).all() and list(perfect.steps) == [4] * 4
    assert depth_cell(perfect.iloc[0].to_dict()) == "> 4 [> 4, > 4]"
    assert (effective_depth(-exact, process, x, t, 4, counts).depth == 0).all()


def test_solver_errors_are_those_of_the_solvers(process):
    t = 0.05
    x = noisy(process, t, 4)
    exact = process.score(x, t)
    expected = dense_iterates(process, x, t, 5)
    for solver, errors in solver_errors(process, x, t, 5):
        assert len(errors) == (min(5, APPLICATIONS) + 1) and (solver in expected or solver == "preconditioned")
        torch.testing.assert_close(errors[0], exact.square().sum(dim=(1, 2)), rtol=1e-10, atol=0)
        for k, s in enumerate(expected.get(solver, []), start=1):
            direct = (s.reshape(x.shape) - exact).square().sum(dim=(1, 2))
            torch.testing.assert_close(errors[k], direct, rtol=1e-7, atol=1e-16 * float(errors[0].max()))
    assert torch.allclose(Spectral(process, x, t).sequences(Spectral(process, x, t).s), exact, rtol=1e-10)


def test_step_cells():
    row = {"step": 3, "low": 3, "high": 3, "at_most": False}
    assert step_cell(row) == "3" and step_cell({**row, "high": 5, "at_most": True}) == ">=3 [3, 5]"


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
    assert len(depth) == 8 and (depth.low <= depth.depth).all()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["settings"]["samples"] == 32 and summary["dtype"] == "float32" and summary["settings"]["seed"] == 0
    line = refused(capsys, app, "--ckpt", tmp_path / "run.pt", "--samples", 4)
    assert line == "error: samples: 4 is not accepted; accepted is an integer >= 8 for this model's width"
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
    assert "cells are scored" in printed and "control random weights, float32: none in 4 of 4" in printed
    names = {each.name for each in out.iterdir()}
    assert names == {"cells.csv", "controls.csv", "readouts.csv", "summary.json", "confusion.png", "readouts.png"}
    assert len(pd.read_csv(out / "cells.csv")) == 8
    assert "processes: 'Wiener'" in refused(capsys, report_app, "--processes", "Wiener", "--out", out)
    assert "samples: 0" in refused(capsys, report_app, "--samples", 0, "--out", out)
