"""A claim: a statement in sympy, what it assumes, where it comes from, and the certificate that decides it.

The certificate is given the statement as data. This is why a check means something: a mutant is the same claim with a
wrong constant, exponent or sign, or without an assumption. It goes through the same certificate, which must reject it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import sympy as sp

from theory.symbols import NOTATION, Letters
from unrolled.checks import refuse, require_number

__all__ = ["STRENGTHS", "Certificate", "Claim", "Mutant", "Reach", "Statement", "Strength", "Verdict"]

Statement = tuple[Any, ...]
"""Relations of sympy (Eq, Le, ..) or boolean combinations of them, all of which are claimed."""
Kind = Literal["identity", "inequality", "numeric"]
Reach = Literal["all", "box", "instances", "numeric"]
"""Where a certificate decides: for all parameters, on a box, at instances, or at the points of a sweep."""
Strength = Literal["all", "step", "box", "instances", "numeric"]
STRENGTHS: dict[Strength, str] = {
    "all": "proved for all parameters",
    "step": "proved but for a step in words",
    "box": "proved on a box",
    "instances": "proved for these values",
    "numeric": "measured",
}
"""Strengths of a claim, strongest first, in words."""
DIGITS = 30
Provenance = Literal["published", "derived", "measured"]


@dataclass(frozen=True)
class Verdict:
    """What a certificate found.

    Attributes:
        status: "holds"; "refuted", a counterexample was found; "undecided", neither; "true", of a generated mutant that
            its claim names as true.
        detail: what was reduced, proved or measured; or the counterexample.
        margin: tightest ratio of bound to measurement for a numeric claim, the smallest certified slack for one by ball
            arithmetic, None where the proof is symbolic.
        loosest: largest ratio of bound to measurement, None but for numeric claims.
    """

    status: Literal["holds", "refuted", "undecided", "true"]
    detail: str = ""
    margin: float | None = None
    loosest: float | None = None


@runtime_checkable
class Certificate(Protocol):
    """Decides a statement under assumptions."""

    @property
    def kind(self) -> Kind: ...

    @property
    def reach(self) -> Reach: ...

    @property
    def method(self) -> str:
        """How the certificate decides, in a few words for the page of claims."""
        ...

    def check(self, statement: Statement, assumptions: Statement) -> Verdict: ...


@dataclass(frozen=True)
class Mutant:
    """A claim that is false: what was changed, and the changed statement or assumptions (None: as in the claim)."""

    change: str
    statement: Statement | None = None
    assumptions: Statement | None = None


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        name: what the command line calls it.
        title: the claim in a sentence.
        statement: relations that are claimed.
        certificate: what decides them.
        provenance: "published" with its `source`, "derived" here, or "measured".
        source: publication.
        assumptions: relations under which the statement is claimed; symbols declared positive or integer are so.
        bound: the expression that `evaluate` computes; where not given, the right side of the first relation.
        mutants: false variants that the certificate must reject.
        steps: the derivation, each step in words with an expression or relation, or None.
        scope: what the certificate covers where that is less than the claim, and what covers the rest: the step in
            words of a claim that is proved otherwise.
        true_variants: generated mutants that are true (see theory.certify.mutate), each with the reason.
        letters: the alphabet of its subject; the registry sets it.
    """

    name: str
    title: str
    statement: Statement
    certificate: Certificate
    provenance: Provenance
    source: str = ""
    assumptions: Statement = ()
    bound: Any = None
    mutants: tuple[Mutant, ...] = ()
    steps: tuple[tuple[str, Any], ...] = ()
    scope: str = ""
    true_variants: Mapping[str, str] = field(default_factory=dict)
    letters: Letters = field(default=NOTATION, repr=False, compare=False)
    _compiled: dict[str, Callable[..., Any]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def kind(self) -> Kind:
        """identity, inequality or numeric."""
        return self.certificate.kind

    @property
    def strength(self) -> Strength:
        """How much of the claim is proved: from where its certificate decides, and whether that is all of the claim."""
        reach = self.certificate.reach
        return "step" if reach == "all" and self.scope else reach

    def check(self) -> Verdict:
        """Run the certificate on the claim."""
        return self._decide(self.statement, self.assumptions)

    def check_mutant(self, mutant: Mutant) -> Verdict:
        """Run the same certificate on a mutant."""
        statement = self.statement if mutant.statement is None else mutant.statement
        assumptions = self.assumptions if mutant.assumptions is None else mutant.assumptions
        return self._decide(statement, assumptions)

    def _decide(self, statement: Statement, assumptions: Statement) -> Verdict:
        if not statement:
            return Verdict("undecided", "nothing is claimed")
        for relation in statement:
            if relation in (sp.true, sp.false):  # sympy saw it while it was written down: no certificate helps
                return Verdict("refuted" if relation == sp.false else "undecided", f"{relation} as it is written")
        return self.certificate.check(statement, assumptions)

    @property
    def expression(self) -> Any:
        """What `evaluate` computes.

        Raises:
            InputError: the claim bounds nothing.
        """
        if self.bound is None and not isinstance(self.statement[0], sp.Rel):
            refuse("claim", self.name, "a claim with a bound")
        return self.statement[0].rhs if self.bound is None else self.bound

    def evaluate(self, values: Mapping[str, float] | None = None, /, *, of: str | None = None, **more: float) -> float:
        """The bound at given values of its symbols, float64.

        Args:
            values: symbol -> value, for symbols whose names are no identifiers; others may be given by keyword.
            of: letter on the left of an equation of the statement, whose right side is wanted instead of the bound.

        Raises:
            InputError: a symbol without a value, a value that an assumption of the claim excludes, or a symbol
                that the claim does not have.
            ValueError: two symbols of the claim print alike, so that a name does not say which is meant.
        """
        values = {**(values or {}), **more}
        expression = self.expression if of is None else self._right_side(of)
        known = self._symbols()
        for name, value in values.items():
            if name not in known:
                refuse(name, value, f"values of {', '.join(sorted(known))}, the letters of {self.name}")
            _require_domain(self.name, known[name], value)
        given = {known[name]: float(value) for name, value in values.items()}
        arguments = sorted(expression.free_symbols, key=str)
        for symbol in arguments:
            if symbol not in given:
                refuse(str(symbol), None, f"a number; {self.name} needs {', '.join(map(str, arguments))}")
        self._require(given)
        key = of or ""
        if key not in self._compiled:
            self._compiled[key] = sp.lambdify(arguments, expression, modules=["scipy", "numpy"], dummify=True)
        value = float(self._compiled[key](*(given[symbol] for symbol in arguments)))
        if math.isfinite(value):
            return value
        # A factor is out of the range of floats, as of a Bessel function of large order: in as many digits as it takes.
        return float(expression.evalf(DIGITS, subs={symbol: sp.Float(given[symbol], DIGITS) for symbol in arguments}))

    def _right_side(self, letter: str) -> Any:
        relations = [relation for relation in self.statement if isinstance(relation, sp.Rel)]
        sides = [relation.rhs for relation in relations if str(relation.lhs) == letter]
        if len(sides) != 1:
            accepted = ", ".join(str(relation.lhs) for relation in relations if relation.lhs.is_Symbol)
            refuse("of", letter, f"a letter on the left of one relation of {self.name}: {accepted}")
        return sides[0]

    def _symbols(self) -> dict[str, Any]:
        """The symbols by their printed names.

        Raises:
            ValueError: two symbols that print alike.
        """
        expressions = [*self.statement, *self.assumptions, *([] if self.bound is None else [self.bound])]
        symbols: set[Any] = set().union(*(expression.free_symbols for expression in expressions))
        named = {str(symbol): symbol for symbol in symbols}
        if len(named) < len(symbols):
            twice = [str(symbol) for symbol in symbols if named[str(symbol)] != symbol]
            raise ValueError(f"{self.name} has two symbols that print as {', '.join(sorted(twice))}")
        return named

    def _require(self, given: Mapping[Any, float]) -> None:
        for assumption in self.assumptions:
            symbols = sorted(assumption.free_symbols, key=str)
            if not set(symbols) <= set(given):
                continue
            if assumption.subs({symbol: sp.Float(given[symbol]) for symbol in symbols}) == sp.false:
                numbers = tuple(given[symbol] for symbol in symbols)
                shown = numbers[0] if len(numbers) == 1 else numbers
                refuse(", ".join(map(str, symbols)), shown, f"{sp.sstr(assumption)}, an assumption of {self.name}")


def _require_domain(claim: str, symbol: Any, value: float) -> None:
    """Refuse what the symbol's own declaration excludes."""
    number = require_number(str(symbol), value)
    for declared, holds, words in (
        (symbol.is_positive, number > 0, f"{symbol} > 0"), (symbol.is_nonnegative, number >= 0, f"{symbol} >= 0"),
        (symbol.is_integer, number.is_integer(), f"an integer {symbol}"),
    ):  # fmt: skip
        if declared and not holds:
            refuse(str(symbol), value, f"{words}, an assumption of {claim}")
