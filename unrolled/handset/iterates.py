# pyright: strict
"""Iterates of a hand-set model: those that stand in its residual stream, and the textbook's that should stand there."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unrolled.checks import InputError
from unrolled.diffusion import alpha, sigma
from unrolled.handset.dense_inverses import held_preconditioners, precondition
from unrolled.handset.truncation import TruncatedCovariance
from unrolled.models.dit import DiT
from unrolled.models.record import Construction, DiTConstruction, ReluConstruction, record_of
from unrolled.models.relu import ReluTransformer
from unrolled.process import GaussianProcess
from unrolled.solvers import chebyshev, conjugate_gradient, gradient_descent, preconditioned

__all__ = ["hidden_iterates", "reference_iterates"]


@torch.no_grad()
def hidden_iterates(
    model: DiT | ReluTransformer, process: GaussianProcess, x: Float[Tensor, "batch N d"], t: float
) -> list[Float[Tensor, "batch N d"]]:
    """The iterates s_1, s_2, .. that stand in the residual stream of a hand-set model, as scores, in the model's dtype.

    Read after each block of `.construction.iterate_blocks` from the subspace `iterate`, which holds s in a
    ReluTransformer, u = sigma_t s in the eigenbasis of Sigma in a DiT.

    Raises:
        InputError: a model without a record.
    """
    record = record_of(model)
    start, size = record.subspaces["iterate"]
    streams: dict[int, Tensor] = {}

    def keep(block: int):
        def hook(_: nn.Module, __: tuple[Tensor, ...], stream: Tensor) -> None:
            streams[block] = stream[:, -process.length :, start : start + size]

        return hook

    handles = [model.blocks[k].register_forward_hook(keep(k)) for k in record.iterate_blocks]
    try:
        model(x, t)
    finally:
        for handle in handles:
            handle.remove()
    iterates = [streams[k] for k in record.iterate_blocks]
    if isinstance(model, ReluTransformer):
        return iterates
    basis = process.spatial_eigen[1].to(x.device)
    return [(u.double() @ basis.T / sigma(t)).to(u.dtype) for u in iterates]


def reference_iterates(
    construction: Construction, process: GaussianProcess, x: Float[Tensor, "batch N d"], t: float
) -> list[Float[Tensor, "batch N d"]]:
    """Iterates 1, 2, .. of the reference solver that `construction` names, on C_t, or on C_{t,J} where it truncates;
    float64.

    For "preconditioned" the P_j are dense matrices solved for anew, in seconds; `held_preconditioners` solves once for
    many t.

    Args:
        construction: the record.
        process: the data.
        x: (batch, N, d).
        t: diffusion time.

    Raises:
        InputError: an algorithm that has no reference.
    """
    truncation = construction.truncation if isinstance(construction, ReluConstruction) else None
    covariance = TruncatedCovariance(process, truncation or process.length)
    r = x.double() - alpha(t) * process.mean
    steps = construction.steps

    def operator(v: Tensor) -> Tensor:
        return covariance.operator(v, t)

    if construction.algorithm == "closed_form":
        return [process.score(x.double(), t)]
    if construction.algorithm == "conjugate_gradient":
        return list(conjugate_gradient(operator, r, steps))
    if isinstance(construction, DiTConstruction) and construction.ridge is not None:
        low, high = construction.t_range
        (matrices,) = held_preconditioners(process, [t], steps, construction.ridge, (low, high), construction.ramps)
        return list(preconditioned(operator, r, precondition(process, matrices)))
    solvers = {"gradient_descent": gradient_descent, "chebyshev": chebyshev}
    if construction.algorithm not in solvers:
        raise InputError(
            f"algorithm: {construction.algorithm!r} has no reference iterates; accepted: {', '.join(solvers)},"
            " conjugate_gradient and preconditioned"
        )
    extremes = covariance.extreme_eigenvalues(t) if truncation else process.extreme_eigenvalues(t)
    return list(solvers[construction.algorithm](operator, r, *extremes, steps))
