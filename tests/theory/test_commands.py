"""The command lines of the theory, run as one types them."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import pandas as pd
import pytest

from reports.experiments.tails import DECAYS
from theory.bound import guarantee, solver_rows, tail_bound, truncation_for
from theory.page import page
from unrolled import Exponential, GaussianProcess, Logarithmic, Matern, Polynomial, RoughPolynomial
from unrolled.cli import run_app


def run(capsys, module: str, *arguments: str) -> tuple[int, str, str]:
    """(status, standard output, standard error) of a command line, in this process: imports take seconds."""
    status = 0
    try:
        run_app(import_module(module).app, arguments)
    except SystemExit as ended:
        status = int(ended.code or 0)
    written = capsys.readouterr()
    return status, written.out, written.err


def test_check(tmp_path, capsys):
    out = tmp_path / "claims.json"
    options = ("--claim", "sink-head", "--verbose", "--mutants", "--json", str(out))
    status, text, errors = run(capsys, "theory.check", *options)
    assert status == 0, errors
    assert "1 of 1 claims hold" in text and "step 1:" in text and "proved for all parameters: 1" in text
    rows = json.loads(out.read_text())
    assert rows[0]["status"] == "holds" and {row["strength"] for row in rows} == {"all"}
    assert {row["status"] for row in rows[1:]} == {"refuted"} and len(rows) >= 12
    assert f"mutants killed: {len(rows) - 1}/{len(rows) - 1}" in text
    assert "\\frac" in run(capsys, "theory.check", "--claim", "sink-head", "--latex")[1]


@pytest.mark.slow
def test_check_as_one_types_it():
    done = subprocess.run(
        [sys.executable, "-m", "theory.check", "--claim", "gelu-pair"], capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 of 1 claims hold" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("theory.check", "--claim", "nonsense"), "claim: 'nonsense' is not accepted; accepted: score-formula, "),
        (("theory.bound", "--eps", "0"), "eps: 0.0 is not accepted"),
        (("theory.bound", "--eps", "-1e-3"), "eps"),
        (("theory.bound", "--t", "0"), "t: 0.0 is not accepted"),
        (("theory.bound", "--power", "2.5"), "power: 2.5 is not accepted; accepted: a number in (0, 2]"),
        (("reports.tails", "--lengthscale", "0"), "lengthscale: 0"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, _, errors = run(capsys, *arguments)
    assert status == 2
    assert named in errors and len(errors.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_false_claim_ends_with_status_1(monkeypatch, capsys):
    from theory import check, registry

    name = "masked-product"
    subject, claim = registry.claims()[name]
    mutant = claim.mutants[0]
    false = replace(claim, statement=mutant.statement)
    monkeypatch.setitem(registry.claims(), name, (subject, false))
    with pytest.raises(SystemExit) as ended:
        check.check(claim=name)
    assert ended.value.code == 1
    assert "0 of 1 claims hold" in capsys.readouterr().out


def test_a_mutant_that_survives_ends_with_status_1(monkeypatch, capsys):
    from theory import check, registry
    from theory.claim import Mutant

    subject, claim = registry.claims()["masked-product"]
    harmless = Mutant("nothing changed", claim.statement)
    monkeypatch.setitem(registry.claims(), claim.name, (subject, replace(claim, mutants=(*claim.mutants, harmless))))
    with pytest.raises(SystemExit) as ended:
        check.check(claim=claim.name, mutants=True)
    assert ended.value.code == 1
    text = capsys.readouterr().out
    assert "1 of 1 claims hold" in text and "the mutant 'nothing changed' survives: holds" in text


def test_page_writes_a_file(tmp_path, capsys):
    assert run(capsys, "theory.page", "--out", str(tmp_path / "claims.md"))[0] == 0
    assert (tmp_path / "claims.md").read_text() == page()


def test_bound_holds_against_built_models():
    process = GaussianProcess(6, Polynomial(1.0, 3.0), [[1.0]])
    eps = 2e-2
    rows = solver_rows(process, 0.05, eps)
    assert len(rows) == 6
    for name, steps, *_, error, measured in rows:
        assert int(steps) >= 1
        number, *words = error.split()
        if "preconditioned" in name:  # an expectation, which the model meets
            assert words == ["expected"] and float(measured) <= 1.05 * float(number)
        else:
            assert not words and float(measured) <= float(number) <= 1.01 * eps
    bounds = guarantee(process, 0.05, eps)
    assert 0 < bounds["KL_T"] < bounds["KL"] and 0 < bounds["TV"] < 1


def test_bound_of_the_command(capsys):
    options = ("--length", "4", "--dim", "1", "--lengthscale", "1", "--t", "0.1", "--eps", "0.05")
    status, text, errors = run(capsys, "theory.bound", *options)
    assert status == 0, errors
    for words in ("kappa_t", "DiT, preconditioned", "ReLU, conjugate gradient", "KL at most (guarantee)", "TV at most"):
        assert words in text


@pytest.mark.parametrize(
    ("kernel", "claim"),
    [
        (Exponential(2.0, 1.0), "tail-ou"), (Exponential(2.0, 0.5), "tail-exponential"),
        (Polynomial(2.0, 2.0), "tail-polynomial"), (Polynomial(2.0, 1.0), "tail-polynomial-harmonic"),
        (Polynomial(2.0, 0.5), "tail-polynomial-heavy"), (Logarithmic(2.0, 1.0), "tail-logarithmic"),
        (RoughPolynomial(2.0, 2.0), "tail-rough-polynomial"),
        (RoughPolynomial(2.0, 1.0), "tail-rough-polynomial-harmonic"), (Exponential(2.0, 2.0), "tail-exponential"),
        (Matern(2.0, 1.5), "tail-matern"), (Matern(0.5, 0.3), "tail-matern"), (Matern(16.0, 100.0), "tail-matern"),
    ],
)  # fmt: skip
def test_tails_are_bounded_by_their_claim(kernel, claim):
    process = GaussianProcess(24, kernel, [[1.0]])
    for lags in (1, 3, 10, 23):
        name, bound = tail_bound(process, lags)
        assert name == claim
        assert 2 * float(process.temporal_covariance[0, lags:].sum()) <= bound * (1 + 1e-12)
    assert tail_bound(process, 24) == ("", 0.0)


def test_truncation_for_leaves_half_of_eps():
    process = GaussianProcess(24, Exponential(0.5, 1.0), [[1.0]])
    covariance = truncation_for(process, 0.1, 1e-3)
    assert covariance.lags < 24 and covariance.relative_error(0.1) <= 5e-4


def test_tails(tmp_path, capsys):
    options = ("--length", "12", "--lengthscale", "3", "--out", str(tmp_path / "out"))
    status, _, errors = run(capsys, "reports.tails", *options)
    assert status == 0, errors
    table = pd.read_csv(tmp_path / "out" / "tails.csv")
    assert len(table) == 11 * sum(len(powers) for _, _, powers in DECAYS.values())
    assert table.below.all() and (table.bound >= table.delta * (1 - 1e-12)).all()
    assert (tmp_path / "out" / "tails.png").stat().st_size > 10_000
