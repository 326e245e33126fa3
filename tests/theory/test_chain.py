"""The chain from sizes to total variation, against exact laws."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from theory.chain import chain, discretisation
from theory.chain_measured import measured
from unrolled import Exponential, GaussianProcess, Logarithmic, Matern, Polynomial, RoughPolynomial
from unrolled.checks import InputError
from unrolled.gaussian import GaussianLaw, kl_divergence
from unrolled.generated import discrete_law, marginal_law, standard_law
from unrolled.samplers import log_time_grid

PROCESSES = {
    "ou": GaussianProcess(3, Exponential(1.0, 1.0), [[1.0]], mean=torch.ones(3, 1)),
    "nearly white": GaussianProcess(2, Exponential(0.2, 1.0), [[1.0]]),
    "large": GaussianProcess(2, Exponential(2.0, 1.0), [[4.0]], mean=torch.ones(2, 1)),
    "small": GaussianProcess(2, Polynomial(0.5, 2.0), [[0.5]]),
    "rough": GaussianProcess(3, RoughPolynomial(0.3, 2.0), [[1.0]]),
    "matern": GaussianProcess(2, Matern(0.7, 1.5), [[1.0]]),
}


def truncated_score(process, links):
    """The exact score scaled so that its relative error is the chain's: as bad as the budget allows."""
    return lambda x, t: (1 + links.score_error) * process.score(x, t)


@pytest.mark.parametrize("name", PROCESSES)
def test_no_link_is_below_the_exact_law(name):
    process, eta = PROCESSES[name], 0.5
    links = chain(process, eta)
    assert 0 < links.total_variation <= eta
    truth = marginal_law(process, links.t0)
    data = torch.kron(process.temporal_covariance, process.spatial_covariance)
    clean = GaussianLaw(process.mean.flatten(), data)
    assert kl_divergence(truth, clean) <= links.early * (1 + 1e-9)
    terminal = kl_divergence(marginal_law(process, links.T), standard_law(len(truth.mean)))
    assert terminal <= links.terminal * (1 + 1e-9) + 1e-12
    grid = log_time_grid((links.t0, links.T), links.steps)
    law = discrete_law(truncated_score(process, links), process.length, process.dim, grid)
    assert kl_divergence(truth, law) <= links.kl


def _of(kernel, length=8, size=1.0):
    return GaussianProcess(length, kernel, [[size]], mean=torch.ones(length, 1))


TEN = {
    "OU, lengthscale 2": _of(Exponential(2.0, 1.0)),
    "OU, lengthscale 1, variance 4": _of(Exponential(1.0, 1.0), size=4.0),
    "OU, lengthscale 1/2, variance 1/4": _of(Exponential(0.5, 1.0), size=0.25),
    "Exponential(1, 1/2)": _of(Exponential(1.0, 0.5)),
    "RBF, lengthscale 0.7": _of(Exponential(0.7, 2.0)),
    "Polynomial(1/2, 2)": _of(Polynomial(0.5, 2.0)),
    "Polynomial(0.3, 1/2), 16 frames": _of(Polynomial(0.3, 0.5), length=16),
    "RoughPolynomial(0.3, 2)": _of(RoughPolynomial(0.3, 2.0)),
    "Logarithmic(0.3, 2)": _of(Logarithmic(0.3, 2.0)),
    "Matern(1/2, 3/2), 12 frames": _of(Matern(0.5, 1.5), length=12),
}
"""Processes of the table in docs/theory.md."""
ETA = 0.5


def row(name: str) -> str:
    """A line of the table; no link of the chain is below the law of the model that is built."""
    links = chain(TEN[name], ETA)
    exact = measured(TEN[name], links)
    assert exact.early <= links.early * (1 + 1e-9)
    assert exact.terminal <= links.terminal * (1 + 1e-9)
    assert exact.kl <= exact.paths * (1 + 1e-9) <= links.kl * (1 + 2e-9)
    assert exact.total_variation <= links.total_variation <= ETA
    pairs = (
        (links.total_variation, exact.total_variation), (links.early, exact.early), (links.terminal, exact.terminal),
        (links.kl, exact.paths), (exact.paths, exact.kl),
    )  # fmt: skip
    shown = [f"{bound:.2g} / {true:.2g}" for bound, true in pairs]
    return f"| {name} | {links.iterations} | {links.steps} | {' | '.join(shown)} |"


def test_a_model_that_is_built_stays_within_the_chain():
    row("RoughPolynomial(0.3, 2)")


@pytest.mark.slow
@pytest.mark.parametrize("name", TEN)
def test_the_table_of_the_chain_is_what_is_measured(name):
    assert row(name) in (Path(__file__).parents[2] / "docs" / "theory.md").read_text(encoding="utf-8")


def test_halving_the_steps_doubles_their_link():
    """The order of the discretisation in the step is 1."""
    spectrum = np.array([0.2, 1.0, 3.0])
    costs = [discretisation(spectrum, np.geomspace(5.0, 0.01, steps + 1)) for steps in (400, 800, 1600)]
    ratios = [one / two for one, two in pairwise(costs)]
    assert all(abs(ratio - 2) < 0.05 for ratio in ratios)
    # the closed form as it is written in the claim, where nothing small is left over
    h, c = 0.5, 1 + math.exp(-2.0) * (spectrum - 1)
    after = 1 + math.exp(-1.5) * (spectrum - 1)
    written = (np.log(c / after) + h - 4 * (1 - math.exp(-h / 2)) / c + h / c).sum()
    assert discretisation(spectrum, np.array([2.0, 1.5])) == pytest.approx(written, rel=1e-10)


def test_what_is_out_of_reach_is_refused():
    with pytest.raises(InputError, match="t_0: 1e-09 is not accepted; accepted: a larger eta"):
        chain(GaussianProcess(64, Exponential(8.0, 2.0), [[1.0]]), 0.01)
    with pytest.raises(InputError, match="eta: 0.0 is not accepted"):
        chain(PROCESSES["ou"], 0.0)
