"""Transformers whose weights are set by hand so that the forward pass is a solver."""

from unrolled.handset.construct import construct
from unrolled.handset.extend import extend
from unrolled.handset.iterates import hidden_iterates, reference_iterates
from unrolled.models.record import Construction

__all__ = ["Construction", "construct", "extend", "hidden_iterates", "reference_iterates"]
