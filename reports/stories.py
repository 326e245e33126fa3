"""What a page shows of an experiment that takes longer than the page: wrong stories, and a UNet beside the networks.

The results are the committed ones of `reports.experiments.wrong_stories`, about the networks that ship with the
package.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from reports.experiment import find_experiment
from reports.measure import same_process
from unrolled.checkpoint import example
from unrolled.process import GaussianProcess

__all__ = ["UNET", "committed_stories", "unet_beside"]

NAME = "wrong_stories"
FILE = Path(__file__).parent / "results" / NAME / f"{NAME}.csv"
UNET = "UNet, from results"


def committed_stories() -> pd.DataFrame:
    """The committed results of the experiment."""
    return find_experiment(NAME).read(FILE, "results")


def unet_beside(process: GaussianProcess, times: list[float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Errors and sizes of the UNet trained on a process, as in `reports.answer.Answer`; empty where there is none."""
    results = committed_stories()
    found: Any = results[(results.story == "UNet") & results.t.isin(times)].assign(model=UNET)
    for data, rows in found.groupby("data"):
        if same_process(example(str(data)).process, process):
            return rows[["model", "t", "error", "longest"]], rows[["model", "blocks", "parameters", "seconds"]].head(1)
    return pd.DataFrame(), pd.DataFrame()
