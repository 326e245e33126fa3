"""`python -m reports.layers --out DIR`: the experiment on the names of hand-set models, for any sizes and processes."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from reports.experiments.layers import PROCESSES, experiment, plan
from reports.report import report_here
from unrolled.checks import refuse, require_integer
from unrolled.cli import module_app, run_app


def layers(
    *,
    processes: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = tuple(PROCESSES),
    length: int = 24,
    dim: int = 2,
    samples: int = 16,
    readouts: Annotated[bool, Parameter(negative=())] = False,
    seed: int = 0,
    out: Path = Path("layers-report"),
) -> None:
    """Does the layer probe name the solver that a layer is, and say none where there is none?

    Example: `python -m reports.layers --out layers`

    The answer: what hand-set models are named, and what controls are, written with figure and page.

    Parameters
    ----------
    processes
        Processes: OU 4; Exponential 8, 0.5; Polynomial 4, 1; Logarithmic 4, 1; Matern 4, 1.5.
    length
        Frames of a sequence.
    dim
        Values per frame.
    samples
        Sequences behind every distance.
    readouts
        Also match linear readouts of the DiTs, on 256 sequences.
    seed
        Seed of the processes, the sequences and the random weights.
    out
        Folder for the files.
    """
    for name in processes or ("",):
        if name not in PROCESSES:
            refuse("processes", name, "; ".join(PROCESSES))
    for name, value, least in (("length", length, 2), ("dim", dim, 1), ("samples", samples, 1)):
        require_integer(name, value, least)
    report_here(experiment, plan(processes, length, dim, samples, seed, readouts), out)


app = module_app("reports.layers", layers)

if __name__ == "__main__":
    run_app(app)
