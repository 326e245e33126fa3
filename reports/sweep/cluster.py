"""Runs on a Dask cluster: processes on this machine, or workers anywhere by the address of their scheduler.

A worker runs one thread and sends back rows; the sweep that asked for them writes the files, so that a cluster needs no
common file system. At most one run for each thread is with the cluster at any time: a worker that dies takes down no
run that had not begun.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from traceback import format_exception
from typing import TYPE_CHECKING, cast

from reports.experiment import Row
from reports.origin import Origin
from reports.sweep.store import Run
from reports.sweep.worker import perform_named
from unrolled.checks import InputError, StoppedError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["INCOMPLETE", "Failure", "connected", "outcomes"]

INCOMPLETE = 4
"""Exit status of a sweep that ended before every run was done."""
LOOK = 1.0
"""Seconds between two looks at how many workers there are."""
CONNECT = 20
"""Seconds a scheduler has to answer."""
KEEP_MEMORY = {"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None}
"""Dask makes its workers return freed memory at once. A training step allocates the same memory again and again, and
then costs 1.8 times the processor time (measured, preset `quick`: 0.125 instead of 0.068 s)."""


class Failure(str):
    """The traceback of a run that failed, or why it was given up."""


@contextmanager
def connected(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A client of the scheduler at an address, or of so many worker processes on this machine.

    Raises:
        InputError: Dask is not installed, or nothing answers at the address.
    """
    try:
        from dask import config
        from distributed import Client, LocalCluster
    except ModuleNotFoundError:
        raise InputError('sweep: needs Dask, which is not installed; pip install "unrolled[sweep]"') from None
    for logger in ("distributed", "distributed.client"):  # what ends a run is said by the sweep, in one line
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    if scheduler is None:
        with (
            config.set(KEEP_MEMORY),
            LocalCluster(
                n_workers=workers, threads_per_worker=1, memory_limit=0, silence_logs=logging.CRITICAL,
                dashboard_address=":0",  # any free port: two sweeps at once must not argue about one
            ) as cluster,
            Client(cluster) as client,
        ):  # fmt: skip
            yield client
        return
    try:
        client = Client(scheduler, timeout=CONNECT)
    except (OSError, ValueError):
        raise InputError(
            f"scheduler: nothing answers at {scheduler!r}; accepted: the address that `dask scheduler` prints"
        ) from None
    with client:
        if not client.nthreads():
            print(f"no workers yet; on any machine: dask worker {scheduler} --nthreads 1", file=sys.stderr)
        yield client


def outcomes(client: Client, runs: Sequence[Run]) -> Iterator[tuple[Run, tuple[list[Row], Origin] | Failure]]:
    """Each run with its rows and origin, or with the reason why it has none, as they end.

    A run whose worker dies goes to another one, as often as the scheduler allows (three times, unless it is set
    otherwise); then it fails.

    Raises:
        InputError: workers of more than one thread.
        StoppedError: the scheduler is gone.
    """
    from distributed import Future, wait

    waiting, under_way = deque(runs), dict[Future, Run]()
    try:
        while waiting or under_way:
            threads = cast(dict[str, int], client.nthreads())
            if several := [address for address, count in threads.items() if count > 1]:
                raise InputError(
                    f"scheduler: worker {several[0]} has {threads[several[0]]} threads; accepted: one, as of"
                    " dask worker --nthreads 1"
                )
            for _ in range(min(len(waiting), max(1, len(threads)) - len(under_way))):
                run = waiting.popleft()
                under_way[client.submit(perform_named, run.experiment.name, run.configuration, pure=False)] = run
            try:
                done, _ = wait(list(under_way), timeout=LOOK, return_when="FIRST_COMPLETED")
            except TimeoutError:
                continue
            for future in done:
                yield under_way.pop(future), _outcome(future)
    except (OSError, CancelledError):
        raise StoppedError(
            "the scheduler is gone; the same command goes on with the runs that are left", INCOMPLETE
        ) from None


def _outcome(future) -> tuple[list[Row], Origin] | Failure:
    error = future.exception()
    if error is None:
        return future.result()
    return Failure("".join(format_exception(type(error), error, future.traceback())))
