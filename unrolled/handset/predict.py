"""How far the iterates of a hand-set model may be from those of the reference solver, before it is run.

A block computes u <- u - (1+e) eta_k ((C + D) u + (1+f) r), r = sigma_t (x - alpha_t mu), with |e|, |f| the relative
errors of gates, D what the heads are off, |g| the errors of the gates on the two parts C_g of C, alpha_t^2 Gamma (x)
Sigma and sigma_t^2 I, and rounding on top. With u* = -C^{-1} r and
Pi_k = prod_{j<=k} (I - eta_j C) the reference iterate is (I - Pi_k) u*, its gradient -C Pi_k u*, and an error p_k made
in step k reaches step K as A_{k,K} p_k, A_{k,K} = prod_{k<j<=K} (I - eta_j C). To first order in the errors,

    |u_K - ref_K| / |u*| <= sum_k eta_k (|e| |A C Pi_{k-1}| + |f| |A C| + |g| |A C_g (I - Pi_{k-1})|
                                         + |D| max|A| |I - Pi_{k-1}| + rho_k mean|A|)

with A = A_{k,K} and all of them functions of the known eigenvalues c_i of C (derived). |q(C)| is the root mean square
of q(C) u* over that of u*, u* of covariance C^{-1}: (sum q(c_i)^2/c_i / sum 1/c_i)^(1/2), exact, not a bound. D may
point anywhere: max|A|. A mean adds |f| alpha_t |mu| max|A|, over the root mean square of |u*|. These contributions are
added as if all had one sign. Rounding of size rho_k is a model and no bound: independent from entry to entry, where the
root mean square mean|A| over the spectrum amplifies it, and from step to step, where squares add (published for sums:
Higham and Mary, SIAM J. Sci. Comput. 41, 2019). The total, times MARGIN for the spread of a few sequences, is therefore
a prediction; that measurements stay below it is tested.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.diffusion import alpha, sigma
from unrolled.handset.gates import GateFitter
from unrolled.handset.gaussian_heads import GaussianDictionary
from unrolled.handset.iteration import spectrum
from unrolled.handset.lag_heads import held_kernel_error
from unrolled.handset.relu_iteration import step_rates
from unrolled.handset.truncation import TruncatedCovariance
from unrolled.process import GaussianProcess
from unrolled.solvers import chebyshev_bound

__all__ = [
    "MARGIN",
    "operator_error",
    "predict_conjugate_gradient",
    "predict_iteration",
    "predict_relu_iteration",
    "relu_operator_error",
]

ROUNDING = 2.0
"""Roundings of a few operations in each gate, head and sum, as a multiple of eps."""
MARGIN = 2.0
"""Norm of a few sequences over the root mean square of the process."""


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
    step_error: Float[Tensor, "n K"],
    right: Float[Tensor, " n"],
    mean: Float[Tensor, " n"],
    parts: Sequence[tuple[Float[Tensor, " n"], Float[Tensor, "n Nd"]]],
    deviation: Float[Tensor, " n"],
    head_rounding: Float[Tensor, " n"],
    eps: float,
) -> Float[Tensor, "n K"]:
    """The prediction of the module's docstring at each time and step.

    Args:
        eigenvalues: of C.
        steps: eta_k.
        step_error: |e| of each step.
        right: |f|.
        mean: |f| alpha |mu| over the root mean square of |u*|.
        parts: |g| and the eigenvalues of C_g, of each part.
        deviation: |D|.
        head_rounding: what rounding makes of C u in a head, relative to |u|.
        eps: rounding of the sums that make an iterate, relative to it.
    """
    weights = 1 / eigenvalues / (1 / eigenvalues).sum(dim=1, keepdim=True)  # (n, N d)

    def size(q: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """Root mean square of q(C) u*, over the last dimension."""
        return (q**2 * (weights if q.ndim == 2 else weights[:, None])).sum(dim=-1).sqrt()

    factors = 1 - steps[:, :, None] * eigenvalues[:, None, :]  # (n, K, N d)
    before = torch.cat([torch.ones_like(factors[:, :1]), factors.cumprod(dim=1)[:, :-1]], dim=1)  # Pi_{k-1}
    moved = size(1 - before)  # (n, K), the iterate that a step reads
    after_step = size(1 - before * factors)
    total, rounded = torch.zeros_like(steps), torch.zeros_like(steps)
    for k in range(steps.shape[1]):
        amplified = torch.cat(
            [torch.ones_like(factors[:, :1]), factors[:, k + 1 :].cumprod(dim=1)], dim=1
        )  # (n, K-k, N d)
        largest, white = amplified.abs().amax(dim=-1), amplified.square().mean(dim=-1).sqrt()
        gradient = eigenvalues * before[:, k]
        made = step_error[:, k, None] * size(amplified * gradient[:, None])
        made = made + right[:, None] * size(amplified * eigenvalues[:, None])
        for error, part in parts:
            made = made + error[:, None] * size(amplified * (part * (1 - before[:, k]))[:, None])
        made = made + (mean + deviation * moved[:, k])[:, None] * largest
        # Sums as large as the gradient's parts, which cancel in it: C u, and r = -C u*.
        sums = (head_rounding * moved[:, k] + eps * (size(eigenvalues) + size(eigenvalues * (1 - before[:, k]))))[
            :, None
        ]
        total[:, k:] += steps[:, k, None] * made
        rounded[:, k:] += ((steps[:, k, None] * sums + eps * after_step[:, k, None]) * white) ** 2
    return MARGIN * (total + rounded.sqrt())


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
    """The prediction for a DiT, with the rounding of `dtype` in every gate and head."""
    eps = torch.finfo(dtype).eps
    gate = {name: fitter.error_at(name, times, ROUNDING * eps) for name in fitter.errors}
    steps_off = torch.stack([gate[f"eta {k + 1}"] for k in range(len(nodes))], dim=1)  # (n, K)
    s = process.spatial_eigen[0]
    eigenvalues = process.eigenvalues(times).flatten(1)  # (n, N d)
    smallest, largest = spectrum(process, times)
    steps = 2 / (
        (largest + smallest)[:, None] + (largest - smallest)[:, None] * torch.tensor(nodes, dtype=torch.float64)
    )  # (n, K)
    # Each entry of a head is off by a few eps of itself: a column's squares sum to w^2 sqrt(pi/2b), and so over heads.
    squares = sum(w**2 * (1 + math.sqrt(math.pi / (2 * b))) for w, b in _pairs(dictionary))
    head_rounding = alpha(times) ** 2 * ROUNDING * eps * math.sqrt(squares) * s[-1]
    deviation = alpha(times) ** 2 * operator_error(process, dictionary) * s[-1]
    noise = (sigma(times) ** 2)[:, None].expand_as(eigenvalues)
    parts = [(gate["alpha^2"], eigenvalues - noise), (gate["sigma^2"], noise)]
    shift = _mean_over_solution(process, eigenvalues, times)
    mean = shift * (gate["sigma"] + gate["sigma alpha"])
    return propagate(
        eigenvalues, steps, steps_off, gate["sigma"], mean, parts, deviation, head_rounding, ROUNDING * eps
    )


def relu_operator_error(covariance: TruncatedCovariance, dtype: torch.dtype) -> float:
    """Spectral norm of the held Gamma_J minus Gamma_J, bounded by the largest absolute row sum, weights and sums in
    `dtype`."""
    process = covariance.process
    kernel = covariance.kernel
    error = held_kernel_error(kernel, process.length, covariance.lags, torch.finfo(dtype).eps)
    return float(error[0] + 2 * error[1:].sum())


def predict_relu_iteration(
    covariance: TruncatedCovariance, nodes: list[float], times: Float[Tensor, " n"], dtype: torch.dtype
) -> Float[Tensor, "n K"]:
    """The prediction for a ReluTransformer with masked products, against the reference on C_{t,J}: only rounding."""
    eps = torch.finfo(dtype).eps
    eigenvalues = alpha(times)[:, None] ** 2 * covariance.eigenvalues + sigma(times)[:, None] ** 2  # (n, N d)
    rates = torch.tensor(step_rates(covariance, nodes), dtype=torch.float64)
    steps = 1 / (alpha(times)[:, None] ** 2 * rates + sigma(times)[:, None] ** 2)  # (n, K)
    largest = alpha(times) ** 2 * float(covariance.process.spatial_eigen[0][-1])
    held = relu_operator_error(covariance, torch.float64)
    # Sums of positive terms: each entry of the kernel is off by a few eps of itself.
    column = float((covariance.temporal.square().sum(dim=0)).max().sqrt())
    mean = 2 * ROUNDING * eps * _mean_over_solution(covariance.process, eigenvalues, times)
    same = torch.full_like(mean, ROUNDING * eps)
    return propagate(
        eigenvalues, steps, torch.full_like(steps, ROUNDING * eps), same, mean, [], largest * held,
        largest * ROUNDING * eps * column, ROUNDING * eps,
    )  # fmt: skip


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
