"""The data that the options of a command choose: how they are made, what has no effect, and what is said of a file."""

from collections.abc import Collection, Mapping

from unrolled.checks import InputError
from unrolled.options import DataOptions, ProcessOptions
from unrolled.series.data import SequenceData
from unrolled.series.load import load_data

__all__ = ["chosen_data", "refuse_options", "say_what_was_read", "without_effect"]


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


def without_effect(process: ProcessOptions, options: DataOptions, used: Collection[str] = ()) -> dict[str, str]:
    """Option -> why it changes nothing beside the others.

    These are options of the Gaussian process beside --data, those of a series without it, and parameters that the
    chosen kernel or Sigma does not have. Options in `used` mean something beside --data too.
    """
    if options.data is not None:
        of_process = ("temporal", "lengthscale", "power", "smoothness", "spatial", "spatial-condition", "spatial-seed")
        return {f"--{name}": "beside --data" for name in of_process if f"--{name}" not in used}
    why = {"--periods": "without --data", "--columns": "without --data"}
    why["--power" if process.temporal == "matern" else "--smoothness"] = f"beside --temporal {process.temporal}"
    if process.spatial == "identity":
        why |= {f"--spatial-{name}": "beside --spatial identity" for name in ("condition", "seed")}
    return why


def refuse_options(given: Collection[str], why: Mapping[str, str]) -> None:
    """Refuse the options on a command line that change nothing, see `without_effect`.

    Raises:
        InputError: one of `given` is in `why`.
    """
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
