"""A GELU MLP that is exactly linear: GELU(z) - GELU(-z) = z.

Proof: GELU(z) = z F(z) with F(z) + F(-z) = 1, for the normal distribution function and for its tanh approximation
alike, so GELU(z) - GELU(-z) = z F(z) + z F(-z) = z (derived). In floating point the two terms do not cancel: one of
them is small.

Cost: two hidden units for each linear functional.
"""

from torch import Tensor, nn

from unrolled.handset.stream import Subspace, connect

__all__ = ["LinearMLP", "Reads"]

Reads = list[tuple[Subspace, Tensor | float]]
"""Subspaces, each with the matrix (or the multiple of I) that maps it to the functionals."""


class LinearMLP:
    """Collects linear functionals of the stream and where they are written, and counts the hidden units they take."""

    def __init__(self) -> None:
        self._rows: list[tuple[Reads, Reads, int]] = []
        self.hidden = 0

    def add(self, reads: Reads, writes: Reads, size: int) -> None:
        """Compute `size` functionals, the sum of matrix times subspace over `reads`, and add matrix times them to each
        subspace of `writes`."""
        self._rows.append((reads, writes, size))
        self.hidden += 2 * size

    def set(self, mlp: nn.Sequential) -> None:
        """Write the collected functionals into an MLP Linear, GELU, Linear whose weights are zero."""
        first, last = mlp[0], mlp[-1]
        start = 0
        for reads, writes, size in self._rows:
            for sign in (1.0, -1.0):
                units = Subspace("hidden", start, size)
                for source, matrix in reads:
                    connect(first, source, units, sign * matrix)  # pyright: ignore[reportArgumentType]
                for target, matrix in writes:
                    connect(last, units, target, sign * matrix)  # pyright: ignore[reportArgumentType]
                start += size
