"""Influence in video models: known Jacobians come out by lag and displacement; folders of every class go through."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from probes.modes.probing import probed_table
from probes.video import influence
from probes.video.__main__ import app
from probes.video.grid import TokenGrid
from probes.video.influence import grid_influence, influence_table, latents_of, tokens_of
from probes.video.study import Videos
from tests.builders import generator, refused, run
from tests.probes.test_video_folders import CONFIGS, grid_of
from unrolled import InputError

GRID = TokenGrid(3, 2, 4)
VALUES = 2


def by_loops(jacobian: torch.Tensor, grid: TokenGrid, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Means over pairs of tokens of the trace of each block, over d: by frame lag, and by displacement in a frame."""
    blocks = jacobian.reshape(grid.tokens, d, grid.tokens, d)
    traces = torch.einsum("pcqc->pq", blocks).double().numpy() / d
    tokens = list(itertools.product(range(grid.frames), range(grid.height), range(grid.width)))
    temporal: dict[int, list[float]] = {}
    spatial: dict[tuple[int, int], list[float]] = {}
    for (p, (f, y, x)), (q, (g, v, u)) in itertools.product(enumerate(tokens), repeat=2):
        if (y, x) == (v, u):
            temporal.setdefault(g - f, []).append(traces[p, q])
        if f == g:
            spatial.setdefault((v - y, u - x), []).append(traces[p, q])
    return tuple(np.array([np.mean(sums[key]) for key in sorted(sums)]) for sums in (temporal, spatial))


def linear(grid: TokenGrid, d: int, seed: int = 0):
    """A linear map of videos with a random Jacobian."""
    size = grid.tokens * d
    jacobian = torch.randn(size, size, generator=generator(seed), dtype=torch.float64)
    return jacobian, lambda z: (z.flatten(1) @ jacobian.T).reshape(z.shape)


def videos(n: int, grid: TokenGrid = GRID, d: int = VALUES, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, grid.frames, grid.height, grid.width, d, generator=generator(seed), dtype=torch.float64)


def test_tokens_are_patches():
    latents = torch.arange(2 * 3 * 4 * 4 * 6).reshape(2, 3, 4, 4, 6).double()
    tokens = tokens_of(latents, (2, 1, 3))
    assert tokens.shape == (2, 2, 4, 2, 3 * 2 * 1 * 3)
    assert torch.equal(tokens[1, 1, 2, 0].reshape(3, 2, 1, 3), latents[1, :, 2:4, 2:3, 0:3])
    assert torch.equal(latents_of(tokens, (2, 1, 3)), latents)


@pytest.mark.parametrize("gradient", [True, False])
def test_estimates_are_unbiased_and_their_intervals_cover(gradient):
    """A Jacobian with nothing stationary in it, against loops over pairs: 100 runs of 30 videos. The mean of each of 26
    figures is right to 4.5 standard errors (once in 10^5), and 93 to 97 % of their 95 % intervals hold the truth."""
    jacobian, function = linear(GRID, VALUES)
    truth = np.concatenate(by_loops(jacobian, GRID, VALUES))
    x, values, inside = videos(1).expand(30, -1, -1, -1, -1), [], []
    for seed in range(100):
        found = grid_influence([(x, function)], GRID, seed=seed, gradient=gradient)
        assert found.gradient is gradient
        parts = (found.temporal, found.spatial)
        values.append(np.concatenate([part.value for part in parts]))
        low, high = (np.concatenate([part.interval[k] for part in parts]) for k in (0, 1))
        inside.append((low <= truth) & (truth <= high))
    table = np.stack(values)
    assert (np.abs(table.mean(axis=0) - truth) < 4.5 * table.std(axis=0) / 100**0.5 + 1e-9).all()
    assert 0.93 <= np.mean(inside) <= 0.97


class Filter(nn.Module):
    """Every channel convolved with one kernel: token q moves token p by weight[q - p]."""

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, tokens):
        x = tokens.permute(0, 4, 1, 2, 3).flatten(0, 1)[:, None]
        y = nn.functional.conv3d(x, self.weight[None, None], padding="same")[:, 0]
        return y.unflatten(0, (len(tokens), -1)).permute(0, 2, 3, 4, 1)


def test_a_convolution_has_the_influence_of_its_kernel():
    """Signed: the kernel is not symmetric. Away from its support the influence is 0. Within 4.5 standard errors."""
    grid = TokenGrid(5, 6, 7)
    kernel = torch.randn(3, 3, 3, generator=generator(2), dtype=torch.float64)
    x = videos(60, grid, 3)
    found = grid_influence([(x[:40], Filter(kernel)), (x[40:], Filter(kernel))], grid, probes=2)
    assert (found.samples, found.probes, found.gradient) == (60, 2, True)
    table = influence_table(found)
    assert len(table) == 9 + 11 * 13
    for row in table.to_dict("records"):
        lags = (row["dt"], row["dy"], row["dx"])
        truth = float(kernel[tuple(1 + lag for lag in lags)]) if max(map(abs, lags)) <= 1 else 0.0
        assert abs(row["influence"] - truth) < 4.5 / 2 * (row["high"] - row["low"]) / 2 + 1e-9, lags
    own = table.query("dt == 0 and dy == 0 and dx == 0")
    assert len(own) == 2 and own.influence.iloc[0] == pytest.approx(own.influence.iloc[1], rel=1e-9)


