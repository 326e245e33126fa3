"""`python -m theory.check`: every claim through its certificate, and every mutant of it, written and generated; exit
status 0 only if all claims hold and all mutants are refuted, or named as true by their claim."""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from theory.certify.mutate import check_variant, variants
from theory.claim import STRENGTHS, Claim, Strength, Verdict
from theory.registry import claims, find
from theory.render import derivation
from unrolled.cli import module_app, print_table, run_app
from unrolled.files import atomic_path, require_output_file
from unrolled.progress import Progress

__all__ = ["Result", "check_claim", "check_mutants", "check_variants"]


@dataclass(frozen=True)
class Result:
    """One row of the table: a claim, or a mutant of it."""

    claim: str
    subject: str
    kind: str
    strength: Strength
    provenance: str
    status: str
    margin: float | None
    loosest: float | None
    detail: str
    seconds: float
    mutant: str = ""


def _result(name: str, verdict: Verdict, seconds: float, mutant: str = "") -> Result:
    subject, claim = claims()[name]
    return Result(
        claim=name, subject=subject, kind=claim.kind, strength=claim.strength, provenance=claim.provenance,
        status=verdict.status, margin=verdict.margin, loosest=verdict.loosest, detail=verdict.detail, seconds=seconds,
        mutant=mutant,
    )  # fmt: skip


def check_claim(name: str) -> Result:
    """Check a claim with its certificate.

    Raises:
        InputError: an unknown name.
    """
    claim, start = find(name), time.perf_counter()
    return _result(name, claim.check(), time.perf_counter() - start)


def check_mutants(name: str) -> list[Result]:
    """Check every mutant of a claim that is written down with the same certificate. One not "refuted" survived.

    Raises:
        InputError: an unknown name.
    """
    claim, results = find(name), []
    for mutant in claim.mutants:
        start = time.perf_counter()
        results.append(_result(name, claim.check_mutant(mutant), time.perf_counter() - start, mutant.change))
    return results


def check_variants(name: str) -> list[Result]:
    """Check every generated mutant of a claim with the same certificate.

    The status of one that the claim names as true is "true", and its detail the reason. Every other one that is not
    "refuted" survived.

    Raises:
        InputError: an unknown name.
    """
    claim, results = find(name), []
    start = time.perf_counter()
    for mutant, changed in variants(claim).items():
        verdict = check_variant(claim, mutant, changed)
        if verdict.status != "refuted" and mutant.change in claim.true_variants:
            verdict = Verdict("true", claim.true_variants[mutant.change])
        results.append(_result(name, verdict, time.perf_counter() - start, mutant.change))
        start = time.perf_counter()
    return results


def _checked(name: str, mutants: bool) -> list[Result]:
    """The result of a claim, and of its mutants."""
    return [check_claim(name), *(check_mutants(name) + check_variants(name) if mutants else [])]


@contextmanager
def _workers(names: list[str], mutants: bool) -> Iterator[Iterator[list[Result]]]:
    """The results of all claims; with their mutants in as many processes as there are processors."""
    if len(names) == 1 or not mutants:
        yield (_checked(name, mutants) for name in names)
        return
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        yield pool.map(_checked, names, [mutants] * len(names))


def _margin(result: Result) -> str:
    if result.margin is None:
        return {"identity": "exact", "inequality": "proved", "numeric": "equal"}[result.kind]
    if result.kind == "numeric":
        loosest = f" .. {result.loosest:.3g}" if result.loosest is not None else ""
        return f"{result.margin:.3g}{loosest} x"
    return f"{result.margin:.1e}"


def _row(result: Result) -> tuple[str, ...]:
    return (
        result.claim, STRENGTHS[result.strength], result.provenance, result.status,
        _margin(result) if result.status == "holds" else "", f"{result.seconds:.2f}",
    )  # fmt: skip


def _show(claim: Claim, latex: bool) -> None:
    for line in derivation(claim, latex):
        print(line)
    print()


def check(
    *,
    claim: str | None = None,
    mutants: bool = False,
    verbose: bool = False,
    latex: bool = False,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Do the claims of the theory hold?

    Example: `python -m theory.check --claim chebyshev-depth --mutants --verbose`

    The answer is the status of every claim by its certificate, in a table: claim, strength, provenance, status, margin,
    seconds. The margin of a numeric claim is the ratio of its bound to the measurement, tightest .. loosest. The margin
    of a proof by ball arithmetic is its smallest relative slack. Other proofs have none. The exit status is 1 if a
    claim does not hold or a mutant survives.

    Parameters
    ----------
    claim
        Name of one claim. Default: all of them.
    mutants
        Check the mutants too, written and generated: claims with a wrong constant, exponent, sign, size or branch, or
        without an assumption. Print how many were refuted.
    verbose
        Print the derivation of each claim, step by step, before the table.
    latex
        Print the derivation in LaTeX.
    json_file
        Write the results to this file.
    """
    names = list(claims()) if claim is None else [claim]
    chosen = [find(name) for name in names]  # refuses an unknown name before any work
    if json_file is not None:
        require_output_file("json", json_file.resolve(), overwrite=True)
    if verbose or latex:
        for shown in chosen:
            _show(shown, latex)
    results: list[Result] = []
    killed: list[Result] = []
    start = time.perf_counter()
    with Progress(len(names), "claims", "claim", on=len(names) > 1) as bar, _workers(names, mutants) as checked:
        for name, (result, *others) in zip(names, checked, strict=True):
            bar.say(name)
            results.append(result)
            killed += others
            bar.update()
    print_table("claims", ("claim", "strength", "provenance", "status", "margin", "seconds"), [*map(_row, results)])
    failed = [result for result in results if result.status != "holds"]
    for result in failed:
        print(f"{result.claim}: {result.status}: {result.detail}")
    print(f"{len(results) - len(failed)} of {len(results)} claims hold; {time.perf_counter() - start:.0f} s")
    counts = Counter(result.strength for result in results)
    print("; ".join(f"{words}: {counts[strength]}" for strength, words in STRENGTHS.items() if counts[strength]))
    survivors = [result for result in killed if result.status not in ("refuted", "true")]
    if mutants:
        _report_mutants(killed, survivors, verbose or claim is not None)
    if json_file is not None:
        with atomic_path(json_file) as temporary:
            temporary.write_text(json.dumps([asdict(result) for result in [*results, *killed]], indent=1) + "\n")
        print(f"wrote {json_file}")
    if failed or survivors:
        sys.exit(1)


def _report_mutants(killed: list[Result], survivors: list[Result], each_one: bool) -> None:
    if each_one:
        rows = [(result.claim, result.mutant, result.status, result.detail[:80]) for result in killed]
        print_table("mutants", ("claim", "change", "status", "found"), rows)
    for survivor in survivors:
        print(f"{survivor.claim}: the mutant {survivor.mutant!r} survives: {survivor.status}: {survivor.detail}")
    true = sum(result.status == "true" for result in killed)
    print(f"mutants killed: {len(killed) - len(survivors) - true}/{len(killed) - true}")
    if true:
        print(f"{true} more are true, as their claims say and why")


app = module_app("theory.check", check)

if __name__ == "__main__":
    run_app(app)
