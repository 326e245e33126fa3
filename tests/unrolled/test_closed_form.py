"""One block is the exact score of an Ornstein-Uhlenbeck process, within the error that was asked for."""

import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import generator, make, noisy
from unrolled import DiT, Exponential, GaussianProcess, Matern, Polynomial, construct, relative_error, sigma
from unrolled.generated import relative_score_error
from unrolled.handset import extend, hidden_iterates, reference_iterates
from unrolled.handset.closed_form import closed_form_dit, closed_form_weights, images
from unrolled.handset.closed_form_error import closed_form_error, held_error
from unrolled.handset.drafts import prediction_times
from unrolled.handset.gaussian_heads import Image, positions, row_sums
from unrolled.handset.gaussian_rule import DYADIC, dyadic_rule, trapezoid_rule
from unrolled.handset.ou_inverse import OuInverse, ou_inverse

EPS = torch.finfo(torch.float64).eps
RANGE = (1e-3, 5.0)


def log_uniform(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(math.log(low), math.log(high)).map(math.exp)


def times(n: int, seed: int, t_range: tuple[float, float] = RANGE) -> list[float]:
    """Times at random in log t, so that none is a point of a grid."""
    low, high = t_range
    return (low * (high / low) ** torch.rand(n, generator=generator(seed), dtype=torch.float64)).tolist()


def held_matrix(inverse: OuInverse, length: int, channel: int) -> torch.Tensor:
    """B at one t, from its five exponentials."""
    i, j, twice = torch.arange(length)[:, None], torch.arange(length), 2 * (length - 1)
    rate, direct, mirrored, shifted = (
        float(each[0, channel]) for each in (inverse.rate, inverse.direct, inverse.mirrored, inverse.shifted)
    )

    def power(distance):
        return torch.exp(-rate * distance.double())

    ends = power(i + j) + power(twice - i - j)
    return direct * power((i - j).abs()) + mirrored * ends + shifted * (power(twice - i + j) + power(twice + i - j))


@given(length=st.integers(1, 6), lengthscale=log_uniform(0.05, 1e4), t=log_uniform(1e-12, 12.0))
@settings(max_examples=60)
def test_the_inverse_with_images_is_the_inverse(length, lengthscale, t):
    """Against 60 digits, for d = 2: every entry, and 1 - 1/w by itself, which no difference of float64 gives."""
    process = GaussianProcess(length, Exponential(lengthscale), [[1.0, 0.3], [0.3, 0.5]])
    found = ou_inverse(process, torch.tensor([t], dtype=torch.float64))
    with mpmath.workdps(60):
        rho = mpmath.exp(-1 / mpmath.mpf(lengthscale))
        gamma = mpmath.matrix(length, length)
        for i in range(length):
            for j in range(length):
                gamma[i, j] = rho ** abs(i - j)
        for channel, s in enumerate(process.spatial_eigen[0].tolist()):
            tau = mpmath.expm1(mpmath.mpf(t)) / mpmath.mpf(s)
            exact = mpmath.inverse(gamma + tau * mpmath.eye(length)) * gamma
            b = held_matrix(found, length, channel)
            off = max(abs(b[i, j].item() - exact[i, j]) for i in range(length) for j in range(length))
            assert off <= 64 * length * EPS
            w = mpmath.sqrt((1 + tau * (1 + rho**2) / (1 - rho**2)) ** 2 - 4 * (tau * rho / (1 - rho**2)) ** 2)
            assert abs(float(found.excess[0, channel]) / float((w - 1) / w) - 1) <= 64 * EPS
            r, c = math.exp(-float(found.rate[0, channel])), float((found.shifted / found.mirrored)[0, channel])
            assert 0 < c <= r * float(rho) * (1 + 64 * EPS)


def bessel_bound(z: float, step: float) -> float:
    """2 sum_k sqrt(2z/pi) |K_{1/2 + 2 pi i k/h}(z)|, its first two terms."""
    terms = [abs(mpmath.besselk(0.5 + 2j * mpmath.pi * k / step, z)) for k in (1, 2)]
    return float(2 * mpmath.sqrt(2 * z / mpmath.pi) * sum(terms))


@pytest.mark.parametrize("step", [0.5, 0.7, 1.0])
def test_the_trapezoid_error_is_that_of_the_bessel_functions(step):
    """It holds at every distance, is met to a factor of 2, and is 2 sqrt 2 e^(-pi^2/h) to that factor."""
    rule = trapezoid_rule(step, 1e-9, 1e3)
    distance, rate = torch.linspace(1, 40, 118, dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)
    held = (rule.weights(rate) @ rule.gaussians(distance))[0]
    error = (held - torch.exp(-rate * distance)).abs()
    bounds = torch.tensor([bessel_bound(float(rate * s), step) for s in distance], dtype=torch.float64)
    assert bool((error <= bounds + 1e-15).all())
    assert float(error.max()) >= 0.5 * float(bounds.max())
    assert float(bounds.max()) <= 2 * math.sqrt(2) * math.exp(-(math.pi**2) / step) * 2


def test_dyadic_widths_are_a_trapezoid_rule_of_half_the_step():
    """Three widths of 3 bits in an octave are as exact as h = log(2)/2; one is h = log 2."""
    rate, distance = torch.logspace(-2, 0.5, 12, dtype=torch.float64), torch.arange(1.0, 40, dtype=torch.float64)
    exact = torch.exp(-rate[:, None] * distance)
    coarse, fine = (
        float((rule.weights(rate) @ rule.gaussians(distance) - exact).abs().max())
        for rule in (dyadic_rule(mantissas, 1e-9, 1e3) for mantissas in DYADIC)
    )
    assert 1e-7 < coarse < 2 * math.sqrt(2) * math.exp(-(math.pi**2) / math.log(2)) * 2 and fine < 1e-11
    rule = dyadic_rule(DYADIC[1], 1e-3, 30)
    assert bool((rule.steps > 0).all()) and bool((rule.widths.diff() > 0).all())


@pytest.mark.parametrize("length", [1, 2, 9])
def test_heads_look_from_the_images_of_their_frame(length):
    """Row sums from the cumulative sum, and where an image stands among centred positions."""
    widths = torch.tensor([1e-4, 0.3, 1024.0], dtype=torch.float64)
    frames = torch.arange(length, dtype=torch.float64)
    for image in (each for kind in images(length) for each in kind):
        place = image.sign * frames + image.offset
        expected = torch.exp(-widths * (place[:, None, None] - frames[:, None]) ** 2).sum(dim=1)
        torch.testing.assert_close(row_sums(widths, length, image), expected, rtol=1e-13, atol=1e-13)
        centred = image.sign * positions(length) + image.among_positions(length)
        assert torch.equal(centred, place - (length - 1) / 2)
    assert images(4)[1] == (Image(-1, 0), Image(-1, 6))


def form_of(process: GaussianProcess, step: float = 0.6):
    return closed_form_dit(process, trapezoid_rule(step, 1e-5, 30.0), RANGE, 96, torch.float64)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_matrix_level_error_is_that_of_the_model(length):
    """The affine map of the model gives the root mean square error exactly; the formula knows it without a model."""
    process = make(length, 2, Exponential(3.0), mean=False)
    form = form_of(process, 0.9)
    for t in times(3, seed=length):
        at = torch.tensor([t], dtype=torch.float64)
        gates = form.gates(at)
        expected = float(held_error(process, form.rule, gates[:, :, :-1], at))
        assert relative_score_error(form.model, process, t) == pytest.approx(expected, rel=1e-5, abs=1e-11)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["direct", "mirrored", "shifted", "ends", "identity"])
