"""`python -m reports.baselines --out DIR`: the experiment on classical estimates, about any process."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from reports.experiments.baselines import experiment, plan
from reports.report import report_here
from unrolled.checks import require_integer
from unrolled.cli import module_app, run_app
from unrolled.options import ProcessOptions


def baselines(
    *,
    samples: Annotated[tuple[int, ...], Parameter(negative=())] = (1000, 3000, 10000),
    seeds: int = 1,
    process: ProcessOptions = ProcessOptions(),  # noqa: B008 (frozen)
    out: Path = Path("baselines"),
) -> None:
    """Do the score errors of classical estimates fall like the root of the number of sequences?

    Example: `python -m reports.baselines --samples 1000 3000 --out baselines`

    The answer is the error of every kind of `python -m unrolled.fit`, and what theory expects of the sample covariance
    to leading order in 1/n.

    Parameters
    ----------
    samples
        Numbers of sequences.
    seeds
        How many sets of sequences. Every kind gets the same ones.
    out
        Folder for the files.
    """
    for n in samples:
        require_integer("samples", n)
    process.process()  # refuses bad options before any work
    report_here(experiment, plan(process, samples, require_integer("seeds", seeds)), out)


app = module_app("reports.baselines", baselines)

if __name__ == "__main__":
    run_app(app)
