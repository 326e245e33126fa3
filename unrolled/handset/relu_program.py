"""Writes down a ReluTransformer block by block, in terms of named subspaces, and then counts its sizes and fills its
weights.

A head is a list of bilinear terms y_i[query]' y_j[key], whose sum is its logit, and a list of maps from value to
target; a feed-forward unit is a linear functional and where its ReLU is written. Nothing here knows what is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import InputError
from unrolled.handset.stream import Stream, Subspace
from unrolled.models.relu import ReluBlock, ReluTransformer, ReluTransformerConfig

__all__ = ["Map", "ReluHead", "ReluProgram", "Term"]

Term = tuple[Subspace, Subspace, float]
"""scale times the inner product of y_i[query] and y_j[key]."""
Map = tuple[Subspace, Subspace, Tensor | float]
"""y[target] += y[source] matrix, matrix (source, target), or a multiple of I; a multiple of 1 spreads one channel
over many."""


@dataclass(frozen=True)
class ReluHead:
    """y_i += ReLU(sum of terms(i, j)) times the mapped values of token j, summed over j."""

    logit: Sequence[Term]
    values: Sequence[Map]


@dataclass
class _Unit:
    """size units ReLU(sum of y[source] matrix + bias), written to targets."""

    reads: Sequence[tuple[Subspace, Float[Tensor, "_ units"]]]
    bias: Float[Tensor, " units"]
    writes: Sequence[tuple[Subspace, Float[Tensor, "units _"]]]


@dataclass
class _BlockPlan:
    heads: list[ReluHead] = field(default_factory=list)
    units: list[_Unit] = field(default_factory=list)


def _matrix(matrix: Tensor | float, rows: int, columns: int) -> Float[Tensor, "rows columns"]:
    if isinstance(matrix, Tensor):
        return matrix.double()
    if rows == columns:
        return matrix * torch.eye(rows, dtype=torch.float64)
    if rows == 1:
        return torch.full((1, columns), matrix, dtype=torch.float64)
    raise InputError(f"matrix: a number is not accepted for {rows} to {columns} channels; accepted: a matrix")


class ReluProgram:
    """Blocks of a ReluTransformer in the order they run.

    Args:
        sizes: name -> channels of the subspaces of the residual stream.
    """

    def __init__(self, sizes: dict[str, int]):
        self.stream = Stream(sizes)
        self.plans: list[_BlockPlan] = []

    def __getitem__(self, name: str) -> Subspace:
        return self.stream[name]

    def block(self) -> int:
        """Begin the next block; returns its index."""
        self.plans.append(_BlockPlan())
        return len(self.plans) - 1

    def attend(self, *heads: ReluHead) -> None:
        """Add heads to the attention of the current block."""
        self.plans[-1].heads.extend(heads)

    def rectify(
        self,
        reads: Sequence[tuple[Subspace, Float[Tensor, "_ units"]]],
        bias: Float[Tensor, " units"],
        writes: Sequence[tuple[Subspace, Float[Tensor, "units _"]]],
    ) -> None:
        """Add units to the feed-forward layer of the current block, which reads the stream after the block's
        attention."""
        self.plans[-1].units.append(_Unit(reads, bias, writes))

    def linear(self, reads: Sequence[tuple[Subspace, Tensor | float]], target: Subspace) -> None:
        """y[target] += sum of y[source] matrix, exactly: ReLU(z) - ReLU(-z) = z, and one of the two is 0."""
        size = target.size
        matrices = [(source, _matrix(matrix, source.size, size)) for source, matrix in reads]
        zero, identity = torch.zeros(size, dtype=torch.float64), torch.eye(size, dtype=torch.float64)
        for sign in (1.0, -1.0):
            self.rectify([(source, sign * matrix) for source, matrix in matrices], zero, [(target, sign * identity)])

    def clear(self, *names: str) -> None:
        """Set subspaces to 0."""
        for name in names:
            self.linear([(self[name], -1.0)], self[name])

    @torch.no_grad()
    def build(
        self,
        length: int,
        dim: int,
        rates: Sequence[float],
        radius: float,
        x_limit: float,
        t_range: tuple[float, float],
        source: Subspace,
        position: dict[str, Float[Tensor, "N channels"]],
        time: Subspace,
        score: Subspace,
    ) -> ReluTransformer:
        """A float64 model.

        Args:
            length, dim, rates, radius, x_limit, t_range: see `ReluTransformerConfig`.
            source: where the encoder puts x.
            position: what it puts into subspaces at each position.
            time: where it puts phi(t).
            score: what the decoder reads.
        """
        config = ReluTransformerConfig(
            length=length, dim=dim, width=self.stream.width,
            heads=tuple(len(plan.heads) for plan in self.plans),
            hidden=tuple(sum(len(unit.bias) for unit in plan.units) for plan in self.plans),
            rates=tuple(rates), radius=radius, x_limit=x_limit, t_range=t_range,
        )  # fmt: skip
        model = ReluTransformer(config).double()
        for parameter in model.parameters():
            parameter.zero_()
        model.embed[:, source.channels] = torch.eye(dim, dtype=torch.float64)
        for name, table in position.items():
            model.position[:, self[name].channels] = table
        model.time[:, time.channels] = torch.eye(time.size, dtype=torch.float64)
        model.out[score.channels] = torch.eye(dim, dtype=torch.float64)
        for block, plan in zip(model.block_list, self.plans, strict=True):
            _fill(block, plan)
        return model


def _fill(block: ReluBlock, plan: _BlockPlan) -> None:
    for m, head in enumerate(plan.heads):
        inner = 0
        for query, key, scale in head.logit:
            for k in range(query.size):
                block.query[m, query.start + k, inner] += scale
                block.key[m, key.start + k, inner] += 1.0
                inner += 1
        for source, target, matrix in head.values:
            block.value[m, source.channels, target.channels] += _matrix(matrix, source.size, target.size)
    start = 0
    for unit in plan.units:
        units = slice(start, start + len(unit.bias))
        for source, matrix in unit.reads:
            block.inner[source.channels, units] += matrix
        block.inner_bias[units] += unit.bias
        for target, matrix in unit.writes:
            block.outer[units, target.channels] += matrix
        start = units.stop
