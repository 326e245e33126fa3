"""Claims in readable maths, for a terminal and as LaTeX."""

import re
from collections.abc import Iterator
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.matrices.expressions.matexpr import MatrixElement

from theory.claim import STRENGTHS, Claim

__all__ = ["derivation", "latex", "letters", "plain", "used_letters"]

WIDTH = 110
"""Characters up to which a formula is set in two dimensions on a terminal."""


def plain(expression: Any) -> str:
    """For a terminal: set in two dimensions where that fits, in one line otherwise."""
    drawn = sp.pretty(expression, use_unicode=True, wrap_line=False, num_columns=10_000)
    return drawn if max(map(len, drawn.splitlines())) <= WIDTH else sp.sstr(expression)


def latex(expression: Any) -> str:
    """As LaTeX; letters that are words become text."""
    words = {
        symbol: r"\text{" + str(symbol) + "}"
        for symbol in expression.atoms(sp.Symbol)
        if " " in str(symbol) or len(str(symbol)) > 7
    }
    names = {symbol: r"\lvert\mu\rvert" for symbol in expression.atoms(sp.Symbol) if str(symbol) == "|mu|"}
    written = sp.latex(expression, symbol_names={**words, **names})
    written = re.sub(r"\\left\((\\frac\{\d+\}\{\d+\})\\right\)", r"\1", written)  # sympy wraps factors of matrices
    return re.sub(r"\\left\(- ([^()+]+) \+ ([^()+-]+)\\right\)", _positive_first, written)


def _positive_first(difference: re.Match[str]) -> str:
    """(b - a) for (- a + b), unless the plus is inside of a fraction or an index."""
    taken, given = difference.groups()
    if any(part.count("{") != part.count("}") for part in (taken, given)):
        return difference.group()
    return rf"\left({given} - {taken}\right)"


def used_letters(expression: Any) -> set[Any]:
    """The letters of an expression: symbols, matrices, functions, and what is indexed."""
    atoms: Any = expression.atoms(sp.Symbol, sp.MatrixSymbol, sp.Indexed, AppliedUndef, MatrixElement)
    directions = {limit.args[3] for limit in expression.atoms(sp.Limit)}  # sympy writes + and - as symbols
    used: set[Any] = set()
    for atom in atoms - directions:
        if isinstance(atom, sp.Indexed):
            base: Any = atom.base
            used.add(base.label)
        elif isinstance(atom, AppliedUndef):
            used.add(atom.func)
        else:
            used.add(atom.parent if isinstance(atom, MatrixElement) else atom)
    return used


def letters(claim: Claim) -> dict[str, str]:
    """What the letters of a claim and its derivation stand for in its subject, in alphabetical order."""
    shown = [*claim.statement, *claim.assumptions, *(formula for _, formula in claim.steps if formula is not None)]
    used = set().union(*map(used_letters, shown)) & set(claim.letters.meanings)
    ordered = sorted(used, key=lambda letter: (str(letter).lower(), str(letter)))
    return {str(letter): claim.letters.meanings[letter] for letter in ordered}


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
    for relation in claim.statement:
        yield from formula(relation)
    if claim.assumptions:
        yield "for:"
        for assumption in claim.assumptions:
            yield from formula(assumption)
    if used := letters(claim):
        yield "with: " + "; ".join(f"{name}, {text}" for name, text in used.items())
    for number, (text, expression) in enumerate(claim.steps, start=1):
        yield f"step {number}: {text}"
        if expression is not None:
            yield from formula(expression)
    source = f"{claim.provenance} ({claim.source})" if claim.source else claim.provenance
    yield f"provenance: {source}"
    yield f"certificate: {claim.certificate.method}"
    yield f"strength: {STRENGTHS[claim.strength]}"
    if claim.scope:
        yield f"scope: {claim.scope}"
    for mutant in claim.mutants:
        yield f"must be rejected: {mutant.change}"
