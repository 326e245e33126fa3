"""How far the iterates of a hand-set model may be from those of the reference solver, before it is run.

A block computes u <- u - (1+e) eta_k ((C + D) u + (1+f) r), r = sigma_t (x - alpha_t mu), with |e|, |f| the gates'
relative errors and D what the heads, their gate and the sigma_t^2 gate are off. With u* = -C^{-1} r and
Pi_k = prod_{j<=k} (I - eta_j C) the reference iterate is (I - Pi_k) u*, its gradient -C Pi_k u*, and an error p_k made in
step k reaches step K as A_{k,K} p_k, A_{k,K} = prod_{k<j<=K} (I - eta_j C). To first order in the errors, with all norms
maxima over the known eigenvalues of C,

    |u_K - ref_K| / |u*| <= sum_k |A_{k,K}| eta_k (|D| |I - Pi_{k-1}| + |e| |C Pi_{k-1}| + |f| |r|/|u*|)

(derived). |r|/|u*| is at most L for a zero mean; a mean adds its own size over the root mean square of |u*|.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.diffusion import alpha, sigma
from unrolled.handset.gates import GateFitter
from unrolled.handset.gaussian_heads import GaussianDictionary, normaliser
from unrolled.handset.iteration import spectrum
from unrolled.handset.lag_heads import held_kernel_error
from unrolled.handset.relu_iteration import step_rates
from unrolled.handset.truncation import TruncatedCovariance
from unrolled.kernels import TemporalKernel
from unrolled.process import GaussianProcess
from unrolled.solvers import chebyshev_bound

__all__ = [
    "operator_error",
    "predict_conjugate_gradient",
    "predict_iteration",
    "predict_relu_iteration",
    "relu_operator_error",
]

ROUNDING = 8.0
"""Roundings of a few operations in each gate, head and sum, as a multiple of eps."""


def operator_error(process: GaussianProcess, dictionary: GaussianDictionary) -> float:
    """Spectral norm of (sum_m w_m exp(-b_m (i-j)^2)) - Gamma, bounded by the largest absolute row sum, in O(N)."""
    lag = torch.arange(process.length, dtype=torch.float64)
    held = torch.exp(-dictionary.widths * lag[:, None] ** 2) @ dictionary.weights
    kernel = process.temporal_covariance[0]
    deviation = (held - kernel).abs()
    return float(deviation[0] + 2 * deviation[1:].sum())


def propagate(
    eigenvalues: Float[Tensor, "n Nd"],
    steps: Float[Tensor, "n K"],
    deviation: Float[Tensor, " n"],
    step_error: Float[Tensor, "n K"],
    right: Float[Tensor, " n"],
    rounding: float,
) -> Float[Tensor, "n K"]:
    """The bound of the module's docstring at each time and step.

    Args:
        eigenvalues: of C.
        steps: eta_k.
        deviation: |D|.
        step_error: |e| of each step.
        right: |f| |r|/|u*|.
        rounding: of the sums that make an iterate, relative.
    """
    factors = 1 - steps[:, :, None] * eigenvalues[:, None, :]  # (n, K, N d)
    before = torch.cat([torch.ones_like(factors[:, :1]), factors.cumprod(dim=1)[:, :-1]], dim=1)  # Pi_{k-1}
    moved = (1 - before).abs().amax(dim=-1)
    made = deviation[:, None] * moved + step_error * (eigenvalues[:, None] * before).abs().amax(dim=-1) + right[:, None]
    made = steps * made + rounding * moved
    total = torch.zeros_like(steps)
    for k in range(steps.shape[1]):
        after = torch.cat([torch.ones_like(factors[:, :1]), factors[:, k + 1 :].cumprod(dim=1)], dim=1)
        total[:, k:] += after.abs().amax(dim=-1) * made[:, k : k + 1]
    return total


def _mean_over_solution(process: GaussianProcess, eigenvalues: Tensor, times: Tensor) -> Float[Tensor, " n"]:
    """alpha_t |mu| over the root mean square of |s|, E|s|^2 = sum of 1/eigenvalues."""
    return alpha(times) * process.mean.norm() / (1 / eigenvalues).sum(dim=1).sqrt()


def predict_iteration(
    process: GaussianProcess,
    dictionary: GaussianDictionary,
    nodes: list[float],
    fitter: GateFitter,
    times: Float[Tensor, " n"],
    dtype: torch.dtype,
) -> Float[Tensor, "n K"]:
    """The bound for a DiT, with the rounding of `dtype` in every gate and head."""
    eps = torch.finfo(dtype).eps
    gate = {name: fitter.error_at(name, times, ROUNDING * eps) for name in fitter.errors}
    steps_off = torch.stack([gate[f"eta {k + 1}"] for k in range(len(nodes))], dim=1)  # (n, K)
    g, s = process.temporal_eigen[0], process.spatial_eigen[0]
    eigenvalues = alpha(times)[:, None] ** 2 * (g[:, None] * s).flatten() + sigma(times)[:, None] ** 2  # (n, N d)
    smallest, largest = spectrum(process, times)
    steps = 2 / ((largest + smallest)[:, None] + (largest - smallest)[:, None] * torch.tensor(nodes))  # (n, K)
    # Rounding of the heads: each returns its Gaussian, of norm below its normaliser, to a few eps.
    rounding = ROUNDING * eps * float(sum(abs(w) * normaliser(b) for w, b in _pairs(dictionary)))
    heads = (operator_error(process, dictionary) + rounding + gate["alpha^2"] * g[-1]) * s[-1]
    deviation = alpha(times) ** 2 * heads + sigma(times) ** 2 * (gate["sigma^2"] + ROUNDING * eps)
    shift = _mean_over_solution(process, eigenvalues, times)
    right = largest * gate["sigma"] + shift * (gate["sigma"] + gate["sigma alpha"])
    return propagate(eigenvalues, steps, deviation, steps_off, right, ROUNDING * eps)


def relu_operator_error(covariance: TruncatedCovariance, dtype: torch.dtype) -> float:
    """Spectral norm of the held Gamma_J minus Gamma_J, bounded by the largest absolute row sum, weights and sums in
    `dtype`."""
    process = covariance.process
    kernel = cast(TemporalKernel, process.temporal)
    error = held_kernel_error(kernel, process.length, covariance.lags, torch.finfo(dtype).eps)
    return float(error[0] + 2 * error[1:].sum())


def predict_relu_iteration(
    covariance: TruncatedCovariance, nodes: list[float], times: Float[Tensor, " n"], dtype: torch.dtype
) -> Float[Tensor, "n K"]:
    """The bound for a ReluTransformer with masked products, against the reference on C_{t,J}: rounding is all there is."""
    eps = torch.finfo(dtype).eps
    eigenvalues = alpha(times)[:, None] ** 2 * covariance.eigenvalues + sigma(times)[:, None] ** 2  # (n, N d)
    rates = torch.tensor(step_rates(covariance, nodes), dtype=torch.float64)
    steps = 1 / (alpha(times)[:, None] ** 2 * rates + sigma(times)[:, None] ** 2)  # (n, K)
    largest = eigenvalues.amax(dim=1)
    held = relu_operator_error(covariance, dtype) * covariance.process.spatial_eigen[0][-1]
    deviation = alpha(times) ** 2 * held + ROUNDING * eps * largest
    shift = _mean_over_solution(covariance.process, eigenvalues, times)
    right = ROUNDING * eps * (largest + 2 * shift)
    return propagate(eigenvalues, steps, deviation, torch.full_like(steps, ROUNDING * eps), right, ROUNDING * eps)


def predict_conjugate_gradient(
    covariance: TruncatedCovariance, steps: int, times: Float[Tensor, " n"], dtype: torch.dtype
) -> Float[Tensor, " n"]:
    """What the C-norm of the last iterate's error may be, relative to that of the solution with C_{t,J}: the
    Chebyshev bound of CG, plus the accuracy that rounding leaves attainable, a few eps kappa and the held kernel's
    error over m (derived to first order, published for textbook CG: Greenbaum 1997, sec. 7.3)."""
    eps = torch.finfo(dtype).eps
    held = relu_operator_error(covariance, dtype) * float(covariance.process.spatial_eigen[0][-1])
    predicted = []
    for t in times.tolist():
        smallest, largest = covariance.extreme_eigenvalues(t)
        kappa = largest / smallest
        predicted.append(chebyshev_bound(kappa, steps) + ROUNDING * eps * kappa + alpha(t) ** 2 * held / smallest)
    return torch.tensor(predicted, dtype=torch.float64)


def _pairs(dictionary: GaussianDictionary) -> list[tuple[float, float]]:
    return list(zip(dictionary.weights.tolist(), dictionary.widths.tolist(), strict=True))
