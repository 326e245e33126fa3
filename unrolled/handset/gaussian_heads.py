"""Gaussian attention heads: a kernel matrix as a weighted sum of softmax heads, exactly normalised by a register.

**Head.** Position p_i = i - (N-1)/2. Query (2b p_i, 1, -b p_i^2, log(c - Z_i)) and key (p_j, -b p_j^2, 1, 0) of a token
j, (0, 0, 0, 1) of the register, give the logits

    token i to token j:  2b p_i p_j - b p_j^2 - b p_i^2 = -b (i-j)^2,     token i to register:  log(c - Z_i),

with Z_i = sum_j exp(-b (i-j)^2) the row sum. The softmax denominator is Z_i + exp(log(c - Z_i)) = c in every row, so
the head returns sum_j exp(-b (i-j)^2) v_j / c: with values of 0 at the register, the *unnormalised* Gaussian matrix
over the constant c > max Z. A row-normalised head has the register logit -L instead. The register's own query is -L on
the third key channel, so its row is e^-L on every token and 1 on itself: its value, 0, stays 0. It must stay so
exactly: in the register every head returns that value whole, so that a step multiplies it by 1 - eta sum_m w_m c_m,
outside the spectrum, and K of them amplify what leaked like T_K there. L = 1000 makes e^-L underflow to 0 in float64 as
in float32; with L = 100 a Chebyshev model of 96 steps was exact to 1e-12 and one of 141 steps off by a factor of 160
(measured, N = 64, kappa 1360).

**Kernel.** The kernels of the project are mixtures of Gaussians, so gamma(l) = sum_m w_m exp(-b_m l^2) up to the error
of a quadrature. Signed least squares on the lags 0..N-1 does far better than the non-negative quadrature: with widths
at four per octave the error is below 1e-11 and weights stay below 1 (measured, N = 64..1024; 1e-6 at one per octave,
3e-8 at two).

**Exact logits.** The widths are dyadic, b = mantissa 2^-k with mantissas of at most 3 bits, and positions are
half-integers: every product and partial sum of the logit is a multiple of one power of two and fits the 24 bits of
float32 up to N = 1024. The logits are then exact in float32 as well; generic widths lose digits there like eps b N^2
(derived).

**Images.** With the query of a head written at an image q_i = +-p_i + offset of its frame instead of p_i, the same head
returns exp(-b (q_i-p_j)^2): q_i and q_i^2 are linear in p_i, p_i^2 and the token flag. Z_i is then the row sum of that
matrix, below the same c.

Cost: one head of head_dim >= 4 per width; one stream channel per head for log(c - Z_i), and four for position.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unrolled.checks import InputError
from unrolled.handset.stream import Stream, Subspace, connect
from unrolled.kernels import Exponential, TemporalKernel
from unrolled.models.dit import Attention

__all__ = [
    "MANTISSAS",
    "NARROWEST",
    "REGISTER_LOGIT",
    "SELF",
    "GaussianDictionary",
    "Image",
    "dyadic_widths",
    "fit_dictionary",
    "gaussian_matrices",
    "normaliser",
    "set_gaussian_head",
    "sink_logits",
]

REGISTER_LOGIT = 1000.0
"""L: how far a logit lies below those that count where a token must not be seen; exp(-L) is 0 in floating point."""
MANTISSAS = {1: (1.0,), 2: (1.0, 0.75), 4: (1.0, 0.875, 0.75, 0.625)}
"""Widths per octave, as dyadic numbers of at most 3 bits."""
WIDEST, NARROWEST = 0.25, 8.0
"""b runs from NARROWEST, where exp(-b) is 3e-4, down to WIDEST / N^2."""


class Image(NamedTuple):
    """Where the query of frame i stands among the frames 0..N-1: at sign i + offset."""

    sign: int
    offset: int

    def among_positions(self, length: int) -> float:
        """The offset among centred positions: sign p + offset."""
        return self.offset - (1 - self.sign) / 2 * (length - 1)


SELF = Image(1, 0)
"""The frame itself."""


@dataclass(frozen=True)
class GaussianDictionary:
    """Gaussians exp(-b l^2) and the weights with which they sum to a kernel on the lags 0..N-1.

    Attributes:
        widths: (M,) the b.
        weights: (M,) the w.
        error: sup error of the kernel over the lags.
    """

    widths: Float[Tensor, " M"]
    weights: Float[Tensor, " M"]
    error: float


def dyadic_widths(length: int, per_octave: int) -> Float[Tensor, " M"]:
    """Widths b, `per_octave` in each factor of 2, decreasing, float64."""
    octaves = math.ceil(math.log2(NARROWEST * length**2 / WIDEST)) + 1
    widths = [NARROWEST * mantissa * 2.0**-k for k in range(octaves) for mantissa in MANTISSAS[per_octave]]
    return torch.tensor(widths, dtype=torch.float64)


def fit_dictionary(kernel: TemporalKernel, length: int, per_octave: int) -> GaussianDictionary:
    """Least-squares weights of the kernel over dyadic widths; an RBF brings its own width and needs no other.

    Raises:
        InputError: `per_octave` not 1, 2 or 4.
    """
    if per_octave not in MANTISSAS:
        raise InputError(f"per_octave: {per_octave!r} is not accepted; accepted: 1, 2 and 4")
    lag = torch.arange(length, dtype=torch.float64)
    if isinstance(kernel, Exponential) and kernel.power == 2:
        return GaussianDictionary(
            torch.tensor([kernel.lengthscale**-2.0], dtype=torch.float64), torch.ones(1, dtype=torch.float64), 0.0
        )
    widths = dyadic_widths(length, per_octave)
    design = torch.exp(-widths * lag[:, None] ** 2)  # (N, M)
    target = kernel(lag)
    weights = torch.linalg.lstsq(design, target[:, None], rcond=1e-13, driver="gelsd").solution[:, 0]
    return GaussianDictionary(widths, weights, float((design @ weights - target).abs().max()))


def gaussian_matrices(widths: Float[Tensor, " M"], length: int) -> Float[Tensor, "M N N"]:
    """exp(-b (i-j)^2) for each width, float64."""
    position = torch.arange(length, dtype=torch.float64)
    return torch.exp(-widths[:, None, None] * (position[:, None] - position) ** 2)


def positions(length: int) -> Float[Tensor, " N"]:
    """Centred positions i - (N-1)/2, float64: half-integers or integers."""
    return torch.arange(length, dtype=torch.float64) - (length - 1) / 2


def row_sums(widths: Float[Tensor, " M"], length: int, image: Image = SELF) -> Float[Tensor, "N M"]:
    """Z_i for each width, in O(N M): differences of a cumulative sum of exp(-b l^2) over distances."""
    place = image.sign * torch.arange(length) + image.offset
    first = int(place.min()) - length  # distances place_i - j, j = 0..N-1, are above it
    distance = torch.arange(first, int(place.max()) + 1, dtype=torch.float64)
    sums = torch.cumsum(torch.exp(-widths * distance[:, None] ** 2), dim=0)
    return sums[place - first] - sums[place - first - length]


def sink_logits(widths: Float[Tensor, " M"], length: int, image: Image = SELF) -> Float[Tensor, "N M"]:
    """log(c - Z_i) for each width, float64."""
    c = torch.tensor([normaliser(float(b)) for b in widths], dtype=torch.float64)
    return torch.log(c - row_sums(widths, length, image))


def normaliser(width: float) -> float:
    """c = 1.001 (1 + sqrt(pi/b)), above the row sum of every length: sum_{l>=1} exp(-b l^2) <= sqrt(pi/b)/2.

    It depends on the width alone, so a head does not change when the sequence gets longer.
    """
    return 1.001 * (1 + math.sqrt(math.pi / width))


@torch.no_grad()
def set_gaussian_head(
    attention: Attention,
    index: int,
    stream: Stream,
    width: float,
    sink: Subspace | None,
    values: dict[str, Float[Tensor, "head_channels source"] | float],
    image: Image = SELF,
    length: int = 1,
) -> Subspace:
    """Make head `index` of `attention` a Gaussian head that mixes the named subspaces given by `values`.

    Args:
        attention: its qkv map must be zero for this head.
        index: which head.
        stream: has `position` (p), `position_squared` (p^2), `token` (1 on tokens) and `register` (1 on the register).
        width: b.
        sink: the channel of log(c - Z_i); None makes the head row-normalised.
        values: for each subspace read as value, the matrix (or multiple of I) from it into the head's output channels.
        image: of the frame, where its query stands.
        length: N, on which the place of an image depends.

    Returns:
        The head's output channels, as a subspace of the input of `attention.out`.
    """
    head_dim, heads = attention.head_dim, attention.heads
    root = math.sqrt(head_dim)  # undoes the 1/sqrt(head_dim) of the logits; exact where head_dim is a power of 4
    query, key, value = (Subspace(kind, (k * heads + index) * head_dim, head_dim) for k, kind in enumerate("qkv"))
    qkv: nn.Linear = attention.qkv
    sign, offset = image.sign, image.among_positions(length)
    connect(qkv, stream["position"], query[0], 2 * width * sign * root)
    connect(qkv, stream["token"], query[0], 2 * width * offset * root)
    connect(qkv, stream["position"], key[0], 1.0)
    connect(qkv, stream["token"], query[1], root)
    connect(qkv, stream["position_squared"], key[1], -width)
    connect(qkv, stream["position_squared"], query[2], -width * root)
    connect(qkv, stream["position"], query[2], -2 * width * sign * offset * root)
    connect(qkv, stream["token"], query[2], -width * offset**2 * root)
    connect(qkv, stream["register"], query[2], -REGISTER_LOGIT * root)
    connect(qkv, stream["token"], key[2], 1.0)
    if sink is None:
        connect(qkv, stream["token"], query[3], -REGISTER_LOGIT * root)
    else:
        connect(qkv, sink, query[3], root)
    connect(qkv, stream["register"], key[3], 1.0)
    for name, matrix in values.items():
        source = stream[name]
        connect(qkv, source, Subspace(value.name, value.start, source.size), matrix)
    return Subspace(f"head {index}", index * head_dim, head_dim)
