"""`inequality` by its derivative: equal or better at the start of a half-line, and then the difference grows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from theory.certify.points import counterexample
from theory.certify.reals import algebraic, proved
from theory.certify.signs import positive
from theory.claim import Kind, Reach, Statement, Verdict

__all__ = ["Increasing"]

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
        letters: new letter -> what it stands for. The statement must have been given `old`.
        old: letter of the statement -> what it is in the new letters, before anything else is done.
        scale: positive, in the new letters: what the difference is multiplied by first.
        probes: points at which a counterexample is looked for first.
    """

    variable: Any
    start: Any
    factor: Any = sp.Integer(1)
    order: int = 1
    letters: Mapping[Any, Any] = field(default_factory=dict)
    old: Mapping[Any, Any] = field(default_factory=dict)
    scale: Any = sp.Integer(1)
    probes: Sequence[Mapping[Any, Any]] = ()
    kind: Kind = "inequality"
    reach: Reach = "all"

    @property
    def method(self) -> str:
        """For the page of claims."""
        which = "derivative" if self.order == 1 else f"derivative of order {self.order}"
        return f"0 or more as {self.variable} tends to {self.start}, and z3 proves the {which} in {self.variable} >= 0"

    def check(self, statement: Statement, assumptions: Statement) -> Verdict:
        if at := counterexample(statement, assumptions, probes=self.probes):
            return Verdict("refuted", at)
        if trouble := self._lost(assumptions):
            return Verdict("undecided", trouble)
        given = tuple(
            changed
            for assumption in assumptions
            if (changed := assumption.subs(dict(self.old))) != sp.true and (not self.old or algebraic(changed))
        )
        for relation in statement:
            if not isinstance(relation, sp.Le | sp.Ge) or relation.has(*JUMPS):
                return Verdict("undecided", f"{relation} is not of the form left <= right, or may jump")
            sides: tuple[Any, Any] = (relation.lts.subs(dict(self.old)), relation.gts.subs(dict(self.old)))
            try:
                if trouble := self._unproved(sides[1] - sides[0], given):
                    return Verdict("undecided", trouble)
            except TypeError as error:
                return Verdict("undecided", str(error))
        return Verdict("holds", self.method)

    def _unproved(self, slack: Any, assumptions: Statement) -> str:
        """Why slack >= 0 is not proved, or nothing."""
        inside = (*assumptions, sp.Gt(self.variable, self.start))
        if not positive(self.scale, inside):
            return f"{self.scale} > 0 is not proved"
        slack = sp.expand(slack * self.scale) if self.scale != 1 else slack
        if trouble := self._trouble(slack, assumptions, inside):
            return trouble
        for _ in range(self.order):
            edge = sp.simplify(sp.limit(slack, self.variable, self.start, "+"))
            if edge.is_nonnegative is not True:
                return f"{edge} as {self.variable} tends to {self.start}"
            slack = sp.diff(slack, self.variable)
        slope = sp.factor(sp.simplify(slack * self.factor))
        return "" if proved(sp.Ge(slope, 0, evaluate=False), inside) else f"{slope} >= 0 is not proved"

    def _lost(self, assumptions: Statement) -> str:
        """Why the new letters do not reach every value of the old ones, or nothing."""
        for letter, meaning in self.old.items():
            if sp.simplify(meaning.subs(dict(self.letters)) - letter) != 0:
                return f"{meaning} is not {letter}"
        for letter, meaning in self.letters.items():
            if letter.is_integer or not letter.is_positive or not positive(meaning, assumptions):
                return f"{meaning} > 0 is not proved"
        return ""

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
