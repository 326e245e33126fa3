"""Processes that many tests share."""

import pytest
import torch

from unrolled import Exponential, GaussianProcess, random_spatial_covariance


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="session")
def small_process() -> GaussianProcess:
    """8 frames of 2 values, Ornstein-Uhlenbeck, non-zero mean."""
    spatial = random_spatial_covariance(2, generator=generator(3))
    return GaussianProcess(8, Exponential(3), spatial, mean=torch.linspace(-1, 1, 16).reshape(8, 2))
