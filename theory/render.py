"""Claims in readable maths, for a terminal and as LaTeX."""

from collections.abc import Iterator
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.matrices.expressions.matexpr import MatrixElement

from theory.claim import Claim
from theory.registry import alphabet_of

__all__ = ["derivation", "latex", "letters", "letters_used", "plain"]

WIDTH = 110
"""Characters up to which a formula is set in two dimensions on a terminal."""


def plain(expression: Any) -> str:
    """For a terminal: set in two dimensions where that fits, in one line otherwise."""
    drawn = sp.pretty(expression, use_unicode=True, wrap_line=False, num_columns=10_000)
    return drawn if max(map(len, drawn.splitlines())) <= WIDTH else sp.sstr(expression)


def latex(expression: Any) -> str:
    """As LaTeX; letters that are words become text."""
    words = {
        each: r"\text{" + str(each) + "}"
        for each in expression.atoms(sp.Symbol)
        if " " in str(each) or len(str(each)) > 7
    }
    names = {each: r"\lvert\mu\rvert" for each in expression.atoms(sp.Symbol) if str(each) == "|mu|"}
    return sp.latex(expression, symbol_names={**words, **names})


def _letters(expression: Any) -> set[Any]:
    directions = {limit.args[3] for limit in expression.atoms(sp.Limit)}  # + and - are symbols to sympy
    atoms: Any = expression.atoms(sp.Symbol, sp.MatrixSymbol, sp.Indexed, AppliedUndef, MatrixElement)
    found: set[Any] = set()
    for each in atoms - directions:
        if isinstance(each, sp.Indexed):
            base: Any = each.base
            found.add(base.label)
        elif isinstance(each, AppliedUndef):
            found.add(each.func)
        else:
            found.add(each.parent if isinstance(each, MatrixElement) else each)
    return found


def letters_used(claim: Claim) -> set[Any]:
    """The letters of a claim and of its derivation."""
    shown = [*claim.statement, *claim.assumptions, *(formula for _, formula in claim.steps if formula is not None)]
    return {letter for expression in shown for letter in _letters(expression)}


def letters(claim: Claim) -> dict[str, str]:
    """What the letters of a claim and its derivation stand for in its subject, in alphabetical order."""
    alphabet = alphabet_of(claim)
    meanings = {str(letter): alphabet.meaning(letter) for letter in letters_used(claim)}
    named = sorted(meanings.items(), key=lambda pair: (pair[0].lower(), pair[0]))
    return {letter: meaning for letter, meaning in named if meaning is not None}


def derivation(claim: Claim, as_latex: bool = False) -> Iterator[str]:
    """The claim and its derivation, line by line."""
    write = latex if as_latex else plain

    def formula(expression: Any) -> Iterator[str]:
        if as_latex:
            yield r"\[ " + write(expression) + r" \]"
        else:
            yield from ("    " + line for line in write(expression).splitlines())

    yield claim.title
    yield ""
    yield "claim:"
    for each in claim.statement:
        yield from formula(each)
    if claim.assumptions:
        yield "for:"
        for each in claim.assumptions:
            yield from formula(each)
    if found := letters(claim):
        yield "with: " + "; ".join(f"{name}, {text}" for name, text in found.items())
    for number, (text, expression) in enumerate(claim.steps, start=1):
        yield f"step {number}: {text}"
        if expression is not None:
            yield from formula(expression)
    source = f"{claim.provenance} ({claim.source})" if claim.source else claim.provenance
    yield f"provenance: {source}"
    yield f"certificate: {claim.kind}; {claim.certificate.method}"
    if claim.scope:
        yield f"scope: {claim.scope}"
    for mutant in claim.mutants:
        yield f"must be rejected: {mutant.change}"
