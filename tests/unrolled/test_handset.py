"""Hand-set transformers are the solvers they claim to be, within the error they predict."""

import math

import pytest
import torch

from tests.builders import KERNELS, generator, make, noisy
from unrolled import (
    DiT,
    DiTConfig,
    Exponential,
    GaussianProcess,
    Logarithmic,
    Polynomial,
    RoughPolynomial,
    alpha,
    construct,
    denoising_loss,
    load_checkpoint,
    relative_error,
    save_checkpoint,
)
from unrolled.handset import extend, hidden_iterates
from unrolled.handset.gates import GateFitter
from unrolled.handset.gaussian_heads import (
    dyadic_widths,
    fit_dictionary,
    gaussian_matrices,
    normaliser,
    positions,
    row_sums,
)
from unrolled.handset.iterates import reference_iterates
from unrolled.handset.linear_mlp import LinearMLP
from unrolled.handset.stream import Stream, Subspace, connect
from unrolled.solvers import chebyshev, chebyshev_steps, gradient_descent, richardson

EPS = torch.finfo(torch.float64).eps


def deviation(model, process, t: float, reference, dtype=torch.float64) -> tuple[float, float]:
    """(largest deviation over all steps from the reference iterates, predicted), root mean squares relative to that of
    the
    exact score: a single sequence may have a score near 0."""
    x = noisy(process, t).to(dtype)
    exact = process.score(x.double(), t).norm()
    c = process.noisy_covariance(t)
    r = (x.double() - alpha(t) * process.mean).flatten(1)
    steps = model.construction.steps
    states = reference(lambda v: v @ c, r, *process.extreme_eigenvalues(t), steps)
    iterates = hidden_iterates(model, process, x, t)
    worst = max(
        float((ours.double().flatten(1) - theirs).norm() / exact) for ours, theirs in zip(iterates, states, strict=True)
    )
    record = model.construction
    nearest = min(range(len(record.times)), key=lambda k: abs(math.log(record.times[k] / t)))
    return worst, record.predicted_error[nearest]


@pytest.mark.parametrize("kernel", [*KERNELS, RoughPolynomial(4, 1)], ids=str)
@pytest.mark.parametrize(("algorithm", "reference"), [("chebyshev", chebyshev), ("gradient_descent", gradient_descent)])
def test_every_block_is_a_step(kernel, algorithm, reference):
    process = make(64, 4, kernel)
    model = construct(process, algorithm, 16)
    for t in (1e-3, 0.01, 0.1, 0.7, 3.0, 8.0):
        worst, predicted = deviation(model, process, t, reference)
        assert worst <= predicted
        assert worst <= 1e-9
    # The score that comes out is the last iterate.
    x = noisy(process, 0.1)
    torch.testing.assert_close(model(x, 0.1), hidden_iterates(model, process, x, 0.1)[-1], rtol=1e-12, atol=1e-12)


def test_float32_is_within_its_prediction():
    process = make(64, 4, Exponential(8))
    model = construct(process, "chebyshev", 16, dtype=torch.float32)
    for t in (1e-3, 0.01, 0.1, 0.7, 3.0):
        worst, predicted = deviation(model, process, t, chebyshev, torch.float32)
        assert worst <= min(predicted, 5e-3)


@pytest.mark.parametrize(("length", "dim"), [(1, 1), (1, 3), (2, 1), (5, 6)])
def test_any_length_and_dimension(length, dim):
    process = make(length, dim, Exponential(3))
    model = construct(process, "chebyshev", 4)
    worst, predicted = deviation(model, process, 0.2, chebyshev)
    assert worst <= min(predicted, 1e-8)
    model = construct(process, "preconditioned", 2)
    x = noisy(process, 0.2, 16)
    assert relative_error(model(x, 0.2), process.score(x, 0.2)) < 1e-2


