"""What is committed of an experiment is what its results say, and a finding says the opposite where the numbers do."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from probes.figures import theme
from probes.modes.naming import WHITE_NOISE
from reports.experiment import Experiment, experiment_names, find_experiment
from reports.experiments.layers import OWN
from reports.experiments.wrong_stories import WRONG
from reports.report import page

RESULTS = Path(__file__).parents[2] / "reports" / "results"
NAMES = [name for name in experiment_names() if (RESULTS / name).exists()]  # tests/reports/test_awaited.py has the rest


def committed(name: str) -> tuple[Experiment, pd.DataFrame]:
    experiment = find_experiment(name)
    return experiment, experiment.read(RESULTS / name / f"{name}.csv")


@pytest.mark.parametrize("name", NAMES)
def test_committed_pages_are_what_the_results_say(name):
    """Question, finding, table and provenance, word by word."""
    experiment, results = committed(name)
    record = json.loads((RESULTS / name / "provenance.json").read_text())
    assert (RESULTS / name / "README.md").read_text() == page(experiment, results, record)


@pytest.mark.parametrize("name", NAMES)
def test_committed_figures_are_drawn_from_the_results(name):
    """The same picture as the committed one, up to how a machine smooths the edges of lines and letters."""
    experiment, results = committed(name)
    figure, buffer = experiment.figure(results), io.BytesIO()
    with theme():  # as it is saved: ticks are made when they are drawn
        figure.savefig(buffer, dpi=150, format="png")
    plt.close(figure)
    buffer.seek(0)
    drawn, kept = plt.imread(buffer), plt.imread(RESULTS / name / f"{name}.png")
    assert drawn.shape == kept.shape and drawn[..., :3].std() > 0.02
    assert np.abs(drawn - kept).mean() < 0.02 * np.abs(kept - kept.mean()).mean()


@pytest.mark.parametrize("name", NAMES)
def test_committed_results_say_where_they_come_from(name):
    record = json.loads((RESULTS / name / "provenance.json").read_text())
    assert record["command"].startswith("python -m reports.sweep ") and name in record["command"].split()
    assert record["budget"] in ("quick", "full")
    assert record["configurations"] == find_experiment(name).configurations(record["budget"])
    assert record["runs"] == len(record["configurations"]) and record["seconds"] > 0
    assert all(re.fullmatch(r"[^,]+, \d+ cores, \w+ \w+", machine) for machine in record["machine"])
    assert {"python", "torch", "numpy"} <= set(record["versions"][0]) and record["last"].endswith("UTC")


def test_committed_results_are_small():
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20e6
    assert {path.suffix for path in files} == {".csv", ".json", ".md", ".png"}


def scaled(results: pd.DataFrame, column: str, where: pd.Series | str, change: Callable) -> pd.DataFrame:
    """A copy whose column is changed where a condition holds."""
    other = results.copy()
    chosen = other.eval(where) if isinstance(where, str) else where
    assert chosen.any()
    other.loc[chosen, column] = change(other[chosen])
    return other


def slower(rows):
    return rows.kappa**2


ALTERED: list[tuple[str, str, Callable, str, str]] = [
    ("depth", "steps", lambda r: scaled(r, "steps", "solver == 'gradient descent'", slower), "for gradient descent, as",
     "for gradient descent, not as"),
    ("depth", "steps", lambda r: scaled(r, "steps", "solver == 'Chebyshev'", slower), "for Chebyshev, as",
     "for Chebyshev, not as"),
    ("depth", "blocks", lambda r: scaled(r, "steps", "solver == 'preconditioned (blocks)'", lambda x: x.kappa),
     "does not need more", "needs more as kappa grows"),
    ("depth", "lost", lambda r: scaled(r, "steps", "solver == 'preconditioned (blocks)'", lambda x: np.nan),
     "does not need more", "does not get there at"),
    ("depth", "block", lambda r: scaled(r, "steps", "solver == 'closed form (blocks)'", lambda x: 2.0),
     "takes 1 block at every kappa", "takes 2 blocks at every kappa"),
    ("depth", "refused", lambda r: scaled(r, "steps", "solver.str.startswith('closed') and lengthscale > 9",
                                          lambda x: np.nan),
     "takes 1 block at every kappa", "does not get there at 2 of"),
    ("baselines", "rate", lambda r: scaled(r, "error", "kind == 'affine'", lambda x: 1.0),
     "is compatible with -0.5 for affine", "is not -0.5 for affine"),
    ("tails", "below", lambda r: scaled(r, "below", "J == 3", lambda x: False), "is proved at each of",
     "is not proved at 15 of"),
    ("tails", "delta", lambda r: scaled(r, "delta", "J > 1", lambda x: 1.0),
     "for exponential 2", "for no kernel"),
    ("handset", "error", lambda r: scaled(r, "error, float64", r.construction == "DiT, Chebyshev", lambda x: 0.5),
     "every iterate of every", "not every construction that takes a solver's steps has"),
    ("handset", "published", lambda r: scaled(r, "error, float64", r.construction.str.contains("24"), lambda x: 0.0),
     "which is worse on both counts", "which is not worse on both counts"),
    ("handset", "prediction", lambda r: scaled(r, "predicted, float32", r.steps > 8, lambda x: 0.0),
     "No error of such", "exceed their prediction for DiT, gradient descent in float32"),
    ("calibration", "coverage", lambda r: scaled(r, "covers_power", r["seed"] >= 0, lambda x: False),
     "intervals cover as", "intervals do not cover as"),
    ("calibration", "aic", lambda r: scaled(r, "aic", r["seed"] >= 0, lambda x: x.truth), ", less often than",
     ", no less often than"),
    ("calibration", "curve", lambda r: scaled(r, "p_exponential", r.section == "polynomial", lambda x: 0.01),
     "more sequences tell more", "more sequences do not tell more"),
    ("layers", "inside", lambda r: scaled(r, "inside", (r.case == OWN) & (r.t > 0.1), lambda x: False),
     "so a name can be trusted", "so a name cannot be trusted"),
    ("layers", "controls", lambda r: scaled(r, "inside", r.case == "random weights", lambda x: False),
     "is called none", "is not reliably called none"),
    ("basin", "wide", lambda r: scaled(r, "loss", r.part == "disturbed", lambda x: x.loss.min()),
     "A relative disturbance of", "No relative disturbance up to"),
    ("basin", "training", lambda r: scaled(r, "loss", r.part == "relative steps", lambda x: 1.0), "and at no others",
     "at none of the steps tried"),
    ("basin", "random", lambda r: scaled(r, "loss", r.part == "random weights", lambda x: 0.0),
     "which is above the hand-set", "which is not above the hand-set"),
    ("trained", "maps", lambda r: scaled(r, "value", r.quantity == "mean maps", lambda x: 2 * x.value),
     "their means costs nothing that we can tell", "their means costs accuracy somewhere"),
    ("trained", "linear", lambda r: scaled(r, "value", r.quantity == "linear", lambda x: 2 * x.value),
     "network linear costs nothing that we can tell", "network linear costs accuracy somewhere"),
    ("trained", "ends", lambda r: scaled(r, "value", r.quantity == "stationary maps", lambda x: 0.01),
     "so the ends of a sequence matter", "so the ends of a sequence do not always matter"),
    ("trained", "white", lambda r: scaled(r, "value", (r.quantity == "mode share") & (r["index"] == 1), lambda x: 0.5),
     "error is spread evenly over modes", "error is not spread evenly over modes"),
    ("trained", "paths", lambda r: scaled(r, "value", (r.quantity == "paths") & (r["index"] > 0), lambda x: 0.05),
     "Paths through at most 3 to 4 attention", "Paths through at most 1 attention"),
    ("trained", "failed", lambda r: scaled(r, "value", r.quantity == "network", lambda x: 1.0),
     "2 of OU 4, 8000 steps; 95 % intervals, where there are several. Seed 1 of OU 4, 8000 steps failed",
     "3 of OU 4, 8000 steps; 95 % intervals"),
    ("trained_depth", "gain", lambda r: scaled(r, "error", "kind == 'trained' and depth in (1, 8)", lambda x: 0.05),
     "the gain from depth grows with kappa", "does not depend on kappa, as far as we can tell"),
    ("probe_cost", "memory", lambda r: scaled(r, "peak MB", r.probe, lambda x: x["peak MB"] + 1e6), " MB more, less",
     " MB more, no less"),
    ("wrong_stories", "names", lambda r: scaled(r, "named", r.story == "untrained", lambda x: WHITE_NOISE),
     ", and none a wrong one", ", and a wrong name comes out for 30: untrained of ou as white noise (15)"),
    ("wrong_stories", "attention", lambda r: scaled(r, "match", r.story.isin(WRONG), lambda x: 0.0),
     "by lag alone does not tell", "by lag alone tells"),
    ("wrong_stories", "replacement", lambda r: scaled(r, "low", r.story.isin(WRONG), lambda x: 2.0),
     "Replacement alone does not tell", "Replacement alone tells"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "what", "change", "here", "then"), ALTERED, ids=lambda value: str(value)[:20])
def test_a_finding_says_the_opposite_when_the_numbers_do(name, what, change, here, then):
    experiment, results = committed(name)
    finding = experiment.finding(results)
    assert here in finding and then not in finding
    opposite = experiment.finding(change(results))
    assert then in opposite and here not in opposite


def test_every_experiment_has_findings_of_both_kinds():
    assert {name for name, *_ in ALTERED} == set(NAMES)
