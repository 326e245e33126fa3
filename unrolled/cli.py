"""What the command lines share: parsing, tables, and how a command ends.

Bad input, an InputError or an option that does not exist, is one line on standard error and status 2. Any other
exception is a
bug of the project: one line that says so, the traceback in a file that the line names, and status 1.
"""

import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.argument import ArgumentCollection
from rich.console import Console
from rich.table import Table

from unrolled.checks import InputError, StoppedError, refuse, require_choice
from unrolled.models.dit import DiTSizes
from unrolled.models.unet import UNetSizes
from unrolled.options import DataOptions, ProcessOptions, TrainConfig

__all__ = [
    "CheckpointOption",
    "DeviceOption",
    "ModuleApp",
    "TimesOption",
    "module_app",
    "print_table",
    "resolve_device",
    "run_app",
]

CheckpointOption = Annotated[
    Path, Parameter(help="Checkpoint to look at, or example:ou, example:polynomial, example:weather.")
]
TimesOption = Annotated[
    tuple[float, ...],
    Parameter(
        show_default=False,
        help="Diffusion times. Without this option: 0.01, 0.05, 0.2, 1 and 3, as far as the model accepts them.",
    ),
]
DeviceOption = Annotated[Literal["auto", "cpu", "cuda"], Parameter(help="auto is CUDA where there is one.")]
"""Options that many commands have, with their help."""

_GROUPS: dict[type, str] = {
    ProcessOptions: "Sequences of a Gaussian process",
    DataOptions: "Real data, instead of the Gaussian process",
    DiTSizes: "DiT, the default of --model",
    UNetSizes: "UNet, with --model unet",
    TrainConfig: "Training",
}
"""Where the help lists the options of a class."""
for _options, _title in _GROUPS.items():
    # Their fields are options by themselves: --length and not --process.length.
    Parameter(name="*", group=Group.create_ordered(_title))(_options)


class ModuleApp(App):
    """An application that knows which options were given, and which command has an option that it had once.

    Attributes:
        given: options on the command line that runs now.
        moved: option -> command that has it now.
    """

    given: Collection[str] = ()
    moved: Mapping[str, str] = {}


def module_app(module: str, main: Callable[..., Any], moved: Mapping[str, str] | None = None) -> ModuleApp:
    """The command-line application `python -m module` of a typed function; its docstring is the help.

    Args:
        module: name of the module.
        main: the function.
        moved: option -> command that has it now; such an option is refused with a line that names the command.
    """

    def note_given(_: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        del commands
        app.given = {argument.name for argument in arguments if argument.tokens}

    app = ModuleApp(
        name=f"python -m {module}",
        help_format="markdown",
        version_flags=[],
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative_iterable=(), consume_multiple=True),
    )
    app.config = (_require_whole_numbers, note_given)
    app.default(main)
    app.moved = moved or {}
    return app


def _require_whole_numbers(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse 8.6 where an integer is wanted, which the library would round (a hook of the library)."""
    del app, commands
    for argument in arguments:
        if int in (argument.hint, *get_args(argument.hint)) and float not in get_args(argument.hint):
            for token in argument.tokens:
                if not re.fullmatch(r"\s*[+-]?\d+\s*", token.value or ""):
                    refuse(argument.name.lstrip("-"), token.value, "an integer")


def run_app(app: App, arguments: Sequence[str] | None = None) -> None:
    """Run `app` and exit: 0 when done, 2 on bad input, 130 when interrupted, 1 on a bug, 141 where nobody reads on.

    Args:
        app: from `module_app`.
        arguments: the command line without the program; that of the process where not given.
    """
    moved = app.moved if isinstance(app, ModuleApp) else {}
    given = list(sys.argv[1:] if arguments is None else arguments)
    _open_closed_outputs()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as the packages set it while modules are imported
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for option in given:
            if (name := option.split("=")[0]) in moved:
                raise InputError(f"{name.lstrip('-')}: is no option here; it belongs to {moved[name]}")
        app(given, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffers would raise again at the end of the process.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except StoppedError as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.status)
    except (CycloptsError, InputError) as error:
        if os.environ.get("UNROLLED_TRACEBACK"):
            raise
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if os.environ.get("UNROLLED_TRACEBACK"):
            raise
        print(_bug_line(error), file=sys.stderr)
        sys.exit(1)


def _open_closed_outputs() -> None:
    """Let what is written to an output that the caller closed (2>&-) go nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (until the process ends)


def _bug_line(error: Exception) -> str:
    """One line about an exception that is no InputError; its traceback goes to a file in the temporary folder."""
    with tempfile.NamedTemporaryFile("w", prefix="unrolled-traceback-", suffix=".txt", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"bug: {reason[:300]}; this is not your input's fault. Please report it to the project's issue tracker with the"
        f" command and {file.name}"
    )


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
        InputError: `cuda` where there is none, or an unknown name.
    """
    require_choice("device", device, ("auto", "cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: 'cuda' is not available to this torch; accepted here: auto and cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
