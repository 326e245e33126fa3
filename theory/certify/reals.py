"""`inequality` by z3: the negation has no solution in the real numbers."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy as sp
import z3

from theory.certify.points import counterexample
from theory.claim import Kind, Reach, Statement, Verdict

__all__ = ["Reals", "algebraic", "proved"]

EFFORT = 20_000_000
"""Most work that z3 does for one question, in its own units: some seconds. Unlike time it does not depend on how busy
the machine is."""
TIMEOUT = 60_000
"""Milliseconds after which z3 stops where it does not count its work."""
FEW_POINTS = 16
"""Points at which a counterexample is looked for before z3 is asked."""
UNKNOWN = {"odd", "even", "prime", "composite", "irrational", "noninteger", "infinite", "imaginary"}
"""Declarations that z3 is not told: a symbol that has one is not translated."""


@dataclass(frozen=True)
class Reals:
    """Relations between rational and algebraic expressions, proved for all real values that satisfy the assumptions and
    what the symbols are declared to be (positive, non-negative).

    A root is a new variable, non-negative, with its power as an equation; Abs, Max, Min and Piecewise become
    conditions.
    What would make a proof empty is asked too: the assumptions, and with them the premise of every implication, must
    have a solution, every denominator must be proved not to be 0 and every base of a root not to be negative; a
    statement that is not defined somewhere is refuted. Integers are real numbers first; where that leaves a
    counterexample they are integers.
    """

    kind: Kind = "inequality"
    reach: Reach = "all"
    method: str = "z3 finds no counterexample in the real numbers"

    def check(self, statement: Statement, assumptions: Statement) -> Verdict:
        if at := counterexample(statement, assumptions, FEW_POINTS):
            return Verdict("refuted", at)
        for relation in statement:
            verdict = self._decide(relation, assumptions, integers=False)
            if verdict.status != "holds" and any(symbol.is_integer for symbol in relation.free_symbols):
                verdict = self._decide(relation, assumptions, integers=True)
            if verdict.status != "holds":
                return verdict
        return Verdict("holds", f"{len(statement)} negations without a solution")

    def _decide(self, relation: Any, assumptions: Statement, integers: bool) -> Verdict:
        translator = _Translator(integers)
        given = [translator.boolean(assumption) for assumption in assumptions]
        claimed = translator.boolean(relation)
        given += translator.declared
        defined = [condition for _, condition in translator.conditions]
        if _ask(*given)[0] != z3.sat:
            return Verdict("undecided", "the assumptions contradict each other")
        for premise in translator.premises:
            if _ask(*given, *translator.roots, premise)[0] != z3.sat:
                return Verdict("undecided", f"the premise {premise} is not known to have a solution")
        answer, model = _ask(*given, *translator.roots, *defined, z3.Not(claimed))
        if answer == z3.sat:
            variables = [variable for variable in translator.variables.values() if model[variable] is not None]
            return Verdict("refuted", "at " + ", ".join(f"{variable} = {model[variable]}" for variable in variables))
        if answer != z3.unsat:
            return Verdict("undecided", "z3 gave up")
        # Innermost first: what a root or a quotient contains was translated, and is proved, before it.
        for k, condition in enumerate(translator.conditions):
            answer, _ = _ask(*given, *translator.roots[: condition[0]], *defined[:k], z3.Not(condition[1]))
            if answer != z3.unsat:
                status = "refuted" if answer == z3.sat else "undecided"
                return Verdict(status, f"{condition[1]} is not {'true' if answer == z3.sat else 'proved'} everywhere")
        return Verdict("holds")


def algebraic(relation: Any) -> bool:
    """Whether z3 can be told the relation."""
    try:
        _Translator().boolean(relation)
    except TypeError:
        return False
    return True


def proved(relation: Any, assumptions: Statement) -> bool:
    """Whether z3 proves the relation under the assumptions.

    Raises:
        TypeError: an expression that is not algebraic.
    """
    return Reals().check((relation,), assumptions).status == "holds"


def _ask(*conditions: Any) -> tuple[Any, Any]:
    solver = z3.Solver()
    solver.set(rlimit=EFFORT, timeout=TIMEOUT)
    solver.add(*conditions)
    answer = solver.check()
    return answer, solver.model() if answer == z3.sat else None


class _Translator:
    """From sympy to z3, over the reals."""

    def __init__(self, integers: bool = False) -> None:
        self.integers = integers
        """Whether integers are integers; they are real numbers otherwise."""
        self.variables: dict[Any, Any] = {}
        """By symbol: two that print alike but differ in their assumptions are two variables."""
        self.names: set[str] = set()
        self.declared: list[Any] = []
        self.premises: list[Any] = []
        self.roots: list[Any] = []
        self.conditions: list[tuple[int, Any]] = []
        """(roots defined before, condition): what must hold for the expression to be defined."""

    def boolean(self, formula: Any) -> Any:
        if formula in (sp.true, sp.false):
            return z3.BoolVal(bool(formula))
        if isinstance(formula, sp.Rel):
            left, right = self.number(formula.lhs), self.number(formula.rhs)
            if self.integers and formula.lhs.is_integer and formula.rhs.is_integer:
                # z3 may search for ever for integers between two; as real numbers they are a step apart.
                if isinstance(formula, sp.Lt):
                    return left + 1 <= right
                if isinstance(formula, sp.Gt):
                    return left >= right + 1
            return {
                sp.Le: lambda: left <= right, sp.Lt: lambda: left < right, sp.Ge: lambda: left >= right,
                sp.Gt: lambda: left > right, sp.Eq: lambda: left == right, sp.Ne: lambda: left != right,
            }[type(formula)]()  # fmt: skip
        parts = [self.boolean(part) for part in formula.args]
        if isinstance(formula, sp.And):
            return z3.And(*parts)
        if isinstance(formula, sp.Or):
            return z3.Or(*parts)
        if isinstance(formula, sp.Not):
            return z3.Not(parts[0])
        if isinstance(formula, sp.Implies):
            self.premises.append(parts[0])
            return z3.Implies(*parts)
        raise TypeError(f"{formula} is not a relation of real numbers")

    def number(self, expression: Any) -> Any:
        if isinstance(expression, sp.Rational):
            return z3.RealVal(Fraction(int(expression.p), int(expression.q)))
        if isinstance(expression, sp.Symbol):
            return self._variable(expression)
        if isinstance(expression, sp.Pow):
            return self._power(expression)
        if isinstance(expression, sp.Piecewise):
            cases: Any = expression.args
            value, condition = cases[-1]
            if condition != sp.true:
                raise TypeError(f"{expression} has no case for the rest")
            chosen = self.number(value)
            for value, condition in reversed(cases[:-1]):
                chosen = z3.If(self.boolean(condition), self.number(value), chosen)
            return chosen
        parts = [self.number(part) for part in expression.args]
        if isinstance(expression, sp.Add):
            return z3.Sum(parts)
        if isinstance(expression, sp.Mul):
            return z3.Product(parts)
        if isinstance(expression, sp.Abs):
            return z3.If(parts[0] >= 0, parts[0], -parts[0])
        if isinstance(expression, sp.Max | sp.Min):
            chosen = parts[0]
            for part in parts[1:]:
                larger = chosen >= part
                chosen = z3.If(larger, chosen, part) if isinstance(expression, sp.Max) else z3.If(larger, part, chosen)
            return chosen
        raise TypeError(f"{expression} is not an algebraic expression")

    def _variable(self, symbol: Any) -> Any:
        if symbol not in self.variables:
            if undeclared := {name for name, declared in symbol.assumptions0.items() if declared} & UNKNOWN:
                raise TypeError(f"{symbol} is declared to be {', '.join(sorted(undeclared))}")
            whole = self.integers and symbol.is_integer
            self.variables[symbol] = self._new(str(symbol), whole)
            variable = self._value(symbol)
            for declared, condition in (
                (symbol.is_positive, variable > 0), (symbol.is_nonnegative, variable >= 0),
                (symbol.is_negative, variable < 0), (symbol.is_nonpositive, variable <= 0),
                (symbol.is_nonzero, variable != 0),
            ):  # fmt: skip
                if declared:
                    self.declared.append(condition)
        return self._value(symbol)

    def _value(self, symbol: Any) -> Any:
        variable = self.variables[symbol]
        return z3.ToReal(variable) if variable.is_int() else variable

    def _new(self, name: str, whole: bool = False) -> Any:
        """A variable of z3, which takes two of one name for the same: stars tell it from earlier ones."""
        while name in self.names:
            name += "*"
        self.names.add(name)
        return z3.Int(name) if whole else z3.Real(name)

    def _power(self, expression: Any) -> Any:
        base, exponent = expression.args
        if not isinstance(exponent, sp.Rational):
            raise TypeError(f"{expression} is not an algebraic expression")
        value = self.number(base)
        if exponent.q != 1:
            self.conditions.append((len(self.roots), value >= 0))
            root = self._new(f"root {len(self.roots)}")
            self.roots.append(z3.And(root >= 0, root ** int(exponent.q) == value))
            value = root
        power: Any = z3.Product([value] * abs(int(exponent.p)))
        if exponent.p > 0:
            return power
        if not isinstance(base, sp.Rational):
            self.conditions.append((len(self.roots), value != 0))
        return 1 / power
