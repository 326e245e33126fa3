"""Stand-ins for parts of a DiT: free where nothing is lost, elsewhere worth what an independent oracle says."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from probes.replacement.__main__ import app
from probes.replacement.explicit import Parts, batched_score
from probes.replacement.laws import AffineScore, best_affine, kl_by_time, sampler_grid
from probes.replacement.means import network_means
from probes.replacement.paths import operator_without, path_operators, path_tables
from probes.replacement.stand_ins import (
    Replaced,
    fitted,
    head_stand_ins,
    kernel,
    part_stand_ins,
    row_scaled,
    stationary,
)
from probes.replacement.study import study_replacement
from probes.replacement.words import verdicts
from tests.builders import TINY, checkpoint_of, generator, make, noisy, random_dit, refused, run
from unrolled import Exponential, GaussianProcess, construct, relative_error, save_checkpoint
from unrolled.diffusion import alpha, sigma
from unrolled.gaussian import kl_divergence
from unrolled.generated import affine_score, discrete_law, marginal_law
from unrolled.handset.gaussian_heads import fit_dictionary, gaussian_matrices
from unrolled.models.unet import UNet, UNetConfig
from unrolled.solvers import chebyshev_steps
from unrolled.train.__main__ import app as train_app

EPS = torch.finfo(torch.float64).eps


@pytest.fixture(scope="module")
def process() -> GaussianProcess:
    return make(8, 2, Exponential(3))


@pytest.fixture(scope="module")
def handset(process):
    return construct(process, "chebyshev", 3, heads=12)


@pytest.fixture
def short(monkeypatch):
    """A sampler of few steps: laws are exact for any."""
    monkeypatch.setattr("probes.replacement.laws.STEPS", 4)


def scored(model, x, t, stand_in) -> torch.Tensor:
    return batched_score(model, x, t, Replaced(model, stand_in))


@pytest.mark.parametrize("options", [{}, {"registers": 2}, {"norm": "none", "depth": 3, "registers": 1}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rebuilt_forward_pass_is_that_of_the_model(options, dtype):
    """To 64 roundings of the dtype: sums of at most 64 terms in every layer of three."""
    model = random_dit(**options).to(dtype)
    x = torch.randn(5, 6, 2, generator=generator(1), dtype=dtype)
    with torch.no_grad():
        assert relative_error(batched_score(model, x, 0.3, Parts(model)), model(x, 0.3)) <= 64 * torch.finfo(dtype).eps


def test_mean_slopes_are_mean_jacobians():
    model = random_dit(registers=1).double()
    x = torch.randn(7, 6, 2, generator=generator(1), dtype=torch.float64)
    means = network_means(model, x, 0.3)
    streams: dict[int, torch.Tensor] = {}
    hidden: dict[int, torch.Tensor] = {}

    class Watch(Parts):
        def norm(self, place, x):
            streams[place] = x
            return super().norm(place, x)

        def activation(self, layer, x):
            hidden[layer] = x
            return super().activation(layer, x)

    batched_score(model, x, 0.3, Watch(model))
    for place, norm in ((1, model.block_list[0].norm), (4, model.head.norm)):
        token = streams[place][:, 3]  # (batch, width)
        jacobian = torch.autograd.functional.jacobian(lambda x, norm=norm: norm(x).sum(dim=0), token)  # out, batch, in
        torch.testing.assert_close(means.norms[place].slope[3], jacobian.mean(dim=1), rtol=1e-10, atol=1e-12)
    slope = torch.autograd.functional.jacobian(lambda h: torch.nn.functional.gelu(h).sum(), hidden[1]).mean(dim=0)
    torch.testing.assert_close(means.activations[1].slope, slope, rtol=1e-10, atol=1e-12)


def test_a_removed_head_is_one_whose_output_weights_are_zero():
    """The independent computation: the model itself with those columns of its output map at 0."""
    model = random_dit(registers=1).double()
    x = torch.randn(6, 6, 2, generator=generator(1), dtype=torch.float64)
    means = network_means(model, x, 0.3)
    stand_ins = head_stand_ins(means, means, 1)
    found = scored(model, x, 0.3, stand_ins["removed"].only(1, 0))
    cut = random_dit(registers=1).double()
    with torch.no_grad():
        cut.block_list[1].attention.out.weight[:, :8] = 0
        assert relative_error(found, cut(x, 0.3)) < 64 * EPS
        assert relative_error(scored(model, x, 0.3, stand_ins["removed"].only(0, 0)), cut(x, 0.3)) > 1e-4
        assert relative_error(scored(model, x, 0.3, stand_ins["mean"].only(1, 0)), model(x, 0.3)) > 1e-6


def test_maps_of_a_hand_set_model_are_their_means(process, handset):
    """Its maps do not see the data and its MLPs are exactly linear, so that every mean is free."""
    for t in (0.01, 1.0):
        x = noisy(process, t, 8)
        means = network_means(handset, x[:4], t)
        stand_ins = head_stand_ins(means, network_means(handset, x[:4], 0.3), 1)
        model = handset(x[4:], t).detach()
        for name in ("mean", "reference", "stationary", "kernel"):
            assert relative_error(scored(handset, x[4:], t, stand_ins[name]), model) < 1e-12, name
        for stand_in in part_stand_ins(means).values():
            assert relative_error(scored(handset, x[4:], t, stand_in), model) < 1e-12
        # The fitted kernel is a Gaussian up to the tolerance of a fit.
        assert relative_error(scored(handset, x[4:], t, stand_ins["fitted"]), model) < 1e-4


@pytest.mark.parametrize(
    ("algorithm", "steps", "free", "costs"),
    [
        ("preconditioned", 1, ("mean", "kernel"), ("stationary",)),
        ("closed_form", None, ("mean",), ("stationary", "kernel")),
    ],
)
def test_hand_set_models_name_their_price(process, algorithm, steps, free, costs):
    """Row-normalised heads are kernels of the lag whose ends are scaled, images of the closed form are not."""
    t = 0.05
    model = construct(process, algorithm, steps)
    x = noisy(process, t, 4)
    means = network_means(model, x, t)
    stand_ins = head_stand_ins(means, means, 1)
    cost = {name: relative_error(scored(model, x, t, s), model(x, t).detach()) for name, s in stand_ins.items()}
    assert all(cost[name] < 1e-10 for name in free) and all(cost[name] > 1e-6 for name in costs), cost
    assert cost["mean"] < 1e-12


def dense_recursion(process, t, x, weights, widths, steps, changed: int) -> torch.Tensor:
    """The solver's steps with the covariance that `weights` give in step `changed`, and the true one in the others."""
    smallest, largest = process.extreme_eigenvalues(t)
    r = (x - alpha(t) * process.mean).flatten(1)
    s = torch.zeros_like(r)
    matrices = gaussian_matrices(widths, process.length)
    for k, eta in enumerate(chebyshev_steps(smallest, largest, steps)):
        held = torch.einsum("m,mij->ij", weights, matrices) if k == changed else process.temporal_covariance
        c = alpha(t) ** 2 * torch.kron(held, process.spatial_covariance)
        c = c + sigma(t) ** 2 * torch.eye(len(c), dtype=torch.float64)
        s = s - eta * (s @ c + r)
    return s.reshape(x.shape)


