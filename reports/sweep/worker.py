"""What a worker does; it imports nothing of the cluster or of the files."""

import torch

from reports.experiment import Configuration, Row, find_experiment
from reports.origin import Origin, perform

__all__ = ["perform_named"]


def perform_named(name: str, configuration: Configuration) -> tuple[list[Row], Origin]:
    """One run of the experiment of that name, on one thread."""
    torch.set_num_threads(1)
    return perform(find_experiment(name), configuration)
