"""The approximate inverses P_j of the preconditioned construction as dense float64 matrices, without any model.

`preconditioned_dit` says what they are, `preconditioner_weights` how their weights are solved for; this is the
reference that its models are held against: heads from the formula of their matrix, weights from the same least
squares, C_t itself in place of its dictionary.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.diffusion import sigma
from unrolled.handset.gates import GateFitter
from unrolled.handset.gaussian_heads import dyadic_widths
from unrolled.handset.preconditioner_weights import WeightSolver, head_matrices, held_weights
from unrolled.models.dit import TimeRamps
from unrolled.process import GaussianProcess

__all__ = ["held_preconditioners", "precondition", "solved_preconditioners"]


def _matrices(
    weights: Sequence[Float[Tensor, "d H"]], heads: Float[Tensor, "H N N"], t: float
) -> Float[Tensor, "applications d N N"]:
    """P_1 = Q_1/sigma_t, then P_j = Q_j/sigma_t^2."""
    each = [torch.einsum("dh,hij->dij", w, heads) / sigma(t) ** (1 if j == 0 else 2) for j, w in enumerate(weights)]
    return torch.stack(each)


def held_preconditioners(
    process: GaussianProcess,
    times: Sequence[float],
    applications: int,
    ridge: float,
    t_range: tuple[float, float],
    ramps: int,
    per_octave: int = 1,
) -> list[Float[Tensor, "applications d N N"]]:
    """P_1, P_2, .. at each of `times` as `preconditioned_dit` should hold them: matrices on the channels of x in the
    eigenbasis of Sigma, float64. Weights come from the ramps over `t_range`, heads from their formula; no model is
    built."""
    heads = head_matrices(dyadic_widths(process.length, per_octave), process.length)
    time = TimeRamps(ramps, t_range).double()
    held = list(held_weights(process, heads, GateFitter(time, t_range), applications, ridge))
    t = torch.tensor(list(times), dtype=torch.float64)
    features = torch.cat([time(t), torch.ones(len(t), 1, dtype=torch.float64)], dim=1)
    weights = [torch.einsum("nf,fdh->ndh", features, coefficients) for coefficients, _ in held]
    return [_matrices([w[k] for w in weights], heads, float(t[k])) for k in range(len(t))]


def solved_preconditioners(
    process: GaussianProcess, t: float, applications: int, ridge: float
) -> Float[Tensor, "applications d N N"]:
    """P_1, P_2, .. like those of `held_preconditioners`, of weights solved at one t alone."""
    heads = head_matrices(dyadic_widths(process.length, 1), process.length)
    solver = WeightSolver(process, heads, torch.tensor([t], dtype=torch.float64), ridge)
    weights = []
    for _ in range(applications):
        weights.append(solver.solve(torch.ones(1, 1, dtype=torch.float64)))
        solver.apply(weights[-1])
    return _matrices([w[0] for w in weights], heads, t)


def precondition(
    process: GaussianProcess, matrices: Float[Tensor, "applications d N N"]
) -> list[Callable[[Tensor], Tensor]]:
    """The P_j as maps of (batch, N, d), for `unrolled.solvers.preconditioned`."""
    basis = process.spatial_eigen[1]

    def apply(matrix: Float[Tensor, "d N N"]) -> Callable[[Tensor], Tensor]:
        return lambda v: torch.einsum("kij,bjk->bik", matrix, v @ basis) @ basis.T

    return [apply(matrix) for matrix in matrices]
