"""`python -m reports.handset --out DIR`: the experiment on hand-set constructions, about any process."""

from pathlib import Path

from reports.experiments.handset import experiment, plan
from reports.report import report_here
from unrolled.cli import module_app, run_app
from unrolled.options import ProcessOptions


def handset(
    *,
    process: ProcessOptions = ProcessOptions(),  # noqa: B008 (frozen)
    out: Path = Path("handset-table"),
) -> None:
    """How exact are hand-set transformers, and how large?

    Example: `python -m reports.handset --length 32 --lengthscale 8`

    The answer: every construction, its sizes and its errors at t = 0.001 .. 5, written with figure and page.

    Parameters
    ----------
    out
        Folder for the files.
    """
    process.process()  # refuses bad options before any work
    report_here(experiment, plan(process), out)


app = module_app("reports.handset", handset)

if __name__ == "__main__":
    run_app(app)
