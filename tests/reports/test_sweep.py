"""A sweep loses nothing: workers, schedulers and clients that are killed, other code, wrong types, and who computed it.

Every process is one as a user starts it. Tests wait for files and for lines, never for a time.
"""

import ast
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.experiment import Experiment, experiment_names, find_experiment
from reports.origin import code_version
from reports.sweep.__main__ import app
from reports.sweep.cluster import INCOMPLETE, outcomes
from reports.sweep.store import PARTIAL, reserved, runs_of
from tests.builders import refused, run
from tests.reports import tiny
from unrolled import InputError
from unrolled.files import write_csv

ROOT = Path(__file__).parents[2]
NAME = "tests.reports.tiny"
PATIENCE = 300.0
"""Seconds after which a condition is given up, far above what the busiest machine needs."""


def until(condition: Callable[[], object], *processes: subprocess.Popen) -> None:
    """Return when a condition holds; fail when it does not in time or a process has ended."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts `python -m ...` with a log of its own; ends what is left with the last test."""
    started: list[subprocess.Popen] = []

    def start(*arguments: str | int | Path, **environment: str) -> subprocess.Popen:
        log = tmp_path_factory.mktemp("process") / "log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", *map(str, arguments)],
                stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env={**os.environ, **environment},
            )  # fmt: skip
        process.log = log  # pyright: ignore[reportAttributeAccessIssue]
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


class Cluster:
    """A scheduler started by hand, and workers that are too."""

    def __init__(self, processes: Callable[..., subprocess.Popen], folder: Path, **environment: str) -> None:
        """Workers learn the folder TINY when they start, so it is one for all tests; it is empty between them."""
        self.processes, self.workers, self.environment = processes, [], {"TINY": str(folder)}
        self.scheduler = processes(
            "dask", "scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", **environment
        )
        until(lambda: re.search(r"tcp://[\d.]+:\d+", self.scheduler.log.read_text()), self.scheduler)
        self.address = re.search(r"tcp://[\d.]+:\d+", self.scheduler.log.read_text())[0]

    def with_workers(self, count: int) -> str:
        """The address, once so many workers live."""
        self.workers = [each for each in self.workers if each.poll() is None]
        while len(self.workers) < count:
            self.workers.append(self.processes(
                "dask", "worker", self.address, "--nthreads", 1, "--no-nanny", "--no-dashboard", **self.environment
            ))  # fmt: skip
        return self.address