def test_every_part_counts(kind):
    """Without any one kind of weight the error at matrix level is a thousand times what all of them leave."""
    process = make(4, 2, Exponential(8.0))
    rule = trapezoid_rule(0.5, 1e-7, 30.0)
    t = torch.tensor([0.3], dtype=torch.float64)
    weights, count = closed_form_weights(process, rule, t), len(rule.widths)
    whole = float(held_error(process, rule, weights, t))
    parts = {
        "direct": slice(0, count), "mirrored": slice(count, 2 * count), "shifted": slice(2 * count, 3 * count),
        "ends": slice(3 * count, 3 * count + 1), "identity": slice(3 * count + 1, None),
    }  # fmt: skip
    weights[..., parts[kind]] = 0.0
    assert whole < 1e-5 and float(held_error(process, rule, weights, t)) > 1e3 * whole


@torch.no_grad()
def measured(model: DiT, process: GaussianProcess, at: list[float], n: int = 8) -> list[tuple[float, float]]:
    """(relative error on fresh sequences, the bound at the nearest prediction time) at each t."""
    record, pairs = model.construction, []
    for k, t in enumerate(at):
        x = process.noisy(n, t, generator(100 + k)).to(model.position.dtype)
        nearest = min(range(len(record.times)), key=lambda k: abs(math.log(record.times[k] / t)))
        pairs.append((relative_error(model(x, t), process.score(x.double(), t)), record.predicted_error[nearest]))
    return pairs


