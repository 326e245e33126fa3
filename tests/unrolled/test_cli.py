"""How a command ends: done, bad input, or a bug."""

import re
from pathlib import Path

import pytest

from unrolled.checks import InputError
from unrolled.cli import module_app, run_app


def ends(capsys, error: Exception | None, *arguments: str) -> tuple[int, str]:
    """(status, standard error) of a command that raises `error`, which has one option --size."""

    def command(*, size: int = 1) -> None:
        if error is not None:
            raise error

    try:
        run_app(module_app("unrolled.test", command), list(arguments))
    except SystemExit as exit_:
        return int(exit_.code or 0), capsys.readouterr().err
    return 0, capsys.readouterr().err


def test_bad_input_is_one_line_with_status_2(capsys):
    status, text = ends(capsys, InputError("size: 0 is not accepted;\n accepted: an integer >= 1"))
    assert (status, text) == (2, "error: size: 0 is not accepted; accepted: an integer >= 1\n")
    for arguments in (["--size", "x"], ["--width", "3"]):
        status, text = ends(capsys, None, *arguments)
        assert status == 2 and text.startswith("error: ") and len(text.splitlines()) == 1
    assert ends(capsys, None, "--size", "3") == (0, "")


@pytest.mark.parametrize("error", [ValueError("too bad"), RuntimeError("too bad"), KeyError("too bad")])
def test_a_bug_says_so_and_keeps_its_traceback(capsys, error, monkeypatch, tmp_path):
    """A ValueError that is no InputError is a bug as well: nobody has checked that the input is to blame."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    status, text = ends(capsys, error)
    assert status == 1 and len(text.splitlines()) == 1 and text.startswith(f"bug: {type(error).__name__}: ")
    assert "report" in text
    (file,) = tmp_path.iterdir()
    assert re.search(re.escape(str(file)), text)
    assert "Traceback" in Path(file).read_text() and "in command" in Path(file).read_text()


@pytest.mark.parametrize("error", [InputError("size: 0"), RuntimeError("too bad")])
def test_the_traceback_can_be_asked_for(capsys, error, monkeypatch):
    monkeypatch.setenv("UNROLLED_TRACEBACK", "1")
    with pytest.raises(type(error)):
        ends(capsys, error)


def test_an_interrupted_command_says_so(capsys):
    assert ends(capsys, KeyboardInterrupt()) == (130, "interrupted\n")