def test_differences_serve_where_no_gradient_is_recorded():
    """A model that forbids gradients has the gradient 0 without an error; asked for, 0 is what it gives."""
    curved = lambda z: torch.sin(z) + 0.1 * z.roll(1, dims=1)  # noqa: E731
    silent = torch.no_grad()(curved)
    x = videos(20)
    slopes = [grid_influence([(x, function)], GRID) for function in (curved, silent)]
    assert [each.gradient for each in slopes] == [True, False]
    # Signs of transposed and plain products differ by what they are multiplied with, so that only means agree.
    gaps = np.abs(slopes[0].temporal.value - slopes[1].temporal.value)
    assert (gaps < 4.5 * np.hypot(slopes[0].temporal.error, slopes[1].temporal.error) + 1e-9).all()
    own = float(torch.cos(x).mean())
    assert slopes[1].temporal.value[2] == pytest.approx(own, abs=5 * float(slopes[1].temporal.error[2]))
    assert not grid_influence([(x, silent)], GRID, gradient=True).temporal.value.any()


def test_a_wrong_shift_is_noticed(monkeypatch):
    """False variant: J v and v exchanged turn the sign of every lag."""
    kernel = torch.zeros(3, 3, 3, dtype=torch.float64)
    kernel[2, 1, 1] = 1.0
    x = videos(8)
    right = grid_influence([(x, Filter(kernel))], GRID).temporal.value
    plain = influence._by_displacement
    monkeypatch.setattr(influence, "_by_displacement", lambda a, b: plain(b, a))
    wrong = grid_influence([(x, Filter(kernel))], GRID).temporal.value
    assert right[3] > 0.9 > 0.5 > abs(right[1]) and wrong[1] > 0.9 > 0.5 > abs(wrong[3])


def test_bad_input():
    _, function = linear(GRID, VALUES)
    for passes, named in (
        ([], "samples: 0"), ([(videos(1), function)], "samples: 1"),
        ([(videos(2, TokenGrid(2, 2, 4)), function)], "passes: videos of"),
        ([(videos(2), lambda z: z[:, :1])], "passes: output"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"^{named}"):
            grid_influence(passes, GRID)
    with pytest.raises(InputError, match="^probes: 0"):
        grid_influence([(videos(2), function)], GRID, probes=0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with a tiny random instance of each class."""
    diffusers = pytest.importorskip("diffusers")
    root = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, config in CONFIGS.items():
            getattr(diffusers, name)(num_attention_heads=2, **config).save_pretrained(root / name)
    return root


@pytest.mark.parametrize("name", CONFIGS)
def test_the_function_of_a_folder_is_the_model(name, folders):
    """Fed with its own videos it gives what the model gives in its own order of axes; other videos change it."""
    source = Videos(folders / name, grid_of(name), 2, 2, 0, torch.device("cpu"), None)
    (latents, inputs), (tokens, function) = next(source.drawn(500)), next(source.functions(500))
    with torch.no_grad():
        output = source.model(**inputs)[0]
    frames_first = name.startswith("CogVideoX")
    expected = output.transpose(1, 2) if frames_first else output[:, :, None] if name.startswith("DiT") else output
    size = latents.shape[2:]
    patch = tuple(side // tokens.shape[1 + k] for k, side in enumerate(size))
    given = latents_of(function(tokens), patch)
    torch.testing.assert_close(given, expected[:, : latents.shape[1]], rtol=0, atol=0)
    assert given.shape == latents.shape and function(2 * tokens).sub(function(tokens)).abs().max() > 0


def test_influence_of_a_folder_is_that_of_its_jacobian(folders):
    """The whole Jacobian of a tiny model at one video, against 120 random vectors: to 4.5 standard errors."""
    grid = TokenGrid(5, 2, 2)
    source = Videos(folders / "WanTransformer3DModel", grid, 1, 1, 0, torch.device("cpu"), None)
    x, function = next(source.functions(500))
    d = x.shape[-1]
    jacobian = torch.autograd.functional.jacobian(function, x).reshape(x.numel(), x.numel())
    truth = np.concatenate(by_loops(jacobian, grid, d))
    signs = generator(4)
    draws = np.concatenate([probed_table(function, x, influence._by_displacement, 1, signs) for _ in range(120)])
    assert (np.abs(draws.mean(axis=0) - truth) < 4.5 * draws.std(axis=0) / 120**0.5 + 1e-6).all()


def test_command(folders, tmp_path, capsys):
    wan, out = folders / "WanTransformer3DModel", tmp_path / "out"
    run(app, "--ckpt", wan, "--grid", "5x4x6", "--samples", 3, "--influence", 2, "--out", out)
    printed = capsys.readouterr().out
    assert "influence of a token on the output" in printed and "2 random vectors for each of 3 videos" in printed
    assert "backward passes" in printed
    table = pd.read_csv(out / "influence.csv")
    assert list(table.columns) == ["axis", "dt", "dy", "dx", "influence", "low", "high"] and len(table) == 9 + 7 * 11
    assert (out / "influence.png").read_bytes().startswith(b"\x89PNG")
    for options, named in ((["--influence", 0], "influence: 0"), (["--samples", 1, "--influence", 1], "samples: 1")):
        assert refused(capsys, app, "--ckpt", wan, "--grid", "5x4x6", *options).startswith(f"error: {named}")
