"""A run on disk: a folder named by the hash of its configuration, which is there as a whole or not at all.

OUT/NAME/HASH holds configuration.json (what was asked), rows.csv (what came out) and provenance.json (code, machine,
versions, date, seconds). OUT/NAME/HASH.failed says why a run has no such folder.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from reports.experiment import Configuration, Experiment, Row
from reports.origin import Origin, code_version, combined
from reports.report import write_report
from unrolled.checks import InputError, refuse
from unrolled.files import require_writable_folder, write_csv, write_json

__all__ = ["Run", "gather", "require_one_version", "reserved", "runs_of"]

PARTIAL = ".partial-"
"""First letters of the folder of a run that is being written."""


@dataclass(frozen=True)
class Run:
    """One configuration of an experiment and the folder of its result."""

    experiment: Experiment
    configuration: Configuration
    folder: Path

    @property
    def done(self) -> bool:
        """Whether the result is there."""
        return self.folder.is_dir()

    @property
    def core_seconds(self) -> float:
        """What the run is expected to take."""
        return self.experiment.core_seconds(self.configuration)

    @property
    def origin(self) -> Origin:
        """Where the result comes from.

        Raises:
            InputError: the file cannot be read.
        """
        path = self.folder / "provenance.json"
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError):
            refuse("out", str(path), "a file that a sweep wrote; remove the folder to run it again")

    def write(self, rows: Sequence[Row], origin: Origin) -> None:
        """Write the result under another name and rename it, so that the folder is complete when it is there."""
        partial = self.folder.with_name(PARTIAL + self.folder.name)
        partial.mkdir()
        write_json(self.configuration, partial / "configuration.json")
        write_csv(self.experiment.results([rows]), partial / "rows.csv")
        write_json(origin, partial / "provenance.json")
        os.rename(partial, self.folder)
        self.failure.unlink(missing_ok=True)

    @property
    def failure(self) -> Path:
        """The file that says why there is no result."""
        return self.folder.with_suffix(".failed")


def runs_of(experiment: Experiment, configurations: Sequence[Configuration], out: Path) -> list[Run]:
    """The runs of an experiment under `out`, in the order of its results."""
    folder = out / experiment.name
    return [Run(experiment, configuration, folder / experiment.key(configuration)) for configuration in configurations]


@contextmanager
def reserved(folders: Sequence[Path]) -> Iterator[None]:
    """Keep folders for this sweep while it runs, and remove what a killed one left half-written.

    Raises:
        InputError: another sweep is writing there, or a folder cannot be written.
    """
    with ExitStack() as stack:
        for folder in folders:
            require_writable_folder("out", folder)
            try:
                stack.enter_context(FileLock(folder / ".lock").acquire(timeout=0))
            except Timeout:
                raise InputError(f"out: another sweep is writing {str(folder)!r}; accepted: another folder") from None
            for partial in folder.glob(f"{PARTIAL}*"):
                shutil.rmtree(partial)
        yield


def require_one_version(runs: Sequence[Run]) -> None:
    """Refuse results of other code.

    Raises:
        InputError: some of the runs that are done are of another code version.
    """
    codes = [(run, run.origin["code"]) for run in runs if run.done]
    other = [(run, code) for run, code in codes if code != code_version(run.experiment.module)]
    if other:
        run, code = other[0]
        raise InputError(
            f"out: {len(other)} of the finished runs are of other code, {str(run.folder)!r} of {code}, which is now"
            f" {code_version(run.experiment.module)}; accepted: another folder, or --keep-other-versions"
        )


def gather(runs: Sequence[Run], record: Origin) -> pd.DataFrame:
    """The results of one experiment from its finished runs, written with figure and page beside their folders.

    Args:
        runs: all of the experiment, in order, and all done.
        record: what the page says of the sweep.
    """
    experiment = runs[0].experiment
    results = pd.concat([experiment.read(run.folder / "rows.csv") for run in runs], ignore_index=True)
    record = {
        **record,
        "configurations": [run.configuration for run in runs],
        **combined([run.origin for run in runs]),
    }
    write_report(experiment, results, record, runs[0].folder.parent)
    return results
