"""`python -m reports.sweep NAME...`: run experiments on the processes of this machine or on a Dask cluster.

Every finished run is a folder under OUT/NAME. The same command again goes on where it stopped, for whatever reason:
what is done is skipped. When all runs of an experiment are done, its results are gathered into OUT/NAME.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

from cyclopts import Parameter

from reports.experiment import Budget, experiment_names, find_experiment
from reports.origin import code_version
from reports.report import print_report
from reports.sweep.cluster import INCOMPLETE, Failure, connected, outcomes
from reports.sweep.store import Run, gather, require_one_version, reserved, runs_of
from unrolled.checks import InputError, StoppedError, refuse, require_integer
from unrolled.cli import module_app, run_app
from unrolled.progress import Progress
from unrolled.provenance import command_line


def sweep(
    *names: str,
    budget: Budget = "quick",
    scheduler: str | None = None,
    workers: int | None = None,
    out: Path = Path("runs/sweep"),
    keep_other_versions: Annotated[bool, Parameter(negative=())] = False,
    show: Annotated[bool, Parameter(name="--list", negative=())] = False,
) -> None:
    """What do the experiments of the project find, run again?

    Example: `python -m reports.sweep depth tails --budget quick`

    The answer is a table, a figure and a finding for each experiment, gathered from its runs.

    Parameters
    ----------
    names
        Experiments of the list, or dotted names of files of your own that define `experiment`.
    budget
        quick takes at most two minutes on two cores; full is what the documentation shows.
    scheduler
        Address of a Dask scheduler, tcp://HOST:PORT; not given, worker processes are started on this machine.
    workers
        Worker processes on this machine; not given, as many as it has cores.
    out
        Folder of all runs.
    keep_other_versions
        Accept finished runs of other code, which are refused otherwise.
    show
        List the experiments and do nothing.
    """
    if show:
        return print_list()
    if not names:
        refuse("names", names, ", ".join(experiment_names()))
    if scheduler is not None and workers is not None:
        raise InputError("workers: has no effect beside --scheduler")
    workers = require_integer("workers", os.cpu_count() if workers is None else workers)
    experiments = [find_experiment(name) for name in dict.fromkeys(names)]
    if scheduler is None:  # workers elsewhere have packages of their own
        for experiment in experiments:
            experiment.require_extras()
    runs = [run for each in experiments for run in runs_of(each, each.configurations(budget), out)]
    with reserved([out / each.name for each in experiments]):
        if not keep_other_versions:
            require_one_version(runs)
        failed = compute(runs, scheduler, workers)
        record = {"command": command_line(), "budget": budget}
        for experiment in experiments:
            own = [run for run in runs if run.experiment is experiment]
            if all(run.done for run in own):
                print_report(experiment, gather(own, record))
                print(f"wrote {out / experiment.name}")
    for run in failed:
        print(f"failed: {run.experiment.name} {run.configuration}; why: {run.failure}", file=sys.stderr)
    if failed:
        raise StoppedError(f"{len(failed)} of {len(runs)} runs failed; the others are done", INCOMPLETE)


def compute(runs: Sequence[Run], scheduler: str | None, workers: int) -> list[Run]:
    """Do the runs that are not done, the longest first; returns those that failed.

    Raises:
        InputError: a worker runs other code.
    """
    left = sorted((run for run in runs if not run.done), key=lambda run: -run.core_seconds)
    failed: list[Run] = []
    ended: set[Path] = set()
    if not left:
        return failed
    with (
        connected(scheduler, min(workers, len(left))) as client,
        Progress(total=len(runs), title="sweep", unit="run", start=len(runs) - len(left)) as bar,
    ):
        for run, outcome in outcomes(client, left):
            ended.add(run.folder)
            ahead = sum(other.core_seconds for other in left if other.folder not in ended)
            if isinstance(outcome, Failure):
                run.failure.write_text(f"{run.configuration}\n{outcome}")
                failed.append(run)
            else:
                _require_own_code(run, outcome[1]["code"])
                run.write(*outcome)
            bar.say(f"about {ahead / 3600:.2g} core-hours left" + (f", {len(failed)} failed" if failed else ""))
            bar.update()
    return failed


def _require_own_code(run: Run, code: str) -> None:
    if code != code_version(run.experiment.module):
        raise InputError(
            f"scheduler: a worker runs code {code}; accepted: {code_version(run.experiment.module)}, as here"
        )


def print_list() -> None:
    """The experiments with their questions, numbers of runs and expected core-hours."""
    for name in experiment_names():
        experiment = find_experiment(name)
        costs = []
        for budget in get_args(Budget):
            configurations = experiment.configurations(budget)
            hours = sum(map(experiment.core_seconds, configurations)) / 3600
            costs.append(f"{budget} {len(configurations)} runs, {hours:.2g} core-hours")
        print(f"{name}: {experiment.question}\n    {'; '.join(costs)}")


app = module_app("reports.sweep", sweep)

if __name__ == "__main__":
    run_app(app)
