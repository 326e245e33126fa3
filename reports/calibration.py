"""`python -m reports.calibration --out DIR`: the experiment on the decay fits, with any numbers of simulations."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from probes.decay.family import CHOICE_RESAMPLES
from probes.decay.fit import MIN_LAGS
from probes.decay.intervals import RESAMPLES
from probes.targets import FIT_LAG_SHARE
from reports.experiments.calibration import COUNTS, experiment, plan
from reports.report import report_here
from unrolled.checks import require_integer
from unrolled.cli import module_app, run_app


def calibrate(
    *,
    out: Path,
    runs: int = 500,
    sequences: int = 200,
    length: int = 64,
    edge_runs: int = 100,
    curve_runs: int = 100,
    counts: Annotated[tuple[int, ...], Parameter(consume_multiple=True, negative=())] = COUNTS,
    resamples: int = RESAMPLES,
    choice_resamples: int = CHOICE_RESAMPLES,
    seed: int = 0,
) -> None:
    """Do the decay fits know how sure they are, where the truth is known?

    Example: `python -m reports.calibration --out calibration`

    The answer: coverage of the intervals, and level and power of the family choice, on simulated data.

    Parameters
    ----------
    out
        Folder for the files.
    runs
        Runs with exponential truth.
    sequences
        Independent sequences of each of those.
    length
        Frames of a sequence, N.
    edge_runs
        Runs at power 2.
    curve_runs
        Runs with polynomial truth at each number of sequences.
    counts
        Those numbers.
    resamples
        Bootstrap resamples behind an interval.
    choice_resamples
        Bootstrap resamples behind a p-value.
    seed
        Of everything.
    """
    for name, value, least in (("runs", runs, 2), ("edge_runs", edge_runs, 0), ("curve_runs", curve_runs, 0)):
        require_integer(name, value, least)
    for name, values in (("sequences", [sequences]), ("counts", counts)):
        for value in values:
            require_integer(name, value, 20)
    require_integer("length", length, int((2 * MIN_LAGS - 1) / FIT_LAG_SHARE))
    settings = {"length": length, "resamples": resamples, "choice_resamples": choice_resamples, "seed": seed}
    report_here(experiment, plan(runs, sequences, edge_runs, curve_runs, counts, **settings), out)


app = module_app("reports.calibration", calibrate)

if __name__ == "__main__":
    run_app(app)
