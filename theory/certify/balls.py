"""`inequality` by ball arithmetic: intervals with rounding counted, over a box that is cut until every part is
decided."""

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy as sp
from flint import arb, ctx, fmpq

from theory.certify.points import counterexample
from theory.certify.reals import proved
from theory.claim import Kind, Reach, Statement, Verdict

__all__ = ["Balls", "ball"]

PRECISION = 96
"""Bits of the ball arithmetic."""
MOST_PARTS = 4_000
"""Most parts that one box is cut into; then the claim is undecided."""

FUNCTIONS: dict[Any, Callable[..., arb]] = {
    sp.exp: lambda a: a.exp(), sp.log: lambda a: a.log(), sp.erf: lambda a: a.erf(), sp.erfc: lambda a: a.erfc(),
    sp.cos: lambda a: a.cos(), sp.uppergamma: lambda s, z: z.gamma_upper(s),
}  # fmt: skip


def _exact(value: Any) -> arb:
    return arb(fmpq(int(value.p), int(value.q)))


def ball(expression: Any, values: Mapping[Any, arb]) -> arb:
    """An interval that contains the expression for every choice of the symbols in their intervals.

    Raises:
        TypeError: a function that has no ball.
    """
    if expression in values:
        return values[expression]
    if isinstance(expression, sp.Rational):
        return _exact(expression)
    if expression == sp.pi:
        return arb.pi()
    if expression == sp.E:
        return arb(1).exp()
    if isinstance(expression, sp.Sum):
        (index, low, high) = expression.limits[0]
        total = arb(0)
        for k in range(int(low.subs(values)), int(high.subs(values)) + 1):
            total += ball(expression.function, {**values, index: arb(k)})
        return total
    if isinstance(expression, sp.Piecewise):
        raise TypeError("cases are not decided by balls")
    parts = [ball(part, values) for part in expression.args]
    if isinstance(expression, sp.Add):
        return sum(parts[1:], parts[0])
    if isinstance(expression, sp.Mul):
        product = parts[0]
        for part in parts[1:]:
            product = product * part
        return product
    if isinstance(expression, sp.Pow):
        base, exponent = expression.args
        if isinstance(exponent, sp.Integer):
            return parts[0] ** int(exponent)
        if exponent == sp.Rational(1, 2):
            return parts[0].sqrt()
        # 0^p = 0 for p > 0; otherwise through the logarithm.
        if (base == 0 or (base in values and values[base].is_zero())) and parts[1] > 0:
            return arb(0)
        return (parts[1] * parts[0].log()).exp()
    if isinstance(expression, sp.Max):
        largest = parts[0]
        for part in parts[1:]:
            largest = largest.max(part)
        return largest
    for kind, function in FUNCTIONS.items():
        if isinstance(expression, kind):
            return function(*parts)
    raise TypeError(f"{expression.func} has no ball")