def check(model: DiT, process: GaussianProcess, asked: float, pairs: list[tuple[float, float]]) -> None:
    """What was asked for holds, and so does what the record says, of the few sequences up to the factor of 1.5 by
    which they may be unlike the process."""
    worst = max(error for error, _ in pairs)
    bound = max(model.construction.predicted_error)
    assert worst <= bound <= asked
    assert all(error <= 1.5 * at_t for error, at_t in pairs)
    assert bound <= 20 * worst


@pytest.mark.parametrize(("asked", "most"), [(1e-2, 30), (1e-3, 35), (1e-5, 45), (1e-8, 60)])
def test_the_error_that_was_asked_for(asked, most):
    """16 frames and few times; `test_sixty_times` is the same at length."""
    process = make(16, 2, Exponential(8.0))
    model = construct(process, "closed_form", error=asked, t_range=RANGE)
    record = model.construction
    widths = (len(record.widths) - 2) // 5
    assert widths <= most and record.sizes["L"] == 1 and record.sizes["M"] == 5 * widths + 2
    check(model, process, asked, measured(model, process, times(12, seed=1)))


@pytest.mark.slow
@pytest.mark.parametrize("lengthscale", [2.0, 8.0, 32.0])
@pytest.mark.parametrize(("asked", "most"), [(1e-2, 30), (1e-3, 35), (1e-5, 45), (1e-8, 60)])
def test_sixty_times(asked, most, lengthscale):
    process = make(64, 4, Exponential(lengthscale))
    model = construct(process, "closed_form", error=asked, t_range=RANGE)
    assert (len(model.construction.widths) - 2) // 5 <= most
    check(model, process, asked, measured(model, process, times(60, seed=2)))


@pytest.mark.parametrize("length", [1, 2, 3, 17])
def test_any_length(length):
    process = make(length, 3, Exponential(8.0))
    model = construct(process, "closed_form", error=1e-5, t_range=RANGE)
    check_short(model, process, 1e-5)


@torch.no_grad()
def check_short(model: DiT, process: GaussianProcess, asked: float) -> None:
    """By the affine map of the model: few sequences of few frames may be unlike the process."""
    record = model.construction
    errors = [relative_score_error(model, process, t) for t in times(8, 3, tuple(record.t_range))]
    assert max(errors) <= max(record.predicted_error) <= asked


@given(
    length=st.integers(1, 12),
    lengthscale=log_uniform(0.2, 300.0),
    low=log_uniform(1e-4, 0.5),
    asked=log_uniform(1e-6, 1e-1),
    seed=st.integers(0, 99),
)
@settings(max_examples=25)
def test_what_is_asked_for_is_held(length, lengthscale, low, asked, seed):
    process = make(length, 2, Exponential(lengthscale))
    model = construct(process, "closed_form", error=asked, t_range=(low, 5.0))
    worst = max(model.construction.predicted_error)
    with torch.no_grad():
        errors = [relative_score_error(model, process, t) for t in times(3, seed, (low, 5.0))]
    assert max(errors) <= worst <= asked


def test_smaller_times_cost_widths_and_not_the_condition_number():
    widths = {}
    for low in (1e-3, 1e-5):
        process = make(8, 1, Exponential(8.0))
        model = construct(process, "closed_form", error=1e-4, t_range=(low, 5.0))
        check_short(model, process, 1e-4)
        widths[low] = (len(model.construction.widths) - 2) // 5
    assert widths[1e-3] < widths[1e-5] < 2 * widths[1e-3]