def application_errors(model, process, t: float, dtype=torch.float64) -> list[float]:
    """Relative score error after 1, 3 and 5 blocks: the first applications of a deep model are those of a shallow
    one."""
    x = noisy(process, t, 24).to(dtype)
    exact = process.score(x.double(), t)
    return [relative_error(each, exact) for each in hidden_iterates(model, process, x, t)]


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [Exponential(8), Exponential(8, 0.5)], ids=str)
def test_preconditioned_reaches_the_score_whatever_the_condition_number(kernel):
    """1, 3 and 5 blocks, t in [1e-3, 5], in float64 and in float32 (weights, heads, gates and all)."""
    process = make(64, 4, kernel)
    model = construct(process, "preconditioned", 3, t_range=(1e-3, 5.0))
    record = model.construction
    assert record.sizes["L"] == 5 and record.iterate_blocks == [0, 2, 4]
    for dtype, bounds in ((torch.float64, (2e-2, 1e-3, 5e-5)), (torch.float32, (2e-2, 2e-3, 2e-4))):
        model = model.to(dtype)
        for t in torch.logspace(-3, math.log10(5), 13).clamp(1e-3, 5.0).tolist():
            errors = application_errors(model, process, t, dtype)
            assert all(error <= bound for error, bound in zip(errors, bounds, strict=True)), (dtype, t, errors)


@torch.no_grad()
def test_preconditioned_error_is_the_predicted_one():
    """The record holds an expectation. The columns of C_t^(1/2) have that of the process, and the model is linear."""
    process = make(32, 4, Exponential(8), mean=False)
    record = (model := construct(process, "preconditioned", 2)).construction
    for k in (3, 12, 20, 27):
        t = record.times[k]
        eigenvalues, vectors = torch.linalg.eigh(process.noisy_covariance(t))
        x = (vectors * eigenvalues.sqrt()).T.reshape(-1, process.length, process.dim)
        assert relative_error(model(x, t), process.score(x, t)) == pytest.approx(record.predicted_error[k], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [Polynomial(4, 1), Logarithmic(4, 1)], ids=str)
def test_preconditioned_on_smooth_kernels(kernel):
    """Where t >= 0.1 it reaches the figures of the non-smooth ones; below, errors fall with every application and stay
    under those of as many Chebyshev steps as there are blocks."""
    process = make(64, 4, kernel, mean=False)
    model = construct(process, "preconditioned", 3, t_range=(1e-3, 5.0))
    for t in (0.1, 0.3, 1.0, 4.0):
        errors = application_errors(model, process, t)
        assert all(error <= bound for error, bound in zip(errors, (3e-2, 3e-3, 3e-4), strict=True))
    for t in (1e-3, 3e-3, 0.01, 0.03, 0.09):
        errors = application_errors(model, process, t)
        assert errors[0] > errors[1] > errors[2]
        x, c = noisy(process, t, 24).flatten(1), process.noisy_covariance(t)
        exact = process.score(x.reshape(24, 64, 4), t).flatten(1)
        for error, blocks in zip(errors, (1, 3, 5), strict=True):
            *_, s = chebyshev(lambda v, c=c: v @ c, x, *process.extreme_eigenvalues(t), blocks)
            assert error < relative_error(s, exact)


@pytest.mark.parametrize(
    ("algorithm", "norm"), [("chebyshev", "none"), ("chebyshev", "layer"), ("preconditioned", "none")]
)
def test_is_an_ordinary_dit(tmp_path, algorithm, norm):
    """Strict loading into a fresh instance, a checkpoint round trip, and a training step."""
    process = make(12, 2, Exponential(4))
    model = construct(process, algorithm, 2, norm=norm)
    x = noisy(process, 0.3)
    twin = DiT(model.config).double()
    twin.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(twin(x, 0.3), model(x, 0.3))
    save_checkpoint(tmp_path / "hand.pt", model, process, {}, {})
    loaded = load_checkpoint(tmp_path / "hand.pt").model
    assert torch.equal(loaded(x, 0.3), model(x, 0.3)) and loaded.construction == model.construction
    loss = denoising_loss(twin, process.sample(4, generator()), 0.3, torch.zeros(4, 12, 2).double()).mean()
    loss.backward()
    torch.optim.SGD(twin.parameters(), lr=1e-12).step()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in twin.parameters())


