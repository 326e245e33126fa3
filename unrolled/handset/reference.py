"""The textbook iterates that a hand-set model should have, from its record."""

from jaxtyping import Float
from torch import Tensor

from unrolled.checks import InputError
from unrolled.diffusion import alpha
from unrolled.handset.construct import RAMPS
from unrolled.handset.dense_inverses import held_preconditioners, precondition
from unrolled.handset.truncation import TruncatedCovariance
from unrolled.models.record import Construction
from unrolled.process import GaussianProcess
from unrolled.solvers import chebyshev, conjugate_gradient, gradient_descent, preconditioned

__all__ = ["reference_iterates"]


def reference_iterates(
    construction: Construction, process: GaussianProcess, x: Float[Tensor, "batch N d"], t: float, ramps: int = RAMPS
) -> list[Float[Tensor, "batch N d"]]:
    """Iterates 1, 2, .. of the reference solver that `construction` names, on C_t, or on C_{t,J} where it truncates;
    float64.

    Args:
        construction: the record.
        process: the data.
        x: (batch, N, d).
        t: diffusion time.
        ramps: of the model's time features, which the weights of "preconditioned" depend on. Its P_j are dense matrices
            solved for anew, in seconds; `held_preconditioners` solves once for many t.

    Raises:
        InputError: an algorithm that is none of these.
    """
    covariance = TruncatedCovariance(process, construction.truncation or process.length)
    r = x.double() - alpha(t) * process.mean
    steps = construction.steps

    def operator(v: Tensor) -> Tensor:
        return covariance.operator(v, t)

    if construction.algorithm == "conjugate_gradient":
        return list(conjugate_gradient(operator, r, steps))
    if construction.algorithm == "preconditioned":
        low, high = construction.t_range
        (matrices,) = held_preconditioners(process, [t], steps, construction.ridge, (low, high), ramps)
        return list(preconditioned(operator, r, precondition(process, matrices)))
    extremes = covariance.extreme_eigenvalues(t) if construction.truncation else process.extreme_eigenvalues(t)
    solvers = {"gradient_descent": gradient_descent, "chebyshev": chebyshev}
    if construction.algorithm not in solvers:
        raise InputError(
            f"algorithm: {construction.algorithm!r} has no reference iterates; accepted: {', '.join(solvers)},"
            " conjugate_gradient and preconditioned"
        )
    return list(solvers[construction.algorithm](operator, r, *extremes, steps))
