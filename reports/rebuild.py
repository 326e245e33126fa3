"""`python -m reports.rebuild`: write the committed pages and figures of experiments again from their results.

Nothing is measured; it is for a change of a table, a figure or a sentence.
"""

import json
from pathlib import Path

from reports.experiment import find_experiment
from reports.report import write_report
from unrolled.checks import refuse
from unrolled.cli import module_app, run_app


def rebuild(*, results: Path = Path(__file__).parent / "results") -> None:
    """Write README.md and the figure of each experiment in a folder of results.

    Parameters
    ----------
    results
        Folder with a folder for each experiment, as the project commits it.
    """
    records = sorted(results.glob("*/provenance.json"))
    if not records:
        refuse("results", str(results), "a folder with NAME/provenance.json")
    for record in records:
        experiment = find_experiment(record.parent.name)
        table = experiment.read(record.parent / f"{experiment.stem}.csv", "results")
        write_report(experiment, table, json.loads(record.read_text()), record.parent)
        print(f"wrote {record.parent}")


app = module_app("reports.rebuild", rebuild)

if __name__ == "__main__":
    run_app(app)
