"""The data that the options of a command choose: how they are made, what has no effect, and what is said of a file."""

from collections.abc import Collection

from unrolled.checks import InputError
from unrolled.options import DataOptions, ProcessOptions
from unrolled.series.data import SequenceData
from unrolled.series.load import load_data

__all__ = ["chosen_data", "refuse_without_effect", "say_what_was_read"]


def chosen_data(process: ProcessOptions, options: DataOptions) -> SequenceData:
    """The Gaussian process or the series that a command asks for.

    Raises:
        InputError: a file that cannot be used, under the name of the option.
    """
    if options.data is None:
        return process.process()
    try:
        return load_data(options.data, process.length, process.dim, options.periods, columns=options.columns)
    except InputError as error:  # `source` of the function is `--data` of the command
        raise InputError(str(error).replace("source: ", "data: ", 1)) from None


def refuse_without_effect(
    given: Collection[str], process: ProcessOptions, options: DataOptions, used: Collection[str] = ()
) -> None:
    """Refuse options of the data that would change nothing.

    Args:
        given: options on the command line.
        process: what they say of the process.
        options: what they say of real data.
        used: options of the process that mean something beside --data too.

    Raises:
        InputError: an option of the Gaussian process beside --data, one of a series without it, or a parameter that the
            chosen kernel or Sigma does not have.
    """
    why: dict[str, str] = {}
    if options.data is not None:
        of_process = ("temporal", "lengthscale", "power", "smoothness", "spatial", "spatial-condition", "spatial-seed")
        why = {f"--{name}": "beside --data" for name in of_process if f"--{name}" not in used}
    else:
        why = {"--periods": "without --data", "--columns": "without --data"}
        why["--power" if process.temporal == "matern" else "--smoothness"] = f"beside --temporal {process.temporal}"
        if process.spatial == "identity":
            why |= {f"--spatial-{name}": "beside --spatial identity" for name in ("condition", "seed")}
    for option in sorted(set(given) & set(why)):
        raise InputError(f"{option.lstrip('-')}: has no effect {why[option]}")


def say_what_was_read(data: SequenceData) -> None:
    """A line on what of a file is no data, or is not what it seems."""
    facts = data.description
    if left_out := facts.get("columns_left_out"):
        print(f"data: left out {', '.join(left_out)}; --columns chooses others")
    if missing := facts.get("rows_missing"):
        print(f"data: the clock {facts['time_column_ignored']!r} misses {missing} rows; no window crosses such a gap")
    if clock := facts.get("clock"):
        print(f"data: {facts['time_column_ignored']!r} is taken for a clock; {clock}")
