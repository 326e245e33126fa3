"""Checkpoints: what goes in comes out, and what is not a checkpoint is refused without running it."""

import gzip
import os
import pickle
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from tests.builders import generator
from unrolled import (
    DiT,
    DiTConfig,
    Exponential,
    GaussianProcess,
    InputError,
    SeriesData,
    construct,
    load_checkpoint,
    save_checkpoint,
)
from unrolled.checkpoint import FORMAT_VERSION, Checkpoint
from unrolled.files import atomic_path, require_writable_folder
from unrolled.models.dit import DiTSizes
from unrolled.options import TrainConfig, config_from_dict
from unrolled.provenance import provenance

FIXTURES = Path(__file__).parents[1] / "fixtures"
"""Files of format 1, compressed, as python -m unrolled.handset and python -m unrolled.train wrote them."""
HAND_SET = {
    "chebyshev": ("chebyshev", 2, "dit", {"ramps": 24, "norm": "layer"}),
    "preconditioned": ("preconditioned", 1, "dit", {"ramps": 24}),
    "conjugate_gradient": ("conjugate_gradient", 1, "relu", {"dtype": torch.float32}),
}
"""File -> what `construct` was asked for, beside t_range (0.05, 2)."""
OPTIONS = TrainConfig(dit=DiTSizes(width=16, depth=1, heads=2))
"""Of the run whose checkpoint most tests look at."""
SCORE_OF_TRAINED = [0.0918593, -0.0062571, 0.0463398, -0.0697702]
"""What the trained model gave at t = 0.3 for x = -1, -1/3, 1/3, 1 when its file was written."""


def of_format_1(name: str, folder: Path) -> Checkpoint:
    path = folder / f"{name}.ckpt"
    path.write_bytes(gzip.decompress((FIXTURES / f"{name}.ckpt.gz").read_bytes()))
    assert torch.load(path, weights_only=True)["format_version"] == 1
    return load_checkpoint(path)


