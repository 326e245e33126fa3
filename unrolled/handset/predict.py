"""How far the iterates of a hand-set DiT may be from those of the reference solver, before it is run.

A block computes u <- u - (1+e) eta_k ((C + D) u + (1+f) r), r = sigma_t (x - alpha_t mu), with |e|, |f| the gates'
relative errors and D what the heads, their gate and the sigma_t^2 gate are off. With u* = -C^{-1} r and
Pi_k = prod_{j<=k} (I - eta_j C) the reference iterate is (I - Pi_k) u*, its gradient -C Pi_k u*, and an error p_k made in
step k reaches step K as A_{k,K} p_k, A_{k,K} = prod_{k<j<=K} (I - eta_j C). To first order in the errors, with all norms
maxima over the known eigenvalues of C,

    |u_K - ref_K| / |u*| <= sum_k |A_{k,K}| eta_k (|D| |I - Pi_{k-1}| + |e| |C Pi_{k-1}| + |f| |r|/|u*|)

(derived). |r|/|u*| is at most L for a zero mean; a mean adds its own size over the root mean square of |u*|.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.diffusion import alpha, sigma
from unrolled.handset.gates import GateFitter
from unrolled.handset.gaussian_heads import GaussianDictionary, normaliser
from unrolled.handset.iteration import spectrum
from unrolled.process import GaussianProcess

__all__ = ["operator_error", "predict_iteration"]

ROUNDING = 8.0
"""Roundings of a few operations in each gate, head and sum, as a multiple of eps."""


def operator_error(process: GaussianProcess, dictionary: GaussianDictionary) -> float:
    """Spectral norm of (sum_m w_m exp(-b_m (i-j)^2)) - Gamma, bounded by the largest absolute row sum, in O(N)."""
    lag = torch.arange(process.length, dtype=torch.float64)
    held = torch.exp(-dictionary.widths * lag[:, None] ** 2) @ dictionary.weights
    kernel = process.temporal_covariance[0]
    deviation = (held - kernel).abs()
    return float(deviation[0] + 2 * deviation[1:].sum())


def predict_iteration(
    process: GaussianProcess,
    dictionary: GaussianDictionary,
    nodes: list[float],
    fitter: GateFitter,
    times: Float[Tensor, " n"],
    dtype: torch.dtype,
) -> Float[Tensor, "n K"]:
    """The bound of the module's docstring at each time and step, with the rounding of `dtype` in every gate and head."""
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
    unit = sigma(times) ** 2 * (1 / eigenvalues).sum(dim=1)  # E |u*|^2
    shift = sigma(times) * alpha(times) * process.mean.norm() / unit.sqrt()
    right = largest * gate["sigma"] + shift * (gate["sigma"] + gate["sigma alpha"])
    factors = 1 - steps[:, :, None] * eigenvalues[:, None, :]  # (n, K, N d)
    before = torch.cat([torch.ones_like(factors[:, :1]), factors.cumprod(dim=1)[:, :-1]], dim=1)  # Pi_{k-1}
    made = deviation[:, None] * (1 - before).abs().amax(dim=-1)
    made = made + steps_off * (eigenvalues[:, None] * before).abs().amax(dim=-1) + right[:, None]
    made = steps * made + ROUNDING * eps * (1 - before).abs().amax(dim=-1)
    total = torch.zeros_like(steps)
    for k in range(len(nodes)):
        after = torch.cat([torch.ones_like(factors[:, :1]), factors[:, k + 1 :].cumprod(dim=1)], dim=1)
        total[:, k:] += after.abs().amax(dim=-1) * made[:, k : k + 1]
    return total


def _pairs(dictionary: GaussianDictionary) -> list[tuple[float, float]]:
    return list(zip(dictionary.weights.tolist(), dictionary.widths.tolist(), strict=True))
