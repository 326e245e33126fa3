"""The theory's transformer: its recipes are exact, its forward pass is gradient descent, Chebyshev or conjugate
gradient."""

import math

import numpy as np
import pytest
import torch

from probes.capture.by_lag import attention_by_lag
from tests.builders import KERNELS, generator, make, noisy
from unrolled import (
    Exponential,
    GaussianProcess,
    Logarithmic,
    Polynomial,
    ReluTransformer,
    ReluTransformerConfig,
    alpha,
    construct,
    denoising_loss,
    load_checkpoint,
    save_checkpoint,
)
from unrolled.handset import hidden_iterates
from unrolled.handset.lag_heads import circle_table, lag_coefficients, lag_heads, lag_table, published_lag_heads
from unrolled.handset.masked_products import code_sizes, code_table, inner_product, power_of_two, product, token_sum
from unrolled.handset.multiplication import multiplication, multiplication_error
from unrolled.handset.reciprocal import guess, knots, refinement
from unrolled.handset.relu_program import ReluHead, ReluProgram
from unrolled.handset.truncation import TruncatedCovariance, truncate
from unrolled.solvers import chebyshev, chebyshev_bound, conjugate_gradient, gradient_descent

EPS = torch.finfo(torch.float64).eps


def run(program: ReluProgram, tables: dict[str, torch.Tensor], dtype=torch.float64) -> dict[str, torch.Tensor]:
    """The subspaces after all blocks of a program whose tokens start with `tables`."""
    length = len(next(iter(tables.values())))
    model = program.build(
        length, 1, [], math.inf, math.inf, (1e-3, 8.0), program["unused"], {}, program["unused time"], program["unused"]
    ).to(dtype)
    y = torch.zeros(1, length, program.stream.width, dtype=dtype)
    for name, table in tables.items():
        y[0, :, program[name].channels] = table.to(dtype)
    with torch.no_grad():
        for block in model.block_list:
            y = block(y)
    return {name: y[0, :, each.channels] for name, each in program.stream.subspaces.items()}


