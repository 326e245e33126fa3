"""What a hand-set model says of itself: the `.construction` record."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unrolled.diffusion import sigma
from unrolled.models.dit import DiT, DiTConfig
from unrolled.models.relu import ReluTransformer
from unrolled.process import GaussianProcess

__all__ = ["Construction", "hidden_iterates", "sizes_of"]


@dataclass(frozen=True)
class Construction:
    """How a hand-set model was made, and what it should therefore do; plain values, so that it travels in a checkpoint.

    Attributes:
        algorithm: "gradient_descent", "chebyshev" or "preconditioned".
        model: the class, "dit" or "relu".
        steps: iterations of the solver; for "preconditioned", applications of P_j, of 1, 2, 2, .. blocks.
        iterate_blocks: index of the block after which iterate 1, 2, .. stands in the stream.
        subspaces: name -> [first channel, number of channels] of the residual stream.
        sizes: D width, L blocks, M heads, H hidden units of an MLP, each the largest of any block, B largest
            Frobenius norm of a weight matrix, R clipping radius (infinite: a DiT does not clip).
        t_range: diffusion times.
        dtype: of the parameters.
        kernel_error: sup error over lags of the kernel that the heads hold.
        operator_error: spectral norm of the held Gamma minus Gamma.
        gate_errors: largest error of each gate, relative for the structural ones, absolute for fitted weights.
        times: diffusion times of the next two.
        spectrum: [m_t, L_t] at each.
        predicted_error: largest error, over all steps, of the iterate against the reference iterate, relative to the
            exact solution, at each; for "preconditioned", expected relative error of the score after the last
            application; for "conjugate_gradient", bound on the relative C-norm error of the score.
        ridge: of the preconditioner's weights, 0 where there are none.
        widths: b of each channel of log(c - Z_i), in the order of the subspace `sinks`; empty for a ReluTransformer.
        fit_length: N up to which the heads of a DiT hold the kernel to `kernel_error`, see `extend`; 0 for a
            ReluTransformer.
        dominance: B of the constants that make LayerNorm linear, 0 without it.
        neutralisation_error: expected relative change of the score by LayerNorm at each of `times`; part of
            predicted_error.
        truncation: J of a ReluTransformer, whose reference is the solver with C_{t,J}, the covariance cut off at lag
            J; 0 for a DiT.
        truncation_error: bound on the relative difference of the solutions with C_{t,J} and with C_t at each of
            `times`.
    """

    algorithm: str
    model: str
    steps: int
    iterate_blocks: list[int]
    subspaces: dict[str, list[int]]
    sizes: dict[str, float]
    t_range: list[float]
    dtype: str
    kernel_error: float
    operator_error: float
    gate_errors: dict[str, float]
    times: list[float]
    spectrum: list[list[float]]
    predicted_error: list[float]
    ridge: float = 0.0
    widths: list[float] = field(default_factory=list)
    fit_length: int = 0
    dominance: float = 0.0
    neutralisation_error: list[float] = field(default_factory=list)
    truncation: int = 0
    truncation_error: list[float] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """Plain values, the inverse of `Construction(**state)`."""
        return asdict(self)


def sizes_of(model: DiT | ReluTransformer) -> dict[str, float]:
    """D, L, M, H, B, R."""
    config = model.config
    if isinstance(config, DiTConfig):
        depth, heads, hidden, radius = config.depth, config.heads, config.mlp_width or 4 * config.width, math.inf
    else:
        depth, radius = len(config.heads), config.radius
        heads, hidden = max(config.heads, default=0), max(config.hidden, default=0)
    # Three-dimensional parameters hold a matrix for each head.
    norms = [
        float(p.detach().double().norm(dim=(-2, -1)).max()) for p in model.parameters() if p.ndim > 1 and p.numel()
    ]
    return {"D": config.width, "L": depth, "M": heads, "H": hidden, "B": max(norms), "R": radius}


@torch.no_grad()
def hidden_iterates(
    model: DiT | ReluTransformer, process: GaussianProcess, x: Float[Tensor, "batch N d"], t: float
) -> list[Float[Tensor, "batch N d"]]:
    """The iterates s_1, s_2, .. that stand in the residual stream of a hand-set model, as scores, in the model's dtype.

    Read after each block of `.construction.iterate_blocks` from the subspace `iterate`, which holds s in a
    ReluTransformer, u = sigma_t s in the eigenbasis of Sigma in a DiT.
    """
    construction: Construction = model.construction
    start, size = construction.subspaces["iterate"]
    streams: dict[int, Tensor] = {}

    def keep(block: int):
        def hook(_: nn.Module, __: Any, stream: Tensor) -> None:
            streams[block] = stream[:, -process.length :, start : start + size]

        return hook

    handles = [model.blocks[k].register_forward_hook(keep(k)) for k in construction.iterate_blocks]
    try:
        model(x, t)
    finally:
        for handle in handles:
            handle.remove()
    found = [streams[k] for k in construction.iterate_blocks]
    if isinstance(model, ReluTransformer):
        return found
    basis = process.spatial_eigen[1].to(x.device)
    return [(u.double() @ basis.T / sigma(t)).to(u.dtype) for u in found]
