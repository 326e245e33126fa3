"""Reference solvers of C s = -r, the system whose solution is the score: r = x - alpha_t mu, s = -C_t^{-1} r.

Each is a generator over a linear operator that starts from s = 0, runs exactly `steps` steps and yields the iterate
after each. They are written in the letters of the textbooks and in whatever dtype r has (float64 for a reference);
`operator` maps a batch (batch, ...) to C times it, and inner products run over all dimensions but the first.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import InputError, require_integer

__all__ = [
    "chebyshev",
    "chebyshev_bound",
    "chebyshev_nodes",
    "chebyshev_steps",
    "conjugate_gradient",
    "gradient_descent",
    "gradient_descent_bound",
    "leja_order",
    "preconditioned",
    "richardson",
]

Operator = Callable[[Tensor], Tensor]


def _check(steps: int, smallest: float = 1.0, largest: float = 1.0) -> None:
    require_integer("steps", steps)
    if not 0 < smallest <= largest < math.inf:
        raise InputError(
            f"smallest, largest: {smallest!r}, {largest!r} are not accepted; accepted: 0 < smallest <= largest"
        )


def richardson(
    operator: Operator, r: Float[Tensor, "batch ..."], step_sizes: Sequence[float]
) -> Iterator[Float[Tensor, "batch ..."]]:
    """s <- s - eta_k (C s + r), one step per step size: the family of gradient descent and Chebyshev.

    With p_K(c) = prod_k (1 - eta_k c), the error is s_K - s = p_K(C) (s_0 - s) (published: Saad, Iterative Methods for
    Sparse Linear Systems, 2nd ed., sec. 4.2 and 12.3).
    """
    s = torch.zeros_like(r)
    for eta in step_sizes:
        s = s - eta * (operator(s) + r)
        yield s


def gradient_descent(
    operator: Operator, r: Float[Tensor, "batch ..."], smallest: float, largest: float, steps: int
) -> Iterator[Float[Tensor, "batch ..."]]:
    """Gradient descent with the optimal fixed step 2/(m + L); m, L are the extreme eigenvalues of C.

    Relative error after K steps at most ((kappa-1)/(kappa+1))^K, in the 2-norm and in the C-norm (published: Saad,
    example 4.1).

    Raises:
        InputError: steps < 1, or not 0 < smallest <= largest.
    """
    _check(steps, smallest, largest)
    return richardson(operator, r, [2 / (smallest + largest)] * steps)


def leja_order(points: Sequence[float]) -> list[int]:
    """Indices that order `points` so that each next one maximises the product of distances to those before (Leja).

    The first is the largest. Partial products of prod_k (1 - c/points_k) then stay moderate, which is what keeps
    rounding from growing in the natural order (published: Reichel, BIT 30, 1990).
    """
    remaining = list(range(len(points)))
    order = [max(remaining, key=lambda k: points[k])]
    remaining.remove(order[0])
    distance = dict.fromkeys(remaining, 0.0)  # sums of logarithms: products of distances underflow
    while remaining:
        for k in remaining:
            gap = abs(points[k] - points[order[-1]])
            distance[k] += math.log(gap) if gap > 0 else -math.inf
        order.append(max(remaining, key=lambda k: distance[k]))
        remaining.remove(order[-1])
    return order


def chebyshev_nodes(steps: int) -> list[float]:
    """cos(pi (2k+1)/(2K)), k = 0..K-1, the zeros of T_K on [-1, 1], in Leja order."""
    cosines = [math.cos(math.pi * (2 * k + 1) / (2 * steps)) for k in range(steps)]
    return [cosines[k] for k in leja_order(cosines)]


def chebyshev_steps(smallest: float, largest: float, steps: int) -> list[float]:
    """Step sizes 1/eta_k = (L+m)/2 + (L-m)/2 cos(pi (2k+1)/(2K)), in the Leja order of the 1/eta_k.

    The order depends on K alone (the nodes are an affine image of the cosines), so each step size is a smooth function
    of m and L.

    Raises:
        InputError: steps < 1, or not 0 < smallest <= largest.
    """
    _check(steps, smallest, largest)
    return [1 / ((largest + smallest) / 2 + (largest - smallest) / 2 * node) for node in chebyshev_nodes(steps)]


def chebyshev(
    operator: Operator, r: Float[Tensor, "batch ..."], smallest: float, largest: float, steps: int
) -> Iterator[Float[Tensor, "batch ..."]]:
    """Chebyshev iteration: gradient descent whose step sizes are the reciprocals of Chebyshev nodes on [m, L].

    Relative error after all K steps at most `chebyshev_bound`; iterates before the last have no bound of their own
    (published: Saad, sec. 12.3.2).
    """
    return richardson(operator, r, chebyshev_steps(smallest, largest, steps))


def _inner(a: Float[Tensor, "batch ..."], b: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    """Inner product over all dimensions but the first, kept broadcastable."""
    return (a * b).sum(dim=tuple(range(1, a.ndim)), keepdim=True)


def conjugate_gradient(
    operator: Operator, r: Float[Tensor, "batch ..."], steps: int
) -> Iterator[Float[Tensor, "batch ..."]]:
    """Conjugate gradient from s = 0 (published: Saad, algorithm 6.18), its coefficients computed per batch element.

    C-norm error at most `chebyshev_bound` after K steps, and zero after as many steps as C has distinct eigenvalues, in
    exact arithmetic. Departure from the textbook: where the residual or the curvature p'Cp is 0 the step is 0, so that
    a converged element (or x = alpha mu) stays where it is instead of giving 0/0.

    Raises:
        InputError: steps < 1.
    """
    _check(steps)

    def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
        safe = torch.where(denominator > 0, denominator, torch.ones_like(denominator))
        return torch.where(denominator > 0, numerator / safe, torch.zeros_like(numerator))

    def iterate() -> Iterator[Tensor]:
        s = torch.zeros_like(r)
        residual = -r  # b - C s for b = -r
        p = residual
        rho = _inner(residual, residual)
        for _ in range(steps):
            cp = operator(p)
            step = ratio(rho, _inner(p, cp))
            s = s + step * p
            residual = residual - step * cp
            rho_next = _inner(residual, residual)
            p = residual + ratio(rho_next, rho) * p
            rho = rho_next
            yield s

    return iterate()


def preconditioned(
    operator: Operator, r: Float[Tensor, "batch ..."], preconditioners: Sequence[Operator]
) -> Iterator[Float[Tensor, "batch ..."]]:
    """s <- s - P_j (C s + r), each application with its own P_j: the error is prod_j (I - P_j C) (s_0 - s).

    The P_j need not be symmetric and need not commute with C, so only the norm of that product bounds the error.
    """
    s = torch.zeros_like(r)
    for precondition in preconditioners:
        s = s - precondition(operator(s) + r)
        yield s


def gradient_descent_bound(kappa: float, steps: int) -> float:
    """((kappa-1)/(kappa+1))^K."""
    return ((kappa - 1) / (kappa + 1)) ** steps


def chebyshev_bound(kappa: float, steps: int) -> float:
    """2 q^K/(1 + q^(2K)) with q = (sqrt kappa - 1)/(sqrt kappa + 1), which is 1/T_K((kappa+1)/(kappa-1))."""
    q = (math.sqrt(kappa) - 1) / (math.sqrt(kappa) + 1)
    return 2 * q**steps / (1 + q ** (2 * steps))
