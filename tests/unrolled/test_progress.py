"""Progress of long work: whole lines in a log, few of them; a bar on a terminal."""

import pytest

from unrolled.progress import Progress, track


def test_a_log_gets_whole_lines_and_few(capsys):
    with Progress(total=5000, title="train", unit="step") as bar:
        for k in range(5000):
            bar.say({"loss": f"{k}"})
            bar.update()
    lines = capsys.readouterr().err.splitlines(keepends=True)
    assert 1 <= len(lines) <= 4 and all(line.endswith("\n") and "\r" not in line for line in lines)
    assert lines[-1].startswith("train: 5000 of 5000 step, ") and lines[-1].rstrip().endswith("loss=4999")


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert list(track(["a", "b"], "work")) == ["a", "b"]
    assert "\r" in capsys.readouterr().err


def test_other_processes_are_silent(capsys):
    with Progress(total=3, title="train", on=False) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""


def test_an_error_passes_through():
    with pytest.raises(KeyError), Progress(total=3, title="work"):
        raise KeyError("x")
