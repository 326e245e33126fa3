"""The documentation is true as far as a machine can tell: its Python runs, its commands parse, its links lead
somewhere.

Blocks of one page run in order in one namespace, as a reader pastes them. A comment that begins with a number states
what its line gives: its numbers are compared with the values of the line, to the digits that are written.
"""

import ast
import importlib
import importlib.util
import inspect
import io
import re
import shlex
import tokenize
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cyclopts import App

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w])")
COMMAND = re.compile(r"(?:python3?|torchrun(?: --\S+ \d+)*) -m ((?:unrolled|probes|reports|theory)[\w.]*)(.*)")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def python_blocks(page: Path) -> list[tuple[int, str]]:
    """(line of the page before the block's first line, code) of each Python block."""
    text = page.read_text()
    found = (match for match in FENCE.finditer(text) if match[1] == "python")
    return [(text.count("\n", 0, match.start(2)), match[2]) for match in found]


def stated_numbers(code: str) -> dict[int, list[str]]:
    """Line of the code -> numbers of its comment, where the comment begins with one."""
    stated = {}
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        words = token.string.lstrip("#( ")
        if token.type == tokenize.COMMENT and NUMBER.match(words):
            stated[token.start[0]] = NUMBER.findall(words)
    return stated


def values(result: Any) -> Iterator[float]:
    """The numbers that a line gives, in order."""
    if isinstance(result, torch.Tensor | np.ndarray):
        yield from (float(each) for each in result.flatten())
    elif isinstance(result, dict):
        yield from values(list(result.values()))
    elif isinstance(result, list | tuple):
        for each in result:
            yield from values(each)
    elif isinstance(result, int | float | np.number) and not isinstance(result, bool):
        yield float(result)


def agrees(value: float, written: str) -> bool:
    """Whether a value is the written number, to one unit of its last digit: rounding differs between processors."""
    return abs(Decimal(value) - Decimal(written)) <= Decimal(1).scaleb(int(Decimal(written).as_tuple().exponent))


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=name_of)
def test_python_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "page"}
    state = torch.get_rng_state()
    for before, code in python_blocks(page):
        stated = stated_numbers(code)
        for statement in ast.parse(code).body:
            where = f"{name_of(page)}:{before + (statement.end_lineno or 0)}"
            if not isinstance(statement, ast.Expr):
                exec(compile(ast.Module([statement], []), where, "exec"), namespace)
                continue
            result = eval(compile(ast.Expression(statement.value), where, "eval"), namespace)
            written = stated.get(statement.end_lineno or 0, [])
            found = list(values(result))[: len(written)]
            assert len(found) >= min(len(written), 1), f"{where}: {written} is stated of something else"
            for value, number in zip(found, written, strict=False):
                assert agrees(value, number), f"{where} states {number}, which is {value:.6g}"
            comment = code.splitlines()[(statement.end_lineno or 1) - 1].partition("  # ")[2]
            if comment in ("True", "False"):
                assert result is (comment == "True"), f"{where} states {comment}"
    torch.set_rng_state(state)


def test_a_wrong_number_is_noticed():
    assert stated_numbers("f(x)  # 0.0284, far above 4.8e-07\ng(x)  # sizes of 3 kinds\n") == {1: ["0.0284", "4.8e-07"]}
    assert agrees(0.02841, "0.0284") and not agrees(0.0287, "0.0284") and not agrees(4.6e-6, "4.8e-07")
    assert list(values((torch.Size([2, 3]), {"a": 0.5}, "text", True))) == [2.0, 3.0, 0.5]


@cache
def app_of(module: str) -> App | None:
    """The command line of `python -m module`; None for a module without options."""
    is_package = importlib.util.find_spec(module).submodule_search_locations is not None  # pyright: ignore
    return getattr(importlib.import_module(f"{module}.__main__" if is_package else module), "app", None)


def commands(page: Path) -> list[tuple[str, str, bool]]:
    """(module, rest of the line, whether it is a line of its own, and so complete) of each command of a page."""
    text = FENCE.sub(lambda match: "" if match[1] == "python" else match[2], page.read_text()).replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        whole = line.startswith("    ")
        parts = [line.partition(" #")[0]] if whole else re.findall(r"`([^`]*)`", line)
        matches = (COMMAND.search(part) for part in parts)
        found += [(match[1], match[2].strip(), whole) for match in matches if match]
    return found


COMMANDS = sorted({(name_of(page), *command) for page in PAGES for command in commands(page)})


@pytest.mark.parametrize(("page", "module", "rest", "whole"), COMMANDS, ids=str)
def test_command_lines_parse(page, module, rest, whole):
    app = app_of(module)
    arguments = shlex.split(rest.replace(" ...", ""))
    if app is None:
        assert not arguments, page
        return
    known = {name for argument in app.assemble_argument_collection() for name in argument.names} | {"--help"}
    unknown = {each.split("=")[0] for each in arguments if each.startswith("--")} - known
    assert not unknown, f"{page}: {module} has no {unknown}"
    if whole:
        app.parse_args(arguments, exit_on_error=False, print_error=False)  # values and required options, nothing runs


def command_modules() -> list[str]:
    """Every module of the packages that is a command with options."""
    files = [file for package in ("unrolled", "probes", "theory", "reports") for file in (ROOT / package).rglob("*.py")]
    found = [file.relative_to(ROOT).with_suffix("") for file in files if "app = module_app(" in file.read_text()]
    return sorted(".".join(part for part in file.parts if part != "__main__") for file in found)


MAINTENANCE = {"reports.rebuild", "theory.page"}
"""Commands that write files of the project itself, and answer nothing."""


@pytest.mark.parametrize("module", command_modules())
def test_help_begins_with_what_the_command_answers_and_an_example(module):
    app = app_of(module)
    assert app is not None and app.default_command is not None
    text = inspect.cleandoc(app.default_command.__doc__ or "")
    first = text.split("\n\n")[0]
    if module in MAINTENANCE:
        assert first.endswith(".")
        return
    assert first.endswith("?"), f"the help of {module} begins with {first!r}"
    example = re.search(r"^Example: `python -m (\S+)(.*)`", text, re.MULTILINE)
    assert example is not None and example[1] == module, f"the help of {module} has no example of its own"
    app.parse_args(shlex.split(example[2]), exit_on_error=False, print_error=False)


def test_commands_are_found():
    modules = {module for _, module, *_ in COMMANDS}
    assert {"unrolled.train", "unrolled.handset", "probes.controls", "reports.compare", "theory.check"} <= modules
    assert len(COMMANDS) > 40


def anchors(page: Path) -> set[str]:
    """Names by which the headings of a page are linked to."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_links_lead_to_files(page):
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{link}: there is no such file"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_files_named_in_the_text_exist(page):
    for path in re.findall(r"`([\w.]+(?:/[\w.]+)+)`", page.read_text()):
        if not path.startswith("runs/"):  # written by the commands
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_lines_fit_and_make_has_the_targets(page):
    text = page.read_text()
    for number, line in enumerate(text.splitlines(), start=1):
        assert len(line) <= 120 or line.startswith("|") or "](" in line, f"{name_of(page)}:{number}"
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:^    |`)make (\w+)", text, re.MULTILINE)) <= set(targets)


def test_every_page_is_in_the_index_and_every_figure_is_shown():
    index = (ROOT / "docs" / "README.md").read_text()
    for page in PAGES[1:]:
        assert page.name == "README.md" or f"]({page.name})" in index, page.name
    shown = {Path(link).name for page in PAGES for link in LINK.findall(page.read_text())}
    assert {path.name for path in (ROOT / "reports" / "images").iterdir()} <= shown
