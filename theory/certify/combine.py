"""A claim of several relations that are decided in different ways."""

from collections.abc import Sequence
from dataclasses import dataclass

from theory.claim import Certificate, Kind, Reach, Statement, Verdict

__all__ = ["Each"]

KINDS: tuple[Kind, ...] = ("numeric", "inequality", "identity")
REACHES: tuple[Reach, ...] = ("numeric", "instances", "box", "all")
"""Weakest first."""


@dataclass(frozen=True)
class Each:
    """The k-th certificate decides the k-th relation; the kind is that of the weakest."""

    certificates: Sequence[Certificate]

    @property
    def kind(self) -> Kind:
        """The weakest kind."""
        return KINDS[min(KINDS.index(certificate.kind) for certificate in self.certificates)]

    @property
    def reach(self) -> Reach:
        """The narrowest reach."""
        return REACHES[min(REACHES.index(certificate.reach) for certificate in self.certificates)]

    @property
    def method(self) -> str:
        """For the page of claims."""
        return "; ".join(dict.fromkeys(certificate.method for certificate in self.certificates))

    def check(self, statement: Statement, assumptions: Statement) -> Verdict:
        pairs = zip(self.certificates, statement, strict=True)
        verdicts = [certificate.check((relation,), assumptions) for certificate, relation in pairs]
        if failed := [verdict for verdict in verdicts if verdict.status != "holds"]:
            return failed[0]
        margins = [verdict.margin for verdict in verdicts if verdict.margin is not None]
        loosest = [verdict.loosest for verdict in verdicts if verdict.loosest is not None]
        detail = "; ".join(verdict.detail for verdict in verdicts)
        return Verdict("holds", detail, min(margins, default=None), max(loosest, default=None))
