"""The operator probe: exact for affine models, unbiased for others, and its intervals hold."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from probes.modes.__main__ import app
from probes.modes.operator import Coordinates, JacobianFit, RegressionFit, score_residuals, summed_jacobians
from probes.modes.parts import influence_of
from probes.modes.probing import probed_influence
from probes.modes.samples import AffineParts, generated_by_mode, mode_moments
from probes.modes.study import enough_sequences, operator_estimates, study_modes
from probes.targets import inverse_by_lag
from tests.builders import TINY, checkpoint_of, generator, make, noisy, random_dit, refused, run
from unrolled import Exponential, GaussianProcess, InputError, alpha, construct, discrete_law, log_time_grid, sigma
from unrolled.generated import affine_score, marginal_law, relative_score_error
from unrolled.models.unet import UNet, UNetConfig

T = 0.1
METHODS = ["regression", "jacobian"]


class Affine(nn.Module):
    """W x + w on row-major sequences, at every t, in float64."""

    def __init__(self, matrix: torch.Tensor, offset: torch.Tensor):
        super().__init__()
        self.matrix, self.offset = nn.Parameter(matrix), nn.Parameter(offset)

    def forward(self, x, t):
        return (x.flatten(1) @ self.matrix.T + self.offset).reshape(x.shape)


class Times(nn.Module):
    """A multiple of the exact score."""

    def __init__(self, process: GaussianProcess, factor: float):
        super().__init__()
        self.process, self.config = process, SimpleNamespace(t_range=(0.01, 6.0))
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64), requires_grad=False)

    def forward(self, x, t):
        return self.factor * self.process.score(x, t)


class Hermite(nn.Module):
    """s + Q (m + D y + c (y^3 - 3 y)): its best affine map and the rest are known.

    y^3 - 3 y is the third Hermite polynomial, uncorrelated with 1 and y, of mean square 6.
    """

    def __init__(self, process: GaussianProcess, t: float, matrix, offset, curve):
        super().__init__()
        self.process, self.coordinates = process, Coordinates(process, t)
        self.matrix, self.offset, self.curve = (nn.Parameter(each) for each in (matrix, offset, curve))

    def forward(self, x, t):
        y = self.coordinates.whitened(x)
        r = self.offset + y @ self.matrix.T + self.curve * (y**3 - 3 * y)
        u, v = self.coordinates.u, self.coordinates.v
        return self.process.score(x, t) + u @ r.reshape(x.shape) @ v.T


def random_affine(process: GaussianProcess, seed: int = 0) -> Affine:
    """The exact score and a random affine map of a tenth of its size, neither symmetric nor stationary."""
    n = process.length * process.dim
    mean, covariance = marginal_law(process, T)
    inverse = torch.linalg.inv(covariance)
    noise = 0.1 * torch.randn(n, n, generator=generator(seed), dtype=torch.float64)
    return Affine(-inverse + noise, inverse @ mean + 0.3 * torch.randn(n, generator=generator(seed + 1)).double())


def hermite(process: GaussianProcess, seed: int = 0) -> Hermite:
    n = process.length * process.dim
    matrix, offset, curve = (
        torch.randn(*shape, generator=generator(seed + k), dtype=torch.float64)
        for k, shape in enumerate([(n, n), (n,), (n,)])
    )
    return Hermite(process, T, 0.3 * matrix, 0.2 * offset, 0.2 * curve)


@pytest.fixture(scope="module")
def process() -> GaussianProcess:
    return make(4, 2, Exponential(3))


@pytest.mark.parametrize("method", METHODS)
def test_affine_models_come_out_exactly(process, method):
    """Parts of the error against dense formulas, and the whole against the exact error of an affine model: to 1e-9."""
    model = random_affine(process)
    found = operator_estimates(model, process, noisy(process, T, 120), T, method=method)
    mean, covariance = marginal_law(process, T)
    inverse = torch.linalg.inv(covariance)
    matrix, offset = affine_score(model, process.length, process.dim, T)
    size = float(inverse.trace())
    affine = float(((matrix + inverse) @ covariance * (matrix + inverse)).sum()) / size
    of_mean = float((matrix @ mean + offset).square().sum()) / size
    assert found["affine part"].value[0] == pytest.approx(affine, rel=1e-9)
    assert found["mean part"].value[0] == pytest.approx(of_mean, rel=1e-9)
    assert abs(found["rest part"].value[0]) < 1e-9
    assert found["error"].value[0] == pytest.approx(relative_score_error(model, process, T), rel=1e-9)
    assert all(float(each.error.max()) < 1e-9 for each in found.values())


def test_the_exact_score_has_no_error_and_the_influence_of_the_inverse(process):
    for method in METHODS:
        found = operator_estimates(process.exact_score(), process, noisy(process, T, 120), T, method=method)
        assert found["error"].value[0] < 1e-7  # the root of rounding in a square
        truth = inverse_by_lag(process, T)
        influence = found["influence"].value
        scale = -influence[process.length - 1]
        assert scale == pytest.approx(float((1 / process.eigenvalues(T)).mean()), rel=1e-9)
        for one_sided in (influence[process.length - 1 :], influence[process.length - 1 :: -1]):
            np.testing.assert_allclose(-one_sided / scale, truth, atol=1e-9)
        np.testing.assert_allclose(found["temporal gain"].value, 1, atol=1e-9)


def test_influence_and_error_by_mode_against_dense_formulas(process):
    """Signed lags are key minus query; modes are projections of output and error on eigenvectors."""
    model = random_affine(process)
    found = operator_estimates(model, process, noisy(process, T, 120), T)
    n, d = process.length, process.dim
    mean, covariance = marginal_law(process, T)
    matrix, offset = affine_score(model, n, d, T)
    blocks = matrix.reshape(n, d, n, d)
    for lag in range(1 - n, n):
        pairs = [(i, i + lag) for i in range(n) if 0 <= i + lag < n]
        expected = np.mean([float(blocks[i, :, j].trace()) / d for i, j in pairs])
        assert found["influence"].value[n - 1 + lag] == pytest.approx(expected, rel=1e-9, abs=1e-9)
    inverse = torch.linalg.inv(covariance)
    gap, shift = matrix + inverse, matrix @ mean + offset
    errors = gap @ covariance @ gap.T + torch.outer(shift, shift)
    for kind, basis in (("temporal", process.temporal_eigen[1]), ("spatial", process.spatial_eigen[1])):
        for k in range(len(basis)):
            vector = basis[:, k]
            on = torch.outer(vector, vector)
            projection = torch.kron(on, torch.eye(d)) if kind == "temporal" else torch.kron(torch.eye(n), on)
            squares = [float((projection * part).sum()) for part in (errors, inverse, -matrix.T)]
            assert found[f"{kind} error"].value[k] == pytest.approx((squares[0] / squares[1]) ** 0.5, rel=1e-9)
            assert found[f"{kind} gain"].value[k] == pytest.approx(squares[2] / squares[1], rel=1e-9)
            assert found[f"{kind} share"].value[k] == pytest.approx(squares[0] / float(errors.trace()), rel=1e-9)


def test_a_model_that_passes_on_the_next_frame_has_its_influence_at_lag_one(process):
    n, d = process.length, process.dim
    shift = torch.diag(torch.ones(n - 1, dtype=torch.float64), 1)
    model = Affine(torch.kron(shift, torch.eye(d).double()), torch.zeros(n * d, dtype=torch.float64))
    found = operator_estimates(model, process, noisy(process, T, 120), T)
    np.testing.assert_allclose(found["influence"].value, np.eye(2 * n - 1)[n], atol=1e-9)


@pytest.mark.parametrize("algorithm", ["chebyshev", "preconditioned"])
def test_hand_set_models_come_out_with_their_known_error(algorithm):
    process = make(6, 2, Exponential(3))
    model = construct(process, algorithm, 3)
    found = operator_estimates(model, process, noisy(process, T, 300), T)
    assert found["error"].value[0] == pytest.approx(relative_score_error(model, process, T), rel=1e-6)
    assert abs(found["rest share"].value[0]) < 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_intervals_cover_the_truth_of_a_model_that_is_not_affine(process, method):
    """Coverage over runs and figures: 95 % nominal. Figures of one run depend on each other, so that as few as 40
    independent ones are assumed: 5 binomial standard errors are 0.17. Both methods, and the average must be right too.
    """
    model = hermite(process).requires_grad_(False)
    inverse = 1 / process.eigenvalues(T)
    whole = model.matrix.square().sum(1) + model.offset**2 + 6 * model.curve**2
    squares = {
        "affine part": model.matrix.square().sum()[None] / inverse.sum(),
        "mean part": model.offset.square().sum()[None] / inverse.sum(),
        "rest part": 6 * model.curve.square().sum()[None] / inverse.sum(),
        "temporal error": (whole.reshape(inverse.shape).sum(1) / inverse.sum(1)).sqrt(),
    }
    truth = {name: square.numpy() for name, square in squares.items()}
    inside: list[np.ndarray] = []
    deviations: dict[str, list[np.ndarray]] = {name: [] for name in truth}
    for seed in range(40):
        x = process.noisy(300, T, generator(seed))
        found = operator_estimates(model, process, x, T, method=method)
        for name, value in truth.items():
            low, high = found[name].interval
            inside.append((low <= value) & (value <= high))
            deviations[name].append((found[name].value - value) / value)
    print(method, np.concatenate(inside).mean())
    assert np.concatenate(inside).mean() >= 0.95 - 0.17
    for name, each in deviations.items():
        table = np.stack(each)
        # Student's t of 40 runs; 4.5 standard errors happen once in 10^4.
        assert (np.abs(table.mean(0)) < 4.5 * table.std(0, ddof=1) / 40**0.5 + 0.01).all(), name


def test_the_square_of_one_fit_would_be_too_large(process):
    """The false variant that two fits avoid: |D|^2 of one fit exceeds the truth by about E|e|^2 p / (n - p - 1)."""
    model = hermite(process).requires_grad_(False)
    model.matrix.zero_()
    excess, own = [], []
    coordinates = Coordinates(process, T)
    p, n = 8, 60
    for seed in range(60):
        x = process.noisy(2 * n, T, generator(seed))
        y, r = coordinates.whitened(x), coordinates.rotated(score_residuals(model, process, x, T))
        first, second = (RegressionFit(*part)() for part in zip(y.split(n), r.split(n), strict=True))
        excess.append(float(first.matrix.square().sum()))
        own.append(float((first.matrix * second.matrix).sum()))
    rest = 6 * float(model.curve.square().sum())
    assert np.mean(excess) - 4 * np.std(excess) / 60**0.5 > 0.5 * rest * p / (n - p - 1)
    assert abs(np.mean(own)) < 4 * np.std(own) / 60**0.5


def test_regression_and_mean_jacobian_agree_within_their_errors(process):
    """The squared distance of the two maps is the sum of their variances on average. That of a fit is estimated by
    leaving out groups; over 20 runs the ratio is 1 up to a quarter (measured spread of it: 0.07)."""
    model = hermite(process)
    coordinates = Coordinates(process, T)
    distance, expected = 0.0, 0.0
    for seed in range(20):
        x = process.noisy(240, T, generator(seed))
        y, r = coordinates.whitened(x), coordinates.rotated(score_residuals(model, process, x, T))
        fits = [RegressionFit(y[:120], r[:120]), JacobianFit(model, coordinates, x[120:], y[120:], r[120:], T)]
        distance += float((fits[0]().matrix - fits[1]().matrix).square().sum())
        for fit in fits:
            parts = torch.stack([fit(k).matrix for k in range(10)])
            expected += 0.9 * float((parts - parts.mean(0)).square().sum())
    assert 0.75 < distance / expected < 1.33


def test_what_is_not_affine_is_at_most_half_the_variance_of_the_jacobian():
    """Gaussian Poincare inequality for a map without constant and linear part, with a network of random weights."""
    process, model = make(6, 2, Exponential(3)), random_dit().double()
    x = process.noisy(900, T, generator(3))
    found = operator_estimates(model, process, x, T)
    coordinates = Coordinates(process, T)
    root = torch.linalg.cholesky(process.noisy_covariance(T))
    _, pull = torch.func.vjp(lambda z: model(z, T), x[:64])
    basis = torch.eye(12, dtype=torch.float64).reshape(12, 1, 6, 2)
    rows = torch.stack([pull(row.expand(64, 6, 2))[0].flatten(1) for row in basis], dim=1)  # (64, p, p)
    spread = ((rows - rows.mean(0)) @ root).square().sum(dim=(1, 2)).mean().detach() * 64 / 63
    rest = found["rest part"].value[0] * float((1 / coordinates.eigenvalues).sum())
    assert 0 < rest < 0.55 * float(spread)


def test_forced_is_an_upper_bound_and_is_reached():
    """The gap by lag never exceeds what the error forces, and R = P_l C^{-1} attains it at its lag."""
    process = make(5, 2, Exponential(3), mean=False)
    covariance = process.noisy_covariance(T)
    inverse = torch.linalg.inv(covariance)
    for seed, lag in ((0, None), (1, None), (2, 2), (3, 0)):
        if lag is None:
            gap = 0.2 * torch.randn(10, 10, generator=generator(seed), dtype=torch.float64)
        else:
            shift = torch.eye(5, dtype=torch.float64).roll(lag, 1).triu(lag)
            gap = torch.kron(shift, torch.eye(2, dtype=torch.float64)) @ inverse
        model = Affine(gap - inverse, torch.zeros(10, dtype=torch.float64))
        table = study_modes([checkpoint_of(model, process)], [T], samples=150).influence
        distance = (table.influence - table.inverse).abs()
        assert (distance <= table.forced * (1 + 1e-9)).all()
        if lag is not None:
            at = table.lag == lag
            assert float(distance[at].iloc[0]) == pytest.approx(float(table.forced[at].iloc[0]), rel=1e-9)


@pytest.mark.parametrize("gradient", [True, False])
def test_random_probes_are_unbiased_and_their_intervals_cover(gradient):
    """Known Jacobians: 600 runs of 60 sequences, 7 lags. 93-97 % coverage of 95 % intervals is asked for: binomial
    standard error 0.9 % of a lag, and of the mean over lags less. The mean over runs is the truth to 4.5 of its
    standard errors, once in 10^4."""
    n, d, runs = 4, 2, 600
    jacobian = torch.randn(n * d, n * d, generator=generator(8), dtype=torch.float64)
    blocks = jacobian.reshape(n, d, n, d)
    truth = [
        np.mean([float(blocks[i, :, i + lag].trace()) / d for i in range(n) if 0 <= i + lag < n])
        for lag in range(1 - n, n)
    ]
    model = Affine(jacobian, torch.ones(n * d, dtype=torch.float64)).requires_grad_(False)
    x = torch.randn(60, n, d, generator=generator(9), dtype=torch.float64)
    found = [probed_influence(model, x, T, seed=seed, gradient=gradient) for seed in range(runs)]
    means = np.stack([each.value for each in found])
    assert (np.abs(means.mean(0) - truth) < 4.5 * means.std(0) / runs**0.5).all()
    inside = np.mean([(each.interval[0] <= truth) & (truth <= each.interval[1]) for each in found], axis=0)
    assert 0.93 <= inside.mean() <= 0.97, inside


def test_random_probes_agree_with_the_whole_jacobian(process):
    """A network of random weights, by both products, within 4.5 standard errors at every lag."""
    model = random_dit().double()
    x = make(6, 2, Exponential(3)).noisy(200, T, generator(3))
    with torch.no_grad():
        whole = summed_jacobians(model, x, T) / 200
    truth = influence_of(whole, Coordinates(GaussianProcess(6, torch.eye(6), torch.eye(2)), T))
    for gradient in (True, False):
        found = probed_influence(model, x, T, probes=4, gradient=gradient)
        assert (np.abs(found.value - truth.numpy()) < 4.5 * found.error).all()


def test_several_checkpoints_give_intervals_over_them(process):
    seeds = [checkpoint_of(random_affine(process, 10 * k), process) for k in range(3)]
    study = study_modes(seeds, [T], samples=120)
    each = [study_modes([one], [T], samples=120).errors.error.iloc[0] for one in seeds]
    row = study.errors.iloc[0]
    assert study.checkpoints == 3 and row.error == pytest.approx(np.mean(each), rel=1e-12)
    assert row.high - row.low == pytest.approx(2 * 4.302653 * np.std(each, ddof=1) / 3**0.5, rel=1e-6)
    with pytest.raises(InputError, match="different data"):
        study_modes([seeds[0], checkpoint_of(random_affine(process), make(4, 2, Exponential(4)))], [T], samples=120)


def test_the_affine_part_of_an_affine_model_generates_what_the_model_does(process):
    """Its law by mode is that of the model itself; the measure is 1 for X_t."""
    model = construct(process, "chebyshev", 4)
    grid = log_time_grid((0.05, 4.0), 12)
    affine = AffineParts(model, process, lambda t: process.noisy(40, t, generator(2)), grid)
    laws = [discrete_law(each, process.length, process.dim, grid, "ode") for each in (model, affine)]
    moments = [mode_moments(law, process, grid[-1]) for law in laws]
    torch.testing.assert_close(*moments, rtol=1e-7, atol=0)
    marginal = mode_moments(marginal_law(process, 0.05), process, 0.05)
    torch.testing.assert_close(marginal, torch.ones_like(marginal), rtol=1e-12, atol=0)


def test_samples_of_a_network_have_the_variance_of_its_affine_part_where_it_is_affine(process):
    """The interval over sequences holds it; 4.5 standard errors instead of 1.96, for all modes."""
    right, wrong = (
        generated_by_mode(checkpoint_of(Times(process, factor), process), 30, fitted=40, generated=300)
        for factor in (1.0, 0.9)
    )
    for table in (right, wrong):
        assert ((table.network - table.affine).abs() < 4.5 / 1.96 * (table.high - table.low) / 2).all()
        assert table.eigenvalue.is_monotonic_decreasing and (table.t == 0.01).all()
    assert ((right.exact_score - 1).abs() < 0.05).all()
    assert ((right.affine / right.exact_score - 1).abs() < 1e-9).all()
    assert (wrong.affine > 1.1 * wrong.exact_score).any()  # a score that is too small leaves more variance


def test_any_network_goes_through(process):
    pytest.importorskip("diffusers")
    unet = UNet(UNetConfig(length=4, dim=2, channels=(16, 16)))
    unet.reset_parameters(generator(0))
    torch.nn.init.normal_(unet.net.out_block.final_conv1d_2.weight, generator=generator(1))
    checkpoint = checkpoint_of(unet.eval(), process)
    both = [study_modes([checkpoint], [T], samples=240, method=method) for method in METHODS]
    gap = (both[0].influence.influence - both[1].influence.influence).abs()
    half = sum((each.influence.high - each.influence.low) / 2 for each in both)
    assert (gap < 2 * half).all() and (half > 0).all()


def test_command(tmp_path, capsys):
    from unrolled.train.__main__ import app as train_app

    path = tmp_path / "run.pt"
    run(train_app, *TINY, "--length", 6, "--dim", 2, "--out", path)
    run(app, "--ckpt", path, "--t", 0.1, 1, "--samples", 150, "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "forced by accuracy" in printed and "found:" in printed
    names = {each.name for each in (tmp_path / "out").iterdir()}
    tables = {"modes.csv", "influence.csv", "parts.csv", "errors.csv"}
    assert names == tables | {"summary.json", "modes.png", "influence.png", "parts.png"}
    modes = pd.read_csv(tmp_path / "out" / "modes.csv")
    assert len(modes) == 2 * (6 + 2) and {"t", "mode", "eigenvalue", "error", "gain", "share"} <= set(modes.columns)
    temporal = modes[(modes.kind == "temporal") & (modes.t == 1)]
    assert temporal.eigenvalue.is_monotonic_decreasing and temporal.share.sum() == pytest.approx(1)
    errors = pd.read_csv(tmp_path / "out" / "errors.csv")
    decided = [(sigma(t) / alpha(t)) ** 2 for t in (0.1, 1)]  # the mean eigenvalue of Sigma is 1
    np.testing.assert_allclose(errors.decided, decided, rtol=1e-9)
    assert refused(capsys, app, "--ckpt", path, "--samples", 20).startswith("error: samples: ")
    assert refused(capsys, app, "--ckpt", path, "--t", 100).startswith("error: t: ")


def test_enough_sequences_are_enough():
    for values in (1, 8, 128, 1024):
        assert enough_sequences(values) // 3 >= 8 * values