def tokens(length: int, sizes: dict[str, int]) -> tuple[ReluProgram, dict[str, torch.Tensor]]:
    program = ReluProgram({"unused": 1, "unused time": 3, "one": 1, **code_sizes(length), **sizes})
    program.block()
    return program, {"one": torch.ones(length, 1), **code_table(length)}


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize(("length", "lags"), [(1, 1), (2, 1), (64, 64), (64, 9), (300, 40)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_lag_heads_hold_the_truncated_kernel(kernel, length, lags, dtype):
    """Every term is >= 0 but that of the cut, so the sum keeps the digits of the dtype."""
    program = ReluProgram({"unused": 1, "unused time": 3, "one": 1, "position": 1, "position_squared": 1, "w": length,
                           "v": length})  # fmt: skip
    program.block()
    covariance = TruncatedCovariance(GaussianProcess(length, kernel, torch.eye(length)), lags)
    heads = lag_heads(program, covariance, program["v"], program["w"])
    assert len(heads) == lags + (lags == length and float(kernel(length)) > 0)
    program.attend(*heads)
    tables = {"one": torch.ones(length, 1), "v": torch.eye(length), **lag_table(length)}
    held = run(program, tables, dtype)["w"].double()
    wanted = covariance.temporal
    weights, floor = lag_coefficients(kernel, length, lags)
    assert bool((weights[: max(0, lags - 2)] >= -EPS).all()) and bool((weights[lags - 1 :] >= 0).all()) and floor >= 0
    # A sum of J terms that is their sum of absolute values, but for the cut, of size J gamma(J-1) at most.
    eps = torch.finfo(dtype).eps
    cut = 0.0 if lags == length else lags * float(kernel(lags - 1))
    assert float((held - wanted).abs().max()) <= eps * (math.log2(lags + 2) + 4) * (1 + cut)
    beyond = (torch.arange(length)[:, None] - torch.arange(length)).abs() >= lags
    assert not bool(held[beyond].any())  # zero, not small


def test_published_lag_heads_hold_the_kernel_less_exactly():
    length, kernel = 64, Exponential(8)
    program = ReluProgram({"unused": 1, "unused time": 3, "one": 1, "circle": 2, "w": length, "v": length})
    program.block()
    v, w = program["v"], program["w"]
    covariance = TruncatedCovariance(GaussianProcess(length, kernel, torch.eye(length)), 20)
    heads = published_lag_heads(program, covariance, v, w)
    assert len(heads) == 80
    program.attend(*heads)
    tables = {"one": torch.ones(length, 1), "v": torch.eye(length), **circle_table(length)}
    wanted = covariance.temporal
    assert float((run(program, tables)["w"] - wanted).abs().max()) < 1e-11
    single = float((run(program, tables, torch.float32)["w"] - wanted).abs().max())
    assert 1e-5 < single < 1e-2  # the weights of size N^2 cost digits


@pytest.mark.parametrize("length", [1, 2, 5, 64, 257])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_products_are_exact_for_factors_of_any_size(length, dtype):
    program, tables = tokens(length, {"c": 1, "v": 3, "w": 3})
    program.attend(product(program, program["c"], 2.0**60, (program["v"], program["w"], 1.0)))
    c = 10.0 ** torch.linspace(-30, 17, length)[:, None]
    v = torch.randn(length, 3, generator=generator(1))
    found = run(program, {**tables, "c": c, "v": v}, dtype)["w"]
    assert torch.equal(found, c.to(dtype) * v.to(dtype))  # one rounding, the same one


def test_a_mask_that_is_too_small_leaks():
    program, tables = tokens(8, {"c": 1, "v": 1, "w": 1})
    program.attend(product(program, program["c"], 1.0, (program["v"], program["w"], 1.0)))
    found = run(program, {**tables, "c": torch.full((8, 1), 1.5), "v": torch.ones(8, 1)})["w"]
    assert bool((found > 1.6).all())


@pytest.mark.parametrize("length", [1, 6, 64])
def test_inner_products_and_token_sums(length):
    program, tables = tokens(length, {"a": 4, "b": 4, "local": 1, "total": 1})
    a, b = (torch.randn(length, 4, generator=generator(k), dtype=torch.float64) for k in (1, 2))
    program.attend(*inner_product(program, program["a"], program["b"], 100.0, program["local"]))
    program.block()
    program.attend(token_sum(program, program["local"], program["total"]))
    program.clear("local")
    found = run(program, {**tables, "a": a, "b": b})
    size = float((a * b).abs().sum())
    assert float((found["total"] - (a * b).sum()).abs().max()) <= (4 + math.log2(length + 1)) * EPS * size
    assert not bool(found["local"].any())


def test_power_of_two():
    assert [power_of_two(v) for v in (1.0, 1.5, 4.0, 0.3)] == [1.0, 2.0, 4.0, 0.5]


@pytest.mark.parametrize(("dtype", "low", "high"), [(torch.float64, 1e-30, 1e20), (torch.float32, 1e-12, 1e12)])
def test_reciprocal_over_the_whole_range(dtype, low, high):
    """The guess lies in [1/c, (1 + 0.0076)/c], and what is left after refinement is rounding."""
    program, tables = tokens(400, {"c": 1, "y": 1, "scaled": 1, "error": 3})
    guess(program, program["c"], low, high, program["y"])
    c = torch.logspace(math.log10(low), math.log10(high), 400, dtype=torch.float64)[:, None].clamp(low, high)
    eps = torch.finfo(dtype).eps
    excess = run(program, {**tables, "c": c}, dtype)["y"].double() * c - 1
    ratio = 2**0.25
    assert float(excess.max()) <= (ratio - 1) ** 2 / (4 * ratio) + 8 * eps and float(excess.min()) >= -20 * eps
    program.block()
    program.attend(product(program, program["one"], 1.0, (program["y"], program["scaled"], 1.0)))
    steps = refinement(program, program["c"], high, program["y"], 8 / low, program["scaled"], program["error"])
    for k in range(4):
        if k:
            program.block()
        next(steps)
    found = run(program, {**tables, "c": c}, dtype)
    assert float((found["scaled"].double() * c.to(dtype).double() - 1).abs().max()) <= 16 * eps
    assert not bool(found["error"].any())
    # Outside the range it saturates: a vanishing c gives a large number, never infinity.
    edge = run(program, {**tables, "c": torch.zeros(400, 1)}, dtype)["scaled"]
    assert bool((edge > 1 / low).all()) and bool((edge < 4 / low).all())
    assert float(knots(low, high)[-1]) >= high


@pytest.mark.parametrize("layers", [1, 4, 10, 20])
def test_published_multiplication_is_within_its_lemma(layers):
    program, tables = tokens(512, {"c": 1, "v": 1, "squares": 2, "w": 1})
    names = [program[name] for name in ("c", "v", "squares", "w")]
    steps = multiplication(program, names[0], 3.0, names[1], 5.0, names[2], names[3], -1.0, layers)
    for k in range(layers + 1):
        if k:
            program.block()
        next(steps)
    c, v = (torch.rand(512, 1, generator=generator(k), dtype=torch.float64) for k in (1, 2))
    c, v = 3 * c, 10 * v - 5
    found = run(program, {**tables, "c": c, "v": v})
    error, bound = float((found["w"] + c * v).abs().max()), multiplication_error(3.0, 5.0, layers)
    assert bound / 30 < error <= bound + 30 * EPS  # the lemma is not loose either
    assert not bool(found["squares"].any())


def references(model, process, t: float, x: torch.Tensor, reference) -> list[torch.Tensor]:
    covariance = TruncatedCovariance(process, model.construction.truncation)
    r = x - alpha(t) * process.mean
    return list(reference(lambda v: covariance.operator(v, t), r, *covariance.extreme_eigenvalues(t)))


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("algorithm", ["gradient_descent", "chebyshev"])
def test_every_iterate_is_the_reference_on_the_truncated_covariance(kernel, algorithm):
    process = make(48, 3, kernel)
    model = construct(process, algorithm, 12, model="relu")
    solver = {"gradient_descent": gradient_descent, "chebyshev": chebyshev}[algorithm]
    record = model.construction
    for dtype, accepted in ((torch.float64, 1e-9), (torch.float32, 1e-3)):
        predicted = construct(process, algorithm, 12, model="relu", dtype=dtype).construction.predicted_error
        model = model.to(dtype)
        for k in (0, 8, 16, 24, 32):
            t = record.times[k]
            x = noisy(process, t).to(dtype)
            expected = references(model, process, t, x.double(), lambda c, r, m, top: solver(c, r, m, top, 12))
            exact = process.score(x.double(), t).norm()
            for ours, theirs in zip(hidden_iterates(model, process, x, t), expected, strict=True):
                assert float((ours.double() - theirs).norm() / exact) <= min(predicted[k], accepted)


@pytest.mark.slow
def test_long_sequences_and_truncation():
    process = make(256, 2, Exponential(8))
    assert construct(process, "gradient_descent", 1, model="relu").construction.truncation < 120
    for lags in (60, 256):
        model = construct(process, "gradient_descent", 3, model="relu", truncation=lags)
        for t in (1e-3, 0.1):
            x = noisy(process, t, 1)
            expected = references(model, process, t, x, lambda c, r, m, top: gradient_descent(c, r, m, top, 3))
            for ours, theirs in zip(hidden_iterates(model, process, x, t), expected, strict=True):
                assert float((ours - theirs).norm() / process.score(x, t).norm()) <= 1e-9


def test_truncation_changes_the_solution_within_its_bound():
    process = make(64, 2, Exponential(4))
    for lags in (30, 45, 64):
        covariance = truncate(process, lags, 0.05)
        for t in (0.05, 0.5):
            x = noisy(process, t)
            system = alpha(t) ** 2 * (
                torch.kron(covariance.temporal, process.spatial_covariance) + math.expm1(t) * torch.eye(128).double()
            )
            ours = -torch.linalg.solve(system, (x - alpha(t) * process.mean).flatten(1).T).T
            exact = process.score(x, t).flatten(1)
            assert float((ours - exact).norm() / exact.norm()) <= covariance.relative_error(t) + 1e-11
            extremes = torch.linalg.eigvalsh(system)[[0, -1]]
            assert covariance.extreme_eigenvalues(t) == pytest.approx(extremes.tolist(), rel=1e-11)


def test_default_truncation_is_the_smallest_that_keeps_the_spectrum():
    process = make(64, 2, Exponential(2))
    lags = construct(process, "gradient_descent", 1, model="relu").construction.truncation
    tail = [2 * float(process.temporal_covariance[0, j:].sum()) for j in range(65)]
    allowed = process.extreme_eigenvalues(1e-3)[0] / 10 / alpha(1e-3) ** 2 / float(process.spatial_eigen[0][-1])
    assert tail[lags] <= allowed < tail[lags - 1] and lags < 64


def test_a_truncation_that_breaks_positive_definiteness_is_refused():
    process = make(64, 4, Exponential(8))
    with pytest.raises(ValueError, match=r"^truncation: 16 .*indefinite.*admissible one above it is") as refusal:
        construct(process, "gradient_descent", 4, model="relu", truncation=16, t_range=(0.01, 8.0))
    admissible = int(str(refusal.value).split()[-1])
    pair = [TruncatedCovariance(process, j).temporal for j in (admissible - 1, admissible)]
    smallest = [float(torch.linalg.eigvalsh(each)[0]) for each in pair]
    largest_spatial = float(process.spatial_eigen[0][-1])
    assert smallest[0] * largest_spatial + math.expm1(0.01) <= 0 < smallest[1] * largest_spatial + math.expm1(0.01)
    assert construct(process, "gradient_descent", 1, model="relu", truncation=admissible, t_range=(0.01, 8.0))
    with pytest.raises(ValueError, match=r"^truncation: 65 "):
        construct(process, "gradient_descent", 1, model="relu", truncation=65)


def rounded_conjugate_gradient(covariance, r, t: float, steps: int, seed: int) -> list[torch.Tensor]:
    """The textbook's iterates with a random error in every operation, as large as the blocks may round.

    An inner product is a sum of N d terms, a reciprocal is refined to 16 eps (`test_reciprocal_over_the_whole_range`),
    and the heads hold Gamma_J to eps (log2(J+2) + 4) (1 + cut) of each entry
    (`test_lag_heads_hold_the_truncated_kernel`).
    """
    process, lags, noise = covariance.process, covariance.lags, generator(seed)
    cut = 0.0 if lags == process.length else lags * float(process.temporal(lags - 1))
    heads = EPS * (math.log2(lags + 2) + 4) * (1 + cut)

    def off(v, size):
        return v + size * torch.randn(v.shape, generator=noise, dtype=torch.float64)

    def inner(a, b):
        return off(exact := (a * b).sum(dim=(1, 2), keepdim=True), (4 + math.log2(r[0].numel())) * EPS * exact)

    def operator(v):
        size = covariance.temporal @ v.abs() @ process.spatial_covariance.abs() + math.expm1(t) * v.abs()
        return off(covariance.operator(v, t), heads * alpha(t) ** 2 * size)

    s, q = torch.zeros_like(r), -r
    p, rho, iterates = q, inner(q, q), []
    for _ in range(steps):
        w = operator(p)
        step = rho / inner(p, w)
        step = off(step, 16 * EPS * step)
        s, q = s + step * p, q - step * w
        rho_next = inner(q, q)
        ratio = rho_next / rho
        p, rho = q + off(ratio, 16 * EPS * ratio) * p, rho_next
        iterates.append(s)
    return iterates


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [Exponential(4), Polynomial(4, 1), Logarithmic(4, 1)], ids=str)
def test_conjugate_gradient_runs_in_the_forward_pass(kernel):
    """A different x in every batch element, root mean squares from 1e-3 to 1e3, kappa up to 300."""
    process = make(24, 2, kernel, mean=False)
    model = construct(process, "conjugate_gradient", 16, model="relu")
    assert model.construction.sizes["L"] == 11 * 16
    covariance = TruncatedCovariance(process, model.construction.truncation)
    sizes = torch.tensor([1e-3, 1.0, 1e3], dtype=torch.float64)[:, None, None]
    kappas = []
    for t in (0.03, 0.1, 0.3, 1.0, 3.0):
        smallest, largest = covariance.extreme_eigenvalues(t)
        if largest / smallest > 300:
            continue
        kappas.append(largest / smallest)
        x = noisy(process, t)
        x = x / x.square().mean(dim=(1, 2), keepdim=True).sqrt() * sizes
        dense = process.score(x, t).norm(dim=(1, 2))
        expected = list(conjugate_gradient(lambda v, t=t: covariance.operator(v, t), x, 16))
        spread = torch.stack([
            torch.stack([(a - b).norm(dim=(1, 2)) / dense for a, b in zip(rounded, expected, strict=True)])
            for rounded in (rounded_conjugate_gradient(covariance, x, t, 16, seed) for seed in range(5))
        ])  # fmt: skip
        # Five draws are all below a third of their standard deviation once in 800 cases. An iterate that lags behind is
        # off by what an earlier one was: the largest up to this step counts.
        allowed = 3 * spread.amax(dim=0).cummax(dim=0).values
        system = torch.kron(covariance.temporal, process.spatial_covariance) + math.expm1(t) * torch.eye(48).double()
        solution = -torch.linalg.solve(system, x.flatten(1).T).T.reshape(x.shape) / alpha(t) ** 2

        def c_norm(v, t=t):
            return (v * covariance.operator(v, t)).sum(dim=(1, 2)).sqrt()

        for k, ours in enumerate(hidden_iterates(model, process, x, t)):
            deviation = (ours - expected[k]).norm(dim=(1, 2)) / dense
            assert bool((deviation <= allowed[k]).all())
            assert k >= 8 or float(deviation.max()) <= 1e-6
            error = c_norm(ours - solution) / c_norm(solution)
            assert float(error.max()) <= 1.05 * chebyshev_bound(largest / smallest, k + 1) + 1e-13
        final = c_norm(model(x, t).detach() - solution) / c_norm(solution)
        nearest = min(range(33), key=lambda k, t=t: abs(math.log(model.construction.times[k] / t)))
        assert float(final.max()) <= 2 * model.construction.predicted_error[nearest]
    assert len(kappas) >= 3
    assert torch.equal(model(torch.zeros(1, 24, 2).double(), 0.1), torch.zeros(1, 24, 2).double())
    assert covariance.extreme_eigenvalues(8.0)[1] / covariance.extreme_eigenvalues(8.0)[0] < 1.1
    late = model(x, 8.0)
    assert float((late - process.score(x, 8.0)).norm() / process.score(x, 8.0).norm()) < 1e-12


def test_conjugate_gradient_in_float32_stays_finite_and_says_what_it_can_do():
    process = make(16, 2, Exponential(4))
    model = construct(process, "conjugate_gradient", 12, model="relu", dtype=torch.float32)
    for t in (0.1, 1.0, 8.0):
        x = noisy(process, t).float()
        assert bool(torch.isfinite(model(x, t)).all())
    with pytest.raises(ValueError, match=r"^tolerance: 1e-08 .*float32.*torch\.float64"):
        construct(process, "conjugate_gradient", 64, model="relu", dtype=torch.float32, tolerance=1e-8)


@pytest.mark.parametrize(("length", "dim"), [(1, 1), (1, 3), (2, 1)])
def test_short_sequences(length, dim):
    """One token: conjugate gradient ends after as many steps as there are eigenvalues and stays where it is."""
    process = make(length, dim, Exponential(3))
    model = construct(process, "conjugate_gradient", 8, model="relu")
    x = noisy(process, 0.2)
    torch.testing.assert_close(model(x, 0.2), process.score(x, 0.2), rtol=1e-10, atol=1e-11)


def test_published_modules_are_within_the_error_of_their_lemma():
    process = make(16, 2, Exponential(3))
    ours = construct(process, "gradient_descent", 4, model="relu")
    for layers in (8, 16, 24):
        model = construct(process, "gradient_descent", 4, model="relu", multiplication_layers=layers)
        record = model.construction
        assert record.sizes["L"] == (layers + 1) * 9 and record.sizes["M"] == 4 * record.truncation
        for k in (0, 16, 32):
            t = record.times[k]
            x = noisy(process, t)
            expected = references(ours, process, t, x, lambda c, r, m, top: gradient_descent(c, r, m, top, 4))
            covariance = TruncatedCovariance(process, record.truncation)
            eigenvalues = alpha(t) ** 2 * (covariance.eigenvalues + math.expm1(t))
            size = float(eigenvalues.reciprocal().sum().sqrt())  # root mean square of |s|, the unit of the prediction
            for a, b in zip(hidden_iterates(model, process, x, t), expected, strict=True):
                assert float((a - b).norm(dim=(1, 2)).max()) <= size * record.predicted_error[k]


@pytest.mark.parametrize("algorithm", ["gradient_descent", "chebyshev", "conjugate_gradient"])
def test_is_an_ordinary_instance(tmp_path, algorithm):
    """Strict loading into a fresh instance, a checkpoint round trip, and a training step."""
    process = make(6, 2, Exponential(2))
    model = construct(process, algorithm, 2, model="relu")
    x = noisy(process, 0.3)
    twin = ReluTransformer(model.config).double()
    twin.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(twin(x, 0.3), model(x, 0.3))
    save_checkpoint(tmp_path / "relu.pt", model, process, {}, {})
    loaded = load_checkpoint(tmp_path / "relu.pt").model
    assert torch.equal(loaded(x, 0.3), model(x, 0.3)) and loaded.construction == model.construction
    denoising_loss(twin, process.sample(4, generator()), 0.3, torch.zeros(4, 6, 2).double()).mean().backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in twin.parameters())