def saved_again(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    save_checkpoint(path, checkpoint.model, checkpoint.data, checkpoint.config, checkpoint.provenance)
    assert torch.load(path, weights_only=True)["format_version"] == FORMAT_VERSION
    return load_checkpoint(path)


@pytest.fixture
def saved(tmp_path, small_process):
    model = DiT(DiTConfig(length=8, dim=2, t_range=OPTIONS.t_range, **asdict(OPTIONS.dit)))
    torch.nn.init.normal_(model.head.out.weight, generator=generator())
    path = tmp_path / "run.pt"
    save_checkpoint(path, model, small_process, asdict(OPTIONS), provenance(), [{"step": 1, "loss": 0.5}])
    return path, model


def test_round_trip(saved, small_process):
    path, model = saved
    checkpoint = load_checkpoint(path)
    x = torch.randn(2, 8, 2, generator=generator())
    assert torch.equal(checkpoint.model(x, 0.3), model(x, 0.3)) and not checkpoint.model.training
    assert torch.equal(checkpoint.process.score(x, 0.3), small_process.score(x, 0.3)) and checkpoint.exact
    assert config_from_dict(TrainConfig, checkpoint.config) == OPTIONS
    assert checkpoint.provenance["torch"] == str(torch.__version__) and checkpoint.history == [{"step": 1, "loss": 0.5}]
    assert [each.name for each in path.parent.iterdir()] == ["run.pt"]


@pytest.mark.parametrize("name", HAND_SET)
def test_hand_set_models_of_format_1(tmp_path, name):
    """The record of an old file is that of the same model built today, to the rounding of another machine."""
    old = of_format_1(name, tmp_path)
    algorithm, steps, kind, options = HAND_SET[name]
    new = construct(old.process, algorithm, steps, kind, t_range=(0.05, 2.0), **options)
    found, expected = old.model.construction, new.construction
    assert type(found) is type(expected) and vars(found).keys() == vars(expected).keys()
    for field, value in vars(expected).items():
        assert approximately(vars(found)[field], value), field
    x = torch.randn(2, 4, 1, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(old.model(x, 0.3), new(x, 0.3), rtol=1e-6, atol=1e-6)
    again = saved_again(old, tmp_path / "again.pt").model
    assert again.construction == found and torch.equal(again(x, 0.3), old.model(x, 0.3))


def approximately(a: object, b: object) -> bool:
    """Equality of plain values, of numbers to a thousandth or, where they are errors of rounding, to 1e-12."""
    if isinstance(b, dict):
        return isinstance(a, dict) and a.keys() == b.keys() and all(approximately(a[key], b[key]) for key in b)
    if isinstance(b, list):
        return isinstance(a, list) and len(a) == len(b) and all(map(approximately, a, b))
    return a == (pytest.approx(b, rel=1e-3, abs=1e-12) if isinstance(b, float) else b)


def test_trained_models_of_format_1(tmp_path):
    old = of_format_1("trained", tmp_path)
    x = torch.linspace(-1, 1, 4).reshape(1, 4, 1)
    assert old.model.construction is None and old.training and old.history
    score = old.model(x, 0.3).flatten()
    torch.testing.assert_close(score, torch.tensor(SCORE_OF_TRAINED), rtol=1e-4, atol=1e-5)
    assert torch.equal(saved_again(old, tmp_path / "again.pt").model(x, 0.3).flatten(), score)


def test_float64_models_stay_float64(tmp_path, small_process):
    model = DiT(DiTConfig(length=8, dim=2, width=16, depth=1, heads=2)).double()
    save_checkpoint(tmp_path / "a.pt", model, small_process, {}, {})
    again = load_checkpoint(tmp_path / "a.pt").model
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert next(again.parameters()).dtype == torch.float64


def test_repeated_and_sparse_weights_take_no_room(tmp_path):
    """Eight blocks repeat each other but for their gates, and gates are sparse: all of it fits in a seventh."""
    process = GaussianProcess(16, Exponential(4.0), torch.eye(2))
    model = construct(process, "chebyshev", 8)
    path = tmp_path / "a.pt"
    save_checkpoint(path, model, process, {}, {})
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    assert path.stat().st_size < weights / 7
    again = load_checkpoint(path).model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("index", [[10**6], [-(10**6)], [0.5]])
def test_entries_outside_a_weight_are_refused(saved, tmp_path, index):
    path, _ = saved
    content = torch.load(path, weights_only=True)
    content["model"]["state"]["embed.weight"] = {
        "shape": [16, 2], "index": torch.tensor(index), "values": torch.ones(1),
    }  # fmt: skip
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"^ckpt: .* is damaged"):
        load_checkpoint(tmp_path / "other.pt")


def test_series_travel_with_the_checkpoint(tmp_path):
    data = SeriesData([torch.randn(400, 2, generator=generator(), dtype=torch.float64)], 8, {"source": "noise"})
    model = DiT(DiTConfig(length=8, dim=2, width=16, depth=1, heads=2))
    save_checkpoint(tmp_path / "a.pt", model, data, {}, {})
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    assert not checkpoint.exact and isinstance(checkpoint.data, SeriesData)
    assert checkpoint.data.description["source"] == "noise"
    torch.testing.assert_close(checkpoint.process.temporal_covariance, data.temporal_covariance, atol=1e-6, rtol=0)


class Malicious:
    """Unpickling this makes a folder: the harmless stand-in for any code."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_malicious_file_is_refused_and_not_run(tmp_path):
    for write in (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))):
        path, trap = tmp_path / "evil.pt", tmp_path / "trap"
        write({"format": "unrolled checkpoint", "format_version": 1, "model": Malicious(trap)}, path)
        with pytest.raises(ValueError, match=r"^ckpt: .*(code in a file is not run|is not a checkpoint)"):
            load_checkpoint(path)
        assert not trap.exists()


def test_truncated_foreign_missing_and_newer_files_are_refused(saved, tmp_path):
    path, _ = saved
    whole = path.read_bytes()
    other = tmp_path / "other.pt"
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2], whole[:-20], whole[100:]):
        other.write_bytes(content)
        with pytest.raises(ValueError, match=r"^ckpt: .*accepted: a checkpoint"):
            load_checkpoint(other)
    for content in ({"state_dict": {}}, [1, 2], torch.zeros(3)):
        torch.save(content, other)
        with pytest.raises(ValueError, match=r"^ckpt: .*is of another program"):
            load_checkpoint(other)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "format_version": FORMAT_VERSION + 1}, other)
    with pytest.raises(ValueError, match=r"^ckpt: .*of a newer version of this project \(format version 4, here 3\)"):
        load_checkpoint(other)
    for unknown in (0, None, "two", [1], 1.5):
        torch.save({**content, "format_version": unknown}, other)
        with pytest.raises(ValueError, match=r"^ckpt: .*is damaged \(format version"):
            load_checkpoint(other)
    for missing in tmp_path / "none.pt", tmp_path:
        with pytest.raises(ValueError, match=r"^ckpt: .*is not a file"):
            load_checkpoint(missing)


@pytest.mark.parametrize("damage", ["model", "data", "class", "weights", "config", "kernel"])
def test_damaged_content_is_refused(saved, tmp_path, damage):
    content = torch.load(saved[0], weights_only=True)
    if damage in ("model", "data"):
        del content[damage]
    elif damage == "class":
        content["model"]["class"] = "Unknown"
    elif damage == "weights":
        content["model"]["state"].pop("position")
    elif damage == "config":
        content["model"]["config"]["width"] = "wide"
    else:
        content["data"]["state"]["temporal"]["power"] = 3.0
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"^ckpt: .*is damaged"):
        load_checkpoint(tmp_path / "other.pt")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^out: .*accepted: a writable folder"):
        require_writable_folder("out", tmp_path / "file" / "folder")
