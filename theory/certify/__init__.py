"""Certificates: how a statement is decided."""

from theory.certify.balls import Balls
from theory.certify.combine import Each
from theory.certify.derivative import Increasing
from theory.certify.identity import Identity, equal
from theory.certify.induction import Induction
from theory.certify.integral import Decreasing, IntegralTest
from theory.certify.reals import Reals
from theory.certify.signs import Signs
from theory.certify.sweep import Sweep

__all__ = [
    "Balls", "Decreasing", "Each", "Identity", "Increasing", "Induction", "IntegralTest", "Reals", "Signs", "Sweep",
    "equal",
]  # fmt: skip
