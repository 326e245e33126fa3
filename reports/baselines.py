"""`python -m reports.baselines --out DIR`: the score errors of all fitted baselines against n, as a table."""

from itertools import product
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
from cyclopts import Parameter

from reports.handset import markdown
from unrolled.cli import module_app, run_app
from unrolled.evaluate import EVALUATION_TIMES, score_errors
from unrolled.files import require_writable_folder, write_csv
from unrolled.fit.excess import expected_score_error
from unrolled.fit.study import KINDS, fit_model
from unrolled.options import ProcessOptions
from unrolled.progress import track
from unrolled.series.data import draw_training_set


def baselines(
    *,
    samples: Annotated[tuple[int, ...], Parameter(negative=())] = (100, 1000, 10000),
    process: ProcessOptions = ProcessOptions(),  # noqa: B008 (frozen)
    seed: int = 0,
    out: Path = Path("baselines"),
) -> None:
    """How do the errors of classical estimates fall with the number of sequences?

    Example: `python -m reports.baselines --samples 100 1000 --out baselines`

    Writes baselines.csv and prints it as Markdown: the relative score error of every kind of `python -m unrolled.fit`,
    and what theory expects of the sample covariance to leading order in 1/n.

    Parameters
    ----------
    samples
        Numbers of sequences.
    seed
        Seed of the sequences. Every kind gets the same ones.
    out
        Folder for the file.
    """
    require_writable_folder("out", out)
    data = process.process()
    rows = []
    for kind, n in track(list(product(KINDS, samples)), "baselines", "fit"):
        model = fit_model(kind, draw_training_set(data, n, seed), temporal=process.temporal).model
        errors = score_errors(model, data, EVALUATION_TIMES, dtype=torch.float64)
        rows.append({"kind": kind, "n": n, **{f"t = {t:g}": error for t, error in errors.items()}})
    for n in samples:
        expected = {f"t = {t:g}": expected_score_error(data, t, n) for t in EVALUATION_TIMES}
        rows.append({"kind": "sample-covariance, expected", "n": n, **expected})
    table = pd.DataFrame(rows)
    write_csv(table, out / "baselines.csv")
    print(markdown(table))
    print(f"wrote {out / 'baselines.csv'}")


app = module_app("reports.baselines", baselines)

if __name__ == "__main__":
    run_app(app)
