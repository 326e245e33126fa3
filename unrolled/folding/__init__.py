"""`fold`: the score of a DiT whose attention maps are constant, computed without computing them again."""

from unrolled.folding.folded import Folded, fold

__all__ = ["Folded", "fold"]
