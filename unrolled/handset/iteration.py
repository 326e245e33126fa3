"""Gradient descent and Chebyshev as a DiT: one block is one step.

The stream carries u = sigma_t s in the eigenbasis of Sigma, where C_t acts on channel k as alpha^2 s_k Gamma + sigma^2.
A block does

    attention:  scratch += alpha_t^2 sum_m w_m c_m s_k head_m(u) = alpha_t^2 (Gamma u Sigma)_k         (gate g1 =
        alpha_t^2)
    MLP:        z = scratch + sigma_t^2 u + sigma_t x - sigma_t alpha_t mu                            (input scales)
                u -= eta_k(t) z,  scratch -= scratch                                                (gates eta_k, 1)

Proof: z = C_t u + sigma_t (x - alpha_t mu), so with s = u/sigma_t the block is s <- s - eta_k (C_t s + x - alpha_t mu),
the step of `solvers.richardson`; the heads hold Gamma (gaussian_heads) and the MLP is exactly linear (linear_mlp). The
scratch is 0 before each block. The register carries 0 in x, mean and iterate, its attention row stays on itself, and
the MLP has no bias, so these stay 0 there and no value leaks into the tokens.

Cost: width 4 d + 4 + M, M heads, 4 d hidden units, K blocks.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from unrolled.diffusion import alpha, sigma
from unrolled.handset.dit_parts import (
    GATE2,
    common_sizes,
    constant,
    empty_dit,
    gate_block,
    head_dim_for,
    set_covariance_product,
)
from unrolled.handset.gates import GateFitter
from unrolled.handset.gaussian_heads import GaussianDictionary, sink_logits
from unrolled.handset.linear_mlp import LinearMLP
from unrolled.handset.stream import Stream
from unrolled.models.dit import DiT, DiTConfig
from unrolled.process import GaussianProcess

__all__ = ["iteration_dit", "step_sizes"]


def spectrum(process: GaussianProcess, t: Float[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """(m_t, L_t) at many t."""
    g, s = process.temporal_eigen[0], process.spatial_eigen[0]
    smallest, largest = (alpha(t) ** 2 * g[k] * s[k] + sigma(t) ** 2 for k in (0, -1))
    return smallest, largest


def step_sizes(process: GaussianProcess, nodes: list[float]) -> list[Callable[[Tensor], Tensor]]:
    """eta_k(t) = 1/((L_t + m_t)/2 + (L_t - m_t)/2 node_k) as functions of t; a node of 0 is gradient descent."""

    def step(node: float) -> Callable[[Tensor], Tensor]:
        def eta(t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
            smallest, largest = spectrum(process, t)
            return 2 / ((largest + smallest) + (largest - smallest) * node)

        return eta

    return [step(node) for node in nodes]


def iteration_dit(
    process: GaussianProcess,
    dictionary: GaussianDictionary,
    nodes: list[float],
    t_range: tuple[float, float],
    ramps: int,
) -> tuple[DiT, Stream, GateFitter]:
    """A float64 DiT whose block k is step k with step size eta_k(t), its stream, and the fitter of its gates."""
    d, heads = process.dim, len(dictionary.widths)
    stream = Stream({**common_sizes(d, heads), "scratch": d})
    iterate, scratch = stream["iterate"], stream["scratch"]
    config = DiTConfig(
        length=process.length, dim=d, width=stream.width, depth=len(nodes), heads=heads, head_dim=head_dim_for(d),
        mlp_width=4 * d, registers=1, norm="none", ramps=ramps, t_range=t_range,
    )  # fmt: skip
    model = empty_dit(config, stream, process, sink_logits(dictionary.widths, process.length))
    fitter = GateFitter(model.time, t_range)
    for k, (block, eta) in enumerate(zip(model.block_list, step_sizes(process, nodes), strict=True)):
        mlp = LinearMLP()
        mlp.add(set_covariance_product(block, process, dictionary, stream, fitter), [(iterate, -1.0)], d)
        mlp.add([(scratch, 1.0)], [(scratch, -1.0)], d)
        mlp.set(block.mlp)
        step = fitter.relative(f"eta {k + 1}", eta)
        gate_block(block, GATE2, stream.width, {iterate: step, scratch: constant(1.0, len(step))})
    return model, stream, fitter
