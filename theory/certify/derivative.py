"""`inequality` by its derivative: equal or better at the start of a half-line, and then the difference grows."""

from dataclasses import dataclass
from typing import Any

import sympy as sp

from theory.certify.reals import proved
from theory.claim import Kind, Statement, Verdict

__all__ = ["Increasing"]

STEPS = [sp.Rational(k, 8) for k in (1, 2, 4, 6, 7, 8, 16, 64)]
"""Distances from the start at which a counterexample is looked for."""
JUMPS = (sp.Piecewise, sp.floor, sp.ceiling, sp.sign, sp.Heaviside, sp.Abs, sp.Max, sp.Min)
"""What may keep a difference from being the integral of its derivative."""


@dataclass(frozen=True)
class Increasing:
    """Left <= right for `variable` from `start` on, as far as the assumptions reach: right - left is >= 0 in the limit
    at `start`, and its derivative, times the positive `factor`, is algebraic and >= 0 by z3.

    The assumptions must say variable >= start (or >) and leave an interval that begins there; the factor must be
    positive on it, denominators not 0, arguments of logarithms and bases of roots positive: z3 proves these too.

    Attributes:
        variable: what the difference is differentiated by.
        start: edge of the half-line; only the limit there is used, so the edge itself need not be in the domain.
        factor: clears what is not algebraic in the derivative.
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
        inside = (*assumptions, sp.Gt(self.variable, self.start))
        for relation in statement:
            if not isinstance(relation, sp.Le | sp.Ge) or relation.has(*JUMPS):
                return Verdict("undecided", f"{relation} is not of the form left <= right, or may jump")
            if at := self._negative(relation, assumptions):
                return Verdict("refuted", at)
            sides: tuple[Any, Any] = (relation.lhs, relation.rhs)
            slack: Any = (sides[1] - sides[0]) * (1 if isinstance(relation, sp.Le) else -1)
            try:
                if trouble := self._trouble(slack, assumptions, inside):
                    return Verdict("undecided", trouble)
                for _ in range(self.order):
                    edge = sp.simplify(sp.limit(slack, self.variable, self.start, "+"))
                    if edge.is_nonnegative is not True:
                        return Verdict("undecided", f"{edge} as {self.variable} tends to {self.start}")
                    slack = sp.diff(slack, self.variable)
                slope = sp.factor(sp.simplify(slack * self.factor))
                if not proved(sp.Ge(slope, 0, evaluate=False), inside):
                    return Verdict("undecided", f"{slope} >= 0 is not proved")
            except TypeError as error:
                return Verdict("undecided", str(error))
        return Verdict("holds", self.method)

    def _trouble(self, slack: Any, assumptions: Statement, inside: Statement) -> str:
        """Why the argument would not apply, or nothing."""
        if not proved(sp.Ge(self.variable, self.start, evaluate=False), assumptions):
            return f"the assumptions do not say {self.variable} >= {self.start}"
        between = sp.Dummy("u", real=True)
        reached = sp.And(*assumptions)
        nearer = (*inside, sp.Lt(self.start, between), sp.Lt(between, self.variable))
        for assumption in assumptions:
            if self.variable in assumption.free_symbols and not proved(assumption.subs(self.variable, between), nearer):
                return f"{reached} is no interval from {self.start} on"
        if self.factor.is_positive is not True and not proved(sp.Gt(self.factor, 0, evaluate=False), inside):
            return f"{self.factor} > 0 is not proved"
        for part in sp.preorder_traversal(slack):
            if isinstance(part, sp.log):
                argument, relation = part.args[0], sp.Gt
            elif isinstance(part, sp.Pow) and not part.exp.is_Integer and part.base != sp.E:
                argument, relation = part.base, sp.Gt
            elif isinstance(part, sp.Pow) and part.exp.is_negative:
                argument, relation = part.base, sp.Ne
            else:
                continue
            sure = argument.is_positive is True
            if not sure and not proved(relation(argument, 0, evaluate=False), inside):
                return f"{argument} may be 0 or negative"
        return ""

    def _negative(self, relation: Any, assumptions: Statement) -> str:
        """A point where the relation is false, or nothing."""
        symbols = sorted(relation.free_symbols, key=str)
        for step in STEPS:
            values = {symbol: self.start + step if symbol == self.variable else sp.Rational(3, 4) for symbol in symbols}
            try:
                inside = all(assumption.subs(values) != sp.false for assumption in assumptions)
                false = inside and relation.subs(values) == sp.false
            except TypeError:  # not real there
                continue
            if false:
                return "at " + ", ".join(f"{k} = {float(v):g}" for k, v in values.items())
        return ""
