"""The captured maps are those the model used, and their reduction by lag is the plain double loop."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from probes.capture import fused
from probes.capture.by_lag import MAP_SIZE, attention_by_lag
from probes.capture.fused import accepted_deviation
from probes.capture.hooks import AttentionCapture, MapBlock
from probes.capture.lags import lag_means
from reports.experiments.probe_cost import measure, measure_apart
from tests.builders import generator, random_dit


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


def diagonal_means(maps: np.ndarray) -> np.ndarray:
    """(heads, sequences, lags) of maps (sequences, heads, N, N), by a loop over pairs."""
    n = maps.shape[-1]
    pairs = [[maps[:, :, i, i + lag] for i in range(n) if 0 <= i + lag < n] for lag in range(1 - n, n)]
    return np.stack([np.mean(each, axis=0).T for each in pairs], axis=-1)


@pytest.mark.parametrize("name", ["causal", "scale", "mask", "bias", "grouped"])
def test_options_of_the_fused_call_are_followed(name):
    """Against softmax written out in float64: what each option means, by its definition."""
    mask, bias = torch.ones(7, 7).tril(2).bool(), torch.linspace(-2, 2, 49, dtype=torch.float64).reshape(1, 1, 7, 7)
    options = {
        "causal": {"is_causal": True}, "scale": {"scale": 0.3}, "mask": {"attn_mask": mask},
        "bias": {"attn_mask": bias}, "grouped": {"enable_gqa": True},
    }[name]  # fmt: skip
    x = torch.randn(2, 7, 16, generator=generator(), dtype=torch.float64)
    q = x.reshape(2, 7, 4, 4).transpose(1, 2).numpy()
    k = q[:, [0, 0, 1, 1]] if name == "grouped" else q  # two query heads in a row share a key head
    logits = np.einsum("bhid,bhjd->bhij", q, k) * (0.3 if name == "scale" else 0.5)
    if name == "bias":
        logits = logits + bias.numpy()
    seen = {"causal": np.tri(7, dtype=bool), "mask": mask.numpy()}.get(name, np.ones((7, 7), dtype=bool))
    weights = np.where(seen, np.exp(logits), 0.0)
    found = attention_by_lag(Masked(**options), [x], 0.5)
    expected = diagonal_means(weights / weights.sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(found.profiles[0], expected, rtol=0, atol=1e-14)
    assert found.deviation < 1e-14  # of outputs of order 1


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
    with pytest.raises(ValueError, match=r"^model: attention in .* is \(7, 7\); accepted: \(9, 9\)"):
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


def scores(x: torch.Tensor) -> torch.Tensor:
    """Logits of 4 heads of width 4 whose queries, keys and values are the channels of x."""
    q = x.unflatten(-1, (4, 4)).transpose(1, 2)
    return q @ q.transpose(-1, -2) / 2


class Explicit(nn.Module):
    """Attention that forms its own map: softmax, `change`, and a product with values (batch, 4 heads, N, 4)."""

    def __init__(self, softmax, product, change=lambda p: p):
        super().__init__()
        self.softmax, self.product, self.change, self.heads = softmax, product, change, 4

    def forward(self, x, t):
        return self.product(self.change(self.softmax(scores(x))), x.unflatten(-1, (4, 4)).transpose(1, 2))


SOFTMAX = {
    "torch": lambda z: torch.softmax(z, dim=-1),
    "function": lambda z: F.softmax(z, dim=3),
    "method": lambda z: z.softmax(-1),
    "module": nn.Softmax(dim=-1),
    "other dtype": lambda z: torch.softmax(z.double(), -1).to(z.dtype),
    "dropout of an evaluated model": lambda z: nn.Dropout(0.5).eval()(z.softmax(-1)),
}
PRODUCT = {
    "@": lambda p, v: p @ v,
    "matmul": lambda p, v: torch.matmul(input=p, other=v),
    "bmm": lambda p, v: torch.bmm(p.flatten(0, 1), v.flatten(0, 1)),
    "baddbmm": lambda p, v: torch.baddbmm(v.flatten(0, 1), p.reshape(-1, *p.shape[2:]), v.flatten(0, 1)),
    "einsum": lambda p, v: torch.einsum("b h i j, b h j d -> b i h d", p, v),
}


@pytest.mark.parametrize("softmax", SOFTMAX)
@pytest.mark.parametrize("product", PRODUCT)
def test_maps_that_the_model_forms_are_seen(softmax, product):
    x = torch.randn(3, 7, 16, generator=generator())
    found = attention_by_lag(Explicit(SOFTMAX[softmax], PRODUCT[product]), [x], 0.5)
    expected = lag_means(torch.softmax(scores(x).double(), dim=-1)).transpose(0, 1)  # (heads, sequences, lags)
    assert found.layers == [""] and found.profiles.shape == (1, 4, 3, 13)
    np.testing.assert_allclose(found.profiles[0], expected, rtol=1e-5)  # float32 logits of order 1


def written(p: torch.Tensor) -> torch.Tensor:
    p[..., 0] = 0
    return p


CHANGES = {
    "renormalised": lambda p: p / p.sum(-1, keepdim=True),
    "masked in place": lambda p: p.masked_fill_(p < 0.1, 0.0),
    "written": written,
    "written through a view": lambda p: (p[:, 0].zero_(), p)[1],
    "cut": lambda p: torch.cat([p[..., 1:], p[..., :1]], dim=-1),
    "transposed": lambda p: p.transpose(-1, -2),
    "dropped out": nn.Dropout(0.5),
    "scaled and cast": lambda p: (2 * p).double().float(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("inference", [False, True])
def test_changed_maps_are_refused(change, inference):
    model = Explicit(SOFTMAX["torch"], PRODUCT["@"], CHANGES[change])
    with pytest.raises(
        ValueError, match="^model: the attention map in '' is changed between its softmax and its product"
    ):
        watch = AttentionCapture(model, lambda _: None)
        with watch, torch.inference_mode(inference):
            model(torch.randn(2, 7, 16, generator=generator()), 0.5)


@pytest.mark.parametrize(
    "product",
    [lambda p, v: p.sum(), lambda p, v: p.amax(-1) + p.argmax(-1), lambda p, v: (p * p.log()).sum(-1)],
)
def test_softmax_that_multiplies_nothing_is_no_attention(product):
    with pytest.raises(ValueError, match="no softmax that multiplies values"):
        attention_by_lag(Explicit(SOFTMAX["torch"], product), [torch.randn(2, 7, 16)], 0.5)


@pytest.mark.parametrize("weights", [True, False])
def test_multihead_attention_of_torch_is_seen(weights):
    layer = nn.MultiheadAttention(16, 4, batch_first=True).eval().double()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x, t):
            return self.layer(x, x, x, need_weights=weights)[0]

    x = torch.randn(3, 7, 16, generator=generator(), dtype=torch.float64)
    found = attention_by_lag(Model(), [x], 0.5)
    query, key, _ = (
        (x @ layer.in_proj_weight.T + layer.in_proj_bias).detach().reshape(3, 7, 3, 4, 4).permute(2, 0, 3, 1, 4)
    )
    maps = torch.softmax(query @ key.transpose(-1, -2) / 2, dim=-1).numpy()
    assert found.layers == ["layer"]
    np.testing.assert_allclose(found.profiles[0], diagonal_means(maps), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_verified_in_its_own_precision(dtype, autocast, monkeypatch):
    """The map passes at the rounding of the kernel, and a map from logits 20 % larger does not."""
    x = torch.randn(2, 7, 16, generator=generator())
    with torch.autocast("cpu", dtype, enabled=autocast):
        found = attention_by_lag(Masked(), [x if autocast else x.to(dtype)], 0.5)
        assert 1e-5 < found.deviation < accepted_deviation(dtype, 7) < 5 * torch.finfo(dtype).eps
        original = torch.softmax
        monkeypatch.setattr(torch, "softmax", lambda logits, dim, out: original(1.2 * logits, dim, out=out))
        with pytest.raises(ValueError, match="deviates from the fused output"):
            attention_by_lag(Masked(), [x if autocast else x.to(dtype)], 0.5)


@pytest.mark.parametrize("chunk", [7, 50, 1000])
def test_blocks_are_small_and_complete(chunk, monkeypatch):
    monkeypatch.setattr(fused, "CHUNK_ELEMENTS", chunk)
    for model in (Masked(), Explicit(SOFTMAX["torch"], PRODUCT["@"])):
        blocks: list[MapBlock] = []
        with AttentionCapture(model, blocks.append):
            model(torch.randn(2, 7, 16, generator=generator()), 0.5)
        seen = torch.zeros(4, 7)
        for found in blocks:
            batch, heads, rows, keys = found.attention.shape
            assert (batch, keys, found.queries) == (2, 7, 7) and found.attention.numel() <= max(chunk, 2 * 7)
            assert heads == 1 or rows == 7
            seen[found.head : found.head + heads, found.row : found.row + rows] += 1
        assert torch.all(seen == 1)


def test_only_the_first_pass_is_verified_and_a_failed_pass_leaves_no_trace(monkeypatch):
    model = random_dit()
    x = torch.randn(2, 6, 2, generator=generator())
    watch = AttentionCapture(model, lambda _: None)
    with watch:
        model(x, 0.5)
    original = torch.softmax
    monkeypatch.setattr(torch, "softmax", lambda logits, dim, out: original(1.01 * logits, dim, out=out))
    with watch:
        model(x, 0.5)
    strict = AttentionCapture(model, lambda _: None, verified_passes=2)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"map computed for 'blocks\.0\.attention'"), strict:
            model(x, 0.5)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.overrides._get_current_function_mode_stack() == []


class Hidden(nn.Module):
    """Attention by an operation that is not followed, under a name that says what it is."""

    def forward(self, x, t):
        return (scores(x).softmax(-1)[..., None] * x.unflatten(-1, (4, 4)).transpose(1, 2)[:, :, None]).sum(-2)


class HiddenAttention(Hidden):
    pass


def test_attention_that_cannot_be_seen_is_named():
    with pytest.raises(
        ValueError, match=r"^model: no call of .* \(nothing was seen inside ''\); accepted: an uncompiled model"
    ):
        attention_by_lag(HiddenAttention(), [torch.randn(2, 7, 16)], 0.5)
    both = nn.ModuleDict({"seen": Masked(), "hidden": HiddenAttention()})
    both.forward = lambda x: (both["seen"](x, 0), both["hidden"](x, 0))
    watch = AttentionCapture(both, lambda _: None)
    with watch:
        both(torch.randn(2, 7, 16))
    assert watch.unseen == ["hidden"]


def test_calls_of_other_shapes_are_split_into_heads():
    """Batch and heads on one axis, and a leading axis more; a query that sees no key; two calls in one module."""

    class Model(nn.Module):
        heads = 4

        def forward(self, x, t):
            q = x.unflatten(-1, (4, 4)).transpose(1, 2)
            mask = torch.ones(7, 7, dtype=torch.bool)
            mask[2] = False
            F.scaled_dot_product_attention(q.flatten(0, 1), q.flatten(0, 1), q.flatten(0, 1))
            F.scaled_dot_product_attention(q[None], q[None], q[None], attn_mask=mask)

    x = torch.randn(3, 7, 16, generator=generator())
    found = attention_by_lag(Model(), [x], 0.5)
    assert found.layers == ["", "#2"]
    maps = torch.softmax(scores(x), dim=-1)
    np.testing.assert_allclose(found.profiles[0], lag_means(maps.double()).transpose(0, 1), rtol=1e-5)
    maps[:, :, 2] = 0
    np.testing.assert_allclose(found.profiles[1], lag_means(maps.double()).transpose(0, 1), rtol=1e-5)


def test_a_map_is_handed_on_at_any_length():
    """Row blocks that do not divide the length: profiles of a long sequence are those of the whole map."""
    x = torch.randn(2, 301, 16, generator=generator(), dtype=torch.float64)
    expected = lag_means(torch.softmax(scores(x), dim=-1)).transpose(0, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "CHUNK_ELEMENTS", 2 * 301 * 37)
        found = attention_by_lag(Masked(), [x], 0.5)
    np.testing.assert_allclose(found.profiles[0], expected, rtol=1e-11)
    maps = F.avg_pool2d(torch.softmax(scores(x), dim=-1).mean(0), 3, ceil_mode=True, count_include_pad=False)
    np.testing.assert_allclose(found.maps[0], maps, rtol=1e-11)


def test_cost_is_measured_of_both_passes():
    sizes = {"length": 32, "depth": 1, "heads": 2, "width": 8, "batch": 2, "threads": 1}
    plain, probed = (measure(probe, **sizes) for probe in (False, True))
    assert min(plain["seconds"], probed["seconds"], plain["CPU seconds"]) > 0 and plain["peak MB"] > 50


@pytest.mark.slow
def test_memory_does_not_grow_with_the_maps():
    """All maps of the layer would be 201 MB; the probe holds a few blocks of 16 MB."""
    sizes = {"length": 1024, "depth": 1, "heads": 12, "width": 96, "batch": 4, "threads": 1}
    plain, probed = (measure_apart(probe, **sizes) for probe in (False, True))
    assert probed["peak MB"] - plain["peak MB"] < 6 * 16