def test_a_removed_head_costs_what_the_dense_recursion_without_its_weight_costs(process, handset):
    """To the accuracy of the model: its kernel and its gates."""
    t = 0.05
    x = noisy(process, t, 8)
    record = handset.construction
    dictionaries = [fit_dictionary(process.temporal, record.fit_length, octave) for octave in (1, 2, 4)]
    (dictionary,) = [each for each in dictionaries if each.widths.tolist() == record.widths]
    removed = head_stand_ins(network_means(handset, x, t), network_means(handset, x, t), 1)["removed"]
    head = int(dictionary.weights.abs().argmax())
    weights = dictionary.weights.clone()
    weights[head] = 0
    exact = process.score(x, t)
    accuracy = 10 * (max(record.predicted_error) + record.operator_error)
    costs = []
    for layer in (1, 2):
        expected = dense_recursion(process, t, x, weights, dictionary.widths, 3, layer)
        found = scored(handset, x, t, removed.only(layer, head))
        assert relative_error(found, expected) < accuracy < 1e-6
        costs.append(relative_error(found, exact) - relative_error(handset(x, t).detach(), exact))
        assert abs(relative_error(expected, exact) - relative_error(found, exact)) < accuracy
    assert abs(costs[0] - costs[1]) > 1e-3  # the step matters, and so does the head:
    other = dense_recursion(process, t, x, dictionary.weights.roll(1), dictionary.widths, 3, 2)
    assert relative_error(scored(handset, x, t, removed.only(2, head)), other) > 1e-3


