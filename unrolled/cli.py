"""What the command lines share: parsing, and bad input as one line on standard error with exit status 2."""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from cyclopts import App, CycloptsError
from rich.console import Console
from rich.table import Table

__all__ = ["command_line", "module_app", "print_table", "resolve_device", "run_app"]


def module_app(module: str, main: Callable[..., Any]) -> App:
    """The command-line application `python -m module` of a typed function; its docstring is the help."""
    app = App(
        name=f"python -m {module}",
        help_format="markdown",
        version_flags=[],
        result_action="return_value",
    )
    app.default(main)
    return app


def run_app(app: App, arguments: Sequence[str] | None = None) -> None:
    """Run `app` and exit: 0 when done, 2 with one line on bad input, 130 when interrupted.

    A ValueError is bad input. Setting the environment variable UNROLLED_TRACEBACK shows where it was raised.
    """
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (CycloptsError, ValueError) as error:
        if os.environ.get("UNROLLED_TRACEBACK"):
            raise
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)


def command_line() -> str:
    """The command that runs now, as one would type it."""
    module = getattr(sys.modules.get("__main__"), "__spec__", None)
    if module is not None and module.name:
        name = module.name.removesuffix(".__main__")
        return f"python -m {name} {shlex.join(sys.argv[1:])}".rstrip()
    return f"{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}".rstrip()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output; piped or narrow outputs keep every column."""
    table = Table()
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    print(title)
    Console(width=Console(width=10_000).measure(table).maximum).print(table)


def resolve_device(device: str) -> torch.device:
    """`auto` is CUDA where there is one.

    Raises:
        ValueError: `cuda` where there is none, or an unknown name.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device: {device!r} is not accepted; accepted are auto, cpu and cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: 'cuda' is not available to this torch; accepted here are auto and cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
