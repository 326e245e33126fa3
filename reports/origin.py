"""Where a result comes from: the code, the machine in words, versions, date and seconds."""

import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from reports.experiment import Configuration, Experiment, Row
from unrolled.provenance import provenance

__all__ = ["Origin", "code_version", "combined", "perform"]

Origin = dict[str, Any]
"""What `perform` says of a run and `combined` of several, as JSON has it."""
PACKAGES = ("unrolled", "probes", "theory")
LIBRARIES = ("numpy", "scipy", "torch")
"""Besides Python: the libraries that compute."""


@cache
def code_version(experiment_module: str) -> str:
    """Hash of the sources that results depend on: every Python file of the packages that measure, and the experiment's
    own.

    It is computed once in a process, whose code does not change when its files do.
    """
    roots = [Path(str(import_module(package).__file__)).parent for package in PACKAGES]
    files = [(file.relative_to(root.parent).as_posix(), file) for root in roots for file in sorted(root.rglob("*.py"))]
    files.append((experiment_module, Path(str(import_module(experiment_module).__file__))))
    code = hashlib.sha256()
    for name, file in files:
        code.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return code.hexdigest()[:16]


@cache
def _machine() -> str:
    """Processor, cores and system in words, without the name of the machine."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    processor = named[1] if named else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


@cache
def _versions() -> dict[str, str]:
    return {"git": provenance()["git"], "python": platform.python_version(), **{lib: version(lib) for lib in LIBRARIES}}


def perform(experiment: Experiment, configuration: Configuration) -> tuple[list[Row], Origin]:
    """The rows of one run, done here, and where they come from."""
    start = time.perf_counter()
    rows = experiment.checked(experiment.run(configuration))
    seconds = time.perf_counter() - start
    return rows, {
        "code": code_version(experiment.module), "machine": _machine(), "threads": torch.get_num_threads(),
        "versions": _versions(), "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC", "seconds": round(seconds, 3),
    }  # fmt: skip


def combined(origins: Sequence[Origin]) -> Origin:
    """Where a table of several runs comes from: each code, machine and set of versions once, the first and the last
    date, and all seconds."""

    def distinct(key: str) -> list[Any]:
        return list({json.dumps(each[key]): each[key] for each in origins}.values())

    dates = sorted(each["date"] for each in origins)
    return {
        "runs": len(origins), "seconds": round(sum(each["seconds"] for each in origins), 1), "first": dates[0],
        "last": dates[-1], **{key: distinct(key) for key in ("code", "machine", "threads", "versions")},
    }  # fmt: skip