def test_kernels_are_recovered_from_row_normalised_maps():
    """What `stationary` cannot: the end rows of softmax maps are scaled differently."""
    lag = torch.arange(-9.0, 10, dtype=torch.float64)
    curves = torch.stack([torch.exp(-(lag.abs() / 2)), torch.exp(-((lag - 1) ** 2) / 3), 0.1 + torch.exp(-lag.abs())])
    maps = row_scaled(curves, torch.ones(3, 10, 1, dtype=torch.float64))
    assert float((maps.sum(dim=-1) - 1).abs().max()) < 8 * EPS
    found = row_scaled(kernel(maps), torch.ones(3, 10, 1, dtype=torch.float64))
    assert float((found - maps).abs().max()) < 1e-7
    assert float((stationary(maps) - maps).abs().max()) > 1e-3
    fit = fitted(kernel(maps))
    shape = curves / curves.sum(dim=-1, keepdim=True)
    assert float((fit - shape).abs()[[0, 2]].max()) < 1e-5  # symmetric and exponential: in the family
    assert float((fit - shape).abs()[1].max()) > 1e-3  # shifted: not
    # A curve that falls to nothing on one side keeps its side.
    one_sided = torch.where(lag >= 0, torch.exp(-lag), 0.0)
    assert float((fitted(one_sided)[:9]).abs().max()) < 1e-6


def test_the_linear_network_is_the_sum_of_its_paths():
    model = random_dit(registers=1, depth=3).double()
    x = torch.randn(9, 6, 2, generator=generator(1), dtype=torch.float64)
    means = network_means(model, x, 0.3)
    linear = part_stand_ins(means)["linear"]
    matrix, _ = affine_score(lambda x, t: scored(model, x, 0.3, linear), 6, 2, 0.3, rtol=1e-12)
    operators = path_operators(model, means, 0.3)
    assert len(operators) == 4 and relative_error(operators.sum(dim=0), matrix) < 64 * EPS
    maps = linear.maps.clone()
    maps[2, 1] = 0
    cut = type(linear)(maps, linear.offset, linear.heads, linear.norms, linear.activations)
    without, _ = affine_score(lambda x, t: scored(model, x, 0.3, cut), 6, 2, 0.3, rtol=1e-12)
    assert relative_error(operator_without(model, means, 0.3, 2, 1), without) < 64 * EPS
    assert relative_error(operator_without(model, means, 0.3, 2, 0), without) > 1e-3


