"""The structure of the code: which way imports point, what a room may know, and how long a function may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "unrolled": {"unrolled"},
    "theory": {"theory", "unrolled"},
    "probes": {"probes", "unrolled"},
    "reports": {"reports", "theory", "probes", "unrolled"},
}
"""What each package may import of the others."""
LONGEST_FUNCTION = 50
"""Lines of a body, its docstring not counted."""


@cache
def modules() -> dict[str, ast.Module]:
    """Dotted name -> syntax tree of every module of the four packages."""
    files = [file for package in ALLOWED for file in sorted((ROOT / package).rglob("*.py"))]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in zip(names, files, strict=True)}


def imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(module, name) of every `from module import name` of our own modules, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ALLOWED:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, "") if inner in modules() else (node.module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in modules():
                    yield alias.name, ""


def graph() -> dict[str, set[str]]:
    """Module -> the modules it imports."""
    return {name: {module for module, _ in imports(tree)} - {name} for name, tree in modules().items()}


def room(module: str) -> str:
    """The room of a module: its folder or file directly below the package; a command is a room of its own."""
    return module if module.endswith(".__main__") else ".".join(module.split(".")[:2])


def rooms() -> dict[str, set[str]]:
    """Room -> the rooms it imports."""
    found: dict[str, set[str]] = {}
    for module, imported in graph().items():
        found.setdefault(room(module), set()).update(room(other) for other in imported if room(other) != room(module))
    return found


def test_arrows_between_packages():
    """unrolled <- theory, probes <- reports, and no other way."""
    for module, imported in graph().items():
        wrong = {other for other in imported if other.split(".")[0] not in ALLOWED[module.split(".")[0]]}
        assert not wrong, f"{module} imports {wrong}"


@pytest.mark.parametrize("level", ["modules", "rooms"])
def test_no_cycle(level):
    try:
        TopologicalSorter(graph() if level == "modules" else rooms()).prepare()
    except CycleError as error:
        pytest.fail(f"{level} import each other: {error.args[1]}")


def test_names_that_another_package_imports_are_public():
    for module, tree in modules().items():
        for other, name in imports(tree):
            if not name or other.split(".")[0] == module.split(".")[0]:
                continue
            assert name in public(other), f"{module} imports {name}, which is not in __all__ of {other}"


def public(module: str) -> list[str]:
    """`__all__` of a module, as it is written down."""
    for node in modules()[module].body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def test_only_commands_know_the_command_line_library():
    for module, tree in modules().items():
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        if any(name.split(".")[0] == "cyclopts" for name in names):
            is_report = module.startswith("reports.")
            is_command = module in ("unrolled.cli", "theory.check", "theory.bound") or module.endswith(".__main__")
            assert is_report or is_command, f"{module} imports cyclopts"


def test_importing_the_package_is_light():
    code = "import sys, unrolled; print([name for name in ('cyclopts', 'sympy', 'seaborn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_no_function_is_longer_than_a_screen():
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body:
                    length = (body[-1].end_lineno or 0) - body[0].lineno + 1
                    assert length <= LONGEST_FUNCTION, f"{module}.{node.name} has {length} lines"


def test_docstrings_say_what_a_thing_is():
    """No docstring begins with "Of": a sentence starts with its subject."""
    for module, tree in modules().items():
        for node in ast.walk(tree):
            text = node.value.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) else None
            if isinstance(text, str):
                assert not text.lstrip().startswith("Of "), f"{module}, line {getattr(node, 'lineno', 0)}: {text[:60]}"
