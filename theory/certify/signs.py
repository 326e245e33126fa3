"""Signs of expressions: what is positive because its parts are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy as sp

from theory.certify.points import counterexample
from theory.certify.reals import proved
from theory.claim import Kind, Reach, Statement, Verdict

__all__ = ["Signs", "at_least", "nonnegative", "positive"]


def positive(expression: Any, assumptions: Statement) -> bool:
    """Whether the expression is proved to be > 0: from the signs of its parts, or by z3."""
    if expression.is_positive or isinstance(expression, sp.exp | sp.erfc):
        return True
    if isinstance(expression, sp.log):
        return positive(expression.args[0] - 1, assumptions)
    if isinstance(expression, sp.uppergamma):
        order, start = expression.args
        return positive(order, assumptions) and nonnegative(start, assumptions)
    if isinstance(expression, sp.besselk):
        return bool(expression.order.is_real) and positive(expression.argument, assumptions)
    if isinstance(expression, sp.Pow):
        return positive(expression.base, assumptions)
    if isinstance(expression, sp.Mul) and all(positive(factor, assumptions) for factor in expression.args):
        return True
    return _proved(sp.Gt(expression, 0, evaluate=False), assumptions)


def nonnegative(expression: Any, assumptions: Statement) -> bool:
    """Whether the expression is proved to be >= 0."""
    if expression.is_nonnegative or positive(expression, assumptions):
        return True
    if isinstance(expression, sp.Add | sp.Mul) and all(nonnegative(part, assumptions) for part in expression.args):
        return True
    return _proved(sp.Ge(expression, 0, evaluate=False), assumptions)


def at_least(large: Any, small: Any, assumptions: Statement) -> bool:
    """Whether large >= small is proved for integers: with b = a + k for every assumption a <= b, or by z3."""
    difference = large - small
    for assumption in assumptions:
        if isinstance(assumption, sp.Le | sp.Lt):
            low, high = _sides(assumption)
            if low.is_integer and high.is_integer and high.is_Symbol:
                more = sp.Dummy("k", integer=True, nonnegative=True)
                difference = difference.subs(high, low + int(isinstance(assumption, sp.Lt)) + more)
    return sp.expand(difference).is_nonnegative is True or _proved(sp.Ge(large, small, evaluate=False), assumptions)


def _sides(relation: Any) -> tuple[Any, Any]:
    """(smaller, larger)."""
    return relation.lts, relation.gts


def _proved(relation: Any, assumptions: Statement) -> bool:
    try:
        return proved(relation, assumptions)
    except TypeError:  # not algebraic
        return False


@dataclass(frozen=True)
class Signs:
    """left <= right, because the difference is a sum and product of what is not negative.

    Attributes:
        reduce: brings the difference to that form.
    """

    reduce: Callable[[Any], Any] = sp.simplify
    kind: Kind = "inequality"
    method: str = "the difference is a sum of terms that are not negative"
    reach: Reach = "all"

    def check(self, statement: Statement, assumptions: Statement) -> Verdict:
        if at := counterexample(statement, assumptions):
            return Verdict("refuted", at)
        for relation in statement:
            if not isinstance(relation, sp.Le | sp.Ge):
                return Verdict("undecided", f"{relation} is not of the form left <= right")
            small, large = _sides(relation)
            if not nonnegative(self.reduce(large - small), assumptions):
                return Verdict("undecided", f"{large - small} >= 0 is not proved")
        return Verdict("holds", self.method)
