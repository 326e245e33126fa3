"""A claim of several relations that are decided in different ways."""

from collections.abc import Sequence
from dataclasses import dataclass

from theory.claim import Certificate, Kind, Statement, Verdict

__all__ = ["Each"]

STRENGTH: tuple[Kind, ...] = ("numeric", "inequality", "identity")


@dataclass(frozen=True)
class Each:
    """The k-th certificate decides the k-th relation; the kind is that of the weakest."""

    certificates: Sequence[Certificate]

    @property
    def kind(self) -> Kind:
        """The weakest kind."""
        return STRENGTH[min(STRENGTH.index(each.kind) for each in self.certificates)]

    @property
    def method(self) -> str:
        """For the page of claims."""
        return "; ".join(dict.fromkeys(each.method for each in self.certificates))

    def check(self, statement: Statement, assumptions: Statement) -> Verdict:
        found = [
            each.check((relation,), assumptions) for each, relation in zip(self.certificates, statement, strict=True)
        ]
        for each in found:
            if each.status != "holds":
                return each
        margins = [each.margin for each in found if each.margin is not None]
        loosest = [each.loosest for each in found if each.loosest is not None]
        return Verdict(
            "holds", "; ".join(each.detail for each in found), min(margins, default=None), max(loosest, default=None)
        )
