"""Token layouts are told apart or asked for, and heads are named by what their attention depends on."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from probes.video.grid import TokenGrid, call_layout
from probes.video.grid_attention import GridAttention, GridLayer, probe_module
from probes.video.heads import axis_profiles, contrast, head_table
from tests.builders import generator

GRID = TokenGrid(3, 2, 4)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((2, 24, 24), ("video", 0)),
        ((2, 29, 29), ("text first", 5)),
        ((16, 3, 3), ("temporal", 0)),
        ((6, 8, 8), ("spatial", 0)),
        ((2, 24, 7), ("cross", 0)),
    ],
)
def test_layouts_by_size(sizes, expected):
    assert call_layout(GRID, 2, "a", sizes, text_first=True) == expected


def test_what_sizes_do_not_decide_is_asked_for():
    with pytest.raises(ValueError, match=r"^text_first: not given, but .* has 5 tokens besides the 24 of grid 3x2x4"):
        call_layout(GRID, 2, "a", (2, 29, 29))
    square = TokenGrid(4, 2, 2)
    with pytest.raises(ValueError, match=r"^grid: 4x2x2 fits .* as temporal and as spatial"):
        call_layout(square, 2, "time.attn", (8, 4, 4))
    assert call_layout(square, 2, "time.attn", (8, 4, 4), {"^time": "temporal"}) == ("temporal", 0)
    with pytest.raises(ValueError, match=r"^grid: 3x2x4 is 24 tokens in 2 samples, which does not fit .*23 queries"):
        call_layout(GRID, 2, "a", (2, 23, 23))
    with pytest.raises(ValueError, match=r"^grid: 3x2x4 is 24 tokens in 3 samples"):
        call_layout(GRID, 3, "a", (2, 24, 24))
    with pytest.raises(
        ValueError, match=r"^grid: 3x2x4 with 2 samples does not fit .* as 'temporal'; .* batch 16 and 3 tokens"
    ):
        call_layout(GRID, 2, "a", (6, 8, 8), {"a": "temporal"})


def by_hand(attend, grid: TokenGrid, samples: int = 12, noise: float = 0.05) -> GridAttention:
    """Attention exp(logits) of one head, logits a function of (df, dy, dx) and a little noise, through
    `probe_module`."""
    coordinates = torch.cartesian_prod(*(torch.arange(n) for n in (grid.frames, grid.height, grid.width))).double()
    logits = attend(*(coordinates[None] - coordinates[:, None]).unbind(-1))
    eye = torch.eye(grid.tokens).double().expand(samples, 1, -1, -1)
    rows = logits + noise * torch.randn(samples, 1, *logits.shape, generator=generator(), dtype=torch.float64)
    module = Call()
    return probe_module(module, lambda: module(rows, eye), grid, samples)


class Call(nn.Module):
    def forward(self, rows, eye):
        return F.scaled_dot_product_attention(rows, eye, eye, scale=1.0)


HEADS = {
    "falls in time": (lambda df, dy, dx: -df.abs(), "temporal"),
    "falls in space": (lambda df, dy, dx: -torch.hypot(dy, dx), "spatial"),
    "falls in both": (lambda df, dy, dx: -df.abs() - torch.hypot(dy, dx), "mixed"),
    "flat": (lambda df, dy, dx: 0 * df, "neither"),
    "its own token": (lambda df, dy, dx: 4.0 * ((df == 0) & (dy == 0) & (dx == 0)), "neither"),
    "its own frame": (lambda df, dy, dx: 8.0 * (df == 0), "temporal"),
    "its own position": (lambda df, dy, dx: 8.0 * ((dy == 0) & (dx == 0)), "spatial"),
    "rises in time": (lambda df, dy, dx: df.abs(), "neither"),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_named_by_what_they_depend_on(name):
    attend, kind = HEADS[name]
    grid = TokenGrid(5, 4, 5)
    attention = by_hand(attend, grid)
    (row,) = head_table(attention).to_dict("records")
    assert row["kind"] == kind and row["certain"]
    for axis in ("temporal", "spatial"):
        assert row[f"{axis}_low"] <= row[f"{axis}_contrast"] <= row[f"{axis}_high"]
    if name == "flat":  # noise alone: contrasts of a few per cent of it
        assert abs(row["temporal_contrast"]) < 0.01 and abs(row["spatial_contrast"]) < 0.01
    if name == "rises in time":
        assert row["temporal_contrast"] < -0.5


def test_few_samples_have_no_interval():
    attention = by_hand(HEADS["falls in both"][0], TokenGrid(5, 4, 5), samples=1)
    (row,) = head_table(attention).to_dict("records")
    assert row["kind"] == "mixed" and not row["certain"] and np.isnan(row["temporal_low"])


def test_short_axes_are_not_fitted():
    attention = by_hand(HEADS["falls in both"][0], TokenGrid(3, 4, 5))
    (row,) = head_table(attention).to_dict("records")
    assert np.isnan(row["temporal_lengthscale"]) and row["temporal_lags"] == 3 and row["temporal_contrast"] > 0.3
    assert row["spatial_r2"] > 0.9
    attention = by_hand(HEADS["falls in both"][0], TokenGrid(1, 4, 5))
    (row,) = head_table(attention).to_dict("records")
    assert np.isnan(row["temporal_contrast"]) and row["kind"] == "spatial"


def test_contrast_is_that_of_pairs_counted_one_by_one():
    grid = TokenGrid(4, 2, 3)
    attention = by_hand(HEADS["falls in both"][0], grid, samples=1)
    (layer,) = attention.layers
    coordinates = np.stack(np.unravel_index(np.arange(grid.tokens), (4, 2, 3)), axis=1)
    lag = np.abs(coordinates[:, None] - coordinates)
    maps = torch.softmax(by_hand_logits(grid), dim=-1).numpy()
    other = ~np.eye(grid.tokens, dtype=bool)
    near, far = maps[(lag[..., 0] <= 1) & other].mean(), maps[lag[..., 0] > 1.5].mean()
    assert contrast(layer, grid, "temporal")[0] == pytest.approx((near - far) / (near + far), rel=1e-12)
    distance = np.hypot(lag[..., 1], lag[..., 2])
    largest = np.hypot(1, 2)
    near, far = maps[(distance <= 1) & other].mean(), maps[distance > largest / 2].mean()
    assert contrast(layer, grid, "spatial")[0] == pytest.approx((near - far) / (near + far), rel=1e-12)
    lags, profile, pairs = axis_profiles(layer, grid, "spatial")
    assert pairs.sum() == grid.tokens**2
    for each, value, count in zip(lags, profile[0, 0], pairs, strict=True):
        assert value == pytest.approx(maps[np.isclose(distance, each)].mean(), rel=1e-12)
        assert count == np.isclose(distance, each).sum()


def test_intervals_of_the_contrast_are_percentiles_over_samples():
    """By a loop over resamples, each the contrast of the samples that were drawn, counted as often as they were."""
    grid, samples = TokenGrid(4, 2, 3), 12
    (layer,) = by_hand(HEADS["falls in both"][0], grid, samples, noise=0.5).layers
    value, ends = contrast(layer, grid, "temporal", seed=3)
    lags = np.arange(-3, 4)
    pairs = (4 - np.abs(lags)) * 36.0 - np.where(lags == 0, 24.0, 0.0)  # without a token's attention to itself
    sums = layer.temporal[0] * (4 - np.abs(lags)) * 36.0
    sums[:, 3] -= 24 * layer.own[0]
    near, far = (sums[:, part].sum(axis=1) / pairs[part].sum() for part in (np.abs(lags) <= 1, np.abs(lags) > 1.5))
    drawn = []
    for counts in np.random.default_rng(3).multinomial(samples, np.full(samples, 1 / samples), size=1000):
        a, b = (np.repeat(each, counts).mean() for each in (near, far))
        drawn.append((a - b) / (a + b))
    assert value[0] == pytest.approx((near.mean() - far.mean()) / (near.mean() + far.mean()), rel=1e-12)
    np.testing.assert_allclose(ends[0], np.quantile(drawn, [0.025, 0.975]), rtol=1e-12)


def by_hand_logits(grid: TokenGrid) -> torch.Tensor:
    """Those of `by_hand` with one sample."""
    coordinates = torch.cartesian_prod(*(torch.arange(n) for n in (grid.frames, grid.height, grid.width))).double()
    df, dy, dx = (coordinates[None] - coordinates[:, None]).unbind(-1)
    logits = -df.abs() - torch.hypot(dy, dx)
    return logits + 0.05 * torch.randn(1, 1, *logits.shape, generator=generator(), dtype=torch.float64)[0, 0]


def test_passes_and_modules_without_video_attention_are_refused():
    module = Call()
    q = torch.randn(1, 1, 24, 4)
    with pytest.raises(ValueError, match="^passes: there are none"):
        probe_module(module, [], GRID)
    with pytest.raises(ValueError, match="^model: none of its attention is among video tokens"):
        probe_module(module, lambda: module(q, q[:, :, :5]), GRID)
    found = probe_module(module, [lambda: module(q, q)] * 3, GRID)
    assert isinstance(found.layers[0], GridLayer) and found.layers[0].own.shape == (1, 3) and found.samples == 3
