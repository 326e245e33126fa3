"""`inequality` by z3: the negation has no solution in the real numbers."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy as sp
import z3

from theory.claim import Kind, Statement, Verdict

__all__ = ["Reals", "proved"]

TIMEOUT = 20_000
"""Milliseconds for each question."""


@dataclass(frozen=True)
class Reals:
    """Relations between rational and algebraic expressions, proved for all real values that satisfy the assumptions and
    what the symbols are declared to be (positive, non-negative).

    A root is a new variable, non-negative, with its power as an equation; Abs, Max, Min and Piecewise become
    conditions.
    What would make a proof empty is asked too: the assumptions must have a solution, every denominator must be proved
    not to be 0 and every base of a root not to be negative; otherwise the claim is undecided.
    """

    kind: Kind = "inequality"
    method: str = "z3 finds no counterexample in the real numbers"

    def check(self, statement: Statement, assumptions: Statement) -> Verdict:
        for relation in statement:
            translator = _Translator()
            given = [translator.boolean(each) for each in assumptions]
            claimed = translator.boolean(relation)
            given += translator.declared
            defined = [condition for _, condition in translator.conditions]
            answer, model = _ask(*given)
            if answer != z3.sat:
                return Verdict("undecided", "the assumptions contradict each other")
            answer, model = _ask(*given, *translator.roots, *defined, z3.Not(claimed))
            if answer == z3.sat:
                assert model is not None
                shown = ", ".join(
                    f"{name} = {model[v]}" for name, v in translator.variables.items() if model[v] is not None
                )
                return Verdict("refuted", f"at {shown}")
            if answer != z3.unsat:
                return Verdict("undecided", "z3 gave up")
            # Innermost first: what a root or a quotient contains was translated, and is proved, before it.
            for k, condition in enumerate(translator.conditions):
                answer, _ = _ask(*given, *translator.roots[: condition[0]], *defined[:k], z3.Not(condition[1]))
                if answer != z3.unsat:
                    return Verdict("undecided", f"{condition[1]} is not proved")
        return Verdict("holds", f"{len(statement)} negations without a solution")


def proved(relation: Any, assumptions: Statement) -> bool:
    """Whether z3 proves the relation under the assumptions.

    Raises:
        TypeError: an expression that is not algebraic.
    """
    return Reals().check((relation,), assumptions).status == "holds"


def _ask(*conditions: Any) -> tuple[Any, Any]:
    solver = z3.Solver()
    solver.set("timeout", TIMEOUT)
    solver.add(*conditions)
    answer = solver.check()
    return answer, solver.model() if answer == z3.sat else None


class _Translator:
    """From sympy to z3, over the reals."""

    def __init__(self) -> None:
        self.variables: dict[Any, Any] = {}
        """Symbol -> variable. Two symbols of one printed name are two variables."""
        self.declared: list[Any] = []
        self.roots: list[Any] = []
        self.conditions: list[tuple[int, Any]] = []
        """(roots defined before, condition): what must hold for the expression to be defined."""

    def boolean(self, each: Any) -> Any:
        if each in (sp.true, sp.false):
            return z3.BoolVal(bool(each))
        if isinstance(each, sp.Rel):
            left, right = self.number(each.lhs), self.number(each.rhs)
            return {
                sp.Le: lambda: left <= right, sp.Lt: lambda: left < right, sp.Ge: lambda: left >= right,
                sp.Gt: lambda: left > right, sp.Eq: lambda: left == right, sp.Ne: lambda: left != right,
            }[type(each)]()  # fmt: skip
        parts = [self.boolean(part) for part in each.args]
        if isinstance(each, sp.And):
            return z3.And(*parts)
        if isinstance(each, sp.Or):
            return z3.Or(*parts)
        if isinstance(each, sp.Not):
            return z3.Not(parts[0])
        if isinstance(each, sp.Implies):
            return z3.Implies(*parts)
        raise TypeError(f"{each} is not a relation of real numbers")

    def number(self, each: Any) -> Any:
        if isinstance(each, sp.Rational):
            return z3.RealVal(Fraction(int(each.p), int(each.q)))
        if isinstance(each, sp.Symbol):
            return self._variable(each)
        if isinstance(each, sp.Pow):
            return self._power(each)
        if isinstance(each, sp.Piecewise):
            cases: Any = each.args
            value, condition = cases[-1]
            if condition != sp.true:
                raise TypeError(f"{each} has no case for the rest")
            found = self.number(value)
            for value, condition in reversed(cases[:-1]):
                found = z3.If(self.boolean(condition), self.number(value), found)
            return found
        parts = [self.number(part) for part in each.args]
        if isinstance(each, sp.Add):
            return z3.Sum(parts)
        if isinstance(each, sp.Mul):
            return z3.Product(parts)
        if isinstance(each, sp.Abs):
            return z3.If(parts[0] >= 0, parts[0], -parts[0])
        if isinstance(each, sp.Max | sp.Min):
            found = parts[0]
            for part in parts[1:]:
                larger = found >= part
                found = z3.If(larger, found, part) if isinstance(each, sp.Max) else z3.If(larger, part, found)
            return found
        raise TypeError(f"{each} is not an algebraic expression")

    def _variable(self, symbol: Any) -> Any:
        if symbol not in self.variables:
            variable = self.variables[symbol] = z3.Real(f"{symbol} #{len(self.variables)}")
            if symbol.is_positive:
                self.declared.append(variable > 0)
            elif symbol.is_nonnegative:
                self.declared.append(variable >= 0)
        return self.variables[symbol]

    def _power(self, each: Any) -> Any:
        base, exponent = each.args
        if not isinstance(exponent, sp.Rational):
            raise TypeError(f"{each} is not an algebraic expression")
        value = self.number(base)
        if exponent.q != 1:
            self.conditions.append((len(self.roots), value >= 0))
            root = z3.Real(f"root {len(self.roots)}")
            self.roots.append(z3.And(root >= 0, root ** int(exponent.q) == value))
            value = root
        power: Any = z3.Product([value] * abs(int(exponent.p)))
        if exponent.p > 0:
            return power
        if not isinstance(base, sp.Rational):
            self.conditions.append((len(self.roots), value != 0))
        return 1 / power
