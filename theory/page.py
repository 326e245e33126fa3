"""`python -m theory.page`: write theory/README.md, the list of claims with their formulas, from the registry."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from theory.claim import STRENGTHS, Claim, Strength
from theory.registry import PATH, SUBJECTS, claims
from theory.render import latex, letters
from unrolled.cli import module_app, run_app
from unrolled.files import atomic_path, require_writable_folder

__all__ = ["PAGE", "page"]

PAGE = Path(__file__).parent / "README.md"
SHOWN = 6
"""Most relations of one claim that the page shows. The command line shows all."""
LONGEST = 700
"""Longest formula on the page, in characters of LaTeX. The command line shows the longer ones."""

HEAD = """# Claims

Written by `python -m theory.page`; a test keeps it in step with the code. {count} claims, with {mutants} mutants
written by hand that must be rejected, and at least eight generated ones for each that is not measured.

    python -m theory.check                                # all of them, about a minute
    python -m theory.check --claim chebyshev-depth --verbose
    python -m theory.check --mutants                      # false variants of them must be refuted
    python -m theory.bound --length 64 --dim 4 --temporal exponential --lengthscale 8 --t 0.01 --eps 1e-3

| strength | claims | what it means |
| --- | --- | --- |
{strengths}

A claim is a statement in sympy. Its certificate is given the statement as data, and looks for a counterexample by
numbers first. A *published* claim names its source, a *derived* one is derived here; how far it is proved is its
strength. A letter has one meaning within a section.

## The path from the score to total variation

| link | claims |
| --- | --- |
{path}
"""
MEANINGS: dict[Strength, str] = {
    "all": "by sympy, z3, a derivative, induction or an integral, for every value that the assumptions allow",
    "step": "the same, but for a step that the scope says in words",
    "box": "by ball arithmetic, everywhere in a box of its parameters; the scope says what covers the rest",
    "instances": "at the values that are named; the scope says what covers the rest",
    "numeric": "compared with measurements over a seeded sweep: the weakest kind",
}


def _entry(claim: Claim) -> Iterator[str]:
    yield f"### {claim.name}"
    yield ""
    yield claim.title
    yield ""
    formulas = [latex(relation) for relation in claim.statement]
    shown = [formula for formula in formulas if len(formula) <= LONGEST][:SHOWN]
    for formula in shown:
        yield f"```math\n{formula}\n```"
    left = len(formulas) - len(shown)
    if left:
        yield f"and {left} more: `python -m theory.check --claim {claim.name} --verbose`."
    if claim.assumptions:
        yield "For $" + ",\\; ".join(latex(assumption) for assumption in claim.assumptions) + "$."
    if used := letters(claim):
        yield ""
        yield "Letters: " + "; ".join(f"`{name}` {text}" for name, text in used.items()) + "."
    yield ""
    source = f"{claim.provenance} ({claim.source})" if claim.source else claim.provenance
    yield f"- {source}; **{STRENGTHS[claim.strength]}**: {claim.certificate.method}"
    if claim.scope:
        yield f"- scope: {claim.scope}"
    yield f"- must be rejected: {'; '.join(mutant.change for mutant in claim.mutants)}"
    for change, reason in claim.true_variants.items():
        yield f"- true as well, *{change}*: {reason}"
    yield ""


def page() -> str:
    """The page as Markdown, the same on every machine."""
    entries = list(claims().values())
    counts = Counter(claim.strength for _, claim in entries)
    path = (f"| {words} | {', '.join(f'[{name}](#{name})' for name in names)} |" for words, names in PATH)
    head = HEAD.format(
        count=len(entries), mutants=sum(len(claim.mutants) for _, claim in entries), path="\n".join(path),
        strengths="\n".join(
            f"| {STRENGTHS[key]} | {counts[key]} | {words} |" for key, words in MEANINGS.items() if counts[key]
        ),
    )  # fmt: skip
    lines = [head]
    for subject, heading in SUBJECTS.items():
        lines += [f"## {heading}", ""]
        for name, claim in entries:
            if name == subject:
                lines += _entry(claim)
    return "\n".join(lines).rstrip() + "\n"


def write_page(*, out: Path = PAGE) -> None:
    """Write the page of claims.

    Parameters
    ----------
    out
        The file to write.
    """
    require_writable_folder("out", out.resolve().parent)
    with atomic_path(out) as temporary:
        temporary.write_text(page())
    print(f"wrote {out}")


app = module_app("theory.page", write_page)

if __name__ == "__main__":
    run_app(app)
