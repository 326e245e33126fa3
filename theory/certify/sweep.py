"""`numeric`: the statement at every point of a seeded sweep. The weakest kind, and named so."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import sympy as sp

from theory.claim import Kind, Reach, Statement, Verdict

__all__ = ["Sweep"]

Points = tuple[dict[Any, float], ...]


@cache
def _collect(points: Callable[[], Iterable[Mapping[Any, float]]]) -> Points:
    """Measured once: the claim and all of its mutants are held against the same measurements."""
    return tuple(dict(point) for point in points())


@dataclass(frozen=True)
class Sweep:
    """Relations between what was measured and what is claimed.

    Attributes:
        points: yields the values of all symbols of the statement, measurements among them, at each setting.
        over: what is swept, in words.
        rtol: relative rounding of what was measured, allowed in equations and where a bound is attained.
    """

    points: Callable[[], Iterable[Mapping[Any, float]]]
    over: str
    rtol: float = 0.0
    kind: Kind = "numeric"
    reach: Reach = "numeric"

    @property
    def method(self) -> str:
        """For the page of claims."""
        return f"measured over {self.over}"

    def check(self, statement: Statement, assumptions: Statement) -> Verdict:
        points = _collect(self.points)
        if not points or any(isinstance(relation, sp.Ne) for relation in statement):
            return Verdict("undecided", "nothing was measured, or a relation that is no bound and no equation")
        tightest, loosest = math.inf, 0.0
        for relation in statement:
            symbols = sorted(relation.free_symbols, key=str)
            sides = sp.lambdify(symbols, (relation.lhs, relation.rhs), modules=["scipy", "numpy"], dummify=True)
            for point in points:
                if not set(symbols) <= set(point):
                    return Verdict("undecided", f"not measured: {sorted(map(str, set(symbols) - set(point)))}")
                left, right = (float(side) for side in sides(*(point[symbol] for symbol in symbols)))
                if not self._holds(relation, left, right):
                    shown = ", ".join(f"{k} = {float(v):.6g}" for k, v in point.items())
                    return Verdict("refuted", f"{left:.6g} against {right:.6g} at {shown}"[:400])
                if not isinstance(relation, sp.Eq):
                    small, large = (left, right) if isinstance(relation, sp.Le | sp.Lt) else (right, left)
                    ratio = large / small if small > 0 else math.inf
                    tightest = min(tightest, ratio)
                    loosest = max(loosest, ratio if ratio < math.inf else 0.0)
        margin = tightest if math.isfinite(tightest) else None
        return Verdict("holds", f"{len(points)} points", margin, loosest or None)

    def _holds(self, relation: Any, left: float, right: float) -> bool:
        if left == right:
            return not isinstance(relation, sp.Lt | sp.Gt)
        if not (math.isfinite(left) and math.isfinite(right)):
            return False
        if isinstance(relation, sp.Eq):
            return abs(left - right) <= self.rtol * abs(right)
        if isinstance(relation, sp.Ge | sp.Gt):
            left, right = right, left
        return left <= right + self.rtol * abs(right)
