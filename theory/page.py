"""`python -m theory.page`: write theory/README.md, the list of claims with their formulas, from the registry."""

from collections.abc import Iterator
from pathlib import Path

from theory.claim import Claim
from theory.registry import SUBJECTS, claims
from theory.render import latex, letters
from unrolled.checks import InputError
from unrolled.cli import module_app, run_app
from unrolled.files import atomic_path

__all__ = ["PAGE", "page"]

PAGE = Path(__file__).parent / "README.md"
SHOWN = 6
"""Relations of one claim that the page shows; the command line shows all."""
LONGEST = 700
"""Characters of LaTeX beyond which a formula is left to the command line."""

HEAD = """# Claims

Written by `python -m theory.page`; a test keeps it in step with the code. {count} claims, {identities} identities,
{inequalities} inequalities, {numeric} numeric, with {mutants} mutants that must be rejected.

    python -m theory.check                                # all of them, about a minute
    python -m theory.check --claim chebyshev-depth --verbose
    python -m theory.check --mutants                      # claims made false on purpose must be caught
    python -m theory.bound --length 64 --dim 4 --temporal exponential --lengthscale 8 --t 0.01 --eps 1e-3

A claim is a statement in sympy with a certificate that is given the statement as data. *identity*: sympy reduces the
difference of the two sides to 0. *inequality*: z3 proves it over the reals, or a derivative does, or ball arithmetic on
a box. *numeric*: held against measurements over a seeded sweep, the weakest kind. Where a certificate covers less than
the claim, the scope says so and what carries the rest. *published* claims name their source, *derived* ones are proved
here.
"""


def _entry(claim: Claim) -> Iterator[str]:
    yield f"### {claim.name}"
    yield ""
    yield claim.title
    yield ""
    formulas = [latex(each) for each in claim.statement]
    shown = [each for each in formulas if len(each) <= LONGEST][:SHOWN]
    for formula in shown:
        yield f"```math\n{formula}\n```"
    left = len(formulas) - len(shown)
    if left:
        yield f"and {left} more: `python -m theory.check --claim {claim.name} --verbose`."
    if claim.assumptions:
        yield "For $" + ",\\; ".join(latex(each) for each in claim.assumptions) + "$."
    if found := letters(claim):
        yield ""
        yield "Letters: " + "; ".join(f"`{name}` {text}" for name, text in found.items()) + "."
    yield ""
    source = f"{claim.provenance} ({claim.source})" if claim.source else claim.provenance
    yield f"- {source}; **{claim.kind}**: {claim.certificate.method}"
    if claim.scope:
        yield f"- scope: {claim.scope}"
    yield f"- must be rejected: {'; '.join(each.change for each in claim.mutants)}"
    yield ""


def page() -> str:
    """The page as Markdown, the same on every machine."""
    found = list(claims().values())
    kinds = [claim.kind for _, claim in found]
    head = HEAD.format(
        count=len(found), identities=kinds.count("identity"), inequalities=kinds.count("inequality"),
        numeric=kinds.count("numeric"), mutants=sum(len(claim.mutants) for _, claim in found),
    )  # fmt: skip
    lines = [head]
    for subject, heading in SUBJECTS.items():
        lines += [f"## {heading}", ""]
        for name, claim in found:
            if name == subject:
                lines += _entry(claim)
    return "\n".join(lines).rstrip() + "\n"


def write_page(*, out: Path = PAGE) -> None:
    """Write the page of claims.

    Parameters
    ----------
    out
        File.
    """
    if not out.resolve().parent.is_dir():
        raise InputError(f"out: {str(out)!r} is not accepted; accepted: a file in an existing folder")
    with atomic_path(out) as temporary:
        temporary.write_text(page())
    print(f"wrote {out}")


app = module_app("theory.page", write_page)

if __name__ == "__main__":
    run_app(app)