def test_a_model_extends_to_longer_sequences_without_new_heads():
    """Only the position table changes: the longer model is richardson with the step sizes of the shorter one."""
    short, long = (make(length, 2, Exponential(6)) for length in (24, 48))
    model = construct(short, "chebyshev", 8, fit_length=48)
    assert relative_error(model(x := noisy(short, 0.2), 0.2), construct(short, "chebyshev", 8)(x, 0.2)) < 1e-9
    longer = extend(model, long)
    changed = [name for name, value in longer.state_dict().items() if not torch.equal(value, model.state_dict()[name])]
    assert changed == ["position"]
    for t in (0.01, 0.5):
        x, c = noisy(long, t), long.noisy_covariance(t)
        steps = chebyshev_steps(*short.extreme_eigenvalues(t), 8)
        *_, expected = richardson(lambda v, c=c: v @ c, (x - alpha(t) * long.mean).flatten(1), steps)
        assert relative_error(longer(x, t).flatten(1), expected) < 1e-9
    # Heads that were fitted on the short lags alone do not hold the long ones.
    with pytest.raises(ValueError, match=r"^process: length 48 .* at most 24"):
        extend(construct(short, "chebyshev", 2), long)
    with pytest.raises(ValueError, match=r"^model: "):
        extend(construct(short, "preconditioned", 1), long)


@torch.no_grad()
@pytest.mark.parametrize(("algorithm", "steps"), [("chebyshev", 8), ("preconditioned", 2)])
def test_layer_norm_is_made_linear(algorithm, steps):
    """The same score within the predicted error, which is off by less than a factor of 2 and falls like 1/B^2."""
    process = make(24, 2, Exponential(8))
    plain = construct(process, algorithm, steps)
    times = [plain.construction.times[k] for k in (0, 8, 16, 24, 32)]
    inputs = {t: noisy(process, t, 16) for t in times}
    for dominance in (1e4, 1e6):
        model = construct(process, algorithm, steps, norm="layer", dominance=dominance)
        assert model.config.norm == "layer" and model.config.width == 2 * plain.config.width + 2
        predicted = dict(zip(model.construction.times, model.construction.neutralisation_error, strict=True))
        for t, x in inputs.items():
            error = relative_error(model(x, t), plain(x, t))
            assert predicted[t] / 2 < error < 2 * predicted[t]
            assert error <= 1e-8 * (1e6 / dominance) ** 2
    single = construct(process, algorithm, steps, norm="layer", dtype=torch.float32)
    assert all(relative_error(single(x.float(), t), plain(x, t)) <= 2e-4 for t, x in inputs.items())
    x = inputs[times[1]]
    for ours, theirs in zip(
        hidden_iterates(model, process, x, times[1]), hidden_iterates(plain, process, x, times[1]), strict=True
    ):
        assert relative_error(ours, theirs) <= 1e-8


@pytest.mark.parametrize("length", [1, 2, 64, 300])
def test_heads_hold_their_gaussians(length):
    """Row sums, the normaliser above them at every length, and logits that are exact in float32."""
    widths = dyadic_widths(length, 4)
    matrices = gaussian_matrices(widths, length)
    torch.testing.assert_close(row_sums(widths, length).T, matrices.sum(dim=-1), rtol=1e-13, atol=0)
    assert all(normaliser(float(b)) > float(m.sum(dim=-1).max()) for b, m in zip(widths, matrices, strict=True))
    p = positions(length).float()
    b = widths.float()[:, None, None]
    logits = (2 * b * p[:, None]) * p - b * p**2 - b * p[:, None] ** 2
    assert torch.equal(logits.double(), -widths[:, None, None] * (positions(length)[:, None] - positions(length)) ** 2)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("length", [2, 64, 512])
