"""A claim: a statement in sympy, what it assumes, where it comes from, and the certificate that decides it.

The certificate is given the statement as data. That is what makes a check worth something: a mutant, the same claim
with a wrong constant, exponent, sign or an assumption less, goes through the very same certificate and must be
rejected.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import sympy as sp

from unrolled.checks import InputError

__all__ = ["Certificate", "Claim", "Mutant", "Statement", "Verdict"]

Statement = tuple[Any, ...]
"""Relations of sympy (Eq, Le, ..) or boolean combinations of them, all of which are claimed."""
Kind = Literal["identity", "inequality", "numeric"]
Provenance = Literal["published", "derived", "measured"]


@dataclass(frozen=True)
class Verdict:
    """What a certificate found.

    Attributes:
        status: "holds"; "refuted", a counterexample was found; "undecided", neither.
        detail: what was reduced, proved or measured; or the counterexample.
        margin: tightest ratio of bound to measurement for a numeric claim, the smallest certified slack for one by ball
            arithmetic, None where the proof is symbolic.
        loosest: largest ratio of bound to measurement, None but for numeric claims.
    """

    status: Literal["holds", "refuted", "undecided"]
    detail: str = ""
    margin: float | None = None
    loosest: float | None = None


@runtime_checkable
class Certificate(Protocol):
    """Decides a statement under assumptions."""

    @property
    def kind(self) -> Kind: ...

    @property
    def method(self) -> str:
        """How, in a few words, for the page of claims."""
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
        scope: what the certificate covers where that is less than the claim, and what covers the rest.
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
    _compiled: dict[str, Callable[..., Any]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def kind(self) -> Kind:
        """identity, inequality or numeric."""
        return self.certificate.kind

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
        for each in statement:
            if each in (
                sp.true,
                sp.false,
            ):  # sympy saw it while it was written down: no certificate is needed, or helps
                return Verdict("refuted" if each == sp.false else "undecided", f"{each} as it is written")
        return self.certificate.check(statement, assumptions)

    @property
    def expression(self) -> Any:
        """What `evaluate` computes."""
        return self.bound if self.bound is not None else self.statement[0].rhs

    def evaluate(self, values: Mapping[str, float] | None = None, /, *, of: str | None = None, **more: float) -> float:
        """The bound at given values of its symbols, float64.

        Args:
            values: symbol -> value, for symbols whose names are no identifiers; others may be given by keyword.
            of: letter on the left of an equation of the statement, whose right side is wanted instead of the bound.

        Raises:
            InputError: a symbol without a value, a value that an assumption of the claim excludes, or a symbol
                that the claim does not have.
        """
        values = {**(values or {}), **more}
        expression = self.expression if of is None else self._right_side(of)
        symbols, known = _by_name(expression.free_symbols), _by_name(self._symbols())
        for name, value in values.items():
            if name not in known:
                raise InputError(f"{name}: not a symbol of {self.name}; accepted: {', '.join(sorted(known))}")
            _require_domain(self.name, known[name], value)
        if missing := sorted(set(symbols) - set(values)):
            raise InputError(
                f"{missing[0]}: not given; accepted: values of {', '.join(sorted(symbols))} for {self.name}"
            )
        self._require(values)
        key = of or ""
        if key not in self._compiled:
            arguments = [symbols[name] for name in sorted(symbols)]
            self._compiled[key] = sp.lambdify(arguments, expression, modules=["scipy", "numpy"])
        return float(self._compiled[key](*(float(values[name]) for name in sorted(symbols))))

    def _right_side(self, letter: str) -> Any:
        found = {str(each.lhs): each.rhs for each in self.statement if isinstance(each, sp.Rel)}
        if letter not in found:
            raise InputError(f"of: {letter!r} is not accepted; accepted: {', '.join(found)} for {self.name}")
        return found[letter]

    def _symbols(self) -> set[Any]:
        found: set[Any] = set()
        for each in (*self.statement, *self.assumptions, *([] if self.bound is None else [self.bound])):
            found |= each.free_symbols
        return found

    def _require(self, values: Mapping[str, float]) -> None:
        for assumption in self.assumptions:
            names = _by_name(assumption.free_symbols)
            if not set(names) <= set(values):
                continue
            given = {names[name]: sp.Float(values[name]) for name in names}
            if assumption.subs(given) == sp.false:
                shown = ", ".join(f"{values[name]:g}" for name in sorted(names))
                raise InputError(
                    f"{', '.join(sorted(names))}: {shown} is not accepted; accepted: {sp.sstr(assumption)},"
                    f" an assumption of {self.name}"
                )


def _by_name(symbols: Iterable[Any]) -> dict[str, Any]:
    """Printed name -> symbol, for callers who give values by name.

    Raises:
        RuntimeError: two symbols print alike, so that a name would not say which is meant.
    """
    named: dict[str, Any] = {}
    for symbol in symbols:
        if named.setdefault(str(symbol), symbol) != symbol:
            raise RuntimeError(f"two symbols are called {symbol}")
    return named


def _require_domain(claim: str, symbol: Any, value: float) -> None:
    """Refuse what the symbol's own declaration excludes."""
    wanted = None
    if not isinstance(value, int | float) or value != value:
        wanted = "a number"
    elif symbol.is_positive and not value > 0:
        wanted = f"{symbol} > 0"
    elif symbol.is_nonnegative and not value >= 0:
        wanted = f"{symbol} >= 0"
    elif symbol.is_integer and float(value) != int(value):
        wanted = f"an integer {symbol}"
    if wanted is not None:
        raise InputError(f"{symbol}: {value!r} is not accepted; accepted: {wanted}, an assumption of {claim}")