def test_the_attention_probe_reads_relu_maps():
    """The lag heads of a step are hat functions of the squared lag; the masked product head sees its own token
    alone."""
    process = make(10, 2, Exponential(3))
    model = construct(process, "gradient_descent", 1, model="relu", truncation=10)
    found = attention_by_lag(model, [noisy(process, 0.1)], 0.1)
    assert found.layers == ["blocks.0", "blocks.1", "blocks.2"] and found.profiles.shape[1] == 12
    profiles = found.mean_profiles()[1]
    for m in range(10):
        assert profiles[m] == pytest.approx(np.maximum((m + 1) ** 2 - found.lags**2, 0), abs=1e-12)
    assert profiles[11] == pytest.approx(math.expm1(0.1) * (found.lags == 0), abs=1e-15)


def test_sizes_are_those_of_the_class():
    process = make(20, 3, Exponential(2))
    for algorithm, blocks, heads in (
        ("gradient_descent", 11, 22),
        ("chebyshev", 11, 22),
        ("conjugate_gradient", 55, 23),
    ):
        model = construct(process, algorithm, 5, model="relu", truncation=20)
        sizes = model.construction.sizes
        width = {"gradient_descent": 5 * 3 + 7, "chebyshev": 5 * 3 + 11, "conjugate_gradient": 7 * 3 + 18}[algorithm]
        assert (sizes["L"], sizes["M"], sizes["D"]) == (blocks, heads, width + 2 * 5)
        assert sizes["B"] == max(float(p.detach().norm(dim=(-2, -1)).max()) for p in model.parameters() if p.ndim > 1)


