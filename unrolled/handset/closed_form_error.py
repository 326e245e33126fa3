"""How far the closed form is from the score: a bound on its relative error at every t, and the widths that it takes.

The error is the root of E|model - score|^2 / E|score|^2 over the process, E|score|^2 = tr C_t^{-1}. For weights as
the ramps hold them, channel k of the model's u = sigma_t score is off by D_k y + e_k with

    D_ij = e_0(|i-j|) + e_1(i+j) + e_1(2L-i-j) + e_2(2L-(i-j)) + e_2(2L+(i-j)),

e_0, e_1, e_2 the held sums of Gaussians minus the exponentials that they stand for, functions of a distance. Trapezoid
error, widths that were left out and misfit of the gates are all in D, and nothing is estimated: E|D y|^2 is the sum
over the rows v of D of alpha_t^2 s_k v Gamma v' + sigma_t^2 |v|^2. Half of the rows will do, as D_{L-i,L-j} = D_ij, and
v Gamma v' takes N operations: x_0 = z_0, x_j = rho x_{j-1} + sqrt(1-rho^2) z_j has covariance Gamma, so v x is y_0 z_0
+ sqrt(1-rho^2) sum_{j>0} y_j z_j with y_j = v_j + rho y_{j+1}. e_k is what the gates make of a mean. (derived)

This is exact at each t of a grid that holds the points of the gates' fit and those between them; every few of them for
long sequences. The bound at a prediction time is the largest value between its two neighbours, times BETWEEN for what
lies between points of the grid, plus rounding: each term of a gate and each term of the sum over heads is off by up to
eps of itself, a few roundings, all independent. Rounding is a model and no bound; that measurements stay below the sum
is tested.
"""

import math

import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.diffusion import alpha, sigma
from unrolled.handset.closed_form import POINT, ClosedForm, closed_form_weights, head_sizes
from unrolled.handset.gates import rounding_sizes
from unrolled.handset.gaussian_heads import normaliser
from unrolled.handset.gaussian_rule import DYADIC, GaussianRule, dyadic_rule, trapezoid_rule
from unrolled.handset.ou_inverse import ou_inverse, ou_lengthscale
from unrolled.process import GaussianProcess

__all__ = ["choose_rule", "closed_form_error", "held_error", "held_matrix_errors"]

STEPS = tuple(1.25 * 0.97**k for k in range(64))
"""Trapezoid steps h that are tried, from 1.25 down to 0.18."""
NEGLIGIBLE = 45.0
"""e^-45 is nothing."""
LEFT_OUT = 0.1
"""Share of the error that widths may cost that are left out."""
BETWEEN = 1.2
"""What the error may be between points of the grid, over its values there."""
ROUNDING = 2.0
"""Four times the standard deviation of what a few roundings make of a term, as a multiple of eps: one draw of a gate
serves all frames."""
STAGES = 4.0
"""Terms as large as u that are rounded after the sum over heads: both MLP maps, the output map, the division."""
GRID_LENGTH = 128
"""Length of sequences from which the grid is thinned."""
ENTRIES = 2**21
"""Entries of D that are held at a time."""


