"""The probe on models whose kernel is known: what their heads hold is recovered within the intervals of the fit."""

import math

import numpy as np
import pytest
import torch

from probes.attention import study as attention_study
from probes.attention.figures import MOST_MAPS, map_figure
from probes.attention.held import held_kernels, value_weights
from probes.attention.report import print_study
from probes.attention.study import study_attention
from probes.capture.by_lag import attention_by_lag
from probes.capture.lags import fold_lags
from probes.decay.fit import fit_decay
from probes.decay.intervals import numerical_intervals
from probes.inputs import noisy_batches
from probes.targets import gaussian_by_lag, truth_by_lag
from tests.builders import checkpoint_of, make
from unrolled import Exponential, Logarithmic, Matern, Polynomial
from unrolled.checkpoint import Checkpoint
from unrolled.handset import construct
from unrolled.kernels import KERNELS

MODELS = [("dit", "chebyshev"), ("dit", "preconditioned"), ("relu", "gradient_descent"), ("relu", "conjugate_gradient")]


def probed(kernel, model, algorithm, length=24, steps=2, **options):
    process = make(length, 2, kernel)
    made = construct(process, algorithm, steps, model, **options)
    checkpoint = Checkpoint(made, process, {}, {}, [], {})
    batches = noisy_batches(checkpoint, 0.2, 2, 2, 0, torch.device("cpu"))
    return checkpoint, attention_by_lag(made, batches, 0.2, checkpoint.registers)


