"""Sizes of the one-block DiT, compared with the models that are built, and what its depth does and does not say."""

import math
from collections.abc import Iterator
from typing import Any

import sympy as sp
import torch

from theory.certify import Sweep
from theory.claim import Claim, Mutant, Statement
from theory.sizes import NORM, RADIUS, head_dim, size_relations
from theory.symbols import BLOCKS, HEADS, HIDDEN, SIZES, WIDTH, Letters
from unrolled.handset import construct
from unrolled.handset.closed_form import POINT, closed_form_dit
from unrolled.handset.dit_parts import head_dim_for
from unrolled.handset.gaussian_heads import REGISTER_LOGIT
from unrolled.handset.gaussian_rule import GaussianRule
from unrolled.handset.options import RAMPS
from unrolled.kernels import Exponential
from unrolled.models.record import record_of
from unrolled.process import GaussianProcess, random_spatial_covariance

__all__ = ["CLAIMS"]

LETTERS = Letters("one_block_sizes", SIZES)
LETTERS.name({
    NORM: "largest Frobenius norm of a weight matrix", RADIUS: "radius of the decoder",
    head_dim: "dimensions of a head",
})  # fmt: skip
N, d = LETTERS.symbols({
    "N": "frames of a sequence", "d": "values of a frame",
}, integer=True, positive=True)  # fmt: skip
K = LETTERS.define("K", "widths of the Gaussians; 0 for one frame", integer=True, nonnegative=True)
squares, gates = LETTERS.symbols({
    "b_2": "sum of the squares of the widths", "theta": "norm of the fitted gates, from their least squares",
}, positive=True)  # fmt: skip
T_RANGE = (0.01, 5.0)
SETTINGS = ((1, 1, 2.0, 1e-3), (2, 3, 8.0, 1e-2), (6, 1, 0.5, 1e-5), (17, 2, 32.0, 1e-3), (9, 5, 8.0, 1e-2))
"""Frames, values of a frame, lengthscale, error asked for."""


def _built() -> Iterator[dict[Any, float]]:
    names = {"D": WIDTH, "L": BLOCKS, "M": HEADS, "H": HIDDEN, "B": NORM, "R": RADIUS}
    for length, dim, lengthscale, asked in SETTINGS:
        generator = torch.Generator().manual_seed(length)
        mean = torch.randn(length, dim, generator=generator, dtype=torch.float64)
        spatial = random_spatial_covariance(dim, 4.0, generator)
        process = GaussianProcess(length, Exponential(lengthscale), spatial, mean)
        record: Any = record_of(construct(process, "closed_form", error=asked, t_range=T_RANGE))
        count = (len(record.widths) - 2) // 5
        widths = torch.tensor(record.widths[:count], dtype=torch.float64)
        step = float(widths.log().diff().sum()) / max(1, count - 1)
        rule = GaussianRule(widths, torch.full_like(widths, step))
        form = closed_form_dit(process, rule, T_RANGE, RAMPS, torch.float64)
        ramps = form.coefficients[:-1].square().sum() + dim * form.alpha_coefficients[:-1].square().sum()
        yield {
            **{names[name]: float(size) for name, size in record.sizes.items()},
            N: length, d: dim, K: count, squares: float(widths.square().sum()), gates: math.sqrt(float(ramps)),
            head_dim: head_dim_for(dim),
        }  # fmt: skip


LAST = (N - 1) ** 2
END = int(POINT) ** 2


def _query(images: Any = 1, ends: Any = 1, register: Any = int(REGISTER_LOGIT) ** 2) -> Any:
    """Norm of the query, key and value map: see set_gaussian_head, with queries at +-p + offset."""
    heads = (5 * K + 2) * (3 + 2 * d + head_dim * (2 + register)) + (1 + 5 * head_dim) * (5 * squares + 2 * ends * END)
    mirrored = 2 * (squares + ends * END) * (8 * LAST + LAST**2)
    shifted = 2 * squares * (32 * LAST + 16 * LAST**2)
    return sp.sqrt(heads + images * head_dim * (mirrored + shifted))


RIGHT = {
    "D": 3 * d + 4 + 5 * K + 2 + (3 * K + 1) * d, "L": sp.Integer(1), "M": 5 * K + 2, "H": 2 * d,
    "B": sp.Max(_query(), gates), "R": sp.oo,
}  # fmt: skip


def _sizes(**changed: Any) -> Statement:
    return size_relations(**{**RIGHT, **changed})


SIZE = Claim(
    name="sizes-dit-closed-form",
    title="For OU one DiT block computes the score at every t: 5K + 2 heads for K widths, width 3d + 4 + (5K + 2) + "
    "(3K "
    "+ 1)d, 2d hidden units; no size but K depends on the condition number, and K on its logarithm (widths-count).",
    statement=_sizes(),
    certificate=Sweep(
        _built, "N = 1, 2, 6, 17, 9, d = 1, 3, 1, 2, 5, with a mean, errors of 1e-2 to 1e-5, t from 0.01 to 5",
        rtol=1e-12,
    ),
    provenance="derived",
    bound=RIGHT["D"],
    mutants=(
        Mutant("two blocks", _sizes(L=sp.Integer(2))),
        Mutant("no heads for the end frames", _sizes(M=5 * K)),
        Mutant("three heads for each width", _sizes(M=3 * K + 2)),
        Mutant("a head for each lag", _sizes(M=2 * N - 1)),
        Mutant("a hidden unit for each value", _sizes(H=d)),
        Mutant("width without the responses", _sizes(D=3 * d + 4 + 5 * K + 2)),
        Mutant("a response for each head", _sizes(D=3 * d + 4 + (5 * K + 2) * (1 + d))),
        Mutant("B without images", _sizes(B=sp.Max(_query(images=0), gates))),
        Mutant("B without the heads of the end frames", _sizes(B=sp.Max(_query(ends=0), gates))),
        Mutant("B without the register", _sizes(B=sp.Max(_query(register=0), gates))),
        Mutant("B of the gates", _sizes(B=gates)),
        Mutant("a decoder that clips", _sizes(R=sp.sqrt(N * d))),
    ),
    steps=(
        ("Heads: K widths seen from i, from -i and 2L-i, and from i-2L and i+2L, and two that see an end frame alone"
         " (images-shifts)", 5 * K + 2),
        ("Heads of one width and kind share a weight: 3K + 1 responses of d values", (3 * K + 1) * d),
        ("B grows like N^2 through the offsets of the images; T(D, L, M, B, R) of arXiv 2510.02216 has ReLU attention "
         "and"
         " no gates in t, so this is no member of it: the depth is that of DiTs, softmax attention with a register and"
         " adaLN gates that are functions of t", _query()),
        ("The published construction has depth of order kappa log(1/epsilon) for any covariance; this one is for OU, "
         "whose"
         " inverse is known in closed form", None),
        ("No lower bound is contradicted: those are about networks that must learn the covariance from their input, and"
         " these weights know it. For one Gamma and one t a head for each lag and one block would do, too; what "
         "counts is"
         " heads times depth, and here both are small", None),
    ),
    scope="D, L, M, H, R are exact and B is, where the norm theta of the gates comes from their least-squares fit; K "
    "is "
    "the least that the recipe finds.",
)  # fmt: skip

CLAIMS = (SIZE,)