def test_dictionaries_get_finer(kernel, length):
    errors = [fit_dictionary(kernel, length, per_octave).error for per_octave in (1, 2, 4)]
    assert errors[2] <= 1e-11 and errors[1] <= 1e-6 and errors[0] <= 1e-4
    fitted = fit_dictionary(kernel, length, 4)
    held = (gaussian_matrices(fitted.widths, length) * fitted.weights[:, None, None]).sum(dim=0)
    rounding = (len(fitted.weights) + 2) * EPS * float(fitted.weights.abs().sum())  # of a sum of that many products
    assert float((held - kernel.matrix(length)).abs().max()) <= fitted.error + rounding


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_pair_is_linear(approximate):
    stream = Stream({"a": 3, "b": 2})
    mlp = LinearMLP()
    matrix = torch.randn(2, 3, generator=generator(), dtype=torch.float64)
    mlp.add([(stream["a"], matrix), (stream["b"], 2.0)], [(stream["b"], -1.0)], 2)
    network = torch.nn.Sequential(
        torch.nn.Linear(5, mlp.hidden), torch.nn.GELU(approximate), torch.nn.Linear(mlp.hidden, 5)
    ).double()
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    mlp.set(network)
    x = torch.cat(
        [torch.randn(50, 5, generator=generator(1)), 1e3 * torch.randn(50, 5, generator=generator(2))]
    ).double()
    expected = torch.cat([torch.zeros(100, 3), -(x[:, :3] @ matrix.T + 2 * x[:, 3:])], dim=1)
    torch.testing.assert_close(network(x).detach(), expected.double(), rtol=1e-14, atol=1e-12)


def test_stream_subspaces_do_not_overlap():
    stream = Stream({"x": 3, "u": 4})
    assert stream.width == 7 and stream["u"].channels == slice(3, 7)
    assert stream["u"].part(1, 2) == Subspace("u[2:4]", 5, 2) and stream["u"][-1].start == 6
    with pytest.raises(IndexError):
        stream["u"].part(2, 2)
    linear = torch.nn.Linear(7, 7)
    torch.nn.init.zeros_(linear.weight)
    connect(linear, stream["x"], stream["u"].part(0, 3), 2.0)
    assert float(linear.weight.detach().sum()) == 6.0 and float(linear.weight[3, 0]) == 2.0


def test_gates_are_the_functions_they_fit():
    model = DiT(DiTConfig(length=2, dim=1, width=4, heads=1)).double()
    fitter = GateFitter(model.time, (1e-3, 8.0))
    coefficients = fitter.relative("square", lambda t: -torch.expm1(-t))
    t = torch.logspace(-3, math.log10(8), 777, dtype=torch.float64).clamp(1e-3, 8.0)
    found = model.time(t) @ coefficients[:-1] + coefficients[-1]
    error = (found / -torch.expm1(-t) - 1).abs()
    assert float(error.max()) <= 1.5 * fitter.errors["square"] + 1e-14 and fitter.errors["square"] < 1e-10
    assert bool((error <= 2 * fitter.error_at("square", t, 8 * EPS)).all())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"algorithm": "newton"}, "algorithm: 'newton'"),
        ({"algorithm": "conjugate_gradient"}, "algorithm: 'conjugate_gradient'"),
        ({"steps": 0}, "steps: 0"),
        ({"steps": None}, "steps: None"),
        ({"depth": 3}, "depth: 3 is not accepted for model 'dit'; accepted: t_range, dtype, norm, heads, ramps"),
        ({"truncation": 4}, "truncation: 4 is not accepted for model 'dit'"),
        ({"algorithm": "preconditioned", "steps": 1, "fit_length": 16}, "fit_length: 16"),
        ({"t_range": (2.0, 1.0)}, "t_range: (2.0, 1.0)"),
        ({"model": "unet"}, "model: 'unet'"),
        ({"norm": "batch"}, "norm: 'batch'"),
        ({"dominance": 10.0}, "dominance: 10.0"),
        ({"norm": "layer", "dominance": 0.5}, "dominance: 0.5"),
        ({"fit_length": 8}, "fit_length: 8"),
        ({"dtype": torch.bfloat16}, "dtype: torch.bfloat16"),
        ({"heads": 3}, "heads: 3"),
        ({"ramps": 4}, "ramps: 4"),
        ({"ridge": 0.0}, "ridge: 0.0"),
        ({"t_range": (0.0, 1.0)}, "t: 0"),
        ({"tolerance": 1e-12}, "tolerance: 1e-12"),
        ({"tolerance": 1e-6, "dtype": torch.float32, "steps": 32}, "tolerance: 1e-06"),
        ({"heads": 16, "tolerance": 1e-8}, "tolerance: 1e-08"),
    ],
)
def test_what_cannot_be_held_is_refused(options, named):
    process = make(16, 2, Exponential(4))
    arguments = {"algorithm": "chebyshev", "steps": 8, **options}
    with pytest.raises(ValueError, match="accepted") as refusal:
        construct(process, **arguments)
    assert str(refusal.value).startswith(named)


