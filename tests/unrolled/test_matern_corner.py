"""What stops the closed form for Matern 3/2: the corner of its inverse has rank 2 and is no image of a frame.

(Gamma + tau I)^{-1} of a long sequence is a function of i - j, as for OU, and a corner at either end. Near the first
frame the corner is sum_ab m_ab r_a^i r_b^j with two complex r. Heads of logit -u i^2 - v j^2 hold it, in one block, but
each pair of widths is a head: K^2 for a corner, where the mirror images of OU take K.
"""

import numpy as np
import pytest
import torch

from unrolled import GaussianProcess, Matern

FRAMES, LONG = 64, 1024
"""Frames that are looked at, and of a sequence whose other end is out of reach."""


def corner(t: float) -> tuple[np.ndarray, np.ndarray]:
    """(corner of the inverse at the first frame, Gamma + tau I), both (FRAMES, FRAMES)."""
    process = GaussianProcess(LONG, Matern(8.0, 1.5), [[1.0]])
    noisy = (process.temporal_covariance + np.expm1(t) * torch.eye(LONG, dtype=torch.float64)).numpy()
    inverse = np.linalg.inv(noisy)
    lag = np.abs(np.subtract.outer(np.arange(FRAMES), np.arange(FRAMES)))
    middle = inverse[LONG // 2, LONG // 2 : LONG // 2 + FRAMES]
    return inverse[:FRAMES, :FRAMES] - middle[lag], noisy[:FRAMES, :FRAMES]


def score_error(left: np.ndarray, noisy: np.ndarray) -> float:
    """Relative root mean square error of the score of FRAMES frames that leaving out `left` makes."""
    return float(np.sqrt(np.trace(left @ noisy @ left.T) / np.trace(np.linalg.inv(noisy))))


def gaussians(count: int) -> np.ndarray:
    """exp(-u i^2) for `count` widths, even in log u, and the first frame alone, (FRAMES, count)."""
    widths = np.geomspace(1e-3, 2.0, count - 1)
    frames = np.arange(FRAMES)
    return np.stack([*np.exp(-np.multiply.outer(widths, frames**2)), frames == 0], axis=1)


def without_pairs(block: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """(what all products of two of the Gaussians leave of the corner, by least squares; their largest weight)."""
    design = gaussians(count)
    inverse = np.linalg.pinv(design, rcond=1e-7)
    weights = inverse @ block @ inverse.T
    return block - design @ weights @ design.T, float(np.abs(weights).max())


def without_image(block: np.ndarray) -> np.ndarray:
    """What the closest function of i + j leaves of the corner."""
    total = np.add.outer(np.arange(FRAMES), np.arange(FRAMES))
    means = np.bincount(total.ravel(), block.ravel()) / np.bincount(total.ravel())
    return block - means[total]


@pytest.fixture(scope="module", params=[1e-3, 0.1, 1.0])
def found(request) -> tuple[np.ndarray, np.ndarray]:
    return corner(request.param)


def test_the_corner_counts_and_has_rank_2(found):
    block, noisy = found
    singular = np.linalg.svd(block, compute_uv=False)
    assert singular[1] > 1e-3 * singular[0] and singular[2] < 1e-10 * singular[0]
    assert score_error(block, noisy) > 0.03


def test_no_image_holds_the_corner(found):
    """A function of i + j leaves a tenth of it, at every t."""
    block, noisy = found
    left = without_image(block)
    assert np.linalg.norm(left) > 0.09 * np.linalg.norm(block) and score_error(left, noisy) > 3e-3


def test_products_of_gaussians_hold_it_with_a_head_for_each_pair(found):
    """36, 100 and 400 heads leave ever less, with weights of at most 20 times the corner."""
    block, noisy = found
    before = score_error(block, noisy)
    for count, most in ((6, 1e-2), (10, 4e-4), (20, 2e-6)):
        left, largest = without_pairs(block, count)
        error = score_error(left, noisy)
        assert error < most and error < 0.5 * before and largest < 20 * np.abs(block).max()
        before = error
