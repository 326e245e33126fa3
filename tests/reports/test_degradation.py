"""Octaves of modes, and a finding that says both where networks fail and where they do not."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from reports.experiment import find_experiment
from reports.experiments import degradation


@pytest.mark.parametrize("length", [1, 2, 3, 16, 20, 256])
def test_octaves_cover_every_mode_once(length):
    octaves = degradation.octaves(length)
    assert [mode for first, last in octaves for mode in range(first, last + 1)] == list(range(1, length + 1))
    assert all(last < 2 * first for first, last in octaves)


def made_up(by_length: float, by_lengthscale: float, scale: float, lost: tuple[int, ...] = ()) -> pd.DataFrame:
    """Networks whose error is a power of length and lengthscale, and that lose the octaves that begin with `lost`."""
    experiment, rows = find_experiment("degradation"), []
    for length, lengthscale, seed, t in product((16, 64), (1.0, 4.0), range(3), degradation.TIMES):
        error = scale * (length / 16) ** by_length * lengthscale**by_lengthscale * (1 + 0.01 * seed)
        for first, last in degradation.octaves(length):
            mode = 1.5 if first in lost and lengthscale == 4 else 0.1 + 0.1 / first
            rows.append({"length": length, "lengthscale": lengthscale, "seed": seed, "t": t, "kappa": 9.0 * lengthscale,
                         "error": error, "first": first, "last": last, "mode error": mode, "share": 0.1})  # fmt: skip
    return experiment.results([experiment.checked(rows)])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((0.5, 0.0, 0.05), ("error grows with the length", "nowhere: the largest error is 0.1", "No octave of modes")),
        ((-0.5, 0.5, 0.05), ("error falls with the length", "it grows with the lengthscale")),
        ((0.0, 0.0, 0.6), ("does not change with the length", "at N = 16, lengthscale 1 (0.61)")),
        ((0.0, 0.0, 0.1, (1, 2)), ("in 2 of them, and the longest go first: modes 1, 2 at N = 16, lengthscale 4",)),
        ((0.0, 0.0, 0.1, (5,)), ("the longest go first in 0 of 2 only: modes 5 to 8 at N = 16", "error in 2 of 4")),
    ],
)
def test_findings(options, said):
    results = made_up(*options)
    noisy = results.assign(error=results.error * np.exp(0.01 * np.sin(np.arange(len(results)) ** 2)))
    exponents = degradation.exponents(noisy)
    assert exponents["length"][0] == pytest.approx(options[0], abs=0.03)
    assert exponents["lengthscale"][0] == pytest.approx(options[1], abs=0.03)
    finding = degradation.finding(results)
    assert all(each in finding for each in said)
    assert len(degradation.table(results)) == 4
    plt.close(degradation.figure(results))


def test_a_small_run_has_the_rows_of_the_experiment():
    """Errors by octave add up to the whole, since the squared score of a mode is known."""
    experiment = find_experiment("degradation")
    run = experiment.configurations("quick")[0]
    rows = experiment.checked(experiment.run({"options": {**run["options"], "steps": 2}}))
    by_time = experiment.results([rows]).groupby("t")
    assert len(by_time) == len(degradation.TIMES)
    for _, part in by_time:
        assert list(zip(part["first"], part["last"], strict=True)) == degradation.octaves(8)
        assert part.share.sum() == pytest.approx(1) and part.error.nunique() == 1 and 0.5 < part.error.iloc[0] < 2
        assert part["mode error"].min() <= part.error.iloc[0] <= part["mode error"].max()