def test_times_and_own_matrices_are_refused():
    process = make(16, 2, Exponential(4))
    model = construct(process, "chebyshev", 2, t_range=(0.01, 2.0))
    with pytest.raises(ValueError, match=r"^t: 3 is not accepted; accepted: t in \[0.01, 2\]"):
        model(torch.zeros(1, 16, 2), 3.0)
    with pytest.raises(ValueError, match="^process: "):
        construct(GaussianProcess(4, torch.eye(4), torch.eye(1)), "chebyshev", 2)


@torch.no_grad()
def test_the_register_stays_empty_and_long_models_stay_exact():
    """Whatever leaks into the register is amplified there by every step, as the polynomial of the steps is outside the
    spectrum: with e^-100 in place of 0 this model is off by a factor of 1e62."""
    process = GaussianProcess(16, Exponential(16.0, 1.0), torch.eye(1, dtype=torch.float64))
    t = 0.001
    model = construct(process, "chebyshev", 48, t_range=(t, 8.0), heads=14)
    x = noisy(process, t)
    seen = []
    handle = model.blocks[-1].register_forward_hook(lambda _, __, stream: seen.append(stream[:, 0]))
    found = hidden_iterates(model, process, x, t)
    handle.remove()
    start, size = model.construction.subspaces["iterate"]
    assert torch.equal(seen[0][:, start : start + size], torch.zeros(len(x), size, dtype=torch.float64))
    expected = reference_iterates(model.construction, process, x, t)
    exact = process.score(x, t).norm()
    deviations = [float((a - b).norm() / exact) for a, b in zip(found, expected, strict=True)]
    assert max(deviations) <= max(model.construction.predicted_error) <= 1e-4


@pytest.mark.parametrize(
    ("algorithm", "steps", "options"),
    [
        ("preconditioned", 3, {"dtype": torch.float32, "t_range": (1e-6, 8.0)}),
        ("preconditioned", 3, {"t_range": (1e-6, 8.0)}),
        ("chebyshev", 24, {"norm": "layer"}),
        ("chebyshev", 24, {"norm": "layer", "dtype": torch.float32}),
    ],
)
def test_predictions_hold_the_rounding_of_the_model(algorithm, steps, options):
    """Other sequences than those it is measured on, at other times; up to a factor of 1.5 counts as sampling. Before,
    float32 at t = 1e-6 was wrong by 2.6e6 where 3.3e-4 was predicted."""
    process = make(8, 2, Exponential(4))
    model = construct(process, algorithm, steps, **options)
    record = model.construction
    for k in (0, 5, 8, 13, 16, 24, 32):
        t = record.times[k]
        x = process.noisy(16, t, generator(3)).to(model.position.dtype)
        exact = process.score(x.double(), t)
        if algorithm == "preconditioned":
            ours, wanted = [model(x, t)], [exact]
        else:
            ours, wanted = hidden_iterates(model, process, x, t), reference_iterates(record, process, x, t)
        error = max(float((a.double() - b).norm() / exact.norm()) for a, b in zip(ours, wanted, strict=True))
        assert error <= 1.5 * record.predicted_error[k], f"t = {t:g}"


def test_a_tolerance_below_the_rounding_is_refused():
    with pytest.raises(ValueError, match=r"^tolerance: 0.001 is below the predicted error .* of torch.float32"):
        construct(
            make(8, 2, Exponential(4)), "preconditioned", 3, dtype=torch.float32, t_range=(1e-6, 8.0), tolerance=1e-3
        )
