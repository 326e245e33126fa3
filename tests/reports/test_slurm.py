"""Workers from SLURM without SLURM: the job script, and an `sbatch` that runs it here."""

import importlib.util
import os
import stat

import pytest

from reports.sweep.__main__ import app
from tests.builders import run
from tests.reports import tiny
from tests.reports.test_sweep import NAME, PATIENCE, ROOT, results

pytest.importorskip("dask_jobqueue")

SBATCH = """#!/bin/sh
# Keeps the job script, runs it in the background with the environment of the submission, and gives it a number.
cp "$1" "$FAKE/job"
setsid sh "$FAKE/job" > "$FAKE/job.log" 2>&1 &
echo $! > "$FAKE/pid"
echo "Submitted batch job 1"
"""
SCANCEL = """#!/bin/sh
kill -- -$(cat "$FAKE/pid")
"""


@pytest.fixture
def example(tmp_path, monkeypatch):
    """examples/slurm_cluster.py as a module, with sbatch and scancel of our own."""
    for name, script in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        path = tmp_path / name
        path.write_text(script)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setenv("TINY", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    spec = importlib.util.spec_from_file_location("slurm_cluster", ROOT / "examples" / "slurm_cluster.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_jobs_run_a_sweep(example, tmp_path):
    """One job, one worker, one thread; what it gives is what the experiment gives here."""
    out = tmp_path / "out"
    with example.cluster(
        queue="short", account="physics", scheduler_options={"host": "127.0.0.1", "dashboard": False}
    ) as cluster:
        script = cluster.job_script()
        for line in ("#SBATCH -n 1", "#SBATCH --cpus-per-task=1", "#SBATCH --mem=4G", "#SBATCH -t 04:00:00",
                     "#SBATCH -p short", "#SBATCH -A physics", "export OMP_NUM_THREADS=1"):  # fmt: skip
            assert line in script.splitlines()
        assert "--nthreads 1" in script and "--lifetime 210m" in script and cluster.scheduler_address in script
        cluster.scale(jobs=1)
        cluster.wait_for_workers(1, timeout=PATIENCE)
        run(app, NAME, "--scheduler", cluster.scheduler_address, "--out", out)
    assert len(tiny.log_lines(tmp_path)) == tiny.RUNS
    results(out)
