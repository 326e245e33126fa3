"""`identity`: sympy reduces the difference of the two sides to 0."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.matrices.expressions.matexpr import MatrixElement

from theory.certify.points import counterexample
from theory.certify.words import words
from theory.claim import Kind, Reach, Statement, Verdict

__all__ = ["Identity", "equal", "reduce_to_zero"]

POINTS = 8
"""Random points at which a difference that did not reduce to 0 is evaluated: not 0 there, it is refuted."""


def equal(left: Any, right: Any) -> Any:
    """The equation as it is written: sympy would otherwise decide the easy ones itself."""
    return sp.Eq(left, right, evaluate=False)


def reduce_to_zero(difference: Any) -> Any:
    """0, or the simplified difference. A rational function is brought to lowest terms in the field of its symbols,
    which decides it; other expressions go through sympy's normal forms until one is 0. Words in letters that do not
    commute are only expanded."""
    if not difference.is_commutative:
        return sp.expand(difference)
    symbols = sorted(difference.atoms(sp.Symbol) | difference.atoms(MatrixElement), key=str)
    plain = {symbol: sp.Symbol(f"x{k}") for k, symbol in enumerate(symbols)}
    rational = difference.xreplace(plain)
    if plain and all(symbol.is_commutative for symbol in symbols) and rational.is_rational_function(*plain.values()):
        try:
            return sp.QQ.frac_field(*plain.values()).from_sympy(rational).as_expr()
        except (sp.CoercionFailed, ValueError):  # roots among the coefficients
            pass
    reduced = difference
    for reduce in (sp.expand, sp.together, sp.ratsimp, sp.simplify):
        reduced = reduce(reduced)
        if reduced == 0:
            return sp.Integer(0)
    return reduced


@dataclass(frozen=True)
class Identity:
    """Each relation is an equation, scalar or of matrices. Matrices of symbolic size are reduced as words in their
    letters, for every size.

    Attributes:
        instances: values of symbols (dimensions, indices) at which the equation is checked; one empty instance where it
            is reduced for all of them at once.
        reduce: how a scalar difference is reduced.
        symmetric: matrices that equal their transpose.
    """

    instances: Sequence[Mapping[Any, Any]] = ({},)
    reduce: Callable[[Any], Any] = reduce_to_zero
    symmetric: Sequence[Any] = ()
    kind: Kind = "identity"

    @property
    def reach(self) -> Reach:
        """All parameters, or the instances."""
        return "all" if tuple(self.instances) == ({},) else "instances"

    @property
    def method(self) -> str:
        """For the page of claims."""
        if tuple(self.instances) == ({},):
            return "sympy reduces the difference to 0"
        shown = [", ".join(f"{k} = {v}" for k, v in instance.items()) for instance in self.instances]
        few = "; ".join(shown) if len(shown) <= 6 else f"{shown[0]}; ..; {shown[-1]} ({len(shown)} cases)"
        return f"sympy reduces the difference to 0 at {few}"

    def check(self, statement: Statement, assumptions: Statement) -> Verdict:
        """Decide the statement for what its symbols are declared to be; the assumptions say where a counterexample is
        looked for, outside of the instances too."""
        if not self.instances or not all(isinstance(relation, sp.Eq) for relation in statement):
            return Verdict("undecided", "an identity is an equation, at one instance or more")
        if at := counterexample(statement, assumptions):
            return Verdict("refuted", at)
        count = 0
        for relation in statement:
            for values in self.instances:
                for difference in self._scalars(relation, values):
                    if self.reduce(difference) == 0:
                        count += 1
                        continue
                    at = _point_of_difference(difference)
                    case = ", ".join(f"{k} = {v}" for k, v in values.items())
                    if at is None:
                        return Verdict("undecided", f"not reduced to 0 {case}".strip())
                    return Verdict("refuted", f"differs {'at ' + case if case else ''} {at}".replace("  ", " "))
        return Verdict("holds", f"{count} differences reduced to 0")

    def _scalars(self, relation: Any, values: Mapping[Any, Any]) -> list[Any]:
        left: Any = relation.lhs.subs(dict(values))
        right: Any = relation.rhs.subs(dict(values))
        if any(isinstance(side, sp.MatrixExpr) for side in (left, right)):
            difference: Any = left - right
            letters = difference.atoms(sp.MatrixSymbol)
            if any(not size.is_Integer for matrix in (difference, *letters) for size in matrix.shape):
                return [words(difference, self.symmetric)]
            explicit = difference.doit().as_explicit()
            elements: Any = explicit.atoms(MatrixElement)
            symmetric = [matrix.subs(dict(values)) for matrix in self.symmetric]
            mirrored = {
                entry: MatrixElement(entry.parent, entry.j, entry.i)
                for entry in elements
                if entry.parent in symmetric and entry.i > entry.j
            }
            return [entry.xreplace(mirrored) for entry in explicit]
        return [(left - right).doit()]


def _point_of_difference(difference: Any) -> str | None:
    """A point where the difference is certainly not 0."""
    generator = random.Random(0)
    symbols = sorted(difference.atoms(sp.Symbol) | difference.atoms(MatrixElement), key=str)
    if any(not symbol.is_commutative for symbol in symbols):  # words in free letters: any that is left is a difference
        return "as words in non-commuting letters"
    functions = sorted(difference.atoms(AppliedUndef, sp.Indexed), key=str)
    for _ in range(POINTS):
        values = {
            symbol: sp.Integer(generator.randint(1, 6))
            if symbol.is_integer
            else sp.Rational(generator.randint(5, 40), 16) * (1 if symbol.is_nonnegative else generator.choice((1, -1)))
            for symbol in [*functions, *symbols]
        }
        try:
            value = complex(sp.N(difference.xreplace(values).doit(), 30))
        except (TypeError, ValueError, ZeroDivisionError):
            continue
        if abs(value) > 1e-20:
            return "at " + ", ".join(f"{k} = {v}" for k, v in list(values.items())[:6])
    return None
