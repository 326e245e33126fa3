"""`python -m reports.tails --out DIR`: the experiment on truncated covariances, at any length and lengthscale."""

from pathlib import Path

from reports.experiments.tails import experiment, plan
from reports.report import report_here
from unrolled.checks import require_integer, require_number
from unrolled.cli import module_app, run_app


def tails(*, length: int = 64, lengthscale: float = 8.0, out: Path = Path("tails")) -> None:
    """Does cutting off the covariance pay for every decay?

    Example: `python -m reports.tails --length 64 --out tails`

    The answer: the tail of each decay and its bound, written with figure and page.

    Parameters
    ----------
    length
        Frames, N.
    lengthscale
        Lengthscale of the kernels, in frames.
    out
        Folder for the files.
    """
    require_integer("length", length, 2)
    require_number("lengthscale", lengthscale, above=0)
    report_here(experiment, plan(length, lengthscale), out)


app = module_app("reports.tails", tails)

if __name__ == "__main__":
    run_app(app)
