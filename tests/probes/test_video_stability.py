"""Stability of the heads of video models: planted heads get the right name on the right axis."""

import json

import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from probes.stability.__main__ import app
from probes.stability.study import study_videos
from probes.video import study
from probes.video.grid import TokenGrid
from probes.video.study import Videos
from tests.builders import refused, run
from tests.probes.test_video_folders import CONFIGS

NAME = "WanTransformer3DModel"
GRID = TokenGrid(5, 2, 3)
STEPS = (100, 500, 900)
KINDS = ["static", "t", "input", "t and input"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random Wan of four heads."""
    diffusers = pytest.importorskip("diffusers")
    path = tmp_path_factory.mktemp("models") / "wan"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(diffusers, NAME)(num_attention_heads=4, **CONFIGS[NAME]).save_pretrained(path)
    return path


def opened(folder, samples: int) -> Videos:
    return Videos(folder, GRID, samples, 8, 0, torch.device("cpu"), None)


def plant(monkeypatch, axis: str) -> None:
    """Heads with logits -rate |lag| along an axis, whose rate is fixed, a function of t, of the video, or of both."""
    original, draw, state = F.scaled_dot_product_attention, study.model_inputs, {}

    def remember(name, config, grid, latents, timestep, generator):
        by_time = {100: 0.3, 500: 0.8, 900: 1.6}[timestep]
        by_video = torch.exp(0.5 * latents[:, 0, 0, 0, 0])
        fixed = torch.ones_like(by_video)
        state["rates"] = torch.stack([0.8 * fixed, by_time * fixed, 0.8 * by_video, by_time * by_video], dim=1)
        return draw(name, config, grid, latents, timestep, generator)

    def attend(query, key, value, attn_mask=None, **options):
        tokens = query.shape[-2]
        if tokens != key.shape[-2]:  # cross attention to the text
            return original(query, key, value, attn_mask=attn_mask, **options)
        frame, place = torch.arange(tokens) // GRID.positions, torch.arange(tokens) % GRID.positions // GRID.width
        line = (frame if axis == "temporal" else place).float()
        logits = -state["rates"][..., None, None] * (line[:, None] - line).abs()
        keys = torch.eye(tokens).expand(*logits.shape[:2], -1, -1)
        return original(logits, keys, value, scale=1.0)

    monkeypatch.setattr(study, "model_inputs", remember)
    monkeypatch.setattr(F, "scaled_dot_product_attention", attend)


@pytest.mark.parametrize("axis", ["temporal", "spatial"])
def test_planted_heads_are_recovered(axis, folder, monkeypatch):
    """On the axis on which they are planted; on the other one every head is static."""
    plant(monkeypatch, axis)
    found = study_videos([opened(folder, 24)], STEPS)
    for name, part in found.heads.groupby("axis"):
        assert list(part["kind"]) == (KINDS if name == axis else ["static"] * 4), name
    components = found.components[found.components["axis"] == axis].set_index("component")
    assert (
        list(components.index) == ["head", "t", "sequence", "both"]
        and (components.low.loc[["t", "sequence"]] > 0).all()
    )


def test_the_same_videos_are_seen_at_every_step(folder):
    """Otherwise what is drawn anew would pass for a change with t."""
    source = opened(folder, 9)
    first, second = ([videos for videos, _ in source.drawn(step)] for step in (100, 900))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)) and len(first) == 2
    texts = [[inputs["encoder_hidden_states"] for _, inputs in source.drawn(step)] for step in (100, 900)]
    assert all(torch.equal(a, b) for a, b in zip(*texts, strict=True))


def test_command_on_folders(folder, tmp_path, capsys):
    out = tmp_path / "out"
    run(app, "--ckpt", folder, folder, "--grid", "5x2x3", "--timestep", 100, 900, "--samples", 4, "--out", out)
    printed = capsys.readouterr().out
    assert "temporal profiles" in printed and "spatial profiles" in printed and "over networks" in printed
    components = pd.read_csv(out / "components.csv")
    assert list(components[components["axis"] == "spatial"].component) == ["seed", "head", "t", "sequence", "both"]
    assert len(pd.read_csv(out / "heads.csv")) == 2 * 2 * 4
    assert json.loads((out / "summary.json").read_text())["timesteps"] == [100, 900]
    assert (out / "stability.png").read_bytes().startswith(b"\x89PNG")
    video = ("--ckpt", folder, "--grid", "5x2x3")
    assert refused(capsys, app, "--ckpt", folder).startswith("error: grid: ")
    assert refused(capsys, app, *video, "--timestep", 100).startswith("error: timestep: 100 alone")
    assert refused(capsys, app, *video, "--timestep", 100, 1000).startswith("error: timestep: 1000")
    assert refused(capsys, app, *video, "--samples", 2).startswith("error: samples: 2")
