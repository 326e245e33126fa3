"""A training run loses nothing: odd names, two runs with one file, runs that diverge, runs that are asked to stop."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.builders import TINY, refused, run
from unrolled import Checkpoint, GaussianProcess, InputError, Matern, load_checkpoint, score_errors
from unrolled.train.__main__ import app as train_app
from unrolled.train.run import DIVERGED

DATA = ("--length", "12", "--dim", "2")
STEPS = 800
"""Steps of a run that is interrupted, enough for the signal to arrive in time."""


def with_steps(steps: int) -> list[str]:
    """The options of a tiny run with another number of steps."""
    place = TINY.index("--steps") + 1
    return [*TINY[:place], str(steps), *TINY[place + 1 :]]


def background(steps: int, *arguments: str | Path) -> subprocess.Popen:
    """A training run as a process of its own."""
    command = [sys.executable, "-m", "unrolled.train", *with_steps(steps), *DATA, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of floats then have one order, whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def wait_for_steps(process: subprocess.Popen) -> None:
    """Return when the run has begun to train: its log then has a first line."""
    assert process.stderr is not None
    assert process.stderr.readline().startswith("train: "), process.communicate()


@pytest.mark.parametrize("name", ["model", "runs/quick", "new/", "a.b.c", ".hidden"])
def test_any_name_of_a_file_will_do(tmp_path, name):
    """torch names the archive in a file after what stands before the last dot of its name; nothing is no name."""
    run(train_app, *TINY, *DATA, "--out", tmp_path / name)
    assert load_checkpoint(tmp_path / name).training["step"] == 4
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [Path(name).name]


def test_a_folder_is_refused_before_training(capsys, tmp_path):
    for more in ([], ["--overwrite"]):
        line = refused(capsys, train_app, *TINY, *DATA, "--out", tmp_path, *more)
        assert line.startswith("error: out: ") and "is a folder" in line


def test_the_second_of_two_runs_with_one_file_is_refused(capsys, tmp_path):
    """Also with --overwrite, and as soon as the first has begun; it is accepted again when the first is gone."""
    out = tmp_path / "run.pt"
    first = background(100_000, "--out", out)
    try:
        wait_for_steps(first)
        for more in ([], ["--overwrite"]):
            line = refused(capsys, train_app, *TINY, *DATA, "--out", out, *more)
            assert line.startswith("error: out: ") and "another run" in line
    finally:
        first.kill()
        first.communicate()
    run(train_app, *TINY, *DATA, "--out", out)
    assert load_checkpoint(out).training["step"] == 4


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Checkpoint:
    """A run of `STEPS` steps from beginning to end, on one thread as the interrupted ones."""
    out = tmp_path_factory.mktemp("whole") / "run.pt"
    with one_thread():
        run(train_app, *with_steps(STEPS), *DATA, "--out", out)
    return load_checkpoint(out)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_saves_and_goes_on_later_as_if_nothing_had_happened(
    tmp_path, uninterrupted, number
):
    out = tmp_path / "run.pt"
    process = background(STEPS, "--out", out)
    wait_for_steps(process)
    time.sleep(0.5)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number, error
    assert f"--resume {out}" in error.splitlines()[-1]
    stopped = load_checkpoint(out)
    assert 0 < stopped.training["step"] < STEPS
    with one_thread():
        run(train_app, "--resume", out)
    resumed = load_checkpoint(out)
    assert resumed.history == uninterrupted.history
    for ours, theirs in zip(resumed.model.parameters(), uninterrupted.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_that_diverges_stops_and_leaves_the_last_finite_checkpoint(capsys, tmp_path, monkeypatch):
    """The learning rate is far beyond what the network bears; every step is saved, so that there is something to
    keep."""
    monkeypatch.setattr("unrolled.train.run.SAVE_SECONDS", 0.0)
    out = tmp_path / "run.pt"
    with pytest.raises(SystemExit) as exit_:
        run(train_app, *with_steps(400), *DATA, "--norm", "none", "--learning-rate", "1e6", "--out", out)
    assert exit_.value.code == DIVERGED
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("diverged: ") and "not finite at step" in line
    kept = load_checkpoint(out)
    assert 0 < kept.training["step"] < 400 and f"holds step {kept.training['step']}" in line
    assert all(bool(weight.isfinite().all()) for weight in kept.model.parameters())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--length", "8.6"], "length"), (["--seed", "0.5"], "seed"), (["--learning-rate", "inf"], "learning_rate"),
        (["--periods", "24"], "periods"), (["--data", "weather", "--lengthscale", "3"], "lengthscale"),
        (["--model", "unet"], "depth"), (["--channels", "16"], "channels"),
        (["--smoothness", "1.5"], "smoothness"), (["--temporal", "matern", "--power", "1"], "power"),
        (["--spatial", "identity", "--spatial-seed", "1"], "spatial-seed"),
    ],
)  # fmt: skip
def test_options_that_would_be_rounded_or_ignored_are_refused(capsys, tmp_path, arguments, named):
    line = refused(capsys, train_app, *TINY, *arguments, "--out", tmp_path / "run.pt")
    assert line.startswith(f"error: {named}: ") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("smoothness", [0.3, 0.7, 1.3, 3.7, 40.0])
def test_matern_vanishes_far_away(smoothness):
    kernel = Matern(1e-9, smoothness)
    assert kernel(torch.tensor([0.0, 1.0, 50.0])).tolist() == [1.0, 0.0, 0.0]
    near = Matern(1.0, smoothness)(torch.logspace(-3, 12, 400))
    assert bool((near[1:] <= near[:-1] * (1 + 1e-12)).all()) and float(near.min()) >= 0 and float(near.max()) <= 1


def test_integers_are_no_sequences():
    """Asked in a process of its own, since the type checker of the tests would refuse them first."""
    code = """
import torch
from unrolled import DiT, DiTConfig, Exponential, GaussianProcess
process = GaussianProcess(4, Exponential(3), [[1.0]])
for model in (process.exact_score(), DiT(DiTConfig(length=4, dim=1))):
    try:
        model(torch.ones(2, 4, 1, dtype=torch.int64), 0.1)
    except ValueError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all(line.startswith("x: dtype torch.int64 is not accepted") for line in lines)


def test_no_samples_give_no_error(small_process: GaussianProcess):
    with pytest.raises(InputError, match="^samples: 0"):
        score_errors(small_process.score, small_process, [0.1], samples=0)
    assert score_errors(small_process.score, small_process, [0.1], samples=1)[0.1] < 1e-6
