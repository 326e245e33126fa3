"""The DiT: interface, initialisation, time features, and the sizes it refuses."""

import math

import pytest
import torch

from tests.builders import generator, random_dit
from unrolled import DiT, DiTConfig, sigma
from unrolled.models.dit import TimeRamps


@pytest.mark.parametrize("options", [{}, {"norm": "none"}, {"registers": 2}, {"head_dim": 3}, {"mlp_width": 5}])
def test_score_interface(options):
    model = random_dit(**options)
    x = torch.randn(3, 6, 2, generator=generator(1))
    together = model(x, torch.tensor([0.01, 0.5, 7.0]))
    assert together.shape == x.shape and together.dtype == torch.float32
    for k, t in enumerate((0.01, 0.5, 7.0)):
        # One sequence or three change the order of float32 sums only.
        torch.testing.assert_close(model(x[k : k + 1], t), together[k : k + 1], rtol=1e-4, atol=1e-4 / sigma(t))
    assert model(x.double(), 0.5).dtype == torch.float64


def test_float64_model_is_computed_in_float64():
    model = random_dit().double()
    x = torch.randn(2, 6, 2, generator=generator(1), dtype=torch.float64)
    change = (model(x + 1e-12, 0.5) - model(x, 0.5)).detach()
    assert 0 < float(change.abs().max()) < 1e-9


def test_starts_as_zero_score_with_identity_blocks():
    model = DiT(DiTConfig(length=6, dim=2, width=16, depth=2, heads=2))
    x = torch.randn(3, 6, 2, generator=generator())
    assert float(model(x, 0.5).detach().abs().max()) == 0
    stream = torch.randn(3, 6, 16, generator=generator())
    c = model.time(torch.tensor([[0.5]], dtype=torch.float64))
    for block in model.blocks:
        assert torch.equal(block(stream, c), stream)


def test_reset_parameters_follows_the_generator():
    models = [DiT(DiTConfig(length=4, dim=1, width=8, heads=2)) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        model.reset_parameters(generator(seed))
    a, b, c = (torch.cat([p.flatten() for p in model.parameters()]) for model in models)
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_registers_change_the_output_but_not_its_shape():
    model = random_dit(registers=3)
    x = torch.randn(2, 6, 2, generator=generator(1))
    before = model(x, 0.5).detach()
    with torch.no_grad():
        model.register.normal_(generator=generator(5))  # adding a constant would vanish in LayerNorm
    after = model(x, 0.5)
    assert after.shape == before.shape and not torch.allclose(before, after)


def test_positions_break_the_symmetry_of_attention():
    """Without position codes a transformer commutes with permutations of frames; with them it does not."""
    model = random_dit()
    x = torch.randn(1, 6, 2, generator=generator(1))
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    assert not torch.allclose(model(x[:, order], 0.5), model(x, 0.5)[:, order], atol=1e-3)
    with torch.no_grad():
        model.position.zero_()
    torch.testing.assert_close(model(x[:, order], 0.5), model(x, 0.5)[:, order], rtol=1e-4, atol=1e-5)


def test_ramps_span_smooth_functions_of_log_t():
    """64 ramps hold the step size of gradient descent, a smooth gate, to a relative 1e-7 between the fitted times."""
    ramps = TimeRamps(64, (1e-3, 8.0)).double()
    t = torch.logspace(-3, math.log10(8), 1501, dtype=torch.float64).clamp(1e-3, 8.0)
    features = torch.cat([ramps(t[:, None])[:, 0], torch.ones(len(t), 1)], dim=1)
    gate = 2 / (2 * sigma(t) ** 2 + torch.exp(-t) * 30)
    relative = features / gate[:, None]
    weights = torch.linalg.lstsq(relative[::2], torch.ones(len(t[::2])).double(), driver="gelsd", rcond=1e-14).solution
    assert float((relative[1::2] @ weights - 1).abs().max()) < 1e-7


@pytest.mark.parametrize("t", [0.0, 5e-4, 8.5, math.nan, -1.0])
def test_time_outside_the_range_is_refused(t):
    model = random_dit()
    with pytest.raises(ValueError, match=r"^t: .*accepted: t in \[0.001, 8\]"):
        model(torch.zeros(1, 6, 2), t)
    assert model(torch.zeros(1, 6, 2), torch.tensor(8.0)).shape == (1, 6, 2)  # float32 bounds are inside
    assert model(torch.zeros(1, 6, 2), torch.tensor(1e-3)).shape == (1, 6, 2)


def test_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"^x: shape \(1, 7, 2\)"):
        random_dit()(torch.zeros(1, 7, 2), 0.5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"length": 0}, "length"),
        ({"width": 10, "heads": 4}, "heads"),
        ({"heads": 0}, "heads"),
        ({"registers": -1}, "registers"),
        ({"ramps": 1}, "ramps"),
        ({"t_range": (0.0, 1.0)}, "t_range"),
        ({"t_range": (2.0, 1.0)}, "t_range"),
    ],
)
def test_bad_sizes_are_named(options, named):
    with pytest.raises(ValueError, match=f"^{named}: "):
        DiTConfig(**{"length": 4, "dim": 1, **options})