@pytest.mark.parametrize("length", [2, 24])
def test_float32_holds_what_it_says_and_refuses_more(length):
    process = make(length, 2, Exponential(8.0))
    options = {"t_range": (0.01, 5.0), "dtype": torch.float32}
    with pytest.raises(ValueError, match=r"^error: 1e-07 is not accepted; accepted: a number >= ") as refusal:
        construct(process, "closed_form", error=1e-7, **options)
    offered = float(str(refusal.value).split(">= ")[1].split(",")[0])
    model = construct(process, "closed_form", error=offered, **options)
    pairs = measured(model, process, times(8, 4, (0.01, 5.0)))
    assert offered < 1e-2 and all(error <= bound <= offered for error, bound in pairs)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"error": 1e-13}, "error: 1e-13 is not accepted; accepted: a number >= "),
        ({"error": 0.0}, "error: 0.0"),
        ({"error": 1.0}, "error: 1.0"),
        ({"steps": 3}, "steps: 3"),
        ({"heads": 20}, "heads: 20 is not accepted; accepted: an integer >= "),
        ({"fit_length": 16}, "fit_length: 16"),
        ({"norm": "layer", "dominance": 1e3}, "error: 1e-05"),
        ({"tolerance": 1e-9}, "tolerance: 1e-09"),
        ({"algorithm": "chebyshev", "steps": 2, "error": 0.1}, "error: 0.1 is not accepted; accepted: None"),
        ({"algorithm": "preconditioned", "steps": 1, "error": 0.1}, "error: 0.1 is not accepted; accepted: None"),
        ({"model": "relu"}, "algorithm: 'closed_form'"),
    ],
)
def test_what_cannot_be_had_is_refused(options, named):
    with pytest.raises(ValueError, match="accepted") as refusal:
        construct(make(6, 1, Exponential(4.0)), **{"algorithm": "closed_form", **options})
    assert str(refusal.value).startswith(named), refusal.value


def test_other_kernels_are_refused_and_the_matern_of_one_half_is_not():
    for kernel in (Polynomial(4, 1), Exponential(4, 0.5), Matern(4, 1.5)):
        with pytest.raises(ValueError, match=r"^process: its temporal covariance .* Exponential\(lengthscale, 1\)"):
            construct(make(6, 1, kernel), "closed_form")
    same = [construct(make(6, 1, kernel), "closed_form") for kernel in (Exponential(4.0), Matern(4.0, 0.5))]
    x = noisy(make(6, 1, Exponential(4.0)), 0.3)
    torch.testing.assert_close(same[0](x, 0.3), same[1](x, 0.3), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_it_is_an_ordinary_hand_set_model(tmp_path):
    process = make(10, 2, Exponential(4.0))
    model = construct(process, "closed_form", error=1e-4)
    x = noisy(process, 0.2)
    (iterate,), (reference,) = (
        hidden_iterates(model, process, x, 0.2), reference_iterates(model.construction, process, x, 0.2),
    )  # fmt: skip
    torch.testing.assert_close(iterate, model(x, 0.2), rtol=1e-12, atol=1e-12)
    assert torch.equal(reference, process.score(x, 0.2)) and relative_error(iterate, reference) <= 1e-4
    twin = DiT(model.config).double()
    twin.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(twin(x, 0.2), model(x, 0.2))
    with pytest.raises(ValueError, match="^model: "):
        extend(model, make(20, 2, Exponential(4.0)))
    # LayerNorm made linear, at a price that the record states.
    normed = construct(process, "closed_form", error=1e-4, norm="layer")
    assert normed.config.norm == "layer"
    check_short(normed, process, 1e-4)
    # Score and record at several times in one batch.
    t = torch.tensor([0.01, 0.2, 3.0], dtype=torch.float64)
    assert relative_error(model(x, t), process.score(x, t)) <= 1e-4


def test_the_record_says_how_far_the_held_matrix_is_off():
    """kernel_error and operator_error are those of B, measured here through the model's affine map at other times."""
    process = make(6, 1, Exponential(4.0), mean=False)
    record = (model := construct(process, "closed_form", error=1e-3)).construction
    t = record.times[20]
    with torch.no_grad():
        score = model(torch.eye(6, dtype=torch.float64)[..., None], t)[..., 0].T  # -(I - B)/sigma^2
    held = torch.eye(6, dtype=torch.float64) + sigma(t) ** 2 * score
    exact = held_matrix(ou_inverse(process, torch.tensor([t], dtype=torch.float64)), 6, 0)
    assert float((held - exact).abs().max()) <= record.kernel_error <= 1e-3
    assert float(torch.linalg.matrix_norm(held - exact, ord=2)) <= record.operator_error <= 1e-2
    assert record.iterate_blocks == [0] and record.steps == 1


def test_the_bound_covers_times_between_those_of_the_record():
    """At each prediction time it is the largest error up to its neighbours, of the same formula on a finer grid."""
    process = make(12, 2, Exponential(8.0))
    form = form_of(process)
    at = prediction_times(RANGE)
    bound = closed_form_error(process, form, at)
    t = torch.tensor(times(200, 5), dtype=torch.float64)
    gates = form.gates(t)
    error = held_error(process, form.rule, gates[:, :, :-1], t)
    nearest = (torch.log(at)[None] - torch.log(t)[:, None]).abs().argmin(dim=1)
    assert bool((error <= bound[nearest]).all()) and float(bound.max()) < 2 * float(error.max())
