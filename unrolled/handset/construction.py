"""What a hand-set model says of itself: the `.construction` record."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unrolled.dit import DiT
from unrolled.process import GaussianProcess

__all__ = ["Construction", "hidden_iterates", "sizes_of"]


@dataclass(frozen=True)
class Construction:
    """How a hand-set model was made, and what it should therefore do; plain values, so that it travels in a checkpoint.

    Attributes:
        algorithm: "gradient_descent", "chebyshev" or "preconditioned".
        model: the class, "dit".
        steps: iterations of the solver; for "preconditioned", applications of P_j, of 1, 2, 2, .. blocks.
        iterate_blocks: index of the block after which iterate 1, 2, .. stands in the stream.
        subspaces: name -> [first channel, number of channels] of the residual stream.
        sizes: D width, L blocks, M heads, B largest Frobenius norm of a weight matrix, R clipping radius (infinite: a DiT
            does not clip).
        t_range: diffusion times.
        dtype: of the parameters.
        kernel_error: sup error over lags of the kernel that the heads hold.
        operator_error: spectral norm of the held Gamma minus Gamma.
        gate_errors: largest error of each gate, relative for the structural ones, absolute for fitted weights.
        times: diffusion times of the next two.
        spectrum: [m_t, L_t] at each.
        predicted_error: largest error, over all steps, of the iterate against the reference iterate, relative to the exact
            solution, at each; for "preconditioned", expected relative error of the score after the last application.
        ridge: of the preconditioner's weights, 0 where there are none.
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

    def state(self) -> dict[str, Any]:
        """Plain values, the inverse of `Construction(**state)`."""
        return asdict(self)


def sizes_of(model: DiT) -> dict[str, float]:
    """D, L, M, B, R of a DiT."""
    norms = [float(p.detach().norm()) for p in model.parameters() if p.ndim == 2]
    config = model.config
    return {"D": config.width, "L": config.depth, "M": config.heads, "B": max(norms), "R": float("inf")}


@torch.no_grad()
def hidden_iterates(
    model: DiT, process: GaussianProcess, x: Float[Tensor, "batch N d"], t: float
) -> list[Float[Tensor, "batch N d"]]:
    """The iterates s_1, s_2, .. that stand in the residual stream of a hand-set DiT, as scores, in the model's dtype.

    Read after each block of `.construction.iterate_blocks` from the subspace `iterate`, which holds u = sigma_t s in the
    eigenbasis of Sigma.
    """
    construction: Construction = model.construction
    start, size = construction.subspaces["iterate"]
    streams: dict[int, Tensor] = {}

    def keep(block: int):
        def hook(_: nn.Module, __: Any, stream: Tensor) -> None:
            streams[block] = stream[:, model.config.registers :, start : start + size]

        return hook

    handles = [model.blocks[k].register_forward_hook(keep(k)) for k in construction.iterate_blocks]
    try:
        model(x, t)
    finally:
        for handle in handles:
            handle.remove()
    basis = process.spatial_eigen[1].to(x.device)
    scale = torch.sqrt(-torch.expm1(torch.tensor(-t, dtype=torch.float64))).item()
    return [(streams[k].double() @ basis.T / scale).to(streams[k].dtype) for k in construction.iterate_blocks]
