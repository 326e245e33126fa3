"""Workers for `python -m reports.sweep` from SLURM: edit SETTINGS, and run this file on a login node.

    python examples/slurm_cluster.py --jobs 16

It starts a Dask scheduler, submits so many jobs of one worker each, prints the command for the sweep, and ends the jobs
when it is interrupted. A worker has one thread and needs no network but that of the scheduler. The folder of the sweep
need not be visible to the workers; the project and its packages must be, in the same version.
"""

import argparse
import signal
from contextlib import suppress
from typing import Any

from dask_jobqueue import SLURMCluster

SETTINGS: dict[str, Any] = {
    "queue": None,  # partition, where the site wants one
    "account": None,
    "cores": 1,
    "processes": 1,
    "memory": "4GB",
    "walltime": "04:00:00",
    "job_script_prologue": ["export OMP_NUM_THREADS=1"],  # and what activates the environment, such as module load
    # A worker leaves before SLURM kills it: a run whose worker is killed too often is given up.
    "worker_extra_args": ["--lifetime", "210m", "--lifetime-stagger", "5m"],
}


def cluster(**changes: Any) -> SLURMCluster:
    """A scheduler here without workers yet; `changes` to SETTINGS."""
    return SLURMCluster(**{**SETTINGS, **changes})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=16)
    arguments = parser.parse_args()
    with cluster() as workers:
        workers.scale(jobs=arguments.jobs)
        print(f"python -m reports.sweep NAME --budget full --scheduler {workers.scheduler_address}", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()
