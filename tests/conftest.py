"""Processes that many tests share."""

import os

import pytest
import torch
from hypothesis import settings

from tests.builders import generator
from unrolled import Exponential, GaussianProcess, random_spatial_covariance

# The same examples on every run, and no time limit: machines differ.
settings.register_profile("project", derandomize=True, deadline=None)
# `make fuzz`: other examples on every run, and as many as the test asks for.
settings.register_profile("fuzz", deadline=None)
settings.load_profile("fuzz" if os.environ.get("UNROLLED_FUZZ") else "project")


@pytest.fixture(scope="session")
def small_process() -> GaussianProcess:
    """8 frames of 2 values, Ornstein-Uhlenbeck, non-zero mean."""
    spatial = random_spatial_covariance(2, generator=generator(3))
    return GaussianProcess(8, Exponential(3), spatial, mean=torch.linspace(-1, 1, 16).reshape(8, 2))
