"""The parts that every hand-set DiT shares: its stream, its embedding, its output, and a block with Gaussian heads."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.diffusion import alpha, sigma
from unrolled.handset.gates import GateFitter, set_gate
from unrolled.handset.gaussian_heads import GaussianDictionary, normaliser, positions, set_gaussian_head
from unrolled.handset.linear_mlp import Reads
from unrolled.handset.stream import Stream, Subspace, connect
from unrolled.models.dit import Block, DiT, DiTConfig
from unrolled.process import GaussianProcess

__all__ = [
    "GATE1",
    "GATE2",
    "SCALE1",
    "SCALE2",
    "common_sizes",
    "constant",
    "empty_dit",
    "gate_block",
    "head_dim_for",
    "position_table",
    "set_covariance_product",
]

SHIFT1, SCALE1, GATE1, SHIFT2, SCALE2, GATE2 = range(6)
"""Slots of a block's modulation."""


def head_dim_for(dim: int) -> int:
    """The least power of 4 that is at least max(4, d): 4 for the query and key, and a 1/sqrt(head_dim) that is
    exact."""
    size = 4
    while size < dim:
        size *= 4
    return size


def common_sizes(dim: int, sinks: int) -> dict[str, int]:
    """Subspaces of every hand-set DiT: data, mean and iterate in the eigenbasis of Sigma, position, flags, sink
    logits."""
    return {
        "x": dim, "mean": dim, "iterate": dim, "position": 1, "position_squared": 1, "token": 1, "register": 1,
        "sinks": sinks,
    }  # fmt: skip


@torch.no_grad()
def position_table(stream: Stream, process: GaussianProcess, sinks: Float[Tensor, "N M"]) -> Float[Tensor, "N width"]:
    """What the position code holds: the mean, p, p^2, the token flag and log(c - Z_i) of each sink head, float64.

    The only weights that know the length of the sequence.
    """
    length = process.length
    table = torch.zeros(length, stream.width, dtype=torch.float64)
    p = positions(length)
    table[:, stream["mean"].channels] = process.mean @ process.spatial_eigen[1]
    table[:, stream["position"].channels] = p[:, None]
    table[:, stream["position_squared"].channels] = p[:, None] ** 2
    table[:, stream["token"].channels] = 1.0
    table[:, stream["sinks"].channels] = sinks
    return table


@torch.no_grad()
def empty_dit(config: DiTConfig, stream: Stream, process: GaussianProcess, sinks: Float[Tensor, "N M"]) -> DiT:
    """A float64 DiT whose embedding writes x, whose output reads the iterate, and whose blocks do nothing yet."""
    model = DiT(config).double()
    for parameter in model.parameters():
        parameter.zero_()
    basis = process.spatial_eigen[1]  # x' = x V, so that Sigma is diagonal
    data = Subspace("input", 0, process.dim)
    connect(model.embed, data, stream["x"], basis.T)
    connect(model.head.out, stream["iterate"], data, basis)
    model.position.copy_(position_table(stream, process, sinks))
    model.register[:, stream["register"].channels] = 1.0
    return model


def gate_block(block: Block, slot: int, width: int, gates: Mapping[Subspace, Float[Tensor, "features ..."]]) -> None:
    """Set the given gates of one slot of a block's modulation; channels that are not named keep 0."""
    for channels, coefficients in gates.items():
        set_gate(block.modulation, slot, width, channels, coefficients)


def constant(value: float, features: int) -> Float[Tensor, " features"]:
    """Coefficients of a gate that is the same at every t."""
    coefficients = torch.zeros(features, dtype=torch.float64)
    coefficients[-1] = value
    return coefficients


def set_covariance_product(
    block: Block, process: GaussianProcess, dictionary: GaussianDictionary, stream: Stream, fitter: GateFitter
) -> Reads:
    """Let the block's attention add alpha_t^2 Gamma u Sigma to `scratch`, and scale what its MLP then has to sum.

    Returns the reads, scratch + sigma_t^2 u + sigma_t x - sigma_t alpha_t mean, in sum C_t u + sigma_t (x - alpha_t
    mu).
    """
    d = process.dim
    spatial = torch.diag(process.spatial_eigen[0])
    for m, (width, weight) in enumerate(zip(dictionary.widths.tolist(), dictionary.weights.tolist(), strict=True)):
        output = set_gaussian_head(block.attention, m, stream, width, stream["sinks"][m], {"iterate": 1.0})
        target = torch.zeros(d, output.size, dtype=torch.float64)
        target[:, :d] = weight * normaliser(width) * spatial
        connect(block.attention.out, output, stream["scratch"], target)
    x, mean, iterate, scratch = (stream[name] for name in ("x", "mean", "iterate", "scratch"))
    gate_block(block, GATE1, stream.width, {scratch: fitter.relative("alpha^2", lambda t: alpha(t) ** 2)})
    scales = {
        iterate: fitter.relative("sigma^2", lambda t: sigma(t) ** 2, offset=1.0),
        x: fitter.relative("sigma", sigma, offset=1.0),
        mean: fitter.relative("sigma alpha", lambda t: sigma(t) * alpha(t), offset=1.0),
    }
    gate_block(block, SCALE2, stream.width, scales)
    return [(scratch, 1.0), (iterate, 1.0), (x, 1.0), (mean, -1.0)]
