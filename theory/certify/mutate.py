"""Mutants that are generated: a claim with one constant, exponent, sign, size or branch changed, or without an
assumption.

The assumptions of a measured claim say where it is measured; they stay. What is left out: a change that changes no
value, and one that only weakens an inequality, since a weaker statement is true. Both are decided by numbers. Every
other mutant must be refuted, or be named as true by the claim.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import sympy as sp
from sympy.functions.elementary.piecewise import ExprCondPair

from theory.certify.combine import Each
from theory.certify.points import domain, free_symbols, number
from theory.claim import Claim, Mutant, Statement, Verdict

__all__ = ["MOST", "check_variant", "variants"]

FACTORS = tuple(sp.Rational(factor) for factor in ("0.5", "0.9", "1.1", "2"))
MOST = 10
"""Most changes of the statement of one claim; those of whole sides come first, the others are spread evenly."""
COMPARED = 8
"""Points at which a change is compared with the original."""
FIRST_ONLY = (sp.Derivative, sp.Subs, sp.Limit, ExprCondPair)
"""Only their first part is changed: the others are variables and places."""
LEAVES = (sp.MatrixSymbol, sp.Identity, sp.IndexedBase, sp.Integral)
"""Letters, whose parts are names and sizes; and integrals: the closed form beside them is changed."""


def variants(claim: Claim) -> dict[Mutant, int | None]:
    """Mutants of a claim by name, with the number of the relation that is changed; None where an assumption is."""
    generated: dict[Mutant, int | None] = {}
    sides: list[tuple[str, int, Any]] = []
    inner: list[tuple[str, int, Any]] = []
    for k, relation in enumerate(claim.statement):
        label = f"relation {k + 1}: " if len(claim.statement) > 1 else ""
        for place, group in ((sides, _sides(relation)), (inner, _changes(relation))):
            place += [(label + words, k, changed) for words, changed in group]
    wanted = [*_spread(sides, MOST // 2), *_spread(inner, MOST)]
    seen = set(claim.statement)
    for words, k, changed in wanted:
        if changed in seen or changed in (sp.true, sp.false) or len(generated) == MOST:
            continue
        seen.add(changed)
        if not _harmless(claim.statement[k], changed, claim.assumptions):
            statement = (*claim.statement[:k], changed, *claim.statement[k + 1 :])
            generated[Mutant(_unique(words, generated), statement)] = k
    for assumption in claim.assumptions if claim.certificate.reach != "numeric" else ():
        rest = tuple(other for other in claim.assumptions if other is not assumption)
        generated[Mutant(_unique(f"without {assumption}", generated), assumptions=rest)] = None
    return generated


def check_variant(claim: Claim, mutant: Mutant, changed: int | None) -> Verdict:
    """The verdict on a generated mutant; of a claim of several relations only the changed one is decided."""
    if changed is None:
        return claim.check_mutant(mutant)
    certificate: Any = claim.certificate
    if isinstance(certificate, Each):
        certificate = certificate.certificates[changed]
    return certificate.check(((mutant.statement or claim.statement)[changed],), claim.assumptions)


def _unique(words: str, taken: dict[Mutant, int | None]) -> str:
    names = {mutant.change for mutant in taken}
    count = next(n for n in range(1, len(names) + 2) if (words if n == 1 else f"{words} ({n})") not in names)
    return words if count == 1 else f"{words} ({count})"


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    if len(items) <= most:
        return list(items)
    chosen = [items[k * len(items) // most] for k in range(most)]
    return [*chosen, *(item for item in items if item not in chosen)]


def _sides(relation: Any) -> Iterator[tuple[str, Any]]:
    """The right side times a factor, where that says something else."""
    if not isinstance(relation, sp.Rel) or 0 in relation.args:
        return
    left, right = relation.args
    for factor in FACTORS[1:3] + FACTORS[::3]:
        yield f"right side times {float(factor):g}", relation.func(left, factor * right, evaluate=False)


def _changes(expression: Any) -> Iterator[tuple[str, Any]]:
    """Every change of one place."""
    if isinstance(expression, LEAVES):
        return
    if isinstance(expression, sp.MatrixBase):
        entries: Any = expression.flat()
        for k, entry in enumerate(entries):
            for words, new in _changes(entry):
                yield words, sp.ImmutableMatrix(*expression.shape, [*entries[:k], new, *entries[k + 1 :]])
        return
    yield from _own(expression)
    parts: Any = expression.args[:1] if isinstance(expression, FIRST_ONLY) else expression.args
    for k, part in enumerate(parts):
        if isinstance(expression, sp.Sum) and k:  # limits: the index stays
            new_parts = ((w, sp.Tuple(*part[:n], new, *part[n + 1 :])) for n in (1, 2) for w, new in _changes(part[n]))
        else:
            new_parts = _changes(part)
        for words, new in new_parts:
            yield words, _rebuilt(expression, (*expression.args[:k], new, *expression.args[k + 1 :]))


def _rebuilt(expression: Any, parts: Sequence[Any]) -> Any:
    if isinstance(expression, sp.Rel):
        return expression.func(*parts, evaluate=False)
    return expression.func(*parts)


def _own(expression: Any) -> Iterator[tuple[str, Any]]:
    """Changes of an expression itself."""
    if isinstance(expression, sp.Rational) and expression not in (0, -1):
        for factor in FACTORS:
            yield f"{expression} times {float(factor):g}", expression * factor
    elif isinstance(expression, sp.Symbol) and expression.is_integer:
        for step in (1, -1):
            yield f"{expression} {'+' if step > 0 else '-'} 1", expression + step
    elif isinstance(expression, sp.Symbol):
        yield f"{expression} times 1.1", expression * FACTORS[2]
    elif isinstance(expression, sp.Pow) and expression.exp.is_Rational:
        for exponent in (expression.exp + 1, expression.exp / 2):
            yield f"power {exponent} for {expression.exp} of {expression.base}", expression.base**exponent
    elif isinstance(expression, sp.Max | sp.Min) and len(expression.args) > 1:
        for k, part in enumerate(expression.args):
            rest = (*expression.args[:k], *expression.args[k + 1 :])
            yield f"{expression.func.__name__} without {part}", expression.func(*rest)
    elif isinstance(expression, sp.Add) and expression.is_commutative and not expression.is_Matrix:
        for part in expression.args:
            yield f"minus for plus {part}", expression - 2 * part


def _harmless(original: Any, changed: Any, assumptions: Statement) -> bool:
    """Whether the change changes no value, or leaves an inequality at least as easy, at every point."""
    if not isinstance(original, sp.Rel) or not isinstance(changed, sp.Rel):
        return False
    symbols = free_symbols((original, changed, *assumptions))
    if any(not symbol.is_commutative for symbol in symbols):
        return False
    compared = 0
    for values in domain(symbols, assumptions, COMPARED, seed=1):
        before, after = (_slack(relation, values) for relation in (original, changed))
        if before is None or after is None:
            continue
        compared += 1
        same = abs(before - after) <= sp.Float("1e-20") * (abs(before) + abs(after) + sp.Float("1e-30"))
        if not same and (isinstance(original, sp.Eq) or after < before):
            return False
    return compared > COMPARED // 4


def _slack(relation: Any, values: Any) -> Any:
    small, large = (relation.lhs, relation.rhs) if isinstance(relation, sp.Eq) else (relation.lts, relation.gts)
    sides = [number(side, values, 60) for side in (small, large)]
    return sides[1] - sides[0] if all(side is not None and side.is_real for side in sides) else None
