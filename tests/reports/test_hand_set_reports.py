"""The commands that measure hand-set models: depth against condition number, the table, the basin of the weights."""

import copy
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from reports.basin import app as basin_app
from reports.depth import app as depth_app
from reports.experiments import basin as basin_module
from reports.experiments.basin import disturbed, excess_loss, train
from reports.experiments.depth import depth_needed, growth
from reports.experiments.depth import plan as depth_plan
from reports.experiments.handset import plan as handset_plan
from reports.handset import app as table_app
from tests.builders import generator, make, noisy, refused, run
from unrolled import Exponential, construct, denoising_loss, relative_error, save_checkpoint, sigma
from unrolled.handset import reference_iterates
from unrolled.handset.preconditioner_weights import expected_errors
from unrolled.solvers import chebyshev, gradient_descent
from unrolled.train.multiplicative import bake, multiplicative


@pytest.mark.parametrize(("name", "solver"), [("gradient descent", gradient_descent), ("Chebyshev", chebyshev)])
def test_depth_is_where_the_solver_reaches_the_error(name, solver):
    """The closed form against the solver itself, whose expected error is the one on the columns of C_t^(1/2)."""
    process, t = make(12, 2, Exponential(4), mean=False), 0.05
    c = process.noisy_covariance(t)
    eigenvalues, vectors = torch.linalg.eigh(c)
    x = (vectors * eigenvalues.sqrt()).T
    exact = process.score(x.reshape(-1, 12, 2), t).flatten(1)
    rows = {(row["solver"], row["target"]): row["steps"] for row in depth_needed(process, t)}
    for target in (1e-2, 1e-3):
        needed = int(rows[name, target])
        errors = []
        for steps in (needed - 1, needed):
            *_, s = solver(lambda v: v @ c, x, *process.extreme_eigenvalues(t), steps)
            errors.append(relative_error(s, exact))
        assert errors[1] <= target < errors[0]
    assert rows["conjugate gradient", 1e-3] <= rows["Chebyshev", 1e-3] < rows["gradient descent", 1e-3]


def test_expected_errors_of_one_t_are_those_of_a_model_or_less():
    process = make(16, 2, Exponential(6), mean=False)
    record = construct(process, "preconditioned", 2).construction
    for k in (8, 16, 24):
        *_, error = expected_errors(process, record.times[k], 2, record.ridge)
        assert error < 1.1 * record.predicted_error[k]


def test_growth_is_the_exponent():
    kappa = [10.0, 100.0, 1000.0]
    rows = [{"sweep": "lengthscale", "solver": "a", "target": 0.1, "kappa": k, "steps": 3 * k**0.5} for k in kappa]
    rows += [{"sweep": "lengthscale", "solver": "b", "target": 0.1, "kappa": k, "steps": math.nan} for k in kappa]
    found = growth(pd.DataFrame(rows))
    assert found.exponent[0] == pytest.approx(0.5, abs=1e-12) and np.isnan(found.exponent[1])
    assert list(found.reached) == ["3 of 3", "0 of 3"]


def test_depth_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("reports.depth.plan", partial(depth_plan, lengths=(6, 12), lengthscales=(1.0, 2.0, 4.0)))
    run(depth_app, "--length", 8, "--dim", 1, "--t", 0.1, "--out", tmp_path / "depth")
    table = pd.read_csv(tmp_path / "depth" / "depth.csv")
    assert len(table) == 5 * 5 * 2 and (tmp_path / "depth" / "depth.png").stat().st_size > 10_000
    assert "gradient descent" in capsys.readouterr().out
    assert "power: " in refused(capsys, depth_app, "--power", 3, "--out", tmp_path / "other")


