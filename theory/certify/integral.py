"""Sums against integrals: a sum of decreasing terms is below the integral over the units before them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy as sp

from theory.certify.identity import Identity, equal
from theory.certify.points import counterexample
from theory.certify.reals import Reals, algebraic
from theory.certify.signs import Signs, at_least, nonnegative, positive
from theory.claim import Certificate, Kind, Reach, Statement, Verdict

__all__ = ["Decreasing", "IntegralTest"]

X = sp.Dummy("x", positive=True)
"""A real number in place of the index of a sum."""


@dataclass(frozen=True)
class Decreasing:
    """Relations with one sum of a decreasing term: it lies between the last term and the first, times their number.

    The derivative of the term must be proved not to be positive. A relation with a denominator that may be 0 is
    refuted.

    Attributes:
        end: decides what is left without the sum.
        probes: points at which a counterexample is looked for first.
    """

    end: Certificate = Signs()
    probes: Sequence[Mapping[Any, Any]] = ()
    kind: Kind = "inequality"
    reach: Reach = "all"
    method: str = "the terms decrease: each lies between the last and the first"

    def check(self, statement: Statement, assumptions: Statement) -> Verdict:
        if at := counterexample(statement, assumptions, probes=self.probes):
            return Verdict("refuted", at)
        if at := next(filter(None, (_undefined(relation, assumptions) for relation in statement)), ""):
            return Verdict("refuted", at)
        return next((verdict for relation in statement if (verdict := self._trouble(relation, assumptions))), None) or (
            Verdict("holds", self.method)
        )

    def _trouble(self, relation: Any, assumptions: Statement) -> Verdict | None:
        try:
            total = _only_sum(relation, assumptions)
        except TypeError as error:
            return Verdict("undecided", str(error))
        replaced, failed = self._replaced(total, relation.lts.has(sp.Sum), assumptions)
        if failed:
            return Verdict("undecided", failed)
        verdict = self.end.check((relation.xreplace({total: replaced}),), assumptions)
        return None if verdict.status == "holds" else Verdict("undecided", verdict.detail)

    def _replaced(self, total: Any, above: bool, assumptions: Statement) -> tuple[Any, str]:
        """What the sum is at most (`above`) or at least, or why that is not proved."""
        (index, low, high), term = total.limits[0], total.function
        inside = (*assumptions, sp.Ge(X, low))
        if not _falls(term.subs(index, X), inside):
            return 0, f"{term} is not proved to decrease"
        return (high - low + 1) * term.subs(index, low if above else high), ""


@dataclass(frozen=True)
class IntegralTest(Decreasing):
    """left <= right with one sum on the left: every term is at most a decreasing function c there, so that the sum is
    at most the integral of c from one before its first index to its last.

    Attributes:
        integral: antiderivative of c, in the index of the sum.
        index: that index.
        ratio: (base, exponent) with term = c base^exponent, 0 < base <= 1 and exponent >= 0; none where term = c.
        more: instead of a ratio, what c exceeds the term by, not negative; the term must then decrease, and c need not.
        reduce: brings derivatives to a form whose sign can be seen.
    """

    integral: Any = sp.Integer(0)
    index: Any = None
    ratio: tuple[Any, Any] = (sp.Integer(1), sp.Integer(1))
    more: Any = sp.Integer(0)
    reduce: Callable[[Any], Any] = sp.simplify
    method: str = "each term is below the integral of a decreasing function over the unit before it"

    def _replaced(self, total: Any, above: bool, assumptions: Statement) -> tuple[Any, str]:
        (index, low, high), term = total.limits[0], total.function
        inside = (*assumptions, sp.Ge(X, low - 1))
        compared = sp.diff(self.integral.subs(self.index, X), X)
        base, exponent = (part.subs(self.index, X) for part in self.ratio)
        if not above or index != self.index:
            return 0, "an integral bounds a sum from above"
        term, more = term.subs(index, X), self.more.subs(index, X)
        same = equal(term, compared * base**exponent - more)
        if Identity(reduce=lambda difference: _powers(self.reduce(difference))).check((same,), ()).status != "holds":
            return 0, f"{term} is not {compared} times {base**exponent} without {more}"
        falling = compared if more == 0 else term
        if not (_falls(falling, inside, self.reduce) and nonnegative(more, inside)):
            return 0, f"{falling} is not proved to decrease, or {more} to be 0 or more"
        if not (positive(base, inside) and nonnegative(1 - base, inside) and nonnegative(exponent, inside)):
            return 0, f"{base} in (0, 1] and {exponent} >= 0 are not proved"
        return self.integral.subs(index, high) - self.integral.subs(index, low - 1), ""


def _undefined(relation: Any, assumptions: Statement) -> str:
    """Where a denominator is 0, or nothing."""
    for part in sorted(relation.atoms(sp.Pow), key=str):
        nonzero = sp.Ne(part.base, 0, evaluate=False)
        if part.exp.is_negative and part.base.is_nonzero is not True and algebraic(nonzero):
            verdict = Reals().check((nonzero,), assumptions)
            if verdict.status == "refuted":
                return f"{part.base} is 0 {verdict.detail}"
    return ""


def _falls(function: Any, assumptions: Statement, reduce: Callable[[Any], Any] = sp.simplify) -> bool:
    """Whether the derivative in X is proved not to be positive, as it comes or reduced."""
    slope = sp.diff(function, X)
    return nonnegative(-slope, assumptions) or nonnegative(-reduce(slope), assumptions)


def _powers(difference: Any) -> Any:
    return sp.simplify(sp.powsimp(sp.powdenest(sp.simplify(difference), force=True), force=True))


def _only_sum(relation: Any, assumptions: Statement) -> Any:
    """The one sum of an inequality, whose coefficient is proved to be positive, and which is proved not to run
    backwards.

    Raises:
        TypeError: there is no such sum.
    """
    sums = relation.atoms(sp.Sum)
    if not isinstance(relation, sp.Le | sp.Ge) or len(sums) != 1:
        raise TypeError(f"{relation} is no inequality with one sum")
    (total,) = sums
    letter = sp.Dummy("S")
    side = (relation.lts if relation.lts.has(sp.Sum) else relation.gts).xreplace({total: letter})
    other = relation.gts if relation.lts.has(sp.Sum) else relation.lts
    coefficient = sp.diff(side, letter)
    _, low, high = total.limits[0]
    forwards = at_least(high, low - 1, assumptions)
    if other.has(sp.Sum) or coefficient.has(letter) or not positive(coefficient, assumptions) or not forwards:
        raise TypeError(f"{total} does not stand alone with a positive factor")
    return total
