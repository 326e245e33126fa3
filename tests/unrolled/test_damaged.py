"""Checkpoints from strangers: damaged in a byte or a part, contradicting themselves, claiming what they do not hold."""

import copy
import os
import random
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.builders import TINY, generator, many, refused, run
from unrolled import (
    DiT,
    DiTConfig,
    EmpiricalScore,
    Exponential,
    GaussianProcess,
    GaussianScore,
    InputError,
    construct,
    load_checkpoint,
    save_checkpoint,
)
from unrolled.archive import tensors_in
from unrolled.train.__main__ import _resumed
from unrolled.train.__main__ import app as train_app

CPU = torch.device("cpu")
JUNK: tuple[Any, ...] = (
    None, True, -1, 10**9, 0.5, float("nan"), 1e300, "", "x", [], [1, "a"], {}, {"a": 1}, {1: 2}, (), (3.0, 2.0), b"",
    torch.zeros(3), torch.zeros(0), torch.full((2, 2), float("nan")), torch.ones(2, dtype=torch.complex64),
    torch.ones(1, dtype=torch.int64),
)  # fmt: skip
"""What a part is replaced by."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run.pt"
    run(train_app, *TINY, "--length", 6, "--dim", 2, "--out", path)
    return path


def content_of(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def refusal(content: object, path: Path) -> str:
    """The line about a file with this content."""
    torch.save(content, path)
    with pytest.raises(InputError, match=r"^ckpt: .*; accepted: a checkpoint written by this project$") as error:
        load_checkpoint(path)
    return str(error.value)


def test_no_flipped_bit_changes_a_part_in_silence(trained, tmp_path):
    """A file with one flipped bit is refused, or every part of it is as before (the bit was padding)."""
    whole, other = trained.read_bytes(), tmp_path / "other.pt"
    before = dict(tensors_in(content_of(trained)))
    chosen = random.Random(0)
    anywhere = [chosen.randrange(len(whole)) for _ in range(many(60, 400))]
    directory = [len(whole) - 1 - chosen.randrange(len(whole) // 10) for _ in range(many(60, 400))]  # at the end
    places = anywhere + directory
    refusals = 0
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << chosen.randrange(8)
        other.write_bytes(flipped)
        try:
            load_checkpoint(other)
        except InputError as error:
            assert str(error).startswith(f"ckpt: {str(other)!r} ")
            refusals += 1
        else:
            after = dict(tensors_in(content_of(other)))
            assert after.keys() == before.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert refusals > len(places) / 2


def test_a_flipped_weight_is_named(trained, tmp_path):
    whole = trained.read_bytes()
    weight = content_of(trained)["model"]["state"]["embed.weight"]
    place = whole.index(weight.numpy().tobytes())
    (tmp_path / "other.pt").write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
    with pytest.raises(InputError, match=r"tensor 'model.state.embed.weight' has a wrong checksum"):
        load_checkpoint(tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"heads": 1}, "heads"), ({"norm": "none"}, "norm"), ({"t_range": (0.01, 8.0)}, "t_range"),
        ({"length": 7}, "position"), ({"dim": 3}, "embed"), ({"depth": 2}, "blocks"),
    ],
)  # fmt: skip
def test_sizes_that_contradict_the_rest_are_refused(trained, tmp_path, change, named):
    content = content_of(trained)
    content["model"]["config"] |= change
    assert named in refusal(content, tmp_path / "other.pt")


def test_times_that_contradict_the_time_features_are_refused(trained, tmp_path):
    """Also where the options of the run were changed with them."""
    content = content_of(trained)
    content["model"]["config"]["t_range"] = content["config"]["t_range"] = (0.01, 8.0)
    assert "knots" in refusal(content, tmp_path / "other.pt")


@pytest.mark.parametrize("process", [(5, 2), (6, 1)])
def test_data_of_another_shape_are_refused(trained, tmp_path, process):
    content = content_of(trained)
    length, dim = process
    content["data"]["state"] = GaussianProcess(length, Exponential(4), torch.eye(dim)).state()
    assert "its data of" in refusal(content, tmp_path / "other.pt")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.float64])
def test_weights_of_another_dtype_are_refused(trained, tmp_path, dtype):
    content = content_of(trained)
    state = content["model"]["state"]
    state["embed.weight"] = state["embed.weight"].to(dtype)
    assert f"weight 'embed.weight' is {dtype}" in refusal(content, tmp_path / "other.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(trained, tmp_path, value):
    content = content_of(trained)
    content["model"]["state"]["blocks.0.mlp.0.weight"][3, 2] = value
    assert "weight 'blocks.0.mlp.0.weight' has NaN or infinite entries" in refusal(content, tmp_path / "other.pt")


@pytest.mark.parametrize(("algorithm", "kind"), [("chebyshev", "dit"), ("gradient_descent", "relu")])
def test_a_record_that_contradicts_its_model_is_refused(tmp_path, algorithm, kind):
    process = GaussianProcess(6, Exponential(3), torch.eye(1))
    save_checkpoint(tmp_path / "a.pt", construct(process, algorithm, 1, kind), process, {}, {})
    load_checkpoint(tmp_path / "a.pt")
    wrong = {"t_range": [0.01, 1.0], "dtype": "float32", "sizes": {"M": 1}, "steps": "two"}
    wrong |= {"ramps": 7, "dominance": 10.0} if kind == "dit" else {"truncation": None}
    for name, value in wrong.items():
        content = content_of(tmp_path / "a.pt")
        record = content["model"]["construction"]
        record[name] = {**record[name], **value} if isinstance(value, dict) else value
        assert "contradicts itself" in (line := refusal(content, tmp_path / "b.pt")) or "its record has" in line, name


def test_models_without_parameters_are_read_as_they_were(tmp_path):
    process = GaussianProcess(6, Exponential(3), torch.eye(2), torch.ones(1, 2).expand(6, 2))
    x = torch.randn(3, 6, 2, generator=generator(), dtype=torch.float64)
    for model in (GaussianScore.separable(process), EmpiricalScore.of(x)):
        save_checkpoint(tmp_path / "a.pt", model, process, {}, {})
        assert torch.equal(load_checkpoint(tmp_path / "a.pt").model(x, 0.3), model(x, 0.3))


def test_equal_weights_are_stored_once_and_read_apart(tmp_path):
    model = DiT(DiTConfig(length=6, dim=2, width=16, depth=2, heads=2))
    process = GaussianProcess(6, Exponential(3), torch.eye(2))
    save_checkpoint(tmp_path / "a.pt", model, process, {}, {})
    again = load_checkpoint(tmp_path / "a.pt").model
    biases = [block.mlp[0].bias for block in again.block_list]
    assert torch.equal(*biases) and biases[0].data_ptr() != biases[1].data_ptr()
    assert all(parameter.requires_grad for parameter in again.parameters())


CLAIMS = {
    "length": {"length": 2 * 10**7}, "ramps": {"ramps": 10**9}, "depth": {"depth": 10**6},
    "heads": {"heads": 10**7, "head_dim": 1}, "width": {"width": 2**40},
}  # fmt: skip


def test_what_a_file_declares_and_does_not_hold_takes_neither_time_nor_memory(trained, tmp_path):
    """Sizes, sparse weights and repeated numbers that would take gigabytes or minutes, in small files."""
    files = []
    for name, change in CLAIMS.items():
        content = content_of(trained)
        content["model"]["config"] |= change
        files.append(tmp_path / f"{name}.pt")
        torch.save(content, files[-1])
    for name, shape in (("sparse", [16, 2 * 10**7]), ("repeated", (2 * 10**7, 16))):
        content = content_of(trained)
        state, config = content["model"]["state"], content["model"]["config"]
        index, values = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
        if name == "sparse":
            config["dim"] = shape[1]
            state["embed.weight"] = {"shape": shape, "index": index, "values": values}
            state["head.out.weight"] = {"shape": shape[::-1], "index": index, "values": values}
            state["head.out.bias"] = {"shape": shape[1:], "index": index, "values": values}
        else:
            config["length"] = shape[0]
            state["position"] = torch.zeros(1, 1).expand(shape)
        files.append(tmp_path / f"{name}.pt")
        torch.save(content, files[-1])
    for file in files:
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        with pytest.raises(InputError, match=r"^ckpt: "):
            load_checkpoint(file)
        assert time.process_time() - start < 0.5, file
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024, file  # kilobytes


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), Path("/dev/stdin")):
        with pytest.raises(InputError, match=r"^ckpt: .*is not a file"):
            load_checkpoint(path)


def crafted(trained: Path, path: Path, change) -> Path:
    content = content_of(trained)
    content["training"]["step"] = content["training"]["schedule"]["last_epoch"] = 2
    change(content["training"])
    torch.save(content, path)
    return path


def moment(value: torch.Tensor):
    def change(training):
        training["optimiser"]["state"][0]["exp_avg"] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        moment(torch.zeros(1)), moment(torch.zeros(16, 6).T), moment(torch.zeros(6, 16, dtype=torch.float64)),
        lambda training: training["optimiser"]["state"].update({99: training["optimiser"]["state"][0]}),
        lambda training: training["optimiser"]["state"][0].update(step=torch.zeros(7)),
        lambda training: training["optimiser"]["state"][0].pop("exp_avg_sq"),
        lambda training: training["optimiser"]["param_groups"][0].update(amsgrad=True),
        lambda training: training["optimiser"]["param_groups"][0].update(lr="x"),
        lambda training: training["optimiser"]["param_groups"][0].update(params=[0]),
        lambda training: training["schedule"].update(last_epoch=3),
        lambda training: training.update(step=5),
        lambda training: training.update(losses=torch.zeros(2, 2)),
        lambda training: training["model"].update(position=torch.zeros(1)),
    ],
)  # fmt: skip
def test_a_training_state_of_another_run_is_refused_before_it_is_used(trained, tmp_path, capsys, change):
    """The first of these made the fused optimiser write outside its memory."""
    path = crafted(trained, tmp_path / "run.pt", change)
    before = path.read_bytes()
    line = refused(capsys, train_app, "--resume", path, "--device", "cpu")
    assert line.startswith(f"error: resume: {str(path)!r} ") and "training" in line
    assert path.read_bytes() == before


def test_a_training_state_that_fits_goes_on(trained, tmp_path):
    path = crafted(trained, tmp_path / "run.pt", lambda training: None)
    run(train_app, "--resume", path)
    assert load_checkpoint(path).training["step"] == 4


def parts(content: Any, keys: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to every part of nested dicts and lists."""
    found = [keys] if keys else []
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            found += parts(content[key], (*keys, key))
    return found


