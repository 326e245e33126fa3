"""Folders from strangers: configurations, indices and weights that are damaged or contradict each other."""

import json
import random
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from probes.video.folder import WEIGHTS, load_folder
from tests.builders import many
from tests.probes.test_video_folders import CONFIGS
from unrolled import InputError

NAME = "WanTransformer3DModel"
JUNK = (None, True, 0, -1, 2.5, 10**9, "x", "", [], [1, 2], {}, {"a": 1}, [[[]]])


@pytest.fixture
def folder(tmp_path) -> Path:
    diffusers = pytest.importorskip("diffusers")
    path = tmp_path / "model"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(diffusers, NAME)(num_attention_heads=2, **CONFIGS[NAME]).save_pretrained(path)
    return path


def change_config(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def sharded(folder: Path) -> tuple[Path, dict[str, str]]:
    """Two files and their index in place of one file."""
    weights = load_file(folder / WEIGHTS)
    files = {key: f"part-{k % 2}.safetensors" for k, key in enumerate(sorted(weights))}
    for name in set(files.values()):
        save_file({key: weights[key] for key in files if files[key] == name}, folder / name)
    (folder / WEIGHTS).unlink()
    index = folder / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return index, files


def refusal(folder: Path) -> str:
    with pytest.raises(InputError, match="^ckpt: ") as error:
        load_folder(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("value", [None, 1, [], {}, "x", [["WanTransformer3DModel"]]])
def test_names_of_classes_are_of_any_type(folder, value):
    change_config(folder, _class_name=value)
    assert "is not accepted" in refusal(folder)


def test_damaged_configurations_end_in_one_line_or_load(folder):
    """Each value of config.json replaced: heads, sizes and layers among them."""
    config = json.loads((folder / "config.json").read_text())
    chosen = random.Random(0)
    for _ in range(many(25, 500)):
        name = chosen.choice([name for name in config if not name.startswith("_")])
        (folder / "config.json").write_text(json.dumps({**config, name: chosen.choice(JUNK)}))
        try:
            load_folder(folder)
        except InputError as error:
            assert str(error).startswith("ckpt: ") and "\n" not in str(error)


def test_deep_brackets_and_many_layers_are_refused_at_once(folder):
    start = time.process_time()
    change_config(folder, num_layers=10**6)
    assert "num_layers 1000000" in refusal(folder)
    (folder / "config.json").write_text("[" * 100_000)
    assert "cannot be read as JSON" in refusal(folder)
    assert time.process_time() - start < 5  # the class itself is imported in it


def test_an_index_must_agree_with_its_files(folder):
    index, files = sharded(folder)
    assert load_folder(folder).config.num_layers == 1
    first, second = sorted(files)[:2]
    for wrong in ({**files, first: files[second]}, {key: files[key] for key in files if key != first}):
        index.write_text(json.dumps({"weight_map": wrong}))
        assert f"holds {first!r}, which its index has in" in refusal(folder)
    for junk in (None, [], "x", 3, {first: 1}, {first: ["a"]}):
        index.write_text(json.dumps({"weight_map": junk}))
        assert "has no map of weights" in refusal(folder)
    index.write_text(json.dumps({"weight_map": {**files, first: "../model/part-0.safetensors"}}))
    assert "lacks" in refusal(folder)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_weights_that_are_no_real_numbers_are_refused(folder, dtype):
    weights = load_file(folder / WEIGHTS)
    first = min(weights)
    save_file({**weights, first: weights[first].to(dtype)}, folder / WEIGHTS)
    assert f"weight {first!r}" in refusal(folder) and "accepted: F64" in refusal(folder)
