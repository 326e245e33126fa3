"""A softmax DiT whose attention is an approximate inverse: depth that does not grow with the condition number.

One application of P_j takes one block, and each after the first takes one more before it, for the residual. The heads
H_m are Gaussian of fixed widths, each once with a sink (H = exp(-b (i-j)^2)/c) and once row-normalised, and the
identity. In the eigenbasis of Sigma, channel k, with u = sigma_t s:

    first block:  u = -Q_1 y_1,            y_1 = x - alpha_t mu,                    Q_j = sum_m w_{j,m,k}(t) H_m
    C block:      y_j = (C_t u + sigma_t (x - alpha_t mu)) / sigma_t^2
    P block:      u <- u - Q_j y_j

so that P_1 = Q_1/sigma_t and P_j = Q_j/sigma_t^2 in s <- s - P_j (C_t s + x - alpha_t mu): the dictionary is the same
for every covariance, and what is learned of it sits in the weights, which are attention gates g1(t) on scratch
channels, one for each head and channel of x.

The weights: `preconditioner_weights`.

Proof that the blocks compute this: heads return H_m y (gaussian_heads) into their scratch channels with gate w, the
MLP, exactly linear (linear_mlp), adds minus their sum and minus the identity's part, an input scale, to u and clears
them.

Cost: width 5 d + 4 + M + M' + 2 M' d for M' widths, max(M, 2 M') heads, 2 d (1 + 2 M') hidden units, 2 j - 1 blocks.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.diffusion import alpha, sigma
from unrolled.handset.dit_parts import (
    GATE1,
    GATE2,
    SCALE1,
    SCALE2,
    common_sizes,
    constant,
    empty_dit,
    gate_block,
    head_dim_for,
    set_covariance_product,
)
from unrolled.handset.gates import GateFitter
from unrolled.handset.gaussian_heads import (
    GaussianDictionary,
    dyadic_widths,
    set_gaussian_head,
    sink_logits,
)
from unrolled.handset.linear_mlp import LinearMLP, Reads
from unrolled.handset.preconditioner_weights import head_matrices, held_weights
from unrolled.handset.stream import Stream, Subspace, connect
from unrolled.models.dit import Block, DiT, DiTConfig
from unrolled.process import GaussianProcess

__all__ = ["preconditioned_dit"]


def preconditioned_dit(
    process: GaussianProcess,
    dictionary: GaussianDictionary,
    applications: int,
    t_range: tuple[float, float],
    ramps: int,
    ridge: float,
    per_octave: int = 1,
) -> tuple[DiT, Stream, GateFitter, list[Float[Tensor, " n"]]]:
    """A float64 DiT of 2 applications - 1 blocks; its stream, the fitter of its gates, and the expected relative error
    of the score after each application at the fitter's times."""
    d = process.dim
    widths = dyadic_widths(process.length, per_octave)
    responses = 2 * len(widths)
    # The P heads' sink logits follow those of the kernel's dictionary.
    sinks = sink_logits(torch.cat([dictionary.widths, widths]), process.length)
    stream = Stream({**common_sizes(d, sinks.shape[1]), "scratch": d, "residual": d, "responses": responses * d})
    config = DiTConfig(
        length=process.length, dim=d, width=stream.width, depth=2 * applications - 1,
        heads=max(len(dictionary.widths), responses), head_dim=head_dim_for(d), mlp_width=2 * d * (1 + responses),
        registers=1, norm="none", ramps=ramps, t_range=t_range,
    )  # fmt: skip
    model = empty_dit(config, stream, process, sinks)
    fitter = GateFitter(model.time, t_range)
    held = held_weights(process, head_matrices(widths, process.length), fitter, applications, ridge)
    errors: list[Tensor] = []
    for j, (coefficients, error) in enumerate(held):
        if j > 0:
            _set_residual_block(model.block_list[2 * j - 1], process, dictionary, stream, fitter)
        errors.append(error)
        block = model.block_list[2 * j]
        _set_application_block(block, j, len(dictionary.widths), widths, stream, fitter, coefficients)
    return model, stream, fitter, errors


def _set_residual_block(
    block: Block, process: GaussianProcess, dictionary: GaussianDictionary, stream: Stream, fitter: GateFitter
) -> None:
    """y = (C u + sigma (x - alpha mu))/sigma^2 into `residual`, whatever it held before, and the scratch back to 0."""
    scratch, residual = stream["scratch"], stream["residual"]
    reads = set_covariance_product(block, process, dictionary, stream, fitter)
    square = fitter.relative("sigma^2", lambda t: sigma(t) ** 2, offset=1.0)
    gate_block(block, SCALE2, stream.width, {residual: square})
    inverse = fitter.relative("1/sigma^2", lambda t: 1 / sigma(t) ** 2)
    gate_block(block, GATE2, stream.width, {residual: inverse, scratch: constant(1.0, len(inverse))})
    mlp = LinearMLP()
    mlp.add([*reads, (residual, -1.0)], [(residual, 1.0)], residual.size)
    mlp.add([(scratch, 1.0)], [(scratch, -1.0)], scratch.size)
    mlp.set(block.mlp)


def _set_application_block(
    block: Block,
    application: int,
    first_sink: int,
    widths: Float[Tensor, " M"],
    stream: Stream,
    fitter: GateFitter,
    table: Float[Tensor, "features d H"],
) -> None:
    """u -= Q y, y read from x - alpha mu in the first application and from `residual` in those after it."""
    features, d, count = table.shape  # the identity is the last head
    x, mean, iterate, residual, responses = (stream[name] for name in ("x", "mean", "iterate", "residual", "responses"))
    values: dict[str, Tensor | float] = {"x": 1.0, "mean": -1.0} if application == 0 else {"residual": 1.0}
    heads = [(float(b), stream["sinks"][first_sink + m]) for m, b in enumerate(widths)]
    heads += [(float(b), None) for b in widths]
    gates: dict[Subspace, Tensor] = {}
    for m, (width, sink) in enumerate(heads):
        output = set_gaussian_head(block.attention, m, stream, width, sink, values)
        channels = responses.part(m, d)
        connect(block.attention.out, output, channels, torch.eye(d, output.size, dtype=torch.float64))
        gates[channels] = table[:, :, m]
    gate_block(block, GATE1, stream.width, gates)
    one = constant(1.0, features)
    identity = table[:, :, -1] - one[:, None]  # as an input scale 1 + s(c)
    if application == 0:
        gate_block(block, SCALE1, stream.width, {mean: fitter.relative("alpha", alpha, offset=1.0)})
        weights = fitter.values(table[:, :, -1]) * alpha(fitter.t)[:, None]
        shrunk = fitter.absolute("identity weight of the mean", weights) - one[:, None]
        gate_block(block, SCALE2, stream.width, {x: identity, mean: shrunk})
        reads: Reads = [(x, 1.0), (mean, -1.0)]
    else:
        gate_block(block, SCALE2, stream.width, {residual: identity})
        reads = [(residual, 1.0)]
    total = torch.eye(d, dtype=torch.float64).repeat(1, count - 1)  # the sum over heads, channel by channel
    mlp = LinearMLP()
    mlp.add([*reads, (responses, total)], [(iterate, -1.0)], d)
    mlp.add([(responses, 1.0)], [(responses, -1.0)], responses.size)
    mlp.set(block.mlp)
    gate_block(block, GATE2, stream.width, {iterate: one, responses: one})
