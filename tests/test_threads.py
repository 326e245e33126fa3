"""Commands ask waiting OpenMP threads to sleep, unless the user has asked for something else; a library does not
ask."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ["unrolled", "probes", "theory", "reports"]
SHOW = "import atexit, os; atexit.register(lambda: print('policy', os.environ.get('OMP_WAIT_POLICY')))"


def policy(arguments: list[str], folder: Path, **environment: str) -> str:
    """OMP_WAIT_POLICY in a Python process as it ends; a sitecustomize file prints it."""
    (folder / "sitecustomize.py").write_text(SHOW)
    clean = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    clean |= {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **environment}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=clean, cwd=ROOT)
    return done.stdout.split("policy ")[-1].strip()


@pytest.mark.parametrize("package", PACKAGES)
def test_commands_let_waiting_threads_sleep(package, tmp_path):
    """`python -m package` has no command and ends at once, after it has read what every command of the package
    reads."""
    assert policy(["-m", package], tmp_path) == "PASSIVE"
    assert policy(["-m", package], tmp_path, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


def test_importing_the_library_changes_nothing(tmp_path):
    assert policy(["-c", "import unrolled, probes, theory, reports"], tmp_path) == "None"
