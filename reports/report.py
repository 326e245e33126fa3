"""Printing and writing what an experiment found: its page, its results as CSV, its figure, and where they come from."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import pandas as pd

from probes.figures import save_figure
from reports.experiment import Configuration, Experiment
from reports.origin import Origin, combined, perform
from unrolled.cli import print_table
from unrolled.files import atomic_path, require_writable_folder, write_csv, write_json
from unrolled.progress import track
from unrolled.provenance import command_line

__all__ = ["markdown", "origin_in_words", "page", "print_report", "report_here", "write_report"]


def _cell(value: object) -> str:
    """A value of a table: numbers that are not counts to three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _wrapped(text: str) -> str:
    return fill(text, 120, break_long_words=False, break_on_hyphens=False)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown."""
    lines = [[str(name) for name in table.columns], ["---"] * len(table.columns)]
    lines += [[_cell(value).replace("|", "\\|") for value in row] for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def origin_in_words(experiment: Experiment, record: Origin) -> str:
    """Where results come from: runs, machine, date, versions and code."""
    versions = [
        ", ".join(f"{name} {value}" for name, value in each.items() if name != "git") for each in record["versions"]
    ]
    exempt = " The results hold times, which no second run repeats exactly." if experiment.about_time else ""
    return (
        f"{record['runs']} runs of {record['seconds']:.3g} seconds together, on {'; '.join(record['machine'])}."
        f" Ended {record['last']}. {'; '.join(dict.fromkeys(versions))}. Code {', '.join(record['code'])}.{exempt}"
    )


def page(experiment: Experiment, results: pd.DataFrame, record: Origin) -> str:
    """Question, finding, figure, table and provenance of results as Markdown."""
    stem = experiment.stem
    parts = [
        f"# {experiment.name}", _wrapped(experiment.question), _wrapped(experiment.finding(results)),
        f"![{experiment.name}]({stem}.png)", markdown(experiment.table(results)),
        f"All results are in [{stem}.csv]({stem}.csv). They were made by", f"    {record['command']}",
        _wrapped(origin_in_words(experiment, record)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def write_report(experiment: Experiment, results: pd.DataFrame, record: Origin, folder: Path) -> None:
    """Write README.md, the results, the figure and provenance.json into a folder that exists."""
    write_csv(results, folder / f"{experiment.stem}.csv")
    save_figure(experiment.figure(results), folder / f"{experiment.stem}.png")
    write_json(record, folder / "provenance.json")
    with atomic_path(folder / "README.md") as temporary:
        temporary.write_text(page(experiment, results, record))


def print_report(experiment: Experiment, results: pd.DataFrame) -> None:
    """Print question, table and finding."""
    table = experiment.table(results)
    rows = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    print_table(f"{experiment.name}: {experiment.question}", list(table.columns), rows)
    print(_wrapped(experiment.finding(results)))


def report_here(experiment: Experiment, configurations: Sequence[Configuration], out: Path | None) -> None:
    """Run configurations in this process, one after the other; print what they give, and write it where `out` is given.

    Raises:
        InputError: `out` cannot be written, or a package that a run needs is not installed.
    """
    experiment.require_extras()
    if out is not None:
        require_writable_folder("out", out)
    done = [perform(experiment, configuration) for configuration in track(configurations, experiment.name, "run")]
    results = experiment.results(rows for rows, _ in done)
    print_report(experiment, results)
    if out is not None:
        record = {"command": command_line(), "configurations": list(configurations)}
        write_report(experiment, results, {**record, **combined([come for _, come in done])}, out)
        print(f"wrote {out}: README.md, {experiment.stem}.csv, {experiment.stem}.png, provenance.json")
