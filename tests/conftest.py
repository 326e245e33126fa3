"""Processes that many tests share."""

import pytest
import torch
from hypothesis import settings

from tests.builders import generator
from unrolled import Exponential, GaussianProcess, random_spatial_covariance

# The same examples on every run, and no time limit: machines differ.
settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")


@pytest.fixture(scope="session")
def small_process() -> GaussianProcess:
    """8 frames of 2 values, Ornstein-Uhlenbeck, non-zero mean."""
    spatial = random_spatial_covariance(2, generator=generator(3))
    return GaussianProcess(8, Exponential(3), spatial, mean=torch.linspace(-1, 1, 16).reshape(8, 2))
