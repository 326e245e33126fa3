"""Certificates: how a statement is decided."""

from theory.certify.balls import Balls
from theory.certify.combine import Each
from theory.certify.derivative import Increasing
from theory.certify.identity import Identity, equal
from theory.certify.reals import Reals
from theory.certify.sweep import Sweep

__all__ = ["Balls", "Each", "Identity", "Increasing", "Reals", "Sweep", "equal"]