def test_table_command(tmp_path, capsys, monkeypatch):
    names = ("DiT, preconditioned, 1", "ReLU, gradient descent")
    monkeypatch.setattr("reports.handset.plan", partial(handset_plan, names=names))
    run(table_app, "--length", 6, "--dim", 1, "--out", tmp_path / "table")
    table = pd.read_csv(tmp_path / "table" / "handset.csv")
    assert list(table.construction) == list(names)
    assert table["error, float64"][1] < 1e-14 < table["error, float32"][1] < table["predicted, float32"][1]
    assert "ReLU, gradient descent" in capsys.readouterr().out
    page = (tmp_path / "table" / "README.md").read_text()
    assert "| construction | steps | blocks L |" in page and page.count("\n| ") == 4


def test_reference_iterates_name_what_has_none():
    process = make(6, 1, Exponential(2))
    record = replace(construct(process, "chebyshev", 1).construction, algorithm="newton")
    with pytest.raises(ValueError, match=r"^algorithm: 'newton' has no reference"):
        reference_iterates(record, process, noisy(process, 0.1), 0.1)


def test_relative_steps_keep_the_wiring():
    process = make(6, 1, Exponential(2))
    model = construct(process, "preconditioned", 1)
    free = multiplicative(copy.deepcopy(model))
    x = noisy(process, 0.1)
    assert torch.equal(free(x, 0.1), model(x, 0.1))
    losses = [float(loss) for loss in train(free, process, 1e-4, 40, 64, seed=0)]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    trained = bake(free)
    assert list(trained.state_dict()) == list(model.state_dict())
    for name, value in trained.named_parameters():
        start = model.get_parameter(name)
        assert torch.equal(value == 0, start == 0) and bool((value * start >= 0).all())
    assert not torch.equal(trained(x, 0.1), model(x, 0.1))


def test_excess_loss_is_what_the_denoising_loss_has_above_its_smallest_value():
    """E |sigma s_hat + z|^2 = E |sigma s + z|^2 + E sigma^2 |s_hat - s|^2 over 20000 sequences, to three standard
    errors."""
    process, t, n = make(4, 1, Exponential(2), mean=False), 0.3, 20_000
    x0 = process.sample(n, generator(1))
    z = torch.randn(x0.shape, generator=generator(2), dtype=torch.float64)
    model = construct(process, "chebyshev", 1)
    with torch.no_grad():
        difference = denoising_loss(model, x0, t, z) - denoising_loss(process.exact_score(), x0, t, z)
        x = math.exp(-t / 2) * x0 + sigma(t) * z
        excess = float(excess_loss(model, process, x, torch.full((n,), t, dtype=torch.float64)))
    assert abs(float(difference.mean()) - excess) < 3 * float(difference.std()) / n**0.5


def test_disturbances_are_relative():
    model = construct(make(6, 1, Exponential(2)), "preconditioned", 1)
    other = disturbed(model, 1e-3, generator())
    changes = []
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a == 0, b == 0)
        changes.append((b / a - 1)[a != 0])
    change = torch.cat(changes)
    assert float(change.abs().max()) <= 6e-3
    assert float(change.std()) == pytest.approx(1e-3, rel=4 / (2 * len(change)) ** 0.5)  # four standard errors


def test_basin_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(basin_module, "RATES", (1e-5,))
    process = make(8, 1, Exponential(2))
    for dtype, name in ((torch.float64, "hand.pt"), (torch.float32, "single.pt")):
        save_checkpoint(tmp_path / name, construct(process, "preconditioned", 1, dtype=dtype), process, {}, {})
    run(basin_app, "--ckpt", tmp_path / "hand.pt", "--steps", 3, "--batch", 8, "--out", tmp_path / "basin")
    rows = pd.read_csv(tmp_path / "basin" / "basin.csv")
    assert rows[rows.on == "batch"].groupby("part").size().tolist() == [3, 3]
    losses = rows[rows.part == "disturbed"].loss
    assert losses.iloc[-1] > losses.iloc[0] and (tmp_path / "basin" / "basin.png").exists()
    assert "in every weight doubles the loss" in " ".join(capsys.readouterr().out.split())
    assert "float64" in refused(capsys, basin_app, "--ckpt", tmp_path / "single.pt", "--out", tmp_path / "other")
    assert "steps: 0" in refused(capsys, basin_app, "--ckpt", tmp_path / "hand.pt", "--steps", 0)