def _score_size(process: GaussianProcess, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Root mean square of |u| = sigma_t |score|."""
    return sigma(t) * (1 / process.eigenvalues(t)).sum(dim=(1, 2)).sqrt()


def _deviations(
    process: GaussianProcess, rule: GaussianRule, weights: Float[Tensor, "n d gates"], t: Float[Tensor, " n"]
) -> list[Float[Tensor, "n d distances"]]:
    """e_0, e_1, e_2 at distances 0..3L."""
    last, count = process.length - 1, len(rule.widths)
    distance = torch.arange(3 * last + 1, dtype=torch.float64)
    scale = torch.tensor([normaliser(float(b)) for b in rule.widths], dtype=torch.float64)
    gaussians = rule.gaussians(distance) / scale[:, None]
    inverse = ou_inverse(process, t)
    exponential = torch.exp(-inverse.rate[..., None] * distance) / sigma(t)[:, None, None]
    factors = (inverse.direct, inverse.mirrored, inverse.shifted)
    held = [weights[:, :, k * count : (k + 1) * count] @ gaussians for k in range(3)]
    found = [h - factor[..., None] * exponential for h, factor in zip(held, factors, strict=True)]
    # At distance 0 stand the identity and the end frames, and what is direct there is -(1 - direct).
    found[0][..., 0] = held[0][..., 0] - weights[:, :, -1] + inverse.excess / sigma(t)[:, None]
    found[1][..., 0] += weights[:, :, -2] / normaliser(POINT)
    return found


def held_error(
    process: GaussianProcess, rule: GaussianRule, weights: Float[Tensor, "n d gates"], t: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Relative error of the score at each t, root mean square over the process, for weights as of
    `closed_form_weights`; without a mean and without rounding."""
    length, last = process.length, process.length - 1
    rho = math.exp(-1 / ou_lengthscale(process))
    i, j = torch.arange((length + 1) // 2)[:, None], torch.arange(length)
    multiplicity = torch.where(2 * i[:, 0] == last, 1.0, 2.0).double()  # a row and its mirror image
    direct, mirrored, shifted = _deviations(process, rule, weights, t)
    squares = torch.empty(2, len(t), process.dim, dtype=torch.float64)
    for part in torch.arange(len(t)).split(max(1, ENTRIES // (process.dim * i.numel() * length))):
        e_0, e_1, e_2 = direct[part], mirrored[part], shifted[part]
        rows = e_0[..., (i - j).abs()] + e_1[..., i + j] + e_1[..., 2 * last - i - j]
        rows = rows + e_2[..., 2 * last - i + j] + e_2[..., 2 * last + i - j]  # (part, d, rows, N)
        summed = torch.as_tensor(scipy.signal.lfilter([1.0], [1.0, -rho], rows.flip(-1).numpy())).square()
        correlated = (1 - rho**2) * summed.sum(dim=-1) + rho**2 * summed[..., -1]
        squares[0, part], squares[1, part] = correlated @ multiplicity, rows.square().sum(dim=-1) @ multiplicity
    noisy = (alpha(t) ** 2)[:, None] * process.spatial_eigen[0] * squares[0] + (sigma(t) ** 2)[:, None] * squares[1]
    return noisy.sum(dim=1).sqrt() / _score_size(process, t)


def held_matrix_errors(process: GaussianProcess, form: ClosedForm, times: Float[Tensor, " n"]) -> tuple[float, float]:
    """Largest deviation of an entry of the held B from B, and of its spectral norm, bounded by row sums, at `times`."""
    last = process.length - 1
    distances = (slice(last + 1), slice(2 * last + 1), slice(last, None))  # those that occur
    found = _deviations(process, form.rule, form.gates(times)[:, :, :-1], times)
    off = [(e[..., at] * sigma(times)[:, None, None]).abs() for e, at in zip(found, distances, strict=True)]
    entry = off[0].amax(dim=2) + 2 * off[1].amax(dim=2) + 2 * off[2].amax(dim=2)
    row = 2 * torch.stack([e.sum(dim=2) for e in off]).sum(dim=0)
    return float(entry.max()), float(row.max())


def closed_form_error(process: GaussianProcess, form: ClosedForm, times: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The bound at each of `times`, which span the range of t, evenly in log t."""
    fitter = form.fitter
    grid = torch.cat([fitter.t, fitter.between]).sort().values
    stride = 2 * (process.length // (2 * GRID_LENGTH)) + 1  # odd: points of the fit and points between them
    t = torch.cat([grid[:-1:stride], grid[-1:]])
    gates = form.gates(t)
    error = held_error(process, form.rule, gates[:, :, :-1], t)
    size = _score_size(process, t)
    error = BETWEEN * torch.hypot(error, _mean_error(process, form, gates, t) / size)
    error = error + ROUNDING * torch.finfo(form.dtype).eps * _rounding(process, form, gates, t) / size
    place = torch.log(t / times[0]) / torch.log(times[1] / times[0])  # in steps between prediction times
    near = (place - torch.arange(len(times))[:, None]).abs() <= 1 + 1e-9
    return torch.where(near, error, 0.0).amax(dim=1)


def _mean_error(
    process: GaussianProcess, form: ClosedForm, gates: Float[Tensor, "n d gates"], t: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """|e|: the identity's gates of x and of the mean do not fit, and alpha_t of what the heads read is off."""
    apart = (alpha(t)[:, None] * gates[:, :, -2] - gates[:, :, -1]).abs()
    read = (form.alpha(t) - alpha(t)).abs()[:, None]
    seen = (gates[:, :, :-2].abs() * head_sizes(process.length, form.rule)[:-1]).sum(dim=2)
    return ((apart + read * seen) * _mean_sizes(process)).norm(dim=1)


def _mean_sizes(process: GaussianProcess) -> Float[Tensor, " d"]:
    """Norm of the mean in each channel."""
    return (process.mean @ process.spatial_eigen[1]).norm(dim=0)


def _rounding(
    process: GaussianProcess, form: ClosedForm, gates: Float[Tensor, "n d gates"], t: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Root of the sum of squares of the terms that are rounded."""
    features = form.features(t)
    terms = rounding_sizes(features, form.coefficients.flatten(1)).unflatten(1, gates.shape[1:])
    alpha_terms = rounding_sizes(features, form.alpha_coefficients[:, None])
    sizes = head_sizes(process.length, form.rule)
    eigenvalues = process.eigenvalues(t)
    mean = _mean_sizes(process)
    shifted = eigenvalues.sum(dim=1) + (alpha(t)[:, None] * mean) ** 2  # (n, d), of x
    rounded = (torch.hypot(gates, terms)[:, :, :-1] * sizes).square().sum(dim=2) * shifted
    rounded = rounded + torch.hypot(gates, terms)[:, :, -1].square() * mean**2
    seen = (gates[:, :, :-2].abs() * sizes[:-1]).sum(dim=2)
    rounded = rounded + (alpha_terms * seen * mean) ** 2
    whole = (STAGES * sigma(t)[:, None]) ** 2 * (1 / eigenvalues).sum(dim=1)
    return (rounded + whole).sum(dim=1).sqrt()


def choose_rule(process: GaussianProcess, times: Float[Tensor, " n"], error: float, dtype: torch.dtype) -> GaussianRule:
    """The fewest widths whose error is at most `error` at all of `times`, or the most there are.

    In float32 the widths are dyadic, so that logits are exact.
    """
    rate = ou_inverse(process, times).rate
    low, high = float(rate.min()) ** 2 / (4 * NEGLIGIBLE), NEGLIGIBLE
    tried: list[GaussianRule] = []
    if dtype == torch.float64:
        tried += [trapezoid_rule(step, low, high) for step in STEPS]
    else:
        tried += [dyadic_rule(mantissas, low, high) for mantissas in DYADIC]
    first, last = 0, len(tried) - 1
    while first < last:
        middle = (first + last) // 2
        rule = _needed(process, tried[middle], times, error)
        good = float(held_error(process, rule, closed_form_weights(process, rule, times), times).max()) <= error
        first, last = (first, middle) if good else (middle + 1, last)
    return _needed(process, tried[first], times, error)


def _needed(process: GaussianProcess, rule: GaussianRule, times: Float[Tensor, " n"], error: float) -> GaussianRule:
    """The rule without the widths at either end that cost less than a share of `error` together.

    A head whose weight at distance 0 is made up for costs at most its weights times its row sums over distances >= 1.
    """
    inverse = ou_inverse(process, times)
    others = torch.arange(1, 3 * process.length - 2, dtype=torch.float64)
    rows = 2 * rule.gaussians(others).sum(dim=1)  # (K,)
    factor = inverse.direct + 2 * inverse.mirrored + 2 * inverse.shifted
    weights = factor[..., None] * rule.weights(inverse.rate) * rows / sigma(times)[:, None, None]
    energy = process.eigenvalues(times).sum(dim=1)[..., None]  # (n, d, 1)
    cost = ((weights.square() * energy).sum(dim=1).sqrt() / _score_size(process, times)[:, None]).amax(dim=0)
    allowed = LEFT_OUT * error / 2
    wide, narrow = cost.cumsum(0) <= allowed, cost.flip(0).cumsum(0) <= allowed
    first = int(wide.sum())
    return rule.part(first, max(first, len(cost) - int(narrow.sum())))
