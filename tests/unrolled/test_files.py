"""Full disks, odd names, modes, leftovers of killed processes, and outputs that nobody reads: nothing is lost."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.builders import TINY, refused, run
from theory.check import app as check_app
from unrolled import InputError, load_checkpoint
from unrolled.files import atomic_path, remove_leftovers, require_output_file
from unrolled.handset.__main__ import app as handset_app
from unrolled.train.__main__ import app as train_app

DATA = ("--length", "6", "--dim", "2")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run.pt"
    run(train_app, *TINY, *DATA, "--out", path)
    return path


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, wrapped):
    """torch raises a RuntimeError while it handles the OSError of the disk."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    full = OSError(errno.ENOSPC, "No space left on device")
    line = r"^out: '.*a.txt' cannot be written \(No space left on device\); accepted: "
    with pytest.raises(InputError, match=line), atomic_path(path):
        if not wrapped:
            raise full
        try:
            raise full
        finally:
            raise RuntimeError("enforce fail")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_run_on_a_full_disk_says_what_is_kept(tmp_path, monkeypatch, capsys):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.save", fail)
    with pytest.raises(SystemExit) as exit_:
        run(train_app, *TINY, *DATA, "--out", tmp_path / "run.pt")
    line = capsys.readouterr().err.splitlines()[-1]
    assert exit_.value.code == 1 and not list(tmp_path.iterdir())
    assert line.startswith("stopped at step 4: out: ") and "No space left" in line and "nothing was written" in line


def test_other_errors_of_a_block_pass_through(tmp_path):
    for error in (RuntimeError("x"), OSError(errno.ENOENT, "x"), KeyboardInterrupt()):
        with pytest.raises(type(error)), atomic_path(tmp_path / "a.txt"):
            raise error
    assert not list(tmp_path.iterdir())


def test_a_replaced_file_keeps_its_mode(tmp_path):
    path = tmp_path / "a.txt"
    for mode in (0o600, 0o640):
        path.touch()
        path.chmod(mode)
        with atomic_path(path) as temporary:
            temporary.write_text("new")
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_leftovers_of_this_file_alone_are_removed(tmp_path):
    """By names as they really are: other files have temporary ones, and other files of one's own look alike."""
    names = ("run.pt", "run-2.pt", ".run-notes.pt", ".run-12345678.txt", "run-12345678.pt")
    others = [tmp_path / name for name in names]
    with atomic_path(tmp_path / "run-2.pt") as temporary:
        others.append(temporary)
        for path in others:
            path.touch()
        with atomic_path(tmp_path / "run.pt") as left:
            remove_leftovers(tmp_path / "run.pt")
            assert not left.exists() and all(path.exists() for path in others)
            left.touch()


def test_the_next_run_removes_what_a_killed_one_left(trained, tmp_path):
    out = tmp_path / "run.pt"
    out.write_bytes(trained.read_bytes())
    out.chmod(0o600)
    (tmp_path / ".run-a1b2c3d4.pt").touch()
    before = out.stat()
    run(train_app, "--resume", out)
    after = out.stat()
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    assert (after.st_ino, after.st_mtime_ns, after.st_mode) == (before.st_ino, before.st_mtime_ns, before.st_mode)


def test_a_run_that_goes_on_keeps_the_mode_of_its_file(trained, tmp_path):
    out = tmp_path / "run.pt"
    content = torch.load(trained, weights_only=True)
    content["training"]["step"] = content["training"]["schedule"]["last_epoch"] = 3
    torch.save(content, out)
    out.chmod(0o600)
    run(train_app, "--resume", out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600 and load_checkpoint(out).training["step"] == 4


def test_names_that_cannot_be_files_are_refused_before_the_work(tmp_path, capsys):
    """A folder, a name that no file system takes, a pipe."""
    os.mkfifo(tmp_path / "pipe")
    small = ("--steps", "1", "--length", "4")
    for bad, why in ((tmp_path, "is a folder"), (tmp_path / ("n" * 252 + ".pt"), "too long"), (tmp_path / "pipe", "")):
        for app, arguments in (
            (train_app, (*TINY, *DATA, "--overwrite", "--out", bad)),
            (handset_app, (*small, "--overwrite", "--out", bad)),
        ):
            line = refused(capsys, app, *arguments)
            assert why in line and line.startswith("error: out: ")
    assert "json: " in refused(capsys, check_app, "--claim", "chebyshev-depth", "--json", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_lines_about_a_missing_run_and_a_seed(tmp_path, capsys):
    line = refused(capsys, train_app, "--resume", tmp_path / "none" / "run.pt")
    assert line.startswith("error: resume: ") and "is not a file" in line and not list(tmp_path.iterdir())
    assert refused(capsys, train_app, "--seed", -1).startswith("error: seed: -1 is not accepted; accepted: an integer")


def test_a_long_name_has_a_temporary_file(tmp_path):
    path = tmp_path / ("n" * 240 + ".csv")
    with atomic_path(path) as temporary:
        temporary.touch()
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError, match=r"^out: 'nnn.*too long"):
        require_output_file("out", path, overwrite=True)


@pytest.mark.slow
def test_outputs_that_nobody_reads_end_no_command_in_a_traceback(tmp_path):
    """Closed standard error, closed standard output, and a pipe whose reader is gone, all on one command."""
    code = "from unrolled.cli import module_app, run_app; import sys\n" + (
        "def main():\n    'Help.'\n    sys.stderr.write('noise\\n'); print('x' * 100_000); print('done')\n"
        "run_app(module_app('a', main), [])"
    )
    script = tmp_path / "a.py"
    script.write_text(code)
    shell = f"cd {Path(__file__).parents[2]}; export PYTHONPATH=.; exec 3>&1; P='{sys.executable} {script}'; " + (
        "$P 2>&- >/dev/null; echo $?; $P >&- 2>/dev/null; echo $?; ($P; echo $? >&3) 2>&1 | head -c 1 >/dev/null"
    )
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert done.stdout.split() == ["0", "0", str(128 + signal.SIGPIPE)] and done.stderr == ""


def test_an_interrupt_while_modules_are_imported_has_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "probes.attention", "--help"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "numpy" in line:
            break
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT and "Traceback" not in error
