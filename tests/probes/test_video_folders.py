"""Video transformers of diffusers: saved, read offline and probed; planted attention comes out where it was put."""

import json
import math
import socket
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from probes.capture import fused
from probes.capture.hooks import AttentionCapture
from probes.decay.fit import fit_decay
from probes.video.__main__ import app
from probes.video.adapters import ADAPTERS, TEXT_TOKENS
from probes.video.folder import WEIGHTS, load_folder
from probes.video.grid import TokenGrid
from probes.video.grid_attention import probe_module
from probes.video.heads import axis_profiles
from probes.video.report import print_foreign, write_foreign
from probes.video.study import probe_folder
from tests.builders import generator, refused, run

CONFIGS = {
    "DiTTransformer2DModel": {
        "attention_head_dim": 8, "in_channels": 2, "num_layers": 1, "sample_size": 10, "num_embeds_ada_norm": 10,
    },
    "LatteTransformer3DModel": {
        "attention_head_dim": 8, "in_channels": 2, "num_layers": 1, "sample_size": 8, "patch_size": 2,
        "caption_channels": 6, "cross_attention_dim": 16, "video_length": 5, "norm_type": "ada_norm_single",
        "num_embeds_ada_norm": 1000,
        "norm_elementwise_affine": False, "attention_bias": True,
    },
    "CogVideoXTransformer3DModel": {
        "attention_head_dim": 16, "in_channels": 2, "out_channels": 2, "time_embed_dim": 8, "text_embed_dim": 6,
        "num_layers": 2, "sample_width": 12, "sample_height": 8, "max_text_seq_length": 7,
        "use_rotary_positional_embeddings": True,
    },
    "WanTransformer3DModel": {
        "attention_head_dim": 12, "in_channels": 2, "out_channels": 2, "text_dim": 6, "freq_dim": 8, "ffn_dim": 16,
        "num_layers": 1, "rope_max_seq_len": 32,
    },
    "HunyuanVideoTransformer3DModel": {
        "attention_head_dim": 8, "in_channels": 2, "out_channels": 2, "num_layers": 1, "num_single_layers": 1,
        "num_refiner_layers": 1, "text_embed_dim": 6, "pooled_projection_dim": 4, "rope_axes_dim": (4, 2, 2),
    },
}  # fmt: skip
GRIDS = {"DiTTransformer2DModel": "1x5x5", "LatteTransformer3DModel": "5x4x4"}
LAYOUTS = {
    "DiTTransformer2DModel": ["video"],
    "LatteTransformer3DModel": ["spatial", "temporal"],
    "CogVideoXTransformer3DModel": ["text first", "text first"],
    "WanTransformer3DModel": ["video"],
    "HunyuanVideoTransformer3DModel": ["text last", "text last"],
}
LEFT_OUT = {
    "LatteTransformer3DModel": "cross",
    "WanTransformer3DModel": "cross",
    "HunyuanVideoTransformer3DModel": "text",
}


def grid_of(name: str) -> TokenGrid:
    return TokenGrid.parse(GRIDS.get(name, "5x4x6"))


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


def whole_maps(folder, name: str, samples: int) -> tuple[dict[str, torch.Tensor], int]:
    """Float64 maps of each layer as the capture sees them, put together, and the text tokens before the video."""
    maps: dict[str, torch.Tensor] = {}

    def keep(block):
        batch, heads, rows, keys = block.attention.shape
        whole = maps.setdefault(block.name, torch.full((batch, 2, block.queries, keys), math.nan, dtype=torch.float64))
        whole[:, block.head : block.head + heads, block.row : block.row + rows] = block.attention

    original = AttentionCapture.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            AttentionCapture,
            "__init__",
            lambda self, model, consume: original(self, model, lambda b: (keep(b), consume(b))),
        )
        probe_folder(folder, grid_of(name), samples=samples, batch=samples)
    return maps, {"text first": CONFIGS[name].get("max_text_seq_length", 0)}.get(LAYOUTS[name][0], 0)