def test_orders_of_a_hand_set_model_are_those_of_its_recursion(process, handset):
    """Every attention output times z is the recursion with z Gamma: a polynomial of degree 3, here at z = 0.4."""
    t, z = 0.1, 0.4
    x = noisy(process, t, 4)
    operators = path_operators(handset, network_means(handset, x, t), t)
    powers = z ** torch.arange(4, dtype=torch.float64)
    smallest, largest = process.extreme_eigenvalues(t)
    clean = torch.kron(process.temporal_covariance, process.spatial_covariance)
    unit = torch.eye(len(clean), dtype=torch.float64)
    s = torch.zeros_like(unit)
    for eta in chebyshev_steps(smallest, largest, 3):
        s = s - eta * ((z * alpha(t) ** 2 * clean + sigma(t) ** 2 * unit) @ s + unit)
    assert relative_error(torch.einsum("k,kij->ij", powers, operators), s) < 1e-6
    assert float(operators[3].norm()) < 1e-6 * float(operators[0].norm())  # the first step reads an iterate of 0
    table, influence = path_tables(handset, process, network_means(handset, x, t), t)
    orders = table.query("part == 'order'")
    norms = orders["norm"].to_numpy()
    root = torch.linalg.cholesky(process.noisy_covariance(t))
    size = math.sqrt(float(torch.cholesky_inverse(root).trace()))
    whole = float((operators.sum(dim=0) @ root).norm()) / size
    np.testing.assert_allclose(orders["cancellation"], norms.sum() / whole, rtol=1e-9)
    assert orders["cancellation"].iloc[0] > 1.1
    by_order = influence.query("part == 'order'").pivot(index="lag", columns="order", values="influence")
    total = influence.query("part == 'order' and order == 0").set_index("lag")
    np.testing.assert_allclose(by_order.sum(axis=1), total["total"], atol=1e-12)
    np.testing.assert_allclose(total["inverse"][0], -1, atol=1e-12)


def test_best_affine_map_and_its_law(process):
    t = 0.2
    x = noisy(process, t, 200)
    model = random_dit(length=8).double()
    score = model(x, t).detach()
    matrix, offset = best_affine(process, x, score, t)
    rows = torch.cat([torch.ones(200, 1, dtype=torch.float64), x.flatten(1)], dim=1)
    plain = torch.linalg.lstsq(rows, score.flatten(1)).solution  # the oracle: least squares as it is written
    assert relative_error(matrix, plain[1:].T) < 1e-9 and relative_error(offset, plain[0]) < 1e-9
    exact, shift = affine_score(process.exact_score(), 8, 2, t)
    matrix, offset = best_affine(process, x, process.score(x, t), t)
    assert relative_error(matrix, exact) < 1e-9 and relative_error(offset, shift) < 1e-9
    with pytest.raises(ValueError, match="samples: 20 "):
        best_affine(process, x[:20], process.score(x[:20], t), t)
    grid = sampler_grid((0.004, 8.0), [0.05, 1.0])
    assert grid[0] == 8.0 and grid[-1] == 0.05 and 1.0 in grid and grid == sorted(grid, reverse=True)
    known = AffineScore({t: affine_score(process.exact_score(), 8, 2, t) for t in grid})
    right = kl_by_time(known, process, grid, [0.05, 1.0])
    assert right == pytest.approx(kl_by_time(process.exact_score(), process, grid, [0.05, 1.0]), rel=1e-6)
    law = discrete_law(process.exact_score(), 8, 2, grid[: grid.index(1.0) + 1], "ode")
    assert right[1.0] == pytest.approx(kl_divergence(marginal_law(process, 1.0), law), rel=1e-6)
    wrong = AffineScore({t: (0.9 * a, b) for t, (a, b) in known.maps.items()})
    assert kl_by_time(wrong, process, grid, [0.05])[0.05] > 10 * right[0.05]


def row(t, name, layer, head, error, own, half) -> dict:
    change = error - own
    return {"t": t, "stand_in": name, "layer": layer, "head": head, "error": error, "change": change,
            "low": change - half, "high": change + half, "kl": math.nan}  # fmt: skip


