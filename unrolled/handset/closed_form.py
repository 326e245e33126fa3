"""One block is enough: the exact score of an Ornstein-Uhlenbeck process by one layer of softmax attention.

In the eigenbasis of Sigma, channel k, with y = x - alpha_t mu and u = sigma_t s, the score is

    u = -(I - B) y / sigma_t,   B_ij = direct r^|i-j| + mirrored (r^(i+j) + r^(2L-i-j))
                                      + shifted (r^(2L-(i-j)) + r^(2L+(i-j)))                       (`ou_inverse`)

with r and the three factors functions of t and of the eigenvalue s_k. Each r^distance is a sum of Gaussians of the
distance, of fixed widths, with weights omega_m(-log r), and a rest at distance 0 (`gaussian_rule`). A head whose query
stands at an image of its frame, at i, -i, 2L-i, i-2L or i+2L, is one such Gaussian (`gaussian_heads`). So

    attention:  responses += weight(t) head(y)                        (gates g1; heads of one width and kind share one)
    MLP:        u = responses summed - identity(t) y                                            (input scales s2)

with, over sigma_t: direct, mirrored and shifted times omega_m for the heads; for the rest at distance 0 of r^(i+j)
and r^(2L-i-j), mirrored (1 - sum_m omega_m) for a head that sees only its own end frame, a Gaussian of width 1024 at -i
and at 2L-i; and identity = (1 - direct) + direct sum_m omega_m. The distances 2L +- (i-j) are at least L and have no
rest, but for N = 1, where they are 0 and theirs goes to the end frame too.

Proof: heads return H_m y (gaussian_heads), the gates and scales multiply it by the weights, the MLP is exactly linear
(linear_mlp), and the output map reads u. What is not exact: the widths are finitely many, the ramps hold the weights up
to a misfit, and arithmetic rounds; `closed_form_error` says how much that is.

Nothing is fitted to the covariance: the widths are chosen for an error, the weights are formulas in t, and the ramps
hold them as they hold every gate, by least squares. Their error counts against what the score of a head's output is
worth, sigma_t (tr C_t^{-1}/tr C_t)^(1/2): at small t the identity and the heads cancel and must be held better.

Cost for K widths: 1 block, 5 K + 2 heads, width 3 d + 4 + (5 K + 2) + (3 K + 1) d, 2 d hidden units, whatever kappa_t.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.diffusion import alpha, sigma
from unrolled.handset.dit_parts import (
    GATE1,
    GATE2,
    SCALE1,
    SCALE2,
    common_sizes,
    constant,
    empty_dit,
    gate_block,
    head_dim_for,
)
from unrolled.handset.gates import GateFitter, features
from unrolled.handset.gaussian_heads import SELF, Image, normaliser, row_sums, set_gaussian_head, sink_logits
from unrolled.handset.gaussian_rule import GaussianRule
from unrolled.handset.linear_mlp import LinearMLP
from unrolled.handset.ou_inverse import ou_inverse
from unrolled.handset.stream import Stream, Subspace, connect
from unrolled.models.dit import DiT, DiTConfig
from unrolled.process import GaussianProcess

__all__ = [
    "POINT",
    "ClosedForm",
    "closed_form_dit",
    "closed_form_weights",
    "head_sizes",
    "images",
    "unit_of_weights",
]

POINT = 1024.0
"""Width of a Gaussian that is 0 at every distance but 0, in floating point."""


@dataclass(frozen=True)
class ClosedForm:
    """A built model and what its error depends on.

    Attributes:
        model: float64, one block.
        stream: subspaces of its residual stream.
        fitter: of its gates.
        rule: its K widths.
        coefficients: of its gates over the ramps; see `closed_form_weights`, and as the last one alpha_t identity.
        widths: b of each head.
        dtype: in which the model is to run.
    """

    model: DiT
    stream: Stream
    fitter: GateFitter
    rule: GaussianRule
    coefficients: Float[Tensor, "features d gates"]
    widths: Float[Tensor, " M"]
    dtype: torch.dtype

    def gates(self, t: Float[Tensor, " n"]) -> Float[Tensor, "n d gates"]:
        """The gates at any t as the rounded ramps and coefficients hold them."""
        return torch.einsum("nf,fdg->ndg", self.features(t), self.coefficients.to(self.dtype).double())

    def alpha(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """alpha_t likewise."""
        return 1 + self.features(t) @ self.alpha_coefficients.to(self.dtype).double()

    @property
    def alpha_coefficients(self) -> Float[Tensor, " features"]:
        """Coefficients of alpha_t - 1."""
        return self.fitter.relative("alpha", alpha, offset=1.0)

    def features(self, t: Float[Tensor, " n"]) -> Float[Tensor, "n features"]:
        """The ramps in `dtype`, and 1."""
        return features(deepcopy(self.model.time).to(self.dtype), t)


def unit_of_weights(process: GaussianProcess, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """sigma_t (tr C_t^{-1}/tr C_t)^(1/2): an error of this size in the weight of the identity is one as large as u."""
    eigenvalues = process.eigenvalues(t)
    return sigma(t) * ((1 / eigenvalues).sum(dim=(1, 2)) / eigenvalues.sum(dim=(1, 2))).sqrt()


def closed_form_weights(
    process: GaussianProcess, rule: GaussianRule, t: Float[Tensor, " n"]
) -> Float[Tensor, "n d gates"]:
    """Weights of K direct, K mirrored and K shifted Gaussians over their normaliser, of the end frames and of the
    identity."""
    inverse = ou_inverse(process, t)
    omega = rule.weights(inverse.rate)  # (n, d, K)
    scale = torch.tensor([normaliser(float(b)) for b in rule.widths], dtype=torch.float64)
    factors = torch.stack([inverse.direct, inverse.mirrored, inverse.shifted], dim=2)  # (n, d, 3)
    heads = (factors[..., None] * (scale * omega)[:, :, None]).flatten(2)
    kept = omega.sum(dim=2)
    ends = inverse.mirrored + (inverse.shifted if process.length == 1 else 0.0)
    rest = torch.stack([normaliser(POINT) * (1 - kept) * ends, inverse.excess + inverse.direct * kept], dim=2)
    return torch.cat([heads, rest], dim=2) / sigma(t)[:, None, None]


def images(length: int) -> tuple[tuple[Image, ...], ...]:
    """Where the heads of each kind look from: direct, mirrored and shifted."""
    twice = 2 * (length - 1)
    return (SELF,), (Image(-1, 0), Image(-1, twice)), (Image(1, -twice), Image(1, twice))


def head_sizes(length: int, rule: GaussianRule) -> Float[Tensor, " gates"]:
    """Bounds on the root mean square of what each weight of `closed_form_weights` multiplies, over that of y."""
    scale = torch.tensor([normaliser(float(b)) for b in rule.widths], dtype=torch.float64)
    sizes = [
        torch.stack([row_sums(rule.widths, length, image).square().mean(dim=0).sqrt() for image in kind]).sum(dim=0)
        for kind in images(length)
    ]
    return torch.cat([*(size / scale for size in sizes), torch.ones(2, dtype=torch.float64)])


def _heads(rule: GaussianRule, length: int) -> Iterator[tuple[float, Image, int]]:
    """(width, image, which response it is added to) of each head."""
    kinds, count = images(length), len(rule.widths)
    for kind, looks in enumerate(kinds):
        for m, width in enumerate(rule.widths.tolist()):
            for image in looks:
                yield width, image, kind * count + m
    for image in kinds[1]:
        yield POINT, image, 3 * count


def closed_form_dit(
    process: GaussianProcess, rule: GaussianRule, t_range: tuple[float, float], ramps: int, dtype: torch.dtype
) -> ClosedForm:
    """A float64 DiT of one block with the given widths, to run in `dtype`."""
    d, responses = process.dim, 3 * len(rule.widths) + 1
    heads = list(_heads(rule, process.length))
    sinks = [sink_logits(torch.tensor([b], dtype=torch.float64), process.length, image) for b, image, _ in heads]
    stream = Stream({**common_sizes(d, len(heads)), "responses": responses * d})
    config = DiTConfig(
        length=process.length, dim=d, width=stream.width, depth=1, heads=len(heads), head_dim=head_dim_for(d),
        mlp_width=2 * d, registers=1, norm="none", ramps=ramps, t_range=t_range,
    )  # fmt: skip
    model = empty_dit(config, stream, process, torch.cat(sinks, dim=1))
    fitter = GateFitter(model.time, t_range)

    def gates(t: Float[Tensor, " n"]) -> Float[Tensor, "n gates"]:
        weights = closed_form_weights(process, rule, t)
        return torch.cat([weights, alpha(t)[:, None, None] * weights[:, :, -1:]], dim=2).flatten(1)

    fitted = fitter.scaled("weights", gates, lambda t: unit_of_weights(process, t))
    coefficients = fitted.unflatten(1, (d, responses + 2))
    _set_attention(model, stream, heads, process.length)
    _set_gates(model, stream, fitter, coefficients)
    widths = torch.tensor([width for width, _, _ in heads], dtype=torch.float64)
    return ClosedForm(model, stream, fitter, rule, coefficients, widths, dtype)


def _set_attention(model: DiT, stream: Stream, heads: list[tuple[float, Image, int]], length: int) -> None:
    """Let every head add what it returns of x - alpha mu to its response."""
    (block,), d = model.block_list, model.config.dim
    for index, (width, image, response) in enumerate(heads):
        values: dict[str, Tensor | float] = {"x": 1.0, "mean": -1.0}
        sink = stream["sinks"][index]
        output = set_gaussian_head(block.attention, index, stream, width, sink, values, image, length)
        eye = torch.eye(d, output.size, dtype=torch.float64)
        connect(block.attention.out, output, stream["responses"].part(response, d), eye)


def _set_gates(model: DiT, stream: Stream, fitter: GateFitter, coefficients: Float[Tensor, "features d gates"]) -> None:
    """Gates, input scales and the MLP that sums."""
    (block,), d = model.block_list, model.config.dim
    x, mean, iterate, responses = (stream[name] for name in ("x", "mean", "iterate", "responses"))
    one = constant(1.0, len(coefficients))
    count = responses.size // d
    gates: dict[Subspace, Tensor] = {responses.part(m, d): coefficients[:, :, m] for m in range(count)}
    gate_block(block, GATE1, stream.width, gates)
    gate_block(block, SCALE1, stream.width, {mean: fitter.relative("alpha", alpha, offset=1.0)})
    identity, shrunk = (coefficients[:, :, m] - one[:, None] for m in (count, count + 1))  # as input scales 1 + s(c)
    gate_block(block, SCALE2, stream.width, {x: identity, mean: shrunk})
    gate_block(block, GATE2, stream.width, {iterate: one})
    total = torch.eye(d, dtype=torch.float64).repeat(1, count)  # the sum over responses, channel by channel
    mlp = LinearMLP()
    mlp.add([(x, 1.0), (mean, -1.0), (responses, -total)], [(iterate, -1.0)], d)
    mlp.set(block.mlp)
