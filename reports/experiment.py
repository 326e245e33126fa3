"""The form of an experiment: a question, the runs that answer it, and what is said when they have.

An experiment is a file that defines `experiment = Experiment(module=__name__, ...)`. Those of the project are in
`reports/experiments` and go by the name of their file; any other file that can be imported goes by its dotted name.
`reports.sweep` runs them, on any number of processes.
"""

import hashlib
import json
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from unrolled.checks import InputError, refuse

__all__ = ["Budget", "Column", "Configuration", "Experiment", "Row", "experiment_names", "find_experiment"]

Budget = Literal["quick", "full"]
"""quick: at most two minutes on two cores; full: what the documentation shows."""
Configuration = dict[str, Any]
"""Everything that decides the outcome of a run, as values that JSON has: its seed, too."""
Row = dict[str, Any]
Column = type[int] | type[float] | type[str] | type[bool]
FOLDER = "reports.experiments"
DTYPES: dict[Column, str] = {int: "int64", float: "float64", str: "str", bool: "bool"}


@dataclass(frozen=True)
class Experiment:
    """One question and how it is answered.

    Attributes:
        module: `__name__` of the file, by which other processes find the experiment.
        question: in one sentence; "no" must be possible.
        columns: name -> type of each column of the results; a float may be NaN.
        configurations: budget -> one configuration for each run. Their order is that of the results.
        run: configuration -> rows. It depends on nothing else, prints nothing and writes nothing.
        core_seconds: configuration -> seconds that its run is expected to take on one core.
        table: results -> a table that a reader takes in.
        figure: results -> a figure.
        finding: results -> what was found, in words that depend on the numbers.
        about_time: the results hold times, so that no two sweeps agree in every bit.
        needs: modules of packages that a run needs -> the extra of this project that installs them.
    """

    module: str
    question: str
    columns: Mapping[str, Column]
    configurations: Callable[[Budget], list[Configuration]]
    run: Callable[[Configuration], list[Row]]
    core_seconds: Callable[[Configuration], float]
    table: Callable[[pd.DataFrame], pd.DataFrame]
    figure: Callable[[pd.DataFrame], Figure]
    finding: Callable[[pd.DataFrame], str]
    about_time: bool = False
    needs: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the experiment is called on the command line."""
        return self.module.removeprefix(f"{FOLDER}.")

    @property
    def stem(self) -> str:
        """What its files are called."""
        return self.module.rpartition(".")[2]

    def require_extras(self) -> None:
        """Refuse to begin where a run would fail for want of a package.

        Raises:
            InputError: a package is not installed here.
        """
        for module, extra in self.needs.items():
            if find_spec(module) is None:
                raise InputError(
                    f'names: {self.name} needs {module}, which is not installed; pip install "unrolled[{extra}]"'
                )

    def key(self, configuration: Configuration) -> str:
        """Name of the folder of a run: a hash of the experiment's name and the configuration."""
        text = json.dumps([self.name, configuration], sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def checked(self, rows: Iterable[Row]) -> list[Row]:
        """The rows of a run as plain values.

        Raises:
            TypeError: columns or types that are not those of `columns`.
        """
        rows = [
            {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
            for row in rows
        ]
        for row in rows:
            found = {name: type(value) for name, value in row.items()}
            if list(found.items()) != list(self.columns.items()):
                raise TypeError(f"a run of {self.name} gave the columns {found}; its columns are {dict(self.columns)}")
        return rows

    def results(self, runs: Iterable[Sequence[Row]]) -> pd.DataFrame:
        """One table of the rows of runs, in their order."""
        rows = [row for run in runs for row in run]
        return pd.DataFrame(rows, columns=list(self.columns)).astype(
            {name: DTYPES[kind] for name, kind in self.columns.items()}
        )

    def read(self, path: Path, argument: str = "out") -> pd.DataFrame:
        """Results from a file that `write_csv` wrote, equal to the last bit.

        Raises:
            InputError: the file cannot be read, or columns or types are others; the message starts with `argument`.
        """
        try:
            text = pd.read_csv(path, dtype=str, keep_default_na=False)
            if list(text.columns) != list(self.columns):
                raise ValueError(f"its columns are {', '.join(text.columns)}")
            return pd.DataFrame(
                {name: _parsed(cast(pd.Series, text[name]), kind) for name, kind in self.columns.items()}
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            accepted = ", ".join(f"{name} ({kind.__name__})" for name, kind in self.columns.items())
            raise InputError(f"{argument}: {str(path)!r} is not accepted ({reason}); accepted: {accepted}") from None


def _parsed(text: pd.Series, kind: Column) -> pd.Series:
    """Values of a column of text; a float that is missing is NaN."""
    if kind is bool:
        if unknown := set(text) - {"True", "False"}:
            raise ValueError(f"{unknown.pop()!r} in column {text.name} is neither True nor False")
        return text == "True"
    return text.replace("", "nan").astype(DTYPES[kind]) if kind is float else text.astype(DTYPES[kind])


def experiment_names() -> list[str]:
    """Names of the project's experiments."""
    return sorted(module.name for module in pkgutil.iter_modules(import_module(FOLDER).__path__))


def find_experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        InputError: there is none.
    """
    module = name if "." in name else f"{FOLDER}.{name}"
    try:
        found = getattr(import_module(module), "experiment", None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the file exists and needs something that does not
        found = None
    if not isinstance(found, Experiment):
        refuse("name", name, ", ".join(experiment_names()) + ", or the dotted name of a file that defines `experiment`")
    return found
