"""Videos of a ball: what is rendered, where its centre is read, and spaces that hold its frames."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import generator
from unrolled import InputError
from unrolled.synthetic.ball import BallVideos
from unrolled.synthetic.spaces import fit_autoencoder, fit_cells, fit_components

BALL = BallVideos()
PLACES = st.floats(-2.5, 2.5)


@given(PLACES, PLACES)
def test_nearest_ball_is_the_one_that_was_rendered(row, column):
    """Gauss-Newton converges to the centre, with a distance of rounding: about 1e-14 cells of 64 numbers of size 1."""
    centre = torch.tensor([row, column], dtype=torch.float64)
    found, distance = BALL.nearest(BALL.render(centre))
    assert float((found - centre).abs().max()) < 1e-12 and float(distance) < 1e-12


@given(PLACES, PLACES)
def test_centroid_misses_what_is_outside_the_picture(row, column):
    """The first moment of a ball over its mass is c, less the first moment of the tails beyond the two edges.

    Along one axis, with m the distance from the centre to an edge, the tail holds at most Q(m/r - 1/(2r)) of the mass
    (its cells begin half a cell further in than the edge of an integral) at a distance of at most |c| + m + r from the
    middle on average; the sums over cells are those of integrals up to 7e-6 (docstring of the module).
    """
    centre = torch.tensor([row, column], dtype=torch.float64)
    found = BALL.centroid(BALL.render(centre))
    margin = BALL.side / 2 - centre.abs()  # to the nearer edge
    inside = margin / BALL.radius - 0.5 / BALL.radius
    tail = 2 * torch.special.ndtr(-inside)
    bound = tail.sum() * (BALL.side / 2 + 2 * BALL.radius) + 1e-4
    assert float((found - centre).abs().max()) <= float(bound)
    if float(centre.abs().max()) < 0.5:
        assert float((found - centre).abs().max()) < 2e-3


def test_centroid_is_linear_and_nearest_is_not():
    one, other = BALL.render(torch.tensor([[-2.0, 0.0], [2.0, 1.0]], dtype=torch.float64))
    sums = BALL.centroid(one) + BALL.centroid(other)
    torch.testing.assert_close(BALL.centroid(one + other), sums, rtol=0, atol=1e-12)
    centre, distance = BALL.nearest(one + other)
    places = torch.tensor([[-2.0, 0.0], [2.0, 1.0]], dtype=torch.float64)
    assert float((centre - places).norm(dim=1).min()) < 0.1
    assert float(distance) == pytest.approx(1.0, abs=0.05)  # two balls
    assert float(BALL.nearest(one / 2)[1]) == pytest.approx(0.5, abs=5e-3)  # half as bright, cut a little
    assert float(BALL.nearest(0 * one)[1]) < 1.0  # of nothing the nearest is a ball in a corner, cut by two edges


@pytest.mark.parametrize("seed", range(3))
def test_noise_moves_the_nearest_ball_by_as_much_as_it_must(seed):
    """Cramer and Rao: white noise s moves the centre by about s over the norm r sqrt(pi) / (sqrt(2) r) of the slope."""
    frames = BALL.render(BALL.process.sample(20, generator(seed)).clamp(-2, 2))
    centres = BALL.nearest(frames)[0]
    noise = 0.02 * torch.randn(frames.shape, generator=generator(seed + 1), dtype=torch.float64)
    moved = (BALL.nearest(frames + noise)[0] - centres).square().mean().sqrt()
    assert float(moved) == pytest.approx(0.02 / (np.pi / 2) ** 0.5, rel=0.15)


def test_frames_and_centres_have_their_law():
    videos = BALL.sample(400, generator())
    centres = BALL.nearest(videos)[0]
    covariance = torch.einsum("nia,nja->ij", centres, centres) / (2 * len(centres))
    expected = BALL.process.temporal_covariance * BALL.spread**2
    # The standard error of a covariance of 800 independent paths is at most sqrt(2 / 800) of the variance.
    assert float((covariance - expected).abs().max()) < 4 * (2 / 800) ** 0.5 * BALL.spread**2


def test_spaces_hold_the_frames():
    frames = BALL.sample(400, generator()).flatten(0, 1)
    cells, components = fit_cells(frames), fit_components(frames, 8)
    for space in (cells, components):
        vectors = space.encode(frames)
        assert float(vectors.square().mean()) == pytest.approx(1.0, abs=1e-3)
        torch.testing.assert_close(space.encode(space.decode(vectors)), vectors, rtol=0, atol=1e-12)
    torch.testing.assert_close(cells.decode(cells.encode(frames)), frames, rtol=0, atol=1e-12)
    left = (components.decode(components.encode(frames)) - frames).square().sum() / (
        frames - frames.mean(0)
    ).square().sum()
    values = torch.linalg.eigvalsh(torch.cov(frames.T))
    assert float(left) == pytest.approx(float(values[:-8].sum() / values.sum()), rel=1e-6)
    with pytest.raises(InputError, match="^dim: 65"):
        fit_components(frames, 65)


def test_autoencoder_learns_where_the_ball_is():
    """Two numbers are enough for it, where two principal components are not; the same seed gives the same one."""
    frames = BALL.sample(300, generator()).flatten(0, 1)
    coder, linear = fit_autoencoder(frames, 2, 400, 0), fit_components(frames, 2)
    vectors = coder.encode(frames)
    torch.testing.assert_close(vectors.mean(0), torch.zeros(2).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(vectors.std(0), torch.ones(2).double(), rtol=0, atol=1e-5)
    errors = [BALL.nearest(space.decode(space.encode(frames)))[1].mean() for space in (coder, linear)]
    assert float(errors[0]) < 0.15 < 0.3 < float(errors[1])
    assert torch.equal(fit_autoencoder(frames, 2, 2, 1).encode(frames), fit_autoencoder(frames, 2, 2, 1).encode(frames))


@pytest.mark.parametrize("option", [{"length": 0}, {"side": 1}, {"radius": 0.0}, {"spread": -1.0}, {"lengthscale": 0}])
def test_bad_options_are_named(option):
    with pytest.raises(InputError, match=f"^{next(iter(option))}: "):
        _ = BallVideos(**option).process
