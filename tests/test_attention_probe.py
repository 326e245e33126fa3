"""The captured maps are those the model used, and their reduction by lag is the plain double loop."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from probes import fused
from probes.capture import AttentionCapture
from probes.lags import MAP_SIZE, attention_by_lag, lag_means
from tests.conftest import generator
from tests.test_dit import random_dit


def reference_maps(model, x: torch.Tensor, t: float) -> list[torch.Tensor]:
    """Attention maps of a DiT from its weights, by the textbook formula, in a forward pass of their own."""
    config = model.config
    stream = model.embed(x) + model.position
    stream = torch.cat([model.register.expand(len(x), -1, -1), stream], dim=1)
    c = model.time(torch.tensor([[t]], dtype=torch.float64))
    maps = []
    for block in model.blocks:
        shift, scale, *_ = block.modulation(c).chunk(6, dim=-1)
        weight, bias = block.attention.qkv.weight, block.attention.qkv.bias
        qkv = ((1 + scale) * block.norm(stream) + shift) @ weight.T + bias
        q, k, _ = qkv.chunk(3, dim=-1)
        size = block.attention.head_dim
        heads = [slice(h * size, (h + 1) * size) for h in range(config.heads)]
        logits = torch.stack([q[..., h] @ k[..., h].transpose(1, 2) / math.sqrt(size) for h in heads], dim=1)
        maps.append(logits.exp() / logits.exp().sum(dim=-1, keepdim=True))
        stream = block(stream, c)
    return maps


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("chunk", [fused.CHUNK_ELEMENTS, 200, 1])
def test_profiles_are_those_of_the_maps_the_model_used(registers, chunk, monkeypatch):
    monkeypatch.setattr(fused, "CHUNK_ELEMENTS", chunk)
    model = random_dit(registers=registers, heads=4, width=16).double()
    x = torch.randn(5, 6, 2, generator=generator(1), dtype=torch.float64)
    found = attention_by_lag(model, [x[:3], x[3:]], 0.5, registers)
    assert found.layers == ["blocks.0.attention", "blocks.1.attention"]
    assert found.profiles.shape == (2, 4, 5, 11) and list(found.lags) == list(range(-5, 6))
    with torch.no_grad():
        maps = reference_maps(model, x, 0.5)
    for layer, each in enumerate(maps):
        sequence = each[:, :, registers:, registers:].numpy()
        for lag in range(-5, 6):
            pairs = [sequence[:, :, i, i + lag] for i in range(6) if 0 <= i + lag < 6]
            expected = np.mean(pairs, axis=0).T  # (heads, sequences)
            np.testing.assert_allclose(found.profiles[layer, :, :, lag + 5], expected, atol=1e-13)
        np.testing.assert_allclose(found.maps[layer], sequence.mean(axis=0), atol=1e-13)
        outside = each[:, :, registers:, :registers].sum(-1).mean((0, 2)).numpy()
        np.testing.assert_allclose(found.outside[layer], outside, atol=1e-13)


def test_watching_does_not_change_the_model():
    model = random_dit()
    x = torch.randn(2, 6, 2, generator=generator(1))
    before = model(x, 0.5)
    with AttentionCapture(model, lambda _: None) as watching:
        during = model(x, 0.5)
    assert torch.equal(before, during) and torch.equal(before, model(x, 0.5))
    assert 0 <= watching.largest_deviation < 64 * torch.finfo(torch.float32).eps * math.sqrt(6)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


class Masked(nn.Module):
    """Attention with the options of the fused call that a foreign model may use."""

    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, x, t):
        q = x.unflatten(-1, (4, 4)).transpose(1, 2)
        kv = q[:, :2] if self.options.get("enable_gqa") else q
        return F.scaled_dot_product_attention(q, kv, kv.sin(), **self.options)


@pytest.mark.parametrize(
    "options",
    [
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": torch.ones(7, 7).tril(2).bool()},
        {"attn_mask": torch.linspace(-2, 2, 49).reshape(1, 1, 7, 7)},
        {"enable_gqa": True},
    ],
)
def test_options_of_the_fused_call_are_followed(options):
    """The run-time check itself is the oracle here: the map times values must be the fused output."""
    found = attention_by_lag(Masked(**options), [torch.randn(2, 7, 16, generator=generator())], 0.5)
    assert found.deviation < 1e-6
    if options.get("is_causal"):
        assert np.all(found.profiles[..., 7:] == 0) and np.all(found.profiles[..., :7] > 0)


def test_a_map_that_was_not_used_is_refused(monkeypatch):
    """A model whose attention is not what its queries and keys say, as after a faulty interception."""
    original = torch.softmax
    monkeypatch.setattr(torch, "softmax", lambda logits, dim, out: original(1.01 * logits, dim, out=out))
    with pytest.raises(ValueError, match="deviates from the fused output"):
        attention_by_lag(random_dit(), [torch.randn(2, 6, 2, generator=generator())], 0.5)


def test_dropout_and_unseen_attention_are_refused():
    with pytest.raises(ValueError, match="drops out"):
        attention_by_lag(Masked(dropout_p=0.1), [torch.randn(2, 7, 16)], 0.5)
    with pytest.raises(ValueError, match="no call of scaled_dot_product_attention"):
        attention_by_lag(Unattentive(), [torch.zeros(1, 7, 4)], 0.5)
    with pytest.raises(ValueError, match="^batches: "):
        attention_by_lag(random_dit(), [], 0.5)
    with pytest.raises(ValueError, match=r"^model: attention in .* is \(7, 7\); accepted is \(9, 9\)"):
        attention_by_lag(Masked(), [torch.randn(2, 7, 16)], 0.5, registers=2)


class Unattentive(nn.Module):
    def forward(self, x, t):
        return x


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_lag_means_are_diagonal_means(n):
    maps = torch.randn(3, 2, n, n, generator=generator(), dtype=torch.float64)
    found = lag_means(maps)
    for lag in range(-(n - 1), n):
        expected = maps.diagonal(lag, dim1=-2, dim2=-1).mean(dim=-1)
        torch.testing.assert_close(found[..., n - 1 + lag], expected, rtol=1e-13, atol=1e-13)


def test_long_maps_are_pooled_for_pictures():
    length = 2 * MAP_SIZE + 3
    x = torch.randn(1, length, 16, generator=generator())
    found = attention_by_lag(Masked(), [x], 0.5)
    assert found.maps.shape[-1] <= MAP_SIZE and found.profiles.shape[-1] == 2 * length - 1
