"""`python -m theory.check`: every claim through its certificate, and every mutant of it; exit status 0 only if all
hold."""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from theory.claim import Claim, Verdict
from theory.registry import claims, find
from theory.render import derivation
from unrolled.cli import module_app, print_table, run_app
from unrolled.files import atomic_path, require_writable_folder
from unrolled.progress import Progress

__all__ = ["Result", "check_claim", "check_mutants"]


@dataclass(frozen=True)
class Result:
    """One row of the table: a claim, or a mutant of it."""

    claim: str
    subject: str
    kind: str
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
        claim=name, subject=subject, kind=claim.kind, provenance=claim.provenance, status=verdict.status,
        margin=verdict.margin, loosest=verdict.loosest, detail=verdict.detail, seconds=seconds, mutant=mutant,
    )  # fmt: skip


def check_claim(name: str) -> Result:
    """Check a claim with its certificate.

    Raises:
        InputError: an unknown name.
    """
    claim, start = find(name), time.perf_counter()
    return _result(name, claim.check(), time.perf_counter() - start)


def check_mutants(name: str) -> list[Result]:
    """Check every mutant of a claim with the same certificate. A mutant that is not "refuted" survived.

    Raises:
        InputError: an unknown name.
    """
    claim, results = find(name), []
    for mutant in claim.mutants:
        start = time.perf_counter()
        results.append(_result(name, claim.check_mutant(mutant), time.perf_counter() - start, mutant.change))
    return results


def _margin(result: Result) -> str:
    if result.margin is None:
        return {"identity": "exact", "inequality": "proved", "numeric": "equal"}[result.kind]
    if result.kind == "numeric":
        loosest = f" .. {result.loosest:.3g}" if result.loosest is not None else ""
        return f"{result.margin:.3g}{loosest} x"
    return f"{result.margin:.1e}"


def _row(result: Result) -> tuple[str, ...]:
    return (
        result.claim, result.kind, result.provenance, result.status,
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

    The answer is the status of every claim by its certificate, in a table: claim, kind, provenance, status, margin,
    seconds. The margin of a numeric claim is the ratio of its bound to the measurement, tightest .. loosest. The margin
    of a proof by ball arithmetic is its smallest relative slack. Other proofs have none. The exit status is 1 if a
    claim does not hold or a mutant survives.

    Parameters
    ----------
    claim
        Name of one claim. Default: all of them.
    mutants
        Check the mutants too: claims with a wrong constant, exponent, sign or assumption. Print how many were
        refuted.
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
        require_writable_folder("json", json_file.resolve().parent)
    if verbose or latex:
        for shown in chosen:
            _show(shown, latex)
    results: list[Result] = []
    killed: list[Result] = []
    start = time.perf_counter()
    with Progress(len(names), "claims", "claim", on=len(names) > 1) as bar:
        for name in names:
            bar.say(name)
            results.append(check_claim(name))
            if mutants:
                killed += check_mutants(name)
            bar.update()
    print_table("claims", ("claim", "kind", "provenance", "status", "margin", "seconds"), [*map(_row, results)])
    failed = [result for result in results if result.status != "holds"]
    for result in failed:
        print(f"{result.claim}: {result.status}: {result.detail}")
    proved = sum(result.kind != "numeric" for result in results)
    summary = f"{len(results) - len(failed)} of {len(results)} claims hold, {proved} of them identities or inequalities"
    print(f"{summary}; {time.perf_counter() - start:.0f} s")
    survivors = [result for result in killed if result.status != "refuted"]
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
    print(f"mutants killed, each by a counterexample: {len(killed) - len(survivors)}/{len(killed)}")


app = module_app("theory.check", check)

if __name__ == "__main__":
    run_app(app)
