"""`inequality` by its derivative: equal or better at the start of a half-line, and then the difference grows."""

from dataclasses import dataclass
from typing import Any

import sympy as sp

from theory.certify.reals import Reals
from theory.claim import Kind, Statement, Verdict

__all__ = ["Increasing"]

STEPS = [sp.Rational(k, 8) for k in (1, 2, 4, 6, 7, 8, 16, 64)]
"""Distances from the start at which a counterexample is looked for."""


@dataclass(frozen=True)
class Increasing:
    """Left <= right for `variable` >= `start`: right - left is >= 0 in the limit at `start`, and its derivative, times
    the positive `factor`, is algebraic and >= 0 by z3 on variable > start under the assumptions.

    Attributes:
        variable: what the difference is differentiated by.
        start: edge of the half-line; only the limit there is used, so the edge itself need not be in the domain.
        factor: clears what is not algebraic in the derivative; must be positive.
        order: how often to differentiate; every derivative below it must be >= 0 in the limit at `start` too.
    """

    variable: Any
    start: Any
    factor: Any = sp.Integer(1)
    order: int = 1
    kind: Kind = "inequality"

    @property
    def method(self) -> str:
        """For the page of claims."""
        which = "derivative" if self.order == 1 else f"derivative of order {self.order}"
        return f"0 or more as {self.variable} tends to {self.start}, and z3 proves the {which} in {self.variable} >= 0"

    def check(self, statement: Statement, assumptions: Statement) -> Verdict:
        for relation in statement:
            if not isinstance(relation, sp.Le | sp.Ge):
                return Verdict("undecided", f"{relation} is not of the form left <= right")
            slack = relation.rhs - relation.lhs if isinstance(relation, sp.Le) else relation.lhs - relation.rhs
            for _ in range(self.order):
                edge = sp.simplify(sp.limit(slack, self.variable, self.start, "+"))
                if edge.is_nonnegative is not True:
                    refuted = edge.is_negative is True
                    return Verdict("refuted" if refuted else "undecided", f"{edge} as {self.variable} tends to {self.start}")
                slack = sp.diff(slack, self.variable)
            slope = sp.factor(sp.simplify(slack * self.factor))
            inside = sp.Gt(self.variable, self.start)
            try:
                found = Reals().check((sp.Ge(slope, 0, evaluate=False),), (*assumptions, inside))
            except TypeError as error:
                return Verdict("undecided", str(error))
            if found.status == "refuted":  # the slope falls somewhere, which alone decides nothing
                at = self._negative(relation, assumptions)
                return Verdict("refuted", at) if at else Verdict("undecided", f"the derivative is negative {found.detail}")
            if found.status != "holds":
                return found
        return Verdict("holds", f"{self.method}")

    def _negative(self, relation: Any, assumptions: Statement) -> str:
        """A point where the relation is false, or nothing."""
        symbols = sorted(relation.free_symbols, key=str)
        for step in STEPS:
            values = {each: self.start + step if each == self.variable else sp.Rational(3, 4) for each in symbols}
            if all(each.subs(values) != sp.false for each in assumptions) and relation.subs(values) == sp.false:
                return "at " + ", ".join(f"{k} = {float(v):g}" for k, v in values.items())
        return ""
