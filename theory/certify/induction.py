"""Induction over an integer: sums and Chebyshev polynomials against a closed form, for every number of terms."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from theory.certify.identity import Identity, equal
from theory.certify.points import counterexample
from theory.certify.signs import at_least
from theory.claim import Certificate, Kind, Reach, Statement, Verdict

__all__ = ["Induction", "advanced", "separated"]

FEW_POINTS = 8
"""Points at which a counterexample is looked for: sums take time."""


def separated(expression: Any) -> Any:
    """Sums of sums as sums of single terms, factors without the index before them."""
    expression = expression.replace(lambda part: isinstance(part, sp.Sum), _separated_sum)
    return sp.expand(expression)


def _separated_sum(total: Any) -> Any:
    indices = [limit[0] for limit in total.limits]
    terms = sp.Add.make_args(sp.expand(total.function))
    split = [term.as_independent(*indices, as_Add=False) for term in terms]
    return sp.Add(*(outside * sp.Sum(inside, *total.limits) for outside, inside in split))


def advanced(expression: Any, variable: Any) -> Any:
    """The expression at variable + 1, its sums written as those at `variable` and what is added or taken away.

    Raises:
        TypeError: limits that move by neither 0 nor 1.
    """
    sums = {total: sp.Dummy(f"sum {k}") for k, total in enumerate(sorted(_outermost(expression), key=str))}
    moved = expression.xreplace(sums).subs(variable, variable + 1)
    return moved.xreplace({letter: _advanced_sum(total, variable) for total, letter in sums.items()})


def _outermost(expression: Any) -> set[Any]:
    if isinstance(expression, sp.Sum):
        return {expression}
    return set().union(*(_outermost(part) for part in expression.args))


def _advanced_sum(total: Any, variable: Any) -> Any:
    (index, low, high), nested = total.limits[-1], total.limits[:-1]  # the last limit is the outermost
    inner = advanced(sp.Sum(total.function, *nested) if nested else total.function, variable)
    moves = [sp.simplify(limit.subs(variable, variable + 1) - limit) for limit in (low, high)]
    if not set(moves) <= {0, 1}:
        raise TypeError(f"the limits of {total} move by {moves}")
    added = inner.subs(index, high + 1) if moves[1] else sp.Integer(0)
    taken = inner.subs(index, low) if moves[0] else sp.Integer(0)
    return sp.Sum(inner, (index, low, high)) + added - taken


@dataclass(frozen=True)
class Induction:
    """Equations for every integer `variable` from `start` on. The assumptions must say variable >= start.

    The difference of the two sides is 0 at `start` and does not change from one integer to the next. Where the left
    side is a Chebyshev polynomial T_K(x), `variable` is K, `start` is 0: the right side is 1 and x at K = 0 and 1, and
    obeys its recurrence, T_{K+1} = 2 x T_K - T_{K-1}.

    Attributes:
        base: decides the equation at the start.
        step: decides that of the step.
    """

    variable: Any
    start: Any
    base: Certificate = field(default_factory=Identity)
    step: Certificate = field(default_factory=Identity)
    kind: Kind = "identity"
    reach: Reach = "all"

    @property
    def method(self) -> str:
        """For the page of claims."""
        return f"induction over {self.variable} from {self.start} on: sympy reduces base and step to 0"

    def check(self, statement: Statement, assumptions: Statement) -> Verdict:
        if not all(isinstance(relation, sp.Eq) for relation in statement):
            return Verdict("undecided", "an induction here is over an equation")
        if at := counterexample(statement, assumptions, FEW_POINTS):
            return Verdict("refuted", at)
        if not at_least(self.variable, self.start, assumptions):
            return Verdict("undecided", f"the assumptions do not say {self.variable} >= {self.start}")
        for relation in statement:
            try:
                base, step = self._cases(relation)
            except TypeError as error:
                return Verdict("undecided", str(error))
            for certificate, case in ((self.base, base), (self.step, step)):
                verdict = certificate.check(tuple(case), assumptions)
                if verdict.status != "holds":  # that a step fails refutes no claim
                    return Verdict("undecided", f"{case}: {verdict.detail}")
        return Verdict("holds", f"{len(statement)} bases and steps")

    def _cases(self, relation: Any) -> tuple[Sequence[Any], Sequence[Any]]:
        n, (left, right) = self.variable, relation.args
        if isinstance(left, sp.chebyshevt):
            if left.args[0] != n or self.start != 0 or left.args[1].has(n):
                raise TypeError(f"{left} is not T_{n} at one point")
            x: Any = left.args[1]
            step = equal(right.subs(n, n + 1), 2 * x * right - right.subs(n, n - 1))
            return [equal(value, right.subs(n, k)) for k, value in enumerate((sp.Integer(1), x))], [step]
        base = equal(*(side.subs(n, self.start).doit() for side in (left, right)))
        step = equal(*(separated(advanced(side, n) - side) for side in (left, right)))
        return [base], [step]