def test_the_decoder_clips_and_the_encoder_refuses():
    config = ReluTransformerConfig(3, 2, 4, heads=(1,), hidden=(5,), radius=0.1, x_limit=2.0)
    model = ReluTransformer(config).double()
    model.reset_parameters(generator(1))
    torch.nn.init.ones_(model.out)
    x = torch.randn(4, 3, 2, generator=generator(), dtype=torch.float64)
    assert float(model(x, 0.5).flatten(1).norm(dim=1).max()) == pytest.approx(0.1, rel=1e-12)
    with pytest.raises(ValueError, match=r"^x: root mean square 3 is not accepted; accepted: at most 2"):
        model(torch.full((1, 3, 2), 3.0).double(), 0.5)
    with pytest.raises(ValueError, match=r"^t: 9 "):
        model(x, 9.0)
    with pytest.raises(ValueError, match=r"^x: shape"):
        model(x[:, :2], 0.5)


def test_block_is_the_published_formula():
    """Y += sum_m ReLU(Y Q (Y K)') Y V; Y += ReLU(Y W1 + b1) W2 + b2, written out token by token."""
    model = ReluTransformer(ReluTransformerConfig(3, 2, 4, heads=(2,), hidden=(5,))).double()
    for k, parameter in enumerate(model.parameters()):
        torch.nn.init.normal_(parameter, generator=generator(k))
    (block,) = model.block_list
    y = torch.randn(3, 4, generator=generator(9), dtype=torch.float64)
    z = y.clone()
    for i in range(3):
        for j in range(3):
            for m in range(2):
                z[i] += torch.relu((y[i] @ block.query[m]) @ (y[j] @ block.key[m])) * (y[j] @ block.value[m])
    expected = z + torch.relu(z @ block.inner + block.inner_bias) @ block.outer + block.outer_bias
    torch.testing.assert_close(block(y[None])[0], expected, rtol=1e-13, atol=1e-13)
    with torch.no_grad():  # without gradients heads go in chunks
        torch.testing.assert_close(block(y[None])[0], expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"length": 0}, "length: 0"),
        ({"heads": (-1,)}, "heads: "),
        ({"hidden": (1, 2)}, "hidden: 2 blocks"),
        ({"radius": 0.0}, "radius: 0.0"),
        ({"t_range": (1.0, 0.5)}, "t_range: "),
        ({"rates": (-1.0,)}, "rates: "),
    ],
)
def test_bad_sizes_are_refused(arguments, named):
    with pytest.raises(ValueError, match="accepted") as refusal:
        ReluTransformerConfig(**{"length": 3, "dim": 2, "width": 4, "heads": (1,), "hidden": (1,), **arguments})
    assert str(refusal.value).startswith(named)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"algorithm": "preconditioned"}, "algorithm: 'preconditioned'"),
        ({"norm": "layer"}, "norm: 'layer' is not accepted for model 'relu'; accepted: t_range, dtype, heads"),
        ({"ramps": 64}, "ramps: 64"),
        ({"steps": None}, "steps: None"),
        ({"heads": 1}, "heads: 1"),
        ({"heads": 6}, "truncation: 5"),
        ({"multiplication_layers": 0}, "multiplication_layers: 0"),
        ({"algorithm": "chebyshev", "multiplication_layers": 3}, "multiplication_layers: 3"),
        ({"model": "dit", "truncation": 4}, "truncation: 4"),
        ({"tolerance": 1e-30}, "tolerance: 1e-30"),
    ],
)
def test_what_cannot_be_held_is_refused(options, named):
    process = make(32, 2, Exponential(8))
    with pytest.raises(ValueError, match="accepted|admissible") as refusal:
        construct(process, **{"algorithm": "gradient_descent", "steps": 2, "model": "relu", **options})
    assert str(refusal.value).startswith(named)


def test_heads_beyond_a_lag_each_are_zero():
    """`rectify` and `linear` say what they mean: a cleared subspace is exactly 0, a head without logit does nothing."""
    program, tables = tokens(4, {"v": 2})
    program.attend(ReluHead([], [(program["v"], program["v"], 1.0)]))
    program.clear("v")
    assert not bool(run(program, {**tables, "v": torch.randn(4, 2, generator=generator())})["v"].any())
