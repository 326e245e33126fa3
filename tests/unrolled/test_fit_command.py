"""`python -m unrolled.fit`: what it prints and writes, and where its checkpoints go."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from probes.attention.__main__ import app as attention_app
from probes.controls.__main__ import app as controls_app
from probes.layers.__main__ import app as layers_app
from probes.modes.__main__ import app as modes_app
from probes.replacement.__main__ import app as replacement_app
from probes.spatial.__main__ import app as spatial_app
from reports.compare import app as report_app
from tests.builders import TINY, noisy, refused, run, write_csv
from unrolled import GaussianProcess, draw_training_set, fit_model, load_checkpoint, save_checkpoint
from unrolled.fit.__main__ import app as fit_app
from unrolled.fit.study import KINDS
from unrolled.options import ProcessOptions
from unrolled.train.__main__ import app as train_app

SMALL = ("--length", 5, "--dim", 2)
PROBES = {
    "attention": attention_app, "controls": controls_app, "layers": layers_app, "spatial": spatial_app,
    "replacement": replacement_app,
}  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("fitted")
    paths = {kind: folder / f"{kind}.pt" for kind in KINDS}
    for kind, path in paths.items():
        run(fit_app, "--kind", kind, "--samples", 50, "--seed", 3, *SMALL, "--out", path)
    return paths


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_hold_the_model_to_the_bit_and_how_it_was_made(fitted, kind):
    checkpoint = load_checkpoint(fitted[kind])
    process = ProcessOptions(length=5, dim=2).process()
    again = fit_model(kind, draw_training_set(process, 50, 3), (0.004, 8.0))
    x = noisy(process, 0.1)
    assert torch.equal(checkpoint.model(x, 0.1), again.model(x, 0.1))
    assert checkpoint.dtype == torch.float64 and checkpoint.t_range == (0.004, 8.0) and checkpoint.registers == 0
    assert isinstance(checkpoint.data, GaussianProcess) and checkpoint.exact and not checkpoint.training
    config, record = checkpoint.config, checkpoint.provenance
    assert (config["kind"], config["samples"], config["seed"], config["fitted"]) == (kind, 50, 3, again.facts)
    assert config["process"]["length"] == 5 and record["dtype"] == "float64" and record["command"] and record["torch"]


def test_it_prints_the_error_table(tmp_path, capsys):
    run(fit_app, "--kind", "kernel", "--samples", 40, *SMALL, "--out", tmp_path / "a.pt")
    printed = capsys.readouterr().out
    assert "relative score error" in printed and all(f"{t:g}" in printed for t in (0.01, 0.05, 0.2, 1, 3))
    assert "kernel of 40 sequences, kernel exponential, lengthscale " in printed


@pytest.mark.parametrize("probe", PROBES)
def test_probes_of_attention_refuse_a_model_without_it(fitted, tmp_path, capsys, probe):
    for kind in ("affine", "nearest"):
        line = refused(capsys, PROBES[probe], "--ckpt", fitted[kind], "--out", tmp_path / "out")
        assert line.startswith("error: ckpt: ") and "which has no attention; accepted: " in line
    assert list(tmp_path.iterdir()) == []


def test_the_operator_of_a_baseline_is_probed(fitted, tmp_path):
    """A probe that needs no attention takes every model: nothing of a Gaussian score is beyond an affine map, and much
    of the score of a finite set is."""
    rest = {}
    for kind in ("affine", "empirical"):
        run(modes_app, "--ckpt", fitted[kind], "--t", 0.2, "--out", tmp_path / kind)
        parts = pd.read_csv(tmp_path / kind / "parts.csv").set_index("part")
        rest[kind] = parts.share["rest"]
    assert rest["affine"] < 1e-20 < 0.5 < rest["empirical"]


def test_a_page_shows_baselines_without_attention(fitted, tmp_path):
    page = tmp_path / "page"
    files = ("--ckpt", fitted["affine"], "--ckpt", fitted["empirical"])
    run(report_app, *files, "--samples", 30, "--steps", 3, "--out", page)
    html = (page / "index.html").read_text()
    assert html.count("<h2 id=") == html.count("<h3>Covariance of generated sequences</h3>") == 2
    assert "<h3>Attention" not in html and "Decay fits" not in html and "GaussianScore, without parameters" in html
    names = {path.name for path in page.iterdir()}
    assert {"affine_errors.csv", "affine_covariance.png", "score_error.csv"} <= names
    assert not any("attention" in name or "maps" in name for name in names)


def test_a_csv_of_ones_own_goes_through_train_fit_probe_and_compare(tmp_path, capsys):
    data = ("--data", write_csv(tmp_path), "--length", 8)
    run(train_app, *TINY, *data, "--t-range", 0.1, 0.3, "--out", tmp_path / "series.pt")  # one t on the page
    run(fit_app, "--samples", 100, *data, "--out", tmp_path / "affine.pt")
    printed = capsys.readouterr().out
    assert "held-out" in printed and "affine of 100 sequences, shrinkage 0." in printed
    run(attention_app, "--ckpt", tmp_path / "series.pt", "--samples", 8, "--t", 0.1, "--out", tmp_path / "probe")
    files = ("--ckpt", tmp_path / "series.pt", "--ckpt", tmp_path / "affine.pt")
    run(report_app, *files, "--samples", 20, "--steps", 3, "--out", tmp_path / "page")
    html = (tmp_path / "page" / "index.html").read_text()
    assert html.count("<h2 id=") == 2 and "No exact score exists for real data" in html
    assert html.count("<h3>Attention by lag</h3>") == 1  # of the network alone


def test_kernels_are_fitted_to_a_series_by_family(tmp_path, capsys):
    data = ("--data", write_csv(tmp_path), "--length", 8, "--samples", 100, "--out", tmp_path / "a.pt")
    run(fit_app, "--kind", "kernel", "--temporal", "matern", *data)
    assert load_checkpoint(tmp_path / "a.pt").config["fitted"]["kernel"] == "matern"
    assert "temporal: has no effect beside --data" in refused(capsys, fit_app, "--temporal", "matern", *data)
    assert "power: has no effect" in refused(capsys, fit_app, "--kind", "kernel", "--power", 1, *data)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--kind", "ridge"], "--kind"),
        (["--samples", "0"], "samples: 0"),
        (["--samples", "1"], "samples: 1"),
        (["--samples", "2.5"], "samples: '2.5'"),
        (["--kind", "kronecker", "--samples", "9"], "samples: 9 is not accepted; accepted: an integer >= 10"),
        (["--kind", "kernel", "--samples", "8"], "samples: 8 is not accepted; accepted: an integer >= 9"),
        (["--data", "weather", "--samples", "100000"], "samples: 100000"),
        (["--seed", "-1"], "seed: -1"),
        (["--t-range", "2", "1"], "t_range: (2.0, 1.0)"),
        (["--smoothness", "2"], "smoothness: has no effect beside --temporal exponential"),
        (["--periods", "24"], "periods: has no effect without --data"),
        (["--data", "missing.csv"], "data: 'missing.csv'"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(tmp_path, monkeypatch, capsys, options, named):
    monkeypatch.chdir(tmp_path)
    assert named in refused(capsys, fit_app, *options)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced_on_demand_alone(tmp_path, capsys):
    out = tmp_path / "a.pt"
    run(fit_app, "--samples", 10, *SMALL, "--out", out)
    assert "out: " in refused(capsys, fit_app, "--samples", 11, *SMALL, "--out", out)
    assert load_checkpoint(out).config["samples"] == 10
    run(fit_app, "--samples", 11, *SMALL, "--out", out, "--overwrite")
    assert load_checkpoint(out).config["samples"] == 11


def test_a_covariance_that_is_none_is_damage(fitted, tmp_path):
    checkpoint = load_checkpoint(fitted["affine"])
    content = torch.load(fitted["affine"], weights_only=True)
    content["model"]["state"]["temporal"] = content["model"]["state"]["temporal"] - 2 * torch.eye(10)
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"^ckpt: .* is damaged .*positive semidefinite"):
        load_checkpoint(tmp_path / "bad.pt")
    save_checkpoint(tmp_path / "good.pt", checkpoint.model, checkpoint.data, {}, {})
    x = noisy(checkpoint.process, 0.1)
    assert torch.equal(load_checkpoint(tmp_path / "good.pt").model(x, 0.1), checkpoint.model(x, 0.1))