def damaged(content: dict[str, Any], keys: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy in which one part is another value, or gone where that is ..."""
    content = copy.deepcopy(content)
    place: Any = content
    for key in keys[:-1]:
        place = place[key]
    if value is ...:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return content


@pytest.mark.parametrize("kind", ["trained", "hand-set"])
def test_a_damaged_part_ends_in_one_line(trained, tmp_path, kind):
    """A part of a file is replaced or removed: the file is refused in one line, or what it holds can be used."""
    content = content_of(trained)
    if kind == "hand-set":
        process = GaussianProcess(3, Exponential(3), torch.eye(1))
        save_checkpoint(tmp_path / "a.pt", construct(process, "chebyshev", 1, ramps=16), process, {}, {})
        content = content_of(tmp_path / "a.pt")
    choice, other, refusals = random.Random(1), tmp_path / "other.pt", 0
    chosen = [choice.choice(parts(content)) for _ in range(many(60, 2000))]
    for keys in chosen:
        torch.save(damaged(content, keys, choice.choice((..., *JUNK))), other)
        try:
            checkpoint = load_checkpoint(other)
            x = torch.zeros(1, checkpoint.data.length, checkpoint.data.dim)
            assert bool(checkpoint.model(x, 0.3).isfinite().all())
            checkpoint.process.score(x, 0.3)
            if checkpoint.training:
                _resumed(other, CPU)
        except InputError as error:
            assert "\n" not in str(error)
            refusals += 1
    assert refusals > len(chosen) / 2