def intervals(kernel, held, length=24):
    lag, _, pairs = fold_lags(np.zeros(2 * length - 1))
    keep = slice(0, min(len(held.profile), length // 2 + 1))
    fit = fit_decay(lag[keep], held.profile[keep], kernel.name, pairs[keep])
    return fit, numerical_intervals(lag[keep], fit, pairs[keep], held.error)


@pytest.mark.parametrize(("model", "algorithm"), MODELS)
@pytest.mark.parametrize("kernel", [Exponential(3), Exponential(3, 2), Polynomial(3, 1.5), Logarithmic(3, 1)], ids=str)
def test_held_kernel_is_recovered_within_its_interval(kernel, model, algorithm):
    checkpoint, attention = probed(kernel, model, algorithm)
    held = held_kernels(checkpoint, attention)
    products = {"chebyshev": 2, "preconditioned": 1, "gradient_descent": 2, "conjugate_gradient": 2}[algorithm]
    assert len(held) == products  # one covariance product for each step, and one between two applications
    for each in held.values():
        truth = kernel(np.arange(len(each.profile))).numpy()
        assert np.abs(each.profile - truth).max() <= each.error < 1e-10
        _, found = intervals(kernel, each)
        for name, value in (("lengthscale", 3.0), ("power", kernel.power), ("amplitude", 1.0), ("floor", 0.0)):
            assert found.covers(name, value), name
            # 1e-10 of error moves the floor of the flattest kernel here, a logarithm, by 1e-7
            assert getattr(found, f"{name}_high") - getattr(found, f"{name}_low") < 1e-5


@pytest.mark.parametrize(("model", "algorithm"), MODELS[::2])
def test_float32_models_too(model, algorithm):
    checkpoint, attention = probed(Polynomial(3, 1.5), model, algorithm, dtype=torch.float32)
    each = next(iter(held_kernels(checkpoint, attention).values()))
    assert np.abs(each.profile - Polynomial(3, 1.5)(np.arange(len(each.profile))).numpy()).max() <= each.error < 1e-3
    assert intervals(Polynomial(3, 1.5), each)[1].covers("power", 1.5)


def test_a_wrong_value_weight_falls_outside():
    checkpoint, attention = probed(Exponential(3), "dit", "chebyshev")
    block = checkpoint.model.get_submodule("blocks.0")
    weights = value_weights(block, checkpoint.process, checkpoint.model.construction.subspaces)
    head = int(weights.abs().argmax())
    size = block.attention.head_dim
    with torch.no_grad():
        block.attention.out.weight[:, head * size : (head + 1) * size] *= 1.001
    each = held_kernels(checkpoint, attention)[0]
    found = intervals(Exponential(3), each)[1]
    assert not (found.covers("lengthscale", 3.0) or found.covers("power", 1.0))


def test_the_published_heads_hold_the_kernel_too():
    checkpoint, attention = probed(Exponential(2), "relu", "gradient_descent", 10, 1, multiplication_layers=6)
    each = next(iter(held_kernels(checkpoint, attention).values()))
    lags = np.arange(len(each.profile))
    assert np.abs(each.profile - Exponential(2)(lags).numpy()).max() <= each.error


def test_models_that_hold_none_have_none():
    checkpoint, attention = probed(Exponential(3), "dit", "chebyshev", norm="layer")
    assert held_kernels(checkpoint, attention) == {}
    checkpoint.model.construction = None
    assert held_kernels(checkpoint, attention) == {}


def test_study_recovers_every_gaussian_head():
    """Head m of a hand-set DiT is exp(-b lag^2)/c: lengthscale b^(-1/2), power 2 at the boundary, amplitude 1/c."""
    process = make(24, 2, Exponential(3))
    made = construct(process, "chebyshev", 1)
    seen = []
    study = study_attention(Checkpoint(made, process, {}, {}, [], {}), [0.2], samples=4, progress=seen.append)
    heads = study.fits.query("kind == 'attention' and family == 'exponential'").set_index("head")
    assert len(heads) == len(made.construction.widths) and (heads.interval == "numerical").all() and seen == [0.2]
    longest = 4 * 12  # of the search
    for head, width in enumerate(made.construction.widths):
        row = heads.loc[head]
        if width**-0.5 >= longest:
            assert "lengthscale_high" in row.one_sided
            continue
        assert row.lengthscale_low <= width**-0.5 <= row.lengthscale_high and "power_high" in row.one_sided
        assert row.power_low <= 2 and row.at_boundary == "power"
        c = 1.001 * (1 + math.sqrt(math.pi / width))
        assert row.amplitude_low <= 1 / c <= row.amplitude_high
        if width <= 2:  # narrower ones have vanished at lag 2, and their intervals say so
            assert row.lengthscale == pytest.approx(width**-0.5, rel=1e-5) and row.power_high - row.power_low < 1e-3
    narrow = heads.iloc[0]
    assert narrow.power_high - narrow.power_low > 1
    assert (study.choices.answer == "same in every sequence").all()
    held = study.references.query("kind == 'held kernel'").set_index("family")
    assert len(held) == len(KERNELS) and held.loc["exponential", "lengthscale"] == pytest.approx(3, rel=1e-9)
    assert held.loc["polynomial", "r2"] < 0.9999 < held.loc["matern", "r2"]  # Matern 1/2 is the same curve


def test_study_of_a_network_has_an_answer_for_every_head(small_process):
    from unrolled.models.dit import DiT, DiTConfig

    torch.manual_seed(0)
    model = DiT(DiTConfig(length=8, dim=2, width=16, depth=2, heads=2, ramps=16)).double()
    checkpoint = Checkpoint(model, small_process, {}, {}, [], {})
    study = study_attention(checkpoint, [0.1, 1.0], samples=60, resamples=40, choice_resamples=19)
    again = study_attention(checkpoint, [0.1, 1.0], samples=60, resamples=40, choice_resamples=19)
    assert study.fits.equals(again.fits) and study.choices.equals(again.choices)
    assert len(study.choices) == 2 * 2 * 2 and len(study.fits) == len(KERNELS) * (8 + 1 + 2)
    heads = study.fits.query("kind == 'attention'")
    assert heads.groupby(["layer", "head", "t"]).size().eq(len(KERNELS)).all()
    assert (heads.lengthscale_low <= heads.lengthscale_high).all() and heads.lengthscale_low.notna().all()
    for row in study.choices.to_dict("records"):
        p, fit_p = ([row[f"{kind}_{family}"] for family in KERNELS] for kind in ("p", "fit_p"))
        # 19 resamples: every p-value is a multiple of 1/20, and the answer is what the p-values say.
        np.testing.assert_allclose(20 * np.array([*p, *fit_p]), np.clip(np.round(20 * np.array([*p, *fit_p])), 1, 20))
        compatible = [family for family, value in zip(KERNELS, p, strict=True) if value >= 0.05]
        fits = any(value >= 0.05 for family, value in zip(KERNELS, fit_p, strict=True) if family in compatible)
        several = compatible[0] if len(compatible) == 1 else "not distinguishable: " + ", ".join(compatible)
        assert row["answer"] == (several if fits else "none")
    assert set(study.references.kind) == {"Gaussian head"}


def test_gaussian_reference_is_the_nearest_of_the_dictionary():
    process = make(24, 1, Exponential(3))
    curve = gaussian_by_lag(process, truth_by_lag(process))
    lag = np.arange(24)
    width = -math.log(curve[1])
    assert math.log2(width) == pytest.approx(round(math.log2(width)), abs=1e-12)
    np.testing.assert_allclose(curve, np.exp(-width * lag**2), rtol=1e-12)
    missed = [np.sum((np.exp(-w * lag**2) - np.exp(-lag / 3)) ** 2) for w in (width / 2, width, 2 * width)]
    assert missed[1] == min(missed)


def test_matern_kernel_is_recovered_as_well_as_its_table_allows():
    checkpoint, attention = probed(Matern(3, 1.5), "dit", "chebyshev")
    fit, found = intervals(Matern(3, 1.5), held_kernels(checkpoint, attention)[0])
    assert (fit.lengthscale, fit.power) == (pytest.approx(3, rel=1e-5), pytest.approx(1.5, rel=1e-5))
    assert found.covers("lengthscale", 3.0) and found.covers("power", 1.5) and found.power_high - found.power_low < 1e-3


def test_equal_heads_are_fitted_once_and_printed_as_one(capsys, monkeypatch):
    """8 blocks of one set of heads: as many fits as there are different heads, whatever the blocks and times; rows of a
    screen. Before, the table had a row for each of the heads."""
    model = construct(make(16, 2, Exponential(4, 1)), "chebyshev", 8)
    process = make(16, 2, Exponential(4, 1))
    fitted = []
    choose = attention_study.choose_family
    monkeypatch.setattr(attention_study, "choose_family", lambda *a, **k: fitted.append(a) or choose(*a, **k))
    study = study_attention(checkpoint_of(model, process), [0.05, 0.5], samples=64)
    heads = model.config.heads
    assert len(study.choices) == 2 * 8 * heads and len(fitted) <= heads
    assert study.middle.profiles.shape[2] == attention_study.STATIC
    print_study(study, [0.05, 0.5])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 80 and any("of 8 layers" in line for line in lines)
    # What is written once says with the list of twins what every head does.
    keys = ["t", "layer", "head"]
    assert len(study.profiles) <= 2 * heads * 31 and len(study.twins) >= 2 * 7 * heads
    written = {key: table["attention"].to_numpy() for key, table in study.profiles.groupby(keys)}
    for row in study.twins.to_dict("records"):
        profile = written[(row["t"], row["first_layer"], row["first_head"])]
        attention = next(one for one in study.attention if one.t == row["t"])
        np.testing.assert_array_equal(profile, attention.mean_profiles()[row["layer"], row["head"]])
    maps = map_figure(study.middle, np.eye(16), "truth")
    assert (
        len(maps.axes) == 1 + MOST_MAPS
        and f"1 of 8 layers, of which 1 differ; 12 of {heads} heads" in maps.get_suptitle()
    )
