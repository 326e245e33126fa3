"""The commands as a user runs them: from nothing to a report, on every kind of data, and with every kind of bad
input."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from probes.attention.__main__ import app as attention_app
from reports.compare import app as report_app
from reports.experiments.wrong_stories import DUE
from tests.builders import TINY, refused, run, write_csv, write_video
from unrolled import load_checkpoint
from unrolled.handset.__main__ import app as handset_app
from unrolled.kernels import KERNELS
from unrolled.train.__main__ import app as train_app


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run.pt"
    run(train_app, *TINY, "--length", 12, "--dim", 2, "--out", path)
    return path


def check_probe(folder: Path, layers: int, heads: int, length: int) -> None:
    profiles, fits = pd.read_csv(folder / "attention.csv"), pd.read_csv(folder / "fits.csv")
    times = profiles.t.nunique()
    equal = folder / "equal_heads.csv"  # heads that equal an earlier one stand there, and in no other file
    twins = len(pd.read_csv(equal)) if equal.exists() else 0
    assert len(profiles) == (layers * heads * times - twins) * (2 * length - 1)
    assert len(fits[fits.kind == "attention"]) == (layers * heads * times - twins) * len(KERNELS)
    assert len(pd.read_csv(folder / "choices.csv")) == layers * heads * times - twins
    assert len(fits[fits.kind == "true covariance"]) == len(KERNELS)
    # Every row of an attention map sums to 1: the lag means weighted by their pairs, and what goes to registers, sum to
    # N.
    summary = json.loads((folder / "summary.json").read_text())
    pairs = length - profiles.lag.abs()
    sums = (profiles.attention * pairs).groupby([profiles.layer, profiles["head"], profiles.t]).sum()
    for (layer, head, t), total in sums.items():
        outside = summary["attention_to_registers"][f"{t:g}"][layer][head]
        assert total + length * outside == pytest.approx(length, rel=1e-5)
    assert summary["largest_deviation_from_fused"] < 1e-4 and summary["settings"]["command"]
    for name in ("decay.png", "maps.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def check_page(folder: Path, sections: int) -> str:
    html = (folder / "index.html").read_text()
    assert html.count("<h2 id=") == sections
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert sources and all(each.startswith(("data:image/png;base64,", "#")) for each in sources)  # opens from disk
    assert "<script" not in html and 'name="viewport"' in html and "@media print" in html
    assert all(path.stat().st_size > 0 for path in folder.iterdir())
    return html


def test_from_nothing_to_a_report(trained, tmp_path, capsys):
    run(attention_app, "--ckpt", trained, "--samples", 12, "--t", 0.05, 1, "--out", tmp_path / "probe")
    printed = capsys.readouterr().out
    assert "true covariance" in printed and "layer 0 head 1" in printed and "…" not in printed
    check_probe(tmp_path / "probe", layers=1, heads=2, length=12)
    run(report_app, "--ckpt", trained, "--ckpt", trained, "--samples", 40, "--steps", 4, "--out", tmp_path / "page")
    html = check_page(tmp_path / "page", sections=2)
    assert "exact score" in html and "Exponential(lengthscale=4.0, power=1.0)" in html
    assert "Would a wrong story pass?" in html and all(f"<td>{story}</td>" in html for story in DUE)
    truth = pd.read_csv(next((tmp_path / "page").glob("*_generated.csv"))).query("source == 'true'")
    np.testing.assert_allclose(truth.correlation, np.exp(-truth.lag / 4), rtol=1e-12)


def test_training_prints_the_error_table_and_logs(tmp_path, capsys):
    run(train_app, *TINY, "--length", 6, "--dim", 1, "--registers", 1, "--norm", "none", "--out", tmp_path / "a.pt")
    printed = capsys.readouterr().out
    assert all(f"{t:g}" in printed for t in (0.01, 0.05, 0.2, 1, 3)) and "relative score error" in printed
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    assert checkpoint.history[-1]["step"] == 4 and checkpoint.provenance["dtype"] == "float32"
    assert checkpoint.model.config.registers == 1 and checkpoint.process.length == 6


@pytest.mark.parametrize("family", ["polynomial", "logarithmic", "matern"])
def test_process_options(tmp_path, family):
    shape = "smoothness" if family == "matern" else "power"
    options = f"--length 6 --dim 1 --lengthscale 3 --{shape} 1.25 --spatial identity".split()
    run(train_app, *TINY, *options, "--temporal", family, "--out", tmp_path / "a.pt")
    assert load_checkpoint(tmp_path / "a.pt").process.temporal.config() == {
        "name": family, "lengthscale": 3.0, shape: 1.25,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["weather", "csv", "npy", "video"])
def test_real_data_goes_through_all_three_commands(tmp_path, capsys, kind):
    source: str | Path = "weather"
    if kind == "csv":
        source = write_csv(tmp_path)
    elif kind == "npy":
        source = tmp_path / "series.npy"
        np.save(source, np.random.default_rng(0).standard_normal((300, 2)).cumsum(axis=0))
    elif kind == "video":
        source = write_video(tmp_path)
    out = tmp_path / "run.pt"
    run(train_app, *TINY, "--data", source, "--length", 10, "--dim", 2, "--out", out)
    assert "held-out" in capsys.readouterr().out
    if isinstance(source, Path):
        source.unlink()  # the checkpoint carries the series
    run(attention_app, "--ckpt", out, "--samples", 8, "--t", 0.1, "--out", tmp_path / "probe")
    assert "empirical covariance" in capsys.readouterr().out
    check_probe(tmp_path / "probe", layers=1, heads=2, length=10)
    run(report_app, "--ckpt", out, "--samples", 24, "--steps", 3, "--out", tmp_path / "page")
    assert "empirical" in check_page(tmp_path / "page", sections=1)


def test_resume_continues_and_leaves_a_complete_run_alone(trained, tmp_path, capsys):
    path = tmp_path / "run.pt"
    shutil.copy(trained, path)
    run(train_app, "--resume", path)
    again, before = load_checkpoint(path), load_checkpoint(trained)
    assert again.training["step"] == 4 and again.history == before.history
    for a, b in zip(again.model.parameters(), before.model.parameters(), strict=True):
        assert torch.equal(a, b)
    capsys.readouterr()
    assert "--width" in refused(capsys, train_app, "--resume", path, "--width", 32)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--temporal", "cosine"], "--temporal"),
        (["--power", "2.5"], "power: 2.5"),
        (["--lengthscale", "-1"], "lengthscale: -1.0"),
        (["--length", "0"], "length: 0"),
        (["--dim", "0"], "dim: 0"),
        (["--length", "abc"], "length: 'abc'"),
        (["--heads", "3"], "heads: 3"),
        (["--t-range", "0", "1"], "t_range: (0.0, 1.0)"),
        (["--batch", "7"], "batch: 7"),
        (["--steps", "0"], "steps: 0"),
        (["--data", "missing.csv"], "missing.csv"),
        (["--data", "weather", "--dim", "99"], "dim: 99"),
        (["--nonsense"], "--nonsense"),
        (["--preset", "huge"], "--preset"),
        (["--device", "tpu"], "--device"),
        (["--out", "/proc/nowhere/run.pt"], "out: '/proc/nowhere'"),
    ],
)
def test_training_refuses_bad_input(tmp_path, monkeypatch, capsys, options, named):
    monkeypatch.chdir(tmp_path)
    assert named in refused(capsys, train_app, *options)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_not_replaced(trained, capsys):
    before = trained.read_bytes()
    assert "out: " in refused(capsys, train_app, *TINY, "--out", trained)
    assert trained.read_bytes() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_cuda_is_named(tmp_path, capsys):
    assert "device: 'cuda'" in refused(capsys, train_app, "--device", "cuda", "--out", tmp_path / "a.pt")


@pytest.mark.parametrize("app", [attention_app, report_app], ids=["probe", "report"])
def test_probe_and_report_refuse_bad_checkpoints(trained, tmp_path, capsys, app):
    out = tmp_path / "out"
    bad = tmp_path / "bad.pt"
    bad.write_bytes(trained.read_bytes()[:-100])
    for path in (bad, tmp_path / "missing.pt", tmp_path):
        assert "ckpt: " in refused(capsys, app, "--ckpt", path, "--out", out)
    assert not out.exists()
    (tmp_path / "file").write_text("")
    assert "out: " in refused(capsys, app, "--ckpt", trained, "--out", tmp_path / "file" / "deeper")
    assert "--ckpt" in refused(capsys, app, "--out", out)


def test_probe_refuses_times_and_counts(trained, tmp_path, capsys):
    for options, named in ((["--t", "0"], "t: 0"), (["--t", "9"], "t: 9"), (["--samples", "1"], "samples: 1")):
        assert named in refused(capsys, attention_app, "--ckpt", trained, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_sequences_too_short_for_a_fit_are_refused(tmp_path, capsys):
    run(train_app, *TINY, "--length", 3, "--dim", 1, "--out", tmp_path / "short.pt")
    for app in (attention_app, report_app):
        line = refused(capsys, app, "--ckpt", tmp_path / "short.pt", "--out", tmp_path / "out")
        assert "3 frames" in line and not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", ["unrolled.train", "probes.attention", "reports.compare"])
def test_help_of_the_modules(module):
    """As separate processes: what `python -m` does, and that help is there without a traceback."""
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and f"python -m {module}" in done.stdout and done.stderr == ""
    assert "Parameters" in done.stdout


def test_bad_input_of_a_process_has_status_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "probes.attention", "--ckpt", str(tmp_path / "none.pt")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("error: ckpt: ")


@pytest.mark.parametrize("algorithm", ["chebyshev", "preconditioned"])
def test_hand_set_models_go_through_probe_and_report(tmp_path, capsys, algorithm):
    out = tmp_path / "hand.pt"
    run(handset_app, "--algorithm", algorithm, "--steps", 2, "--length", 10, "--dim", 2, "--heads", 26, "--out", out)
    assert "kappa_t" in capsys.readouterr().out
    record = load_checkpoint(out).model.construction
    run(attention_app, "--ckpt", out, "--samples", 6, "--t", 0.1, "--out", tmp_path / "probe")
    check_probe(tmp_path / "probe", layers=int(record.sizes["L"]), heads=int(record.sizes["M"]), length=10)
    assert "out: " in refused(capsys, handset_app, "--out", out)
    assert "power: 3.0" in refused(capsys, handset_app, "--power", 3, "--out", tmp_path / "other.pt")
    small = ("--steps", 2, "--length", 6, "--out", tmp_path / "other.pt")
    assert "tolerance: " in refused(capsys, handset_app, "--tolerance", 1e-15, *small)


def test_relu_models_go_through_the_probe(tmp_path, capsys):
    out = tmp_path / "relu.pt"
    small = ("--model", "relu", "--length", 9, "--dim", 1, "--out", out)
    run(handset_app, "--algorithm", "gradient_descent", "--steps", 1, *small)
    assert "R " in capsys.readouterr().out
    run(attention_app, "--ckpt", out, "--samples", 6, "--t", 0.1, "--out", tmp_path / "probe")
    fits = pd.read_csv(tmp_path / "probe" / "fits.csv")
    assert set(fits.query("kind == 'attention'")["layer"]) == {1}  # the layer of lag heads; products have no decay
    assert "algorithm: 'conjugate_gradient'" in refused(
        capsys, handset_app, "--algorithm", "conjugate_gradient", "--out", tmp_path / "other.pt"
    )
    assert not (tmp_path / "other.pt").exists()