@dataclass(frozen=True)
class Balls:
    """Proves left < right everywhere in closed boxes. Equality anywhere in a box leaves the claim undecided.

    Attributes:
        box: symbol -> (lowest, highest), numbers that sympy reads exactly.
        instances: values of the other symbols (indices), each with a box of its own.
    """

    box: Mapping[Any, tuple[Any, Any]]
    instances: Sequence[Mapping[Any, Any]] = ({},)
    kind: Kind = "inequality"

    @property
    def reach(self) -> Reach:
        """A box, or a box at each of the instances."""
        return "box" if tuple(self.instances) == ({},) else "instances"

    @property
    def method(self) -> str:
        """For the page of claims."""
        sides = ", ".join(f"{k} in [{low}, {high}]" for k, (low, high) in self.box.items())
        others = [", ".join(f"{k} = {v}" for k, v in instance.items()) for instance in self.instances if instance]
        return f"ball arithmetic on {sides}" + (f", {'; '.join(others)}" if others else "") + ", edges included"

    def check(self, statement: Statement, assumptions: Statement) -> Verdict:
        """Decide the statement on the box, which must lie inside of the assumptions; a counterexample is looked for
        wherever they hold."""
        if not self.instances or not all(isinstance(relation, sp.Le | sp.Lt | sp.Ge | sp.Gt) for relation in statement):
            return Verdict("undecided", "balls decide inequalities, at one instance or more")
        if at := counterexample(statement, assumptions):
            return Verdict("refuted", at)
        if outside := self._outside(assumptions):
            return Verdict("undecided", f"the box leaves {outside}")
        least, parts = math.inf, 0
        before, ctx.prec = ctx.prec, PRECISION
        try:
            for relation in statement:
                for instance in self.instances:
                    verdict, count, slack = self._decide(relation, instance)
                    parts += count
                    if verdict is not None:
                        return verdict
                    least = min(least, slack)
        finally:
            ctx.prec = before
        return Verdict("holds", f"{parts} parts of the box", least)

    def _outside(self, assumptions: Statement) -> Any:
        """An assumption about the box that does not hold in all of it, or None."""
        for instance in self.instances:
            sides = {side: (sp.Rational(str(low)), sp.Rational(str(high))) for side, (low, high) in self.box.items()}
            box = tuple(part for side, (low, high) in sides.items() for part in (sp.Ge(side, low), sp.Le(side, high)))
            for assumption in assumptions:
                at = assumption.subs(dict(instance))
                about = assumption.free_symbols <= set(self.box) | set(instance)
                if about and at != sp.true and (at == sp.false or not proved(at, box)):
                    return assumption
        return None

    def _decide(self, relation: Any, instance: Mapping[Any, Any]) -> tuple[Verdict | None, int, float]:
        """A verdict if it does not hold, the parts used, and the smallest certified slack over |left| + |right|."""
        small, large = (
            (relation.rhs, relation.lhs) if isinstance(relation, sp.Ge | sp.Gt) else (relation.lhs, relation.rhs)
        )
        small, large = (side.subs(dict(instance)) for side in (small, large))
        start = tuple((sp.Rational(str(low)), sp.Rational(str(high))) for low, high in self.box.values())
        queue = [(0.0, 0, start)]
        least, count = math.inf, 0
        while queue:
            _, _, sides = heapq.heappop(queue)
            count += 1
            values = {symbol: _interval(low, high) for symbol, (low, high) in zip(self.box, sides, strict=True)}
            slack = ball(large, values) - ball(small, values)
            if slack > 0:
                scale = abs(ball(large, values)) + abs(ball(small, values))
                least = min(least, float((slack / scale).lower()) if scale > 0 else least)
                continue
            middle = {symbol: _exact((low + high) / 2) for symbol, (low, high) in zip(self.box, sides, strict=True)}
            if ball(large, middle) - ball(small, middle) < 0:
                at = ", ".join(f"{k} = {float(v.mid()):.6g}" for k, v in middle.items())
                case = ", ".join(f"{k} = {v}" for k, v in instance.items())
                return Verdict("refuted", f"at {', '.join(filter(None, (at, case)))}"), count, least
            if count > MOST_PARTS:
                return Verdict("undecided", f"after {MOST_PARTS} parts of the box"), count, least
            widest = max(range(len(sides)), key=lambda k: float(sides[k][1] - sides[k][0]) / _extent(start[k]))
            low, high = sides[widest]
            for part in ((low, (low + high) / 2), ((low + high) / 2, high)):
                cut = (*sides[:widest], part, *sides[widest + 1 :])
                # Larger parts first: a counterexample is found early if there is one.
                heapq.heappush(queue, (-float(part[1] - part[0]), count * 2 + (part[0] != low), cut))
        return None, count, least


def _extent(side: tuple[Any, Any]) -> float:
    return float(side[1] - side[0]) or 1.0


def _interval(low: Any, high: Any) -> arb:
    return _exact(low).union(_exact(high))
