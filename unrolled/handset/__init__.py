"""Transformers whose weights are set by hand so that the forward pass is a solver."""

from unrolled.handset.construct import construct
from unrolled.handset.construction import Construction, hidden_iterates

__all__ = ["Construction", "construct", "hidden_iterates"]
