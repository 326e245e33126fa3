"""Counterexamples by numbers: points of a claim's domain at which its relations are evaluated to 60 digits."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.matrices.expressions.matexpr import MatrixElement

from theory.claim import Statement

__all__ = ["counterexample", "domain", "free_symbols", "number", "truth"]

POINTS = 24
"""Points of the domain at which a statement is evaluated."""
TRIES = 100
"""Points that are drawn for each one wanted: most may lie outside of the assumptions."""
DIGITS = (60, 120)
"""A difference counts where it is the same to either number of digits: nothing then cancelled."""
ROUNDING = sp.Float("1e-15")
"""Sides that differ by less, relative to their size, count as equal."""
OPAQUE = (sp.Integral, sp.Limit, sp.MatrixExpr, sp.MatrixBase)
"""What has no number: the certificate decides it."""


def counterexample(
    statement: Statement, assumptions: Statement, points: int = POINTS, probes: Sequence[Mapping[Any, Any]] = ()
) -> str | None:
    """A point of the domain at which a relation is false, in words; None if no point of the sample is one.

    Relations that have no number here (integrals, limits, matrices, letters that do not commute) are passed over.

    Args:
        probes: points of the domain that are looked at first, such as those where a bound is nearly tight.
    """
    for written in statement:
        relation = written
        symbols = free_symbols((relation, *assumptions))
        if relation.has(*OPAQUE) or any(not symbol.is_commutative for symbol in symbols):
            continue
        if relation.has(sp.Derivative, sp.Subs):
            relation = relation.func(*(side.doit() for side in relation.args), evaluate=False)
        for values in (*probes, *domain(symbols, assumptions, points)):
            if truth(relation, values) is False:
                used = {symbol: values[symbol] for symbol in sorted(relation.free_symbols, key=str) if symbol in values}
                return "at " + ", ".join(f"{symbol} = {value}" for symbol, value in used.items())
    return None


def free_symbols(formulas: Iterable[Any]) -> set[Any]:
    """Their free symbols, names of indexed letters not among them."""
    found: set[Any] = set()
    for formula in formulas:
        names = {base.label for base in formula.atoms(sp.IndexedBase)}
        found |= {symbol for symbol in formula.free_symbols if symbol.is_Symbol} - names
    return found


def domain(symbols: set[Any], assumptions: Statement, count: int = POINTS, seed: int = 0) -> list[dict[Any, Any]]:
    """At most `count` points, exact rationals, that satisfy the assumptions and what the symbols are declared to be.

    Edges that belong to the domain, large and small numbers are among them.
    """
    generator = random.Random(seed)
    ordered = sorted(symbols, key=str)
    given = {relation.lhs: relation.rhs for relation in assumptions if isinstance(relation, sp.Eq)}
    drawn = [symbol for symbol in ordered if symbol not in given]
    limits = {symbol: _limits(symbol, assumptions) for symbol in drawn}
    both: Any = sp.And
    inside = sp.lambdify(ordered, both(*assumptions, evaluate=False), modules="math", dummify=True)
    points: list[dict[Any, Any]] = []
    for attempt in range(TRIES * count):
        far = generator.choice(drawn) if drawn and attempt % 4 == 0 else None
        values = {symbol: _draw(symbol, *limits[symbol], generator, symbol == far) for symbol in drawn}
        values |= {symbol: sp.sympify(value).subs(values) for symbol, value in given.items()}
        try:
            if inside(*(float(values[symbol]) for symbol in ordered)):
                points.append(values)
        except (ValueError, OverflowError, ZeroDivisionError, TypeError):
            continue
        if len(points) == count or not drawn:
            break
    return points


def _limits(symbol: Any, assumptions: Statement) -> tuple[Any, Any, bool, bool]:
    """(low, high, low is excluded, high is excluded) from the declaration and from relations with numbers."""
    low, high, low_open, high_open = -sp.oo, sp.oo, True, True
    if symbol.is_nonnegative:
        low, low_open = sp.Integer(0), bool(symbol.is_positive)
    if symbol.is_nonpositive:
        high, high_open = sp.Integer(0), bool(symbol.is_negative)
    for relation in assumptions:
        if not isinstance(relation, sp.Le | sp.Lt | sp.Ge | sp.Gt):
            continue
        sides: Any = (relation.lts, relation.gts)
        small, large = sides
        strict = isinstance(relation, sp.Lt | sp.Gt)
        if small == symbol and large.is_number and large < high:
            high, high_open = large, strict
        if large == symbol and small.is_number and small > low:
            low, low_open = small, strict
    return low, high, low_open, high_open


def _draw(
    symbol: Any, low: Any, high: Any, low_open: bool, high_open: bool, generator: random.Random, far: bool
) -> Any:
    """A value between the limits; `far` is very small or very large where they allow it."""
    if symbol.is_integer:
        first = int(sp.ceiling(low)) + (1 if low_open and low == int(low) else 0) if low != -sp.oo else -8
        last = min(first + generator.choice((2, 6, 6, 16)), int(high) if high != sp.oo else first + 16)
        return sp.Integer(generator.randint(first, max(first, last)))
    if low != -sp.oo and high != sp.oo:
        edges = [sp.Rational(1, 1000), sp.Rational(999, 1000), *([] if low_open else [0]), *([] if high_open else [1])]
        near = generator.choice((sp.Rational(1, 10**6), 1 - sp.Rational(1, 10**6)))
        middle = near if far else sp.Rational(generator.randint(1, 31), 32)
        share = generator.choice(edges) if generator.random() < 0.3 and not far else middle
        return low + share * (high - low)
    size = sp.Integer(2) ** generator.choice((-16, -12, 10, 14)) if far else _magnitude(generator)
    if low != -sp.oo:
        return low + size * int(generator.random() > 0.05 or low_open)
    if high != sp.oo:
        return high - size * int(generator.random() > 0.05 or high_open)
    return size * generator.choice((-1, 1, 1))


def _magnitude(generator: random.Random) -> Any:
    kind = generator.random()
    if kind < 0.55:
        return sp.Rational(generator.randint(1, 48), 16)
    if kind < 0.7:
        return sp.Integer(generator.randint(1, 6))
    return sp.Rational(generator.randint(8, 16), 8) * sp.Integer(2) ** generator.randint(-8, 4)


def truth(formula: Any, values: Mapping[Any, Any]) -> bool | None:
    """Whether a relation holds at a point; None where a side has no value or the two are too near to tell. A side that
    is no real number makes it false."""
    if formula in (sp.true, sp.false):
        return bool(formula)
    if isinstance(formula, sp.Rel):
        return _relation(formula, values)
    parts: Sequence[bool | None] = [truth(part, values) for part in formula.args]
    if isinstance(formula, sp.Not):
        return None if parts[0] is None else not parts[0]
    if isinstance(formula, sp.Implies):
        parts = [None if parts[0] is None else not parts[0], parts[1]]
    decisive = isinstance(formula, sp.Or | sp.Implies)
    if decisive in parts:
        return decisive
    return None if None in parts else not decisive


def _relation(relation: Any, values: Mapping[Any, Any]) -> bool | None:
    gaps: list[Any] = []
    for digits in DIGITS:
        sides = [number(side, values, digits) for side in relation.args]
        if None in sides:
            return None
        if not all(side.is_real for side in sides):
            return False
        gap = sides[0] - sides[1]
        if gap == 0 and all(value.is_Integer for value in values.values()):
            return not isinstance(relation, sp.Lt | sp.Gt | sp.Ne)
        if abs(gap) <= ROUNDING * (abs(sides[0]) + abs(sides[1])):
            return None if isinstance(relation, sp.Lt | sp.Gt | sp.Ne) else True
        holds = isinstance(relation, sp.Ne)
        if not isinstance(relation, sp.Eq | sp.Ne):
            holds = bool(gap < 0) == isinstance(relation, sp.Le | sp.Lt)
        if holds:
            return True
        gaps.append(gap)
    return False if abs(gaps[0] - gaps[1]) <= abs(gaps[1]) / 100 else None


def _summed(expression: Any) -> Any:
    """Its sums written out term by term: sympy looks for a closed form of long ones first."""
    if not expression.has(sp.Sum):
        return expression
    if not isinstance(expression, sp.Sum):
        return expression.func(*(_summed(part) for part in expression.args))
    total: Any = expression
    (index, low, high), nested = total.limits[-1], total.limits[:-1]
    inner: Any = sp.Sum(total.function, *nested) if nested else total.function
    if not (low.is_Integer and high.is_Integer):
        return expression
    backwards = high < low - 1  # such a sum counts negatively
    terms = range(int(high) + 1, int(low)) if backwards else range(int(low), int(high) + 1)
    return (-1 if backwards else 1) * sp.Add(*(_summed(inner.subs(index, k)) for k in terms))


def number(side: Any, values: Mapping[Any, Any], digits: int) -> Any:
    """A side at a point, None where it has no value; free functions and indexed letters have values by name."""
    if side.has(*OPAQUE):
        return None
    at = {symbol: value if value.is_Integer else sp.Float(value, digits) for symbol, value in values.items()}
    try:
        expression = _summed(side.subs(at)).doit()
        free = expression.atoms(AppliedUndef, sp.Indexed, MatrixElement)
        letters = {letter: sp.Rational(random.Random(str(letter)).randint(5, 40), 16) for letter in free}
        value = sp.N(expression.xreplace(letters), digits)
        real, imaginary = value.as_real_imag()
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    if not all(part.is_Float or part.is_Integer for part in (real, imaginary)) or not value.is_finite:
        return None
    return real if abs(imaginary) <= ROUNDING * abs(real) else value