def test_words_say_what_the_table_says():
    rows = []
    for t, mean, linear, half in ((0.1, 0.09, 0.08, 1e-4), (1.0, 0.105, 0.15, 0.006)):
        errors = {"network": 0.1, "mean": mean, "reference": 0.5, "kernel": 0.2, "mlp": 0.11, "linear": linear}
        rows += [row(t, name, -1, -1, error, 0.1, half) for name, error in errors.items()]
        rows += [row(t, "removed", 0, 0, 0.1, 0.1, half), row(t, "removed", 0, 1, 0.3, 0.1, half)]
    lines = list(verdicts(pd.DataFrame(rows), 1.0))
    assert "makes them worse (mean maps: -10 %)" in lines[0] and "linear is better (-20 %)" in lines[0]
    assert "maps of t = 1 do not serve (5 times)" in lines[0] and "1 of 2 heads can go" in lines[0]
    assert "maps need not see the data" in lines[1] and "do not serve" not in lines[1]
    assert "1 of layer 0 (without it 3 times)" in lines[1]
    assert lines[2] == "what maps see of the data: harmful at t = 0.1; no difference at t = 1"
    assert lines[3] == "curvature of the MLPs: needed at t = 0.1, 1"
    assert lines[4] == "all that is not linear: needed at t = 1; harmful at t = 0.1"


def test_changes_are_paired(process, short):
    """A stand-in that equals the network changes nothing; errors are those of the score."""
    model = construct(process, "gradient_descent", 2, heads=12)
    study = study_replacement(checkpoint_of(model, process), [0.1, 1.0], samples=32)
    table = study.table.set_index(["t", "stand_in", "layer", "head"])
    assert study.reference == 1.0 and study.deviation < 1e-12
    free = study.table.query("stand_in in ('mean', 'reference', 'kernel', 'mlp', 'linear')")
    assert free[["change", "low", "high"]].abs().max(axis=None) < 1e-12
    assert study.table.query("low > change + 1e-15 or change > high + 1e-15").empty
    x = torch.cat(list(probes_inputs(model, process, 0.1, 32)))[16:]
    assert table.error[0.1, "network", -1, -1] == pytest.approx(
        relative_error(model(x, 0.1).detach(), process.score(x, 0.1)), rel=1e-12
    )
    laws = study.table[study.table.kl.notna()]
    assert {"network", "removed", "linear", "affine", "exact"} <= set(laws.stand_in) and (laws.layer < 0).all()
    at = laws.query("t == 0.1").set_index("stand_in").kl
    assert at["linear"] == pytest.approx(at["network"], rel=1e-6) and at["exact"] < at["network"]


def probes_inputs(model, process, t, samples):
    from probes.inputs import noisy_batches

    return noisy_batches(checkpoint_of(model, process), t, samples, 64, 0, torch.device("cpu"))


def test_command(tmp_path, capsys, short):
    run(train_app, *TINY, "--length", 8, "--dim", 2, "--out", tmp_path / "run.pt")
    out = tmp_path / "out"
    run(app, "--ckpt", tmp_path / "run.pt", "--t", 0.05, 1, "--samples", 16, "--out", out)
    printed = capsys.readouterr().out
    assert "network made linear" in printed and "t = 0.05, error" in printed and "1 attention layer " in printed
    names = {each.name for each in out.iterdir()}
    assert names == {"replacement.csv", "paths.csv", "influence.csv", "summary.json", "chain.png", "heads.png",
                     "paths.png"}  # fmt: skip
    table = pd.read_csv(out / "replacement.csv")
    assert list(table.columns) == ["t", "stand_in", "layer", "head", "error", "change", "low", "high", "kl"]
    assert set(table.query("kl.notna()").stand_in) == {"linear", "affine", "exact"}
    assert len(table.query("head >= 0")) == 2 * 2 * 7
    save_checkpoint(tmp_path / "u.pt", UNet(UNetConfig(length=8, dim=1)), make(8, 1, Exponential(3)), {}, {})
    assert "which has no attention" in refused(capsys, app, "--ckpt", tmp_path / "u.pt")
    assert "samples: 3 is not" in refused(capsys, app, "--ckpt", tmp_path / "run.pt", "--samples", 3)


def test_what_is_left_out_of_large_models_is_said(tmp_path, capsys, short):
    process = make(6, 1, Exponential(3))
    save_checkpoint(tmp_path / "h.pt", construct(process, "chebyshev", 4), process, {}, {})
    run(app, "--ckpt", tmp_path / "h.pt", "--t", 0.1, "--samples", 4)
    assert "they are not replaced one at a time" in capsys.readouterr().out