@pytest.fixture(scope="module")
def shared(processes, tmp_path_factory) -> Cluster:
    """A cluster where a run is given up when its worker dies once."""
    return Cluster(processes, tmp_path_factory.mktemp("tiny"), DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")


@pytest.fixture
def tiny_folder(shared, monkeypatch) -> Path:
    """The folder that TINY names, empty."""
    folder = Path(shared.environment["TINY"])
    for file in folder.iterdir():
        file.unlink()
    monkeypatch.setenv("TINY", str(folder))
    return folder


def ends(process: subprocess.Popen, status: int = 0) -> str:
    """What a process wrote, once it has ended with this status."""
    assert process.wait(PATIENCE) == status, process.log.read_text()
    return process.log.read_text()


def done(out: Path) -> list[int]:
    """Seeds of the runs that are done; what is there is whole."""
    runs = [each for each in runs_of(tiny.experiment, tiny.experiment.configurations("quick"), out) if each.done]
    for each in runs:
        assert {file.name for file in each.folder.iterdir()} == {"configuration.json", "rows.csv", "provenance.json"}
        assert json.loads((each.folder / "configuration.json").read_text()) == each.configuration
        assert len(tiny.experiment.read(each.folder / "rows.csv")) == 3 and each.origin["seconds"] >= 0
    return [each.configuration["seed"] for each in runs]


def begun(folder: Path) -> Counter[int]:
    """How often each seed was begun."""
    return Counter(int(line.split()[0]) for line in tiny.log_lines(folder))


def results(out: Path) -> bytes:
    """The gathered table, which is what the experiment gives without any sweep."""
    path = out / NAME / "tiny.csv"
    pd.testing.assert_frame_equal(tiny.experiment.read(path), tiny.expected(), check_exact=False, rtol=1e-9)
    return path.read_bytes()


@pytest.mark.slow
def test_killed_client(tmp_path, processes, shared, tiny_folder, capsys):
    """Two of four runs are done when the command is killed; the next one does the other two."""
    out, hold = tmp_path / "out", tiny_folder / "hold-1"
    hold.touch()
    client = processes("reports.sweep", NAME, "--workers", 1, "--out", out)
    shared.with_workers(1)
    until(lambda: begun(tiny_folder)[1], client)
    assert done(out) == [2, 3]
    line = refused(capsys, app, NAME, "--out", out)
    assert line.startswith("error: out: another sweep is writing")
    client.kill()
    client.wait()
    pids = {int(line.split()[1]) for line in tiny.log_lines(tiny_folder)}
    until(lambda: not any(running(pid) for pid in pids))  # its workers do not outlive it
    assert done(out) == [2, 3]
    hold.unlink()
    half_written = out / NAME / f"{PARTIAL}0123"
    half_written.mkdir()
    run(app, NAME, "--scheduler", shared.address, "--out", out)
    printed = capsys.readouterr()
    assert "The sum is" in printed.out and "sweep: 4 of 4 run" in printed.err and not half_written.exists()
    assert begun(tiny_folder) == {3: 1, 2: 1, 1: 2, 0: 1}
    results(out)


def running(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.slow
def test_killed_worker_and_killed_scheduler(tmp_path, processes, shared, tiny_folder):
    """A worker that is started by hand joins and takes runs; what one had in hand when it was killed goes to the next;
    without a scheduler the command ends and has lost nothing."""
    out = tmp_path / "out"
    for seed in (3, 1):
        (tiny_folder / f"hold-{seed}").touch()
    cluster = Cluster(processes, tiny_folder)
    client = processes("reports.sweep", NAME, "--scheduler", cluster.with_workers(1), "--out", out)
    victim = cluster.workers[0]
    until(lambda: begun(tiny_folder)[3], client, victim)
    victim.kill()
    victim.wait()
    assert done(out) == []
    cluster.with_workers(1)
    until(lambda: begun(tiny_folder)[3] == 2, client)
    (tiny_folder / "hold-3").unlink()
    until(lambda: begun(tiny_folder)[1], client)
    assert done(out) == [2, 3]
    cluster.scheduler.kill()
    shared.with_workers(1)
    text = ends(client, INCOMPLETE)
    assert text.splitlines()[-1].startswith("the scheduler is gone") and "Traceback" not in text
    assert done(out) == [2, 3]
    (tiny_folder / "hold-1").unlink()
    run(app, NAME, "--scheduler", shared.address, "--out", out)
    assert begun(tiny_folder) == {3: 2, 2: 1, 1: 2, 0: 1}
    results(out)


@pytest.mark.slow
def test_two_workers_give_what_one_gives(tmp_path, shared, tiny_folder):
    """To the last bit; the second has joined when the first of its runs is held until the other's has begun."""
    run(app, NAME, "--scheduler", shared.with_workers(1), "--out", tmp_path / "one")
    (tiny_folder / "log").unlink()
    shared.with_workers(2)
    (tiny_folder / "together").touch()
    run(app, NAME, "--scheduler", shared.address, "--out", tmp_path / "two")
    pids = {line.split()[1] for line in tiny.log_lines(tiny_folder)}
    assert len(pids) == 2 and results(tmp_path / "two") == results(tmp_path / "one")


def test_runs_that_fail_are_reported(tmp_path, shared, tiny_folder, capsys):
    """The first one kills its worker, which is blamed on no other run; the second raises; the others are done."""
    out = tmp_path / "out"
    for name in ("kill-3", "fail-2"):
        (tiny_folder / name).touch()
    with pytest.raises(SystemExit) as ended:
        run(app, NAME, "--scheduler", shared.with_workers(2), "--out", out)
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == INCOMPLETE and lines[-1] == "2 of 4 runs failed; the others are done"
    assert sum(line.startswith(f"failed: {NAME} ") for line in lines) == 2
    assert done(out) == [0, 1] and not (out / NAME / "tiny.csv").exists()
    why = {path.read_text().splitlines()[0]: path.read_text() for path in (out / NAME).glob("*.failed")}
    assert "ArithmeticError: told to fail" in why["{'seed': 2}"] and "KilledWorker" in why["{'seed': 3}"]


@pytest.fixture
def finished(tmp_path, monkeypatch) -> Path:
    """A finished sweep, written without workers."""
    from reports.origin import perform

    monkeypatch.setenv("TINY", str(tmp_path))
    out = tmp_path / "out"
    (out / NAME).mkdir(parents=True)
    for each in runs_of(tiny.experiment, tiny.experiment.configurations("quick"), out):
        each.failure.touch()
        each.write(*perform(tiny.experiment, each.configuration))
        assert not each.failure.exists()
    return out


def test_a_finished_sweep_is_gathered_without_workers(finished, capsys):
    run(app, NAME, "--out", finished)
    results(finished)
    record = json.loads((finished / NAME / "provenance.json").read_text())
    assert record["runs"] == 4 and record["budget"] == "quick" and record["code"] == [code_version(NAME)]
    assert record["configurations"] == tiny.experiment.configurations("quick")
    page = (finished / NAME / "README.md").read_text()
    assert "Does a sweep do what it says?" in page and "The sum is" in page and "| seed | name |" in page
    assert (finished / NAME / "tiny.png").read_bytes().startswith(b"\x89PNG")
    assert "The sum is" in capsys.readouterr().out


def test_a_write_that_is_cut_short_leaves_no_result(finished, monkeypatch):
    """A run that is stopped between its files: its folder is not there, and what is goes when the next sweep begins."""
    one = runs_of(tiny.experiment, [{"seed": 9}], finished)[0]

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("reports.sweep.store.write_csv", stop)
    with pytest.raises(KeyboardInterrupt):
        one.write([ROW], {})
    assert not one.done and [each.name for each in one.folder.parent.glob(".*")] == [PARTIAL + one.folder.name]
    with reserved([one.folder.parent]):
        assert [each.name for each in one.folder.parent.glob(".*")] == [".lock"]


def test_other_code_is_refused_unless_it_is_kept(finished, capsys):
    path = next((finished / NAME).glob("*/provenance.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "code": "0123"}))
    line = refused(capsys, app, NAME, "--out", finished)
    assert line.startswith("error: out: 1 of the finished runs are of other code") and "0123" in line
    run(app, NAME, "--out", finished, "--keep-other-versions")
    record = json.loads((finished / NAME / "provenance.json").read_text())
    assert set(record["code"]) == {"0123", code_version(NAME)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seed,", "grain,"),
        ("True", "yes"),
        ("False", "0"),
        ("\n0,", "\n0.5,"),
        (",0.", ",zero."),
        ("name,value", "value,name"),
    ],
)
def test_columns_and_types_of_files_are_checked(finished, capsys, old, new):
    path = finished / NAME / tiny.experiment.key({"seed": 0}) / "rows.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    line = refused(capsys, app, NAME, "--out", finished)
    assert line.startswith(f"error: out: '{path}' is not accepted (") and "seed (int), name (str)" in line


ROW = {"seed": 1, "name": "a", "value": 0.5, "large": True}


@pytest.mark.parametrize(
    "change",
    [{"seed": 1.0}, {"seed": True}, {"value": 1}, {"large": 1}, {"name": None}, {"more": 1}, {"value": np.int64(3)}],
)
def test_columns_and_types_of_rows_are_checked(change):
    assert tiny.experiment.checked([{**ROW, "value": np.float64(0.5), "large": np.bool_(True)}]) == [ROW]
    with pytest.raises(TypeError, match="its columns are"):
        tiny.experiment.checked([{**ROW, **change}])
    with pytest.raises(TypeError, match="its columns are"):
        tiny.experiment.checked([dict(reversed(ROW.items()))])


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)
ROWS = st.fixed_dictionaries({
    "seed": st.integers(-(2**63), 2**63 - 1),
    "name": TEXTS | st.sampled_from(["", "NA", "nan", "None", "1"]),
    "value": st.floats(allow_nan=True, allow_infinity=True),
    "large": st.booleans(),
})  # fmt: skip


@given(st.lists(ROWS, max_size=5))
def test_a_file_gives_back_what_was_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    written = tiny.experiment.results([rows])
    write_csv(written, path)
    read = tiny.experiment.read(path)
    pd.testing.assert_frame_equal(read, written, check_exact=True)
    assert (np.signbit(read.value) == np.signbit(written.value)).loc[written.value.notna()].all()


def test_keys_are_those_of_content():
    experiment = tiny.experiment
    assert experiment.key({"a": 1, "b": 2}) == experiment.key({"b": 2, "a": 1})
    others = [{"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": True}, {"b": 1}]
    assert len({experiment.key(each) for each in others}) == len(others)
    with pytest.raises(ValueError):
        experiment.key({"a": float("nan")})


def test_names(capsys):
    known = ["ball", "baselines", "basin", "beyond", "calibration", "degradation", "depth", "efficiency", "free_maps",
             "handset", "handset_kernels", "layers", "probe_cost", "real", "tails", "trained", "trained_depth", "unet",
             "wrong_stories"]  # fmt: skip
    assert experiment_names() == known
    for name in ("nonsense", "tests.reports.nonsense", "nowhere.at.all", "tests.reports.test_sweep"):
        assert refused(capsys, app, name).startswith(f"error: name: '{name}' is not accepted; accepted: ball, ")
    assert refused(capsys, app).startswith("error: names: ()")
    assert "workers: has no effect" in refused(capsys, app, "tails", "--workers", 2, "--scheduler", "tcp://127.0.0.1:1")
    assert "workers: 0" in refused(capsys, app, "tails", "--workers", 0)


def test_list_names_every_experiment(capsys):
    run(app, "--list")
    text = capsys.readouterr().out
    for name in experiment_names():
        experiment = find_experiment(name)
        assert f"{name}: {experiment.question}" in text and isinstance(experiment, Experiment)
        for budget in ("quick", "full"):
            assert f"{budget} {len(experiment.configurations(budget))} runs, " in text


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("tails", "flint", "theory"), ("unet", "diffusers", "diffusers")]
)
def test_a_package_that_runs_need_is_named_before_they_begin(tmp_path, capsys, monkeypatch, name, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    line = refused(capsys, app, "depth", name, "--out", tmp_path / "out")
    assert line == f'error: names: {name} needs {module}, which is not installed; pip install "unrolled[{extra}]"'
    assert not (tmp_path / "out").exists()


def test_dask_is_an_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = refused(capsys, app, "tails", "--out", tmp_path / "out")
    assert line == 'error: sweep: needs Dask, which is not installed; pip install "unrolled[sweep]"'
    for file in (
        each for package in ("unrolled", "probes", "theory", "reports") for each in (ROOT / package).rglob("*.py")
    ):
        for node in ast.parse(file.read_text()).body:  # what runs when the file is imported
            names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module} if isinstance(node, ast.ImportFrom) else set()
            assert not {name.split(".")[0] for name in names} & {"dask", "distributed", "dask_jobqueue"}, file


def test_workers_of_many_threads_are_refused(tmp_path):
    client = SimpleNamespace(nthreads=lambda: {"tcp://here": 1, "tcp://there": 4})
    runs = runs_of(tiny.experiment, tiny.experiment.configurations("quick"), tmp_path)
    with pytest.raises(InputError, match="^scheduler: worker tcp://there has 4 threads; accepted: one"):
        next(outcomes(client, runs))


def test_nothing_answers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("reports.sweep.cluster.CONNECT", 0.2)
    line = refused(capsys, app, NAME, "--scheduler", "tcp://127.0.0.1:9", "--out", tmp_path)
    assert line.startswith("error: scheduler: nothing answers at 'tcp://127.0.0.1:9'")
    assert "scheduler: " in refused(capsys, app, NAME, "--scheduler", "nonsense", "--out", tmp_path)


def test_read_names_its_argument(tmp_path):
    with pytest.raises(InputError, match="^results: "):
        tiny.experiment.read(tmp_path / "nothing.csv", "results")