@pytest.mark.parametrize("name", CONFIGS)
def test_profiles_are_those_of_the_maps_by_brute_force(name, folders, monkeypatch):
    """Reloaded with the network cut off, in small blocks of rows; every pair of video tokens by a plain loop."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the probe asked the network"))
    maps, first = whole_maps(folders / name, name, 3)
    monkeypatch.setattr(fused, "CHUNK_ELEMENTS", 200)
    grid = grid_of(name)
    found = probe_folder(folders / name, grid, samples=3, batch=3)
    attention = found.attention
    assert [layer.layout for layer in attention.layers] == LAYOUTS[name] and attention.unseen == []
    assert {what.split(",")[0] for what in attention.left_out.values()} == {LEFT_OUT.get(name)} - {None}
    assert attention.deviation < 1e-5  # 64 eps sqrt(keys) is what is accepted
    for layer in attention.layers:
        expected = brute_force(maps[layer.name], grid, layer.layout, 3, first)
        # Sums of at most 120 float32 entries <= 1 in a block, means taken of them.
        for key, value in expected.items():
            np.testing.assert_allclose(getattr(layer, key), value, atol=120 * 2**-24, rtol=0)


def brute_force(maps: torch.Tensor, grid: TokenGrid, layout: str, samples: int, first: int) -> dict[str, np.ndarray]:
    """Profiles of whole maps by a loop over pairs of tokens."""
    maps = maps.unflatten(0, (samples, -1)).numpy()  # (samples, folds, heads, queries, keys)
    frames, height, width = grid.frames, grid.height, grid.width
    temporal = np.zeros((2, samples, 2 * frames - 1))
    spatial = np.zeros((2, samples, 2 * height - 1, 2 * width - 1))
    counts = [np.zeros(temporal.shape[2:]), np.zeros(spatial.shape[2:])]
    own, text = np.zeros((2, samples)), np.zeros((2, samples))
    tokens = [(f, y, x) for f in range(frames) for y in range(height) for x in range(width)]
    for i, (f, y, x) in enumerate(tokens):
        fold, row = {"temporal": (i % grid.positions, f), "spatial": (f, i % grid.positions)}.get(
            layout, (0, first + i)
        )
        total = maps[:, fold, :, row].sum(-1).T
        video = np.zeros((2, samples))
        for j, (g, v, u) in enumerate(tokens):
            if (layout == "temporal" and (v, u) != (y, x)) or (layout == "spatial" and g != f):
                continue
            column = {"temporal": g, "spatial": j % grid.positions}.get(layout, first + j)
            entry = maps[:, fold, :, row, column].T
            video += entry
            temporal[:, :, frames - 1 + g - f] += entry
            spatial[:, :, height - 1 + v - y, width - 1 + u - x] += entry
            counts[0][frames - 1 + g - f] += 1
            counts[1][height - 1 + v - y, width - 1 + u - x] += 1
            own += entry * (i == j)
        text += total - video
    found = {"own": own / grid.tokens, "text_share": text / grid.tokens}
    if layout != "spatial":
        found["temporal"] = temporal / counts[0]
    if layout != "temporal":
        found["spatial"] = spatial / counts[1]
    return found


LT, LS = (1.5, math.inf), (math.inf, 2.0)
"""Planted lengthscales of the two heads in time and in space: one head decays in time alone, the other in space
alone."""


def planted(grid: TokenGrid, calls, sink: float = 0.0):
    """A stand-in for the fused call with logits -|df|/lt - r/ls among video tokens and `sink` where text takes part."""
    original = F.scaled_dot_product_attention
    sides = (grid.frames, grid.height, grid.width)
    coordinates = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float32) for n in sides))
    seen = {"temporal": coordinates[:: grid.positions], "spatial": coordinates[: grid.positions]}

    def attend(query, key, value, attn_mask=None, **_):
        tokens, batch = query.shape[-2], query.shape[0]
        layout, shift = calls(tokens, key.shape[-2])
        if layout is None:
            return original(query, key, value, attn_mask=attn_mask)
        where = seen.get(layout, coordinates)
        lag = (where[:, None, 0] - where[None, :, 0]).abs()
        distance = (where[:, None, 1:] - where[None, :, 1:]).norm(dim=-1)
        logits = torch.full((2, tokens, tokens), sink)
        video = slice(shift, shift + len(where))
        logits[:, video, video] = torch.stack([-lag / lt - distance / ls for lt, ls in zip(LT, LS, strict=True)])
        # Queries are the rows of the logits and keys unit vectors, so that their products are the logits.
        return original(logits.expand(batch, -1, -1, -1), torch.eye(tokens).expand(batch, 2, -1, -1), value, scale=1.0)

    return attend


def plant_calls(name: str, grid: TokenGrid, text_first: bool | None = None):
    """Which calls of a class to replace: (layout, tokens before the video)."""

    def calls(queries, keys):
        if queries != keys or (name.startswith("Hunyuan") and queries == TEXT_TOKENS):
            return None, 0
        if name.startswith("Latte"):
            return ("temporal", 0) if queries == grid.frames else ("spatial", 0)
        text = queries - grid.tokens
        return "video", text if text_first else 0

    return calls


@pytest.mark.parametrize("sink", [0.0, 12.0])
@pytest.mark.parametrize("name", [name for name in CONFIGS if not name.startswith("DiT")])
def test_planted_decay_is_recovered(name, sink, folders, monkeypatch):
    """Profiles against exp(-lag/l), up to the sums Z by which softmax divides each row.

    Z is smaller at the ends of the grid, so log profile + lag/l may vary by log Zmax/Zmin. Where text is a sink that
    takes nearly all attention, Z is constant to 2e-4 (at most 120 video tokens against 7 exp(12)), and the lengthscale
    is that which was planted; elsewhere it is that of the exact profile, computed in float64.
    """
    grid = grid_of(name)
    calls = plant_calls(name, grid, text_first=name.startswith("CogVideoX"))
    monkeypatch.setattr(F, "scaled_dot_product_attention", planted(grid, calls, sink))
    found = probe_folder(folders / name, grid, samples=2, batch=2)
    for number, layer in enumerate(found.attention.layers):
        heads = found.heads[found.heads["layer"] == number]
        kinds = {"temporal": ["temporal", "neither"], "spatial": ["neither", "spatial"]}
        assert list(heads["kind"]) == kinds.get(layer.layout, ["temporal", "spatial"])
        for axis, head, length in (("temporal", 0, LT[0]), ("spatial", 1, LS[1])):
            profiles = axis_profiles(layer, grid, axis)
            if profiles is None:
                continue
            lags, profile, pairs = profiles
            text = layer.text_tokens * math.exp(sink)
            ratio, exact = softmax_profile(grid, axis, length, text)
            assert np.ptp(np.log(profile[head, 0]) + lags / length) <= ratio + 1e-5
            np.testing.assert_allclose(profile[head, 0], profile[head, 1], rtol=1e-5)  # the same in every sample
            row = heads.iloc[head]
            expected = fit_decay(lags, exact, "exponential", pairs).lengthscale
            assert row[f"{axis}_lengthscale"] == pytest.approx(expected, rel=1e-3)
            if layer.text_tokens and sink:
                assert row[f"{axis}_lengthscale"] == pytest.approx(length, rel=5e-3)
            other = axis_profiles(layer, grid, "spatial" if axis == "temporal" else "temporal")
            if other is not None:
                assert np.ptp(np.log(other[1][head, 0])) < 1e-4  # flat


def softmax_profile(grid: TokenGrid, axis: str, length: float, text: float) -> tuple[float, np.ndarray]:
    """log Zmax/Zmin, and the mean attention by lag, of rows softmax(-lag/length) with `text` more in each sum, float64.

    A folded call sees one position or one frame, which changes neither the ratio nor the shape where there is no text.
    """
    if axis == "temporal":
        lag = np.abs(np.subtract.outer(np.arange(grid.frames), np.arange(grid.frames))).astype(float)
        folds = grid.positions
    else:
        y, x = (side.ravel() for side in np.indices((grid.height, grid.width)))
        lag = np.sqrt(np.subtract.outer(y, y) ** 2 + np.subtract.outer(x, x) ** 2)
        folds = grid.frames
    sums = np.exp(-lag / length).sum(1) * folds + text
    entries = np.exp(-lag / length) / sums[:, None]
    return math.log(sums.max() / sums.min()), np.array([entries[lag == each].mean() for each in np.unique(lag)])


@pytest.mark.parametrize("name", ["CogVideoXTransformer3DModel", "HunyuanVideoTransformer3DModel"])
def test_the_wrong_place_of_text_spoils_the_planted_decay(name, folders, monkeypatch):
    """The same planted video tokens, read as if text stood at the other end: the bound of the test above must break."""
    grid = grid_of(name)
    first = name.startswith("CogVideoX")
    monkeypatch.setattr(F, "scaled_dot_product_attention", planted(grid, plant_calls(name, grid, first)))
    adapter = ADAPTERS[name]
    swap = {"text first": "text last", "text last": "text first"}
    wrong = {pattern: swap.get(layout, layout) for pattern, layout in adapter.layouts.items()}
    monkeypatch.setitem(ADAPTERS, name, replace(adapter, layouts=wrong))
    layer = probe_folder(folders / name, grid, samples=1).attention.layers[0]
    for axis, head, length in (("temporal", 0, LT[0]), ("spatial", 1, LS[1])):
        lags, profile, _ = axis_profiles(layer, grid, axis)
        scaled = np.log(profile[head, 0]) + lags / length
        assert np.ptp(scaled) > 1.5 * softmax_profile(grid, axis, length, layer.text_tokens)[0]


def test_samples_of_several_passes_are_those_of_one(folders, tmp_path):
    """Given latents, passes of 3 and 1 videos give the profiles of one pass of 4; text is drawn per pass, so use a
    DiT."""
    name = "DiTTransformer2DModel"
    latents = torch.randn(4, 2, 1, 10, 10, generator=generator())
    np.save(tmp_path / "latents.npy", latents.numpy())
    save_file({"x": latents}, tmp_path / "latents.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        zeros = {"class_labels": torch.zeros(4, dtype=torch.long)}
        adapter = replace(ADAPTERS[name], inputs=lambda c, g, n, r: {"class_labels": zeros["class_labels"][:n]})
        patch.setitem(ADAPTERS, name, adapter)
        one, two = (
            probe_folder(
                folders / name, grid_of(name), 4, batch, latents=tmp_path / f"latents.{kind}"
            ).attention.layers[0]
            for batch, kind in ((4, "npy"), (3, "safetensors"))
        )
    assert two.spatial.shape == (2, 4, 9, 9)
    np.testing.assert_allclose(one.spatial, two.spatial, rtol=1e-5)


def test_a_pipeline_folder_and_half_precision_are_read(folders, tmp_path, capsys):
    name = "WanTransformer3DModel"
    (tmp_path / "model_index.json").write_text(json.dumps({"transformer": ["diffusers", name]}))
    model = load_folder(folders / name).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "transformer")
    found = probe_folder(tmp_path, grid_of(name), samples=10, batch=10)
    assert found.settings["dtype"] == "bfloat16" and 1e-6 < found.attention.deviation < 4 * 2**-7
    exact = probe_folder(folders / name, grid_of(name), samples=10, batch=10)
    # bfloat16 keeps 8 bits: logits of order 1 are off by 2^-8 or so, and so is the attention.
    ours, theirs = found.attention.layers[0].temporal, exact.attention.layers[0].temporal
    assert 0 < np.abs(ours / theirs - 1).max() < 0.05
    print_foreign(found)
    assert "blocks.0.attn1 1 " in (shown := capsys.readouterr().out) and "kinds of 2 heads" in shown
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probes.video.report.ROWS_SHOWN", 1)
        print_foreign(found)
    assert "blocks.0.attn1 1 " not in (shown := capsys.readouterr().out) and "medians in time" in shown
    files = write_foreign(found, tmp_path)
    assert all((tmp_path / file).stat().st_size > 100 for file in files)
    left_out = json.loads((tmp_path / "summary.json").read_text())["left_out"]
    assert left_out == {"blocks.0.attn2": "cross, 120 queries, 64 keys"}


def test_the_processor_that_writes_softmax_out_is_seen(folders):
    """diffusers' AttnProcessor: batch and heads on one axis, baddbmm, softmax, bmm; the same profiles as the fused
    call."""
    from diffusers.models.attention_processor import AttnProcessor

    name, grid = "DiTTransformer2DModel", grid_of("DiTTransformer2DModel")
    model = load_folder(folders / name)
    x = torch.randn(3, 2, 10, 10, generator=generator())
    labels = torch.zeros(3, dtype=torch.long)

    def run():
        return probe_module(model, lambda: model(x, timestep=labels + 500, class_labels=labels), grid, 3).layers

    (before,) = run()
    for block in model.transformer_blocks:
        block.attn1.set_processor(AttnProcessor())
    (after,) = run()
    np.testing.assert_allclose(before.spatial, after.spatial, rtol=1e-5)
    assert not np.allclose(before.spatial[0], before.spatial[1], rtol=1e-3)  # heads can be told apart


@pytest.mark.parametrize("name", ["missing", "shape", "unexpected", "file", "pickle"])
def test_folders_that_lack_weights_are_refused(name, folders, tmp_path):
    load_folder(folders / "DiTTransformer2DModel").save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / WEIGHTS
    weights = load_file(file)
    first = min(weights)
    if name in ("file", "pickle"):
        file.unlink()
        torch.save(weights, file.with_suffix(".bin"))
    elif name == "unexpected":
        save_file({**weights, "new": torch.zeros(1)}, file)
    elif name == "missing":
        save_file({key: value for key, value in weights.items() if key != first}, file)
    else:
        save_file({**weights, first: torch.zeros(2, 3)}, file)
    expected = {
        "missing": f"lacks the weights '{first}'",
        "shape": f"has wrong shapes of the weights '{first}'",
        "unexpected": "has unexpected weights 'new'",
        "file": f"lacks '{WEIGHTS}'",
        "pickle": "pickles are not read",
    }
    with pytest.raises(ValueError, match="^ckpt: .*m.*" + expected[name]) as error:
        load_folder(tmp_path / "m")
    assert "\n" not in str(error.value)


def test_bad_folders_grids_and_inputs_are_refused(folders, tmp_path):
    dit, latte, wan = (
        folders / f"{name}Model" for name in ("DiTTransformer2D", "LatteTransformer3D", "WanTransformer3D")
    )
    with pytest.raises(ValueError, match=r"^grid: 1x4x6 is not accepted; accepted: 1x5x5, the positions of this DiT"):
        probe_folder(dit, TokenGrid(1, 4, 6))
    with pytest.raises(ValueError, match=r"^grid: 6x4x4 is not accepted; accepted: 5x4x4, .* Latte"):
        probe_folder(latte, TokenGrid(6, 4, 4))
    with pytest.raises(ValueError, match=r"^grid: 2x40x2 is not accepted; accepted: sides up to 32"):
        probe_folder(wan, TokenGrid(2, 40, 2))
    with pytest.raises(ValueError, match=r"^grid: 3x1x3 has 3 frame lags and 3 distances; accepted: at least 4"):
        probe_folder(wan, TokenGrid(3, 1, 3))
    for text in ("4x4", "0x4x4", "4x4x4x4", "axbxc", "-1x2x3"):
        with pytest.raises(ValueError, match="^grid: .* accepted: FxHxW"):
            TokenGrid.parse(text)
    with pytest.raises(ValueError, match="^timestep: 1000"):
        probe_folder(wan, TokenGrid(5, 4, 6), timestep=1000)
    np.save(tmp_path / "x.npy", np.zeros((2, 2, 5, 8, 11), np.float32))
    with pytest.raises(ValueError, match=r"^latents: .*\(2, 2, 5, 8, 11\) is not accepted; .*\(samples, 2, 5, 8, 12\)"):
        probe_folder(wan, TokenGrid(5, 4, 6), latents=tmp_path / "x.npy")
    with pytest.raises(ValueError, match="^latents: .*cannot be read"):
        probe_folder(wan, TokenGrid(5, 4, 6), latents=tmp_path / "none.npy")
    with pytest.raises(ValueError, match="^ckpt: .* is no folder"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="^ckpt: .*config.json' is missing"):
        load_folder(tmp_path)
    with pytest.raises(ValueError, match="^ckpt: .* is no folder; .*python -m probes.attention takes checkpoints"):
        load_folder(wan / WEIGHTS)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(ValueError, match="^ckpt: .* holds a 'UNet2DModel', .*; accepted: DiT.*probe_module"):
        load_folder(tmp_path)


def test_without_diffusers_the_extra_is_named(folders, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(ValueError, match=r'pip install "unrolled\[diffusers\]"'):
        load_folder(folders / "WanTransformer3DModel")


def test_command_on_a_folder(folders, tmp_path, capsys):
    """As one types it: table, files, and bad input as one line without a progress bar before it."""
    wan, out = folders / "WanTransformer3DModel", tmp_path / "out"
    run(app, "--ckpt", wan, "--grid", "5x4x6", "--samples", 3, "--out", out)
    printed = capsys.readouterr().out
    assert "blocks.0.attn1 0" in printed and "left out: blocks.0.attn2 (cross" in printed
    assert {path.name for path in out.iterdir()} == {
        "heads.csv", "profiles.csv", "summary.json", "decay.png", "kinds.png",
    }  # fmt: skip
    for options, named in (
        (["--grid", "4x4"], "grid: "), (["--grid", "2x40x2"], "grid: 2x40x2"), ([], "Parameter --grid requires"),
        (["--grid", "5x4x6", "--samples", 0], "samples: 0"),
        (["--grid", "5x4x6", "--timestep", 1000], "timestep: 1000"),
        (["--grid", "5x4x6", "--latents", tmp_path / "none.npy"], "latents: "),
    ):  # fmt: skip
        assert refused(capsys, app, "--ckpt", wan, *options).startswith(f"error: {named}")
    never = tmp_path / "never"
    for path, named in ((wan / WEIGHTS, "python -m probes.attention"), (tmp_path, "config.json' is missing")):
        line = refused(capsys, app, "--ckpt", path, "--grid", "5x4x6", "--out", never)
        assert line.startswith("error: ckpt: ") and named in line and not never.exists()
