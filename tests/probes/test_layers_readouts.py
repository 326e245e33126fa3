"""Planted iterates are found in streams by linear readouts; the effective depth of a solver is its number of steps."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from probes.layers import readout as readout_module
from probes.layers.depth import effective_depth, fractional_depth, solver_errors
from probes.layers.iterates import APPLICATIONS, Spectral, ladder, polynomial, solver_states
from probes.layers.matching import match_layers, match_readouts
from probes.layers.readout import fewest_sequences, readout, streams
from probes.layers.report import depth_cell, step_cell
from probes.resampling import bootstrap_counts
from reports.experiments.layers import named_by_readout
from tests.builders import generator, make, noisy, random_dit
from unrolled import Exponential, GaussianProcess, alpha, construct, sigma
from unrolled.handset.dense_inverses import precondition, solved_preconditioners
from unrolled.solvers import chebyshev, conjugate_gradient, gradient_descent

EPS = torch.finfo(torch.float64).eps


@pytest.fixture(scope="module")
def process() -> GaussianProcess:
    return make(10, 2, Exponential(4))


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


def test_planted_iterates_are_found_by_readout():
    """Streams that are random invertible mixes of x, an iterate and the mean: (solver, step) is named, and explains
    all."""
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
    matches = match_readouts(layers, found, u[64:], torch.from_numpy(bootstrap_counts(64, 100, 0)), t, EPS)
    best = matches.nearest[matches.nearest.best]
    assert list(zip(best.solver, best.step, strict=True)) == planted
    assert (best.explained > 1 - 1e-6).all() and (best.cosine > 1 - 1e-6).all()
    assert (
        (best.low == best.step).all() and (best.high == best.step).all() and (best.alike == best.step.astype(str)).all()
    )
    assert list(best.rivals) == [name for name, _ in planted]


@pytest.mark.parametrize(("algorithm", "steps"), [("gradient_descent", 6), ("chebyshev", 6), ("preconditioned", 2)])
def test_hand_set_dits_are_named_by_readout(algorithm, steps):
    """The path of trained models, which knows neither where the iterate stands nor that there is one."""
    process = make(10, 2, Exponential(4), mean=False)
    model = construct(process, algorithm, steps)
    cells = named_by_readout(model, process, {0.05: noisy(process, 0.05, 192)}, registers=1)
    assert cells.inside.all() and (cells.explained > 0.9).all()
    # The first two steps of every solver, the third of gradient descent and the last of Chebyshev equal another's.
    assert cells.scored.sum() >= 2


def test_early_steps_are_equal_readouts(process):
    """s_1 is a multiple of r = x - alpha mu and s_2 a combination of r and C r, whatever the polynomial; at three steps
    that of gradient descent, z^3, and that of Chebyshev, z^3 - 3z/4 up to factors, differ by what x takes up."""
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
    with pytest.raises(ValueError, match=r"^samples: 8 is not accepted; accepted: at least 18"):
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
    counts = torch.from_numpy(bootstrap_counts(32, 50, 0))
    steps = 5
    expected = dense_iterates(process, x, t, steps)
    expected["preconditioned"] = [
        s for n, k, s in solver_states(process, x, t, steps, 3) if n == "preconditioned" and k
    ]
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
    counts = torch.from_numpy(bootstrap_counts(32, 50, 0))
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
