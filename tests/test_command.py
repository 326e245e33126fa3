"""`unrolled COMMAND` is `python -m PACKAGE.COMMAND`, for every command that answers a question about a model or a
claim."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from unrolled.command import COMMANDS, DEMO, main

ROOT = Path(__file__).parents[1]


def called(monkeypatch, *arguments: str) -> list[tuple[str, list[str]]]:
    """What would run, and with which arguments."""
    runs: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(runpy, "run_module", lambda module, **_: runs.append((module, sys.argv[1:])))
    monkeypatch.setattr(sys, "argv", ["unrolled", *arguments])
    main()
    return runs


def test_every_command_is_a_module_with_an_app():
    for name, module in COMMANDS.items():
        path = ROOT / module.replace(".", "/")
        file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        assert f'module_app("{module}"' in file.read_text() and module.rpartition(".")[2] == name
    apps = {
        match[1]
        for package in ("unrolled", "probes", "theory", "reports")
        for file in (ROOT / package).rglob("*.py")
        for match in re.finditer(r'module_app\("([\w.]+)"', file.read_text())
    }
    of_users = {name for name in apps if name.startswith(("unrolled.", "probes."))} - {"unrolled.examples"}
    assert of_users <= set(COMMANDS.values()) <= apps


def test_arguments_reach_the_module(monkeypatch):
    assert called(monkeypatch, "train", "--steps", "3") == [("unrolled.train", ["--steps", "3"])]
    assert called(monkeypatch, "demo", "--seed", "1") == [("reports.build", [*DEMO, "--seed", "1"])]


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_without_a_command_they_are_listed(monkeypatch, capsys, arguments):
    assert called(monkeypatch, *arguments) == []
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS) and "demo" in text


def test_an_unknown_command_is_one_line_and_status_2(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        called(monkeypatch, "trian")
    line = capsys.readouterr().err
    assert ended.value.code == 2 and line.count("\n") == 1 and line.startswith("error: command: 'trian'")


def test_the_script_asks_waiting_threads_to_sleep(tmp_path):
    script = tmp_path / "unrolled"
    script.write_text(
        "import os, sys\nfrom unrolled.command import main\nprint(os.environ.get('OMP_WAIT_POLICY'))\nmain()\n"
    )
    clean = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=clean)
    assert done.stdout.startswith("PASSIVE\nusage: unrolled COMMAND")
