"""Lengthscales of kernels whose family is known."""

import numpy as np
import torch
from scipy import stats

from probes.decay.known import LARGEST, SMALLEST, STEP, known_lengthscale, lag_products
from tests.builders import generator
from unrolled import Exponential, GaussianProcess, Matern
from unrolled.synthetic.ball import BallVideos

KERNEL = Matern(1.0, 1.5)


def test_exact_profiles_give_their_lengthscale():
    """To half a step of the grid, with any amplitude, and with noise at lag 0 left out."""
    lags = np.arange(9)
    for scale in (0.7, 2.0, 5.0):
        curve = 3.0 * Matern(scale, 1.5)(lags).numpy()
        found = known_lengthscale(curve[None], KERNEL, 16)
        assert abs(float(np.log(found[0] / scale))) <= STEP / 2 + 1e-12
        noisy = curve + 10.0 * (lags == 0)
        of_another = Matern(9.0, 1.5)
        assert known_lengthscale(noisy[None, 1:], of_another, 16, first=1)[0] == found[0]
        assert known_lengthscale(noisy[None], KERNEL, 16)[0] < 0.9 * scale


def test_no_dependence_ends_at_the_edge():
    flat, negative = np.ones((1, 8)), -np.ones((1, 8))
    assert known_lengthscale(flat, KERNEL, 16)[0] > LARGEST * 16 * (1 - 2 * STEP)
    assert known_lengthscale(negative, KERNEL, 16)[0] < SMALLEST * (1 + 2 * STEP)


def test_products_are_the_covariance():
    process = GaussianProcess(6, Exponential(2), [[2.0]], mean=torch.arange(6.0)[:, None])
    products = lag_products(process.sample(4000, generator()))
    error = products.std(axis=0, ddof=1) / len(products) ** 0.5
    assert (np.abs(products.mean(axis=0) - 2 * Exponential(2)(np.arange(6)).numpy()) < 4 * error).all()


def test_the_estimate_is_unbiased_on_true_videos():
    """Of 24 sets of 128 videos: the mean of the estimates is the lengthscale within the interval of Student's t at
    99 %, and no worse than 3 %."""
    ball = BallVideos()
    estimates = []
    for seed in range(24):
        centres = ball.process.sample(128, generator(seed))  # what `nearest` reads, to rounding
        curve = lag_products(centres).mean(axis=0)[None, 1:9]
        estimates.append(known_lengthscale(curve, KERNEL, ball.length, first=1)[0])
    half = stats.t.isf(0.005, 23) * np.std(estimates, ddof=1) / 24**0.5
    assert abs(np.mean(estimates) - ball.lengthscale) < min(half, 0.03 * ball.lengthscale)
