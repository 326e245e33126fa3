"""What `theory.bound` prints is at least what is measured, at random settings."""

import os
import random
from dataclasses import dataclass

import pytest
import torch

from theory import bound
from unrolled import Exponential, GaussianProcess, Logarithmic, Matern, Polynomial, RoughPolynomial
from unrolled.gaussian import kl_divergence
from unrolled.generated import generated_law, marginal_law
from unrolled.kernels import KERNELS, TemporalKernel
from unrolled.process import random_spatial_covariance

ROOM = 1 + 1e-9
"""Rounding of the sums that the tails and divergences are compared with."""


@dataclass(frozen=True)
class Setting:
    """A process, a time, an error asked for and the dtype of the models."""

    process: GaussianProcess
    t: float
    eps: float
    dtype: torch.dtype


def kernel(generator: random.Random) -> TemporalKernel:
    lengthscale, shape = 2 ** generator.uniform(-2, 5), 2 ** generator.uniform(-2, 2)
    name = generator.choice(sorted(KERNELS))
    power = generator.choice((shape, 1.0))
    return {
        "exponential": lambda: Exponential(lengthscale, min(power, 2.0)),
        "logarithmic": lambda: Logarithmic(lengthscale, power),
        "matern": lambda: Matern(lengthscale, shape),
        "polynomial": lambda: Polynomial(lengthscale, power),
        "rough_polynomial": lambda: RoughPolynomial(lengthscale, power),
    }[name]()


def setting(seed: int, longest: int = 256) -> Setting:
    """Every size on a logarithmic scale: N from 2, t from 1e-3 to 1, eps from 1e-10 to 0.1."""
    generator = random.Random(seed)
    length, dim = round(2 * (longest / 2) ** generator.random()), generator.choice((1, 1, 2, 3))
    torch_generator = torch.Generator().manual_seed(seed)
    spatial = generator.choice((0.1, 1.0, 4.0)) * random_spatial_covariance(dim, 4.0, torch_generator)
    mean = generator.choice((0.0, 1.0)) * torch.randn(length, dim, generator=torch_generator, dtype=torch.float64)
    return Setting(
        GaussianProcess(length, kernel(generator), spatial, mean), 10 ** generator.uniform(-3, 0),
        10 ** generator.uniform(-10, -1), generator.choice((torch.float64, torch.float64, torch.float32)),
    )  # fmt: skip


def check(chosen: Setting) -> list[float]:
    """Bounds over measurements of the models that were built, each 1 at least."""
    process, t, eps = chosen.process, chosen.t, chosen.eps
    for lags in {1, process.length // 2, process.length - 1, process.length}:
        if lags:
            tail = 2 * float(process.temporal_covariance[0, lags:].sum())
            assert tail <= bound.tail_bound(process, lags)[1] * ROOM
    ratios = []
    for name, *_, error, measured in bound.solver_rows(process, t, eps, chosen.dtype):
        number, *words = error.split() or ("",)
        if "expected" in words or measured.startswith("not"):
            continue
        assert float(measured) <= float(number), (name, error, measured)
        ratios.append(float(number) / max(float(measured), 1e-300))
    if process.length * process.dim <= 6:  # the exact law, of a score that is off by eps at every t
        exact = process.exact_score()
        law = generated_law(lambda x, at: (1 + eps) * exact(x, at), process.length, process.dim, (t, 8.0))
        assert kl_divergence(marginal_law(process, t), law) <= bound.guarantee(process, t, eps)["KL"] * ROOM + 1e-12
    return ratios


def test_bounds_hold_at_a_few_random_settings(monkeypatch):
    """Small ones, two of which have models that are built: three of them."""
    monkeypatch.setattr(bound, "MOST_PARAMETERS", 2e5)
    assert sum(len(check(setting(seed, longest=8))) for seed in (2, 3, 4, 6, 7, 9)) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200 if os.environ.get("UNROLLED_FUZZ") else 8))
def test_bounds_hold_at_random_settings(seed, monkeypatch):
    monkeypatch.setattr(bound, "MOST_PARAMETERS", 1e6)
    check(setting(seed))
