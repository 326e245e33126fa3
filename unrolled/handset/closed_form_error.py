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
lies between points of the grid, plus rounding: each gate is off by a few eps of the sum of its absolute terms, each
head's term by a few eps of itself, independently. Rounding is a model and no bound; that measurements stay below the
sum is tested.
"""

import math

import torch
from jaxtyping import Float
from scipy.signal import lfilter
from torch import Tensor

from unrolled.diffusion import alpha, sigma
from unrolled.handset.closed_form import POINT, ClosedForm, closed_form_weights, images
from unrolled.handset.gaussian_heads import normaliser, row_sums
from unrolled.handset.gaussian_rule import DYADIC, GaussianRule, dyadic_rule, trapezoid_rule
from unrolled.handset.ou_inverse import ou_inverse, ou_lengthscale
from unrolled.handset.predict import ROUNDING
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
        summed = torch.as_tensor(lfilter([1.0], [1.0, -rho], rows.flip(-1).numpy())).square()
        correlated = (1 - rho**2) * summed.sum(dim=-1) + rho**2 * summed[..., -1]
        squares[0, part], squares[1, part] = correlated @ multiplicity, rows.square().sum(dim=-1) @ multiplicity
    noisy = (alpha(t) ** 2)[:, None] * process.spatial_eigen[0] * squares[0] + (sigma(t) ** 2)[:, None] * squares[1]
    return noisy.sum(dim=1).sqrt() / _score_size(process, t)


def held_matrix_errors(process: GaussianProcess, form: ClosedForm, times: Float[Tensor, " n"]) -> tuple[float, float]:
    """Largest deviation of an entry of the held B from B, and of its spectral norm, bounded by row sums, at `times`."""
    gates = torch.einsum("nf,fdg->ndg", form.fitter.features(times), form.coefficients)
    last = process.length - 1
    distances = (slice(last + 1), slice(2 * last + 1), slice(last, None))  # those that occur
    found = _deviations(process, form.rule, gates[:, :, :-1], times)
    off = [(e[..., at] * sigma(times)[:, None, None]).abs() for e, at in zip(found, distances, strict=True)]
    entry = off[0].amax(dim=2) + 2 * off[1].amax(dim=2) + 2 * off[2].amax(dim=2)
    row = 2 * sum(e.sum(dim=2) for e in off)
    return float(entry.max()), float(row.max())


def closed_form_error(
    process: GaussianProcess, form: ClosedForm, times: Float[Tensor, " n"], eps: float
) -> Float[Tensor, " n"]:
    """The bound at each of `times`, which span the range of t, evenly in log t."""
    fitter = form.fitter
    grid = torch.cat([fitter.t, fitter.between]).sort().values
    stride = 2 * (process.length // (2 * GRID_LENGTH)) + 1  # odd: points of the fit and points between them
    t = torch.cat([grid[:-1:stride], grid[-1:]])
    features = fitter.features(t)
    gates = torch.einsum("nf,fdg->ndg", features, form.coefficients)
    error = held_error(process, form.rule, gates[:, :, :-1], t)
    size = _score_size(process, t)
    error = BETWEEN * torch.hypot(error, _mean_error(process, form, gates, t) / size)
    absolute = torch.einsum("nf,fdg->ndg", features.abs(), form.coefficients.abs())
    error = error + ROUNDING * eps * _rounding(process, form.rule, torch.hypot(gates, absolute), t) / size
    place = torch.log(t / times[0]) / torch.log(times[1] / times[0])  # in steps between prediction times
    near = (place - torch.arange(len(times))[:, None]).abs() <= 1 + 1e-9
    return torch.where(near, error, 0.0).amax(dim=1)


def _head_sizes(process: GaussianProcess, rule: GaussianRule) -> Float[Tensor, " gates"]:
    """Bounds on the root mean square of a head's output over that of its input, for each response, and 1 for the end
    frames and the identity."""
    scale = torch.tensor([normaliser(float(b)) for b in rule.widths], dtype=torch.float64)
    sizes = [
        sum(row_sums(rule.widths, process.length, image).square().mean(dim=0).sqrt() for image in kind) / scale
        for kind in images(process.length)
    ]
    return torch.cat([*sizes, torch.ones(2, dtype=torch.float64)])


def _mean_error(
    process: GaussianProcess, form: ClosedForm, gates: Float[Tensor, "n d gates"], t: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """|e|: the identity's gates of x and of the mean do not fit, and alpha_t of what the heads read is off."""
    mean = (process.mean @ process.spatial_eigen[1]).norm(dim=0)
    apart = (alpha(t)[:, None] * gates[:, :, -2] - gates[:, :, -1]).abs()
    read = form.fitter.error_at("alpha", t, 0.0)[:, None] * alpha(t)[:, None]
    seen = (gates[:, :, :-2].abs() * _head_sizes(process, form.rule)[:-1]).sum(dim=2)
    return ((apart + read * seen) * mean).norm(dim=1)


def _rounding(
    process: GaussianProcess, rule: GaussianRule, gates: Float[Tensor, "n d gates"], t: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Root mean square of the sum of terms of these sizes."""
    mean = (process.mean @ process.spatial_eigen[1]).square().sum(dim=0)
    energy = process.eigenvalues(t).sum(dim=1) + 2 * (alpha(t) ** 2)[:, None] * mean  # (n, d), of x and the mean
    squares = (gates[:, :, :-1] * _head_sizes(process, rule)).square().sum(dim=2) + gates[:, :, -1].square()
    return (squares * energy).sum(dim=1).sqrt()


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
