"""Small hand-set models of every kernel, and a finding that says which side is better."""

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from reports.experiment import find_experiment
from reports.experiments import handset_kernels
from unrolled import InputError, construct
from unrolled.kernels import KERNELS
from unrolled.options import ProcessOptions


def test_every_kernel_of_the_package_is_there():
    assert {options["temporal"] for options in handset_kernels.KERNELS.values()} == set(KERNELS)


@pytest.mark.parametrize("algorithm", ["chebyshev", "preconditioned"])
def test_no_fewer_heads_are_accepted(algorithm):
    process = ProcessOptions(length=12, dim=2, temporal="polynomial").process()
    model = handset_kernels.construct_small(process, algorithm, steps=1)
    with pytest.raises(InputError, match="^heads: "):
        construct(process, algorithm, steps=1, heads=model.config.heads - 1, t_range=handset_kernels.T_RANGE)


def made_up(handset: float, polynomial: float) -> pd.DataFrame:
    """Trained networks of error 0.05; hand-set ones of these errors on OU and on the polynomial kernel."""
    experiment, rows = find_experiment("handset_kernels"), []
    blocks = {handset_kernels.TRAINED: 4, handset_kernels.CLOSED: 1}
    for kernel, error in (("OU", handset), ("polynomial", polynomial)):
        for model in (handset_kernels.TRAINED, *handset_kernels.HANDSET):
            if model == handset_kernels.CLOSED and kernel != "OU":
                continue
            trained = model == handset_kernels.TRAINED
            rows += [
                {"kernel": kernel, "model": model, "seed": seed, "heads": 4 if trained else 18, "parameters": 1000,
                 "blocks": blocks[model] if model in blocks else int(model.split()[1]), "seconds": 1.0, "t": t,
                 "kappa": 100.0, "error": 0.05 * (1 + 0.01 * seed) if trained else error}
                for seed in range(1 + trained) for t in handset_kernels.SHOWN
            ]  # fmt: skip
    experiment_rows = [{name: row[name] for name in experiment.columns} for row in rows]
    return experiment.results([experiment.checked(experiment_rows)])


@pytest.mark.parametrize(
    ("handset", "polynomial", "verdict", "chebyshev"),
    [
        (0.001, 0.001, "beats training on every kernel", "in 4 of 4 cases."),
        (0.001, 0.5, "beats training on 1 of 2 kernels", "in 2 of 4 cases."),
        (0.5, 0.5, "beats training on 0 of 2 kernels", "in 0 of 4 cases."),
    ],
)
def test_findings(handset, polynomial, verdict, chebyshev):
    results = made_up(handset, polynomial)
    finding = handset_kernels.finding(results)
    assert verdict in finding and f"Chebyshev, 16 blocks (18 heads, 1000 parameters) {chebyshev}" in finding
    shallow, deep = finding.split("Of more blocks: ")
    assert "closed form" in shallow and "preconditioned, 3 blocks" in shallow and "preconditioned, 5 blocks" in deep
    assert len(handset_kernels.table(results)) == 2 * 6 + 1
    plt.close(handset_kernels.figure(results))


def test_one_exception_is_named():
    results = made_up(0.001, 0.001)
    worse = (results.model == "Chebyshev, 4 blocks") & (results.kernel == "OU") & (results.t == 0.01)
    finding = handset_kernels.finding(results.assign(error=results.error + worse))
    assert "in 3 of 4 cases, but not for OU at t = 0.01" in finding


@pytest.mark.slow
def test_a_small_run_has_the_rows_of_the_experiment():
    experiment = find_experiment("handset_kernels")
    runs = experiment.configurations("quick")
    for model in ("Chebyshev, 4 blocks", "closed form"):
        built = next(run for run in runs if run["model"] == model)
        rows = experiment.checked(experiment.run(built))
        assert len(rows) == 5 and all(row["error"] < 1 for row in rows)
    assert max(row["error"] for row in rows) < 1e-3  # what the closed form is asked for
    trained = next(run for run in runs if run["model"] == handset_kernels.TRAINED)
    rows = experiment.checked(experiment.run({**trained, "options": {**trained["options"], "steps": 2}}))
    assert len(rows) == 5 and all(0.5 < row["error"] < 2 for row in rows)
