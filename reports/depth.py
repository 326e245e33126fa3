"""`python -m reports.depth --out DIR`: the experiment on depth, about any process and t."""

from pathlib import Path

from reports.experiments.depth import TIME, experiment, plan
from reports.report import report_here
from unrolled.cli import module_app, run_app
from unrolled.options import ProcessOptions


def depth(
    *,
    process: ProcessOptions = ProcessOptions(),  # noqa: B008 (frozen)
    t: float = TIME,
    out: Path = Path("depth"),
) -> None:
    """How does the depth that a score error needs grow with the condition number?

    Example: `python -m reports.depth --length 64 --lengthscale 8`

    The answer: steps needed for relative score errors of 1e-2 and 1e-3, written with figure and page.

    One sweep runs over N = 32 .. 512 at the given lengthscale, the other over lengthscales 1 .. 32 at the given length.

    Parameters
    ----------
    t
        Diffusion time.
    out
        Folder for the files.
    """
    process.process().condition_number(t)  # refuses bad options before any work
    report_here(experiment, plan(process, t), out)


app = module_app("reports.depth", depth)

if __name__ == "__main__":
    run_app(app)
