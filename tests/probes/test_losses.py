"""What of a model is linear, from its denoising loss: exact cases, and the split of what an exact score explains."""

import numpy as np
import pytest
import torch

from probes.replacement.losses import (
    GROUPS,
    HeldOut,
    best_affine_of,
    linear_stand_ins,
    not_affine,
    over_groups,
    scores_at,
)
from tests.builders import generator, random_dit
from unrolled import Exponential, GaussianProcess, denoising_loss, relative_error
from unrolled.synthetic.drawn import DrawnData
from unrolled.synthetic.latent import FunctionOfOU

OU = GaussianProcess(6, Exponential(3), torch.eye(2, dtype=torch.float64))
BENT = FunctionOfOU(6, 1, 3.0)
T = 0.2


def held_out(source, n: int = 512, t: float = T) -> HeldOut:
    x0 = source.sample(n, generator(7))
    return HeldOut(x0, torch.randn(x0.shape, generator=generator(8), dtype=torch.float64), t)


def test_losses_are_those_of_the_training():
    held = held_out(OU, 16)
    expected = denoising_loss(OU.score, held.x0, T, held.noise).numpy()
    np.testing.assert_allclose(held.losses(scores_at(OU.score, held.noisy, T)), expected, rtol=1e-13)
    assert held.losses(torch.zeros_like(held.x0)).mean() == pytest.approx(1.0, abs=0.3)


def test_losses_beside_an_exact_score_are_the_same_with_less_chance():
    """For a score that is half the exact one: equal means within five standard errors, and less spread."""
    held = held_out(BENT, 2000)
    known, score = held._replace(exact=BENT.score), 0.5 * scores_at(BENT.score, held.noisy, T)
    noisy, calm = held.losses(score), known.losses(score)
    difference = noisy - calm
    assert abs(difference.mean()) < 5 * difference.std() / len(difference) ** 0.5
    assert calm.std() < 0.7 * noisy.std()


def test_an_affine_model_is_its_own_best_affine_map():
    """Regression recovers it to rounding, in the coordinates of any process; nothing of it is not affine."""
    held, data = held_out(OU, 32), DrawnData(6, 2, OU.sample)
    found = best_affine_of(OU.score, data, data.gaussian(), held, torch.float64, 0)
    score = scores_at(OU.score, held.noisy, T)
    assert relative_error(found, score) < 1e-10
    assert not_affine(score, found, held).max() < 1e-20


def test_bought_and_computed_agree_for_an_exact_score():
    """Pythagoras: what the exact score explains beyond the best affine denoiser is what it computes that is not affine,
    per value sigma_t^2 E|s - W x - w|^2; within four standard errors of the difference over groups."""
    held, data = held_out(BENT, 6000), DrawnData(6, 1, BENT.sample)
    score = scores_at(BENT.score, held.noisy, T)
    affine = best_affine_of(BENT.score, DrawnData(6, 1, BENT.sample), data.gaussian(), held, torch.float64, 0)
    bought, computed = held.losses(affine) - held.losses(score), not_affine(score, affine, held)
    difference = over_groups(bought - computed)
    assert abs(difference.value[0]) < 4 * difference.error[0]
    assert over_groups(computed).interval[0][0] > 0.005  # the data are not Gaussian, and it shows
    known = held._replace(exact=BENT.score)  # where nothing is left to chance
    np.testing.assert_allclose(known.losses(affine) - known.losses(score), computed, rtol=0, atol=1e-12)


def test_stand_ins_of_a_network():
    """Mean maps keep the maps of a network whose maps do not depend on the data; a linear network is affine."""
    model, held = random_dit(length=6, dim=2), held_out(OU, 64)
    data = DrawnData(6, 2, OU.sample)
    found = linear_stand_ins(model, data, held, 0)
    assert set(found) == {"mean maps", "linear"}
    score = scores_at(model, held.noisy.float(), T)
    assert 0 < relative_error(found["mean maps"], score) < relative_error(found["linear"], score) < 1
    for block in model.block_list:
        with torch.no_grad():
            block.attention.qkv.weight[: 2 * model.config.width] = 0.0
    same = linear_stand_ins(model, data, held, 0)["mean maps"]
    assert relative_error(same, scores_at(model, held.noisy.float(), T)) < 1e-5


def test_intervals_over_groups_cover():
    """Sequences that repeat in blocks: 95 % intervals hold 0 in 88 to 99 % of 400 draws, where the naive ones, which
    take them as independent, hold it in fewer than 70 %."""
    rng = np.random.default_rng(0)
    covered, naive = [], []
    for _ in range(400):
        values = np.repeat(rng.normal(size=GROUPS * 2), 8)
        low, high = over_groups(values).interval
        covered.append(low[0] <= 0 <= high[0])
        naive.append(abs(values.mean()) < 1.96 * values.std() / len(values) ** 0.5)
    assert 0.88 < np.mean(covered) < 0.99 and np.mean(naive) < 0.7
