"""The factorial design, exact errors of affine scores, and a finding that names each of the factors when it acts."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from probes.modes.operator import Coordinates
from reports import effects
from reports.experiment import find_experiment
from reports.experiments import efficiency
from reports.factors import FACTORS, KERNELS, explained, factor_effects, matched
from reports.laws import affine_errors, energy_distance
from tests.builders import generator
from unrolled import draw_training_set, fit_model
from unrolled.generated import affine_score, relative_score_error
from unrolled.options import ProcessOptions

FEW = ProcessOptions(length=8, dim=2)
SEEDS = 4


def test_condition_numbers_are_equal():
    base = ProcessOptions()
    for level, factor in efficiency.LEVELS.items():
        kappas = [
            run["process"] for run in efficiency.configurations("full")
            if "process" in run and run["level"] == level and run["seed"] == 0
        ]  # fmt: skip
        assert len(kappas) == len(KERNELS)
        for options in kappas:
            kappa = ProcessOptions(**options).process().condition_number(efficiency.TIME)
            assert kappa == pytest.approx(factor * base.process().condition_number(efficiency.TIME), rel=1e-3)
    with pytest.raises(ValueError):
        matched(KERNELS["OU"], FEW, 1.0, efficiency.TIME)


@pytest.mark.parametrize("kind", ["affine", "kronecker"])
def test_errors_of_affine_scores(kind):
    """The whole error is that of `relative_score_error`; that of the longest mode is a mean over samples."""
    process, t = FEW.process(), 0.05
    process.mean += 0.3
    model = fit_model(kind, draw_training_set(process, 200, 0)).model
    error, longest = affine_errors(process, *affine_score(model, process.length, process.dim, t), t)
    assert error == pytest.approx(relative_score_error(model, process, t), rel=1e-9)
    x = process.noisy(20000, t, generator())
    u = Coordinates(process, t).u[:, -1]
    exact = torch.einsum("i,nid->nd", u, process.score(x, t))
    off = torch.einsum("i,nid->nd", u, model(x, t)) - exact
    ratio = float(off.square().sum() / exact.square().sum()) ** 0.5
    assert longest == pytest.approx(ratio, rel=5 * 20000**-0.5)
    assert efficiency._sampled_errors(model, process, x) != (error, longest)  # its time is another


def test_sampled_errors_are_the_exact_ones():
    process, t = FEW.process(), efficiency.TIME
    model = fit_model("affine", draw_training_set(process, 200, 0)).model
    exact = affine_errors(process, *affine_score(model, process.length, process.dim, t), t)
    sampled = efficiency._sampled_errors(model, process, process.noisy(20000, t, generator()))
    assert sampled == pytest.approx(exact, rel=5 * 20000**-0.5)


def test_energy_distance():
    """Of samples of one law it is 0 on average; of two point masses at distance 3 it is 6."""
    x = torch.randn(100, 300, 4, generator=generator(), dtype=torch.float64)
    values = [energy_distance(each[:150], each[150:]) for each in x]
    assert abs(np.mean(values)) < 4 * np.std(values) / len(values) ** 0.5
    assert energy_distance(x[0], x[0] + 1) > 20 * np.std(values)
    assert energy_distance(torch.zeros(5, 1), 3 * torch.ones(7, 1)) == pytest.approx(6)


def responses(of: dict[str, float], interaction: float = 0.0) -> pd.DataFrame:
    """A balanced design whose response moves by `of` from the first value of a factor to the second."""
    rows = []
    for (kernel, each), level, seed in product(KERNELS.items(), ("low", "high"), range(SEEDS)):
        row = {"kernel": kernel, "decay": each.decay, "smoothness": each.smoothness, "level": level, "seed": seed}
        on = {factor: float(row[factor] == values[1]) for factor, values in FACTORS.items()}
        moved = sum(of[factor] * on[factor] for factor in of)
        both = interaction * (2 * on["decay"] - 1) * (2 * on["smoothness"] - 1)
        rows.append({**row, "response": moved + both + 0.01 * np.sin(9.0 * seed + 5 * on["decay"] + 3 * on["level"])})
    return pd.DataFrame(rows)


def test_effects_of_a_design():
    truth = {"decay": 0.3, "smoothness": -0.1, "level": 0.02}
    found = factor_effects(responses(truth))
    for factor, (mean, low, high) in found.items():
        assert low < mean < high and mean == pytest.approx(truth[factor], abs=0.02)
    assert explained(responses(truth), found) > 0.99
    mixed = responses(truth, interaction=1.0)
    assert explained(mixed, factor_effects(mixed)) < 0.1
    assert set(factor_effects(responses(truth).query("level == 'low'"))) == {"decay", "smoothness"}


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ({}, "none of them"),
        ({"decay": (0.2, 0.1, 0.3)}, "decay alone"),
        ({"smoothness": (-0.2, -0.3, -0.1)}, "smoothness alone"),
        ({"decay": (0.2, -0.1, 0.5)}, "none of them"),
        ({"decay": (0.04, 0.03, 0.05)}, "none of them"),
        ({"decay": (0.6, 0.5, 0.7), "level": (-0.2, -0.3, -0.1)}, "decay most"),
        ({"decay": (0.6, 0.2, 1.0), "level": (-0.2, -0.3, -0.1)}, "several of them, none clearly most"),
    ],
)
def test_verdicts(of, said):
    rest = dict.fromkeys(FACTORS, (0.0, -0.01, 0.01))
    assert effects.verdict({**rest, **of}, effects.LEAST_EXPONENT) == said


def made_up(slope: dict[str, float], size: dict[str, float], limited: bool = False) -> pd.DataFrame:
    """Results whose exponents and log errors at n = 1000 are moved by these."""
    experiment, rows = find_experiment("efficiency"), []
    of_slope, of_size = (responses(of).set_index(["kernel", "level", "seed"]).response for of in (slope, size))
    for model, (name, each), level, seed in product(("affine", "DiT"), KERNELS.items(), ("low", "high"), range(SEEDS)):
        exponent, start = of_slope[name, level, seed] - 0.5, of_size[name, level, seed]
        for n in (1000, 3000, 10000, 30000, 96000):
            fresh = n == 96000
            if fresh and model == "affine":
                continue
            at = 30000 if fresh and limited else n
            error = float(np.exp(start + exponent * np.log(at / 1000)))
            rows.append({
                "kernel": name, "decay": each.decay, "smoothness": each.smoothness, "level": level,
                "kappa": 432.0 if level == "low" else 1729.0, "model": model, "n": n, "fresh": fresh, "seed": seed,
                "parameters": 0, "error": error, "longest": error, "kl": error**2, "w2": error, "energy": 0.1,
            })  # fmt: skip
    return experiment.results([experiment.checked(rows)])


@pytest.mark.parametrize(
    ("slope", "size", "decided"),
    [
        ({}, {}, "how fast the error falls is governed by none of them, for every model; how large it is is gov"),
        (
            {"decay": 0.25},
            {"level": 1.0},
            "falls is governed by decay alone, for every model; how large it is is",
        ),
        ({"smoothness": -0.2}, {"smoothness": 1.0, "decay": 0.3}, "falls is governed by smoothness alone, for every"),
        ({"level": 0.2}, {"smoothness": 1.0, "decay": 0.3}, "how large it is is governed by smoothness most, for"),
    ],
)
def test_the_finding_decides(slope, size, decided):
    results = made_up(slope, size)
    finding = effects.finding(results)
    assert decided in finding and "so n still limits it" in finding
    theory = "as theory has it" if "decay" in slope else "not as theory has it"
    assert f", {theory}" in finding
    assert "so training may limit it" in effects.finding(made_up(slope, size, limited=True))
    kl = effects.exponents(results, "DiT", "kl").response.mean()
    assert kl == pytest.approx(2 * effects.exponents(results, "DiT").response.mean())


def test_models_that_differ_decide_nothing():
    one, other = made_up({"decay": 0.25}, {}), made_up({"level": 0.25}, {})
    results = pd.concat([one[one.model == "affine"], other[other.model == "DiT"]])
    finding = effects.finding(results)
    assert "on how fast the error falls the models do not agree" in finding
    assert "decay alone (affine); the condition number alone (DiT)" in finding


def test_table_and_figure():
    results = made_up({"decay": 0.25}, {"level": 1.0})
    table = effects.table(results)
    assert len(table) == 2 * (8 + 3) and list(table["exponent in theory"].unique()) == ["-0.5", "-0.25", "0.25", "0"]
    plt.close(effects.figure(results))


@pytest.mark.slow
def test_a_small_run_has_the_rows_of_the_experiment():
    experiment = find_experiment("efficiency")
    runs = experiment.configurations("quick")
    classical = next(run for run in runs if "process" in run)
    rows = experiment.checked(experiment.run({**classical, "samples": [300]}))
    assert [row["model"] for row in rows] == list(efficiency.CLASSICAL) and all(row["error"] < 1 for row in rows)
    for model in ("dit", "unet"):
        trained = next(run for run in runs if "options" in run and run["options"]["model"] == model)
        few = {**trained, "options": {**trained["options"], "steps": 2}}
        (row,) = experiment.checked(experiment.run(few))
        assert 0.5 < row["error"] < 2 and row["kl"] > 0 and not row["fresh"]
