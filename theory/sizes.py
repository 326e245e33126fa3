"""Sizes of the ReLU transformers: what T(D, L, M, B, R) must be to hold each solver, against the models that are
built."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import sympy as sp
import torch

from theory.certify import Sweep, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import BLOCKS as DEPTH
from theory.symbols import HEADS, HIDDEN, LAGS, NOTATION, SIZES, WIDTH, J, K, Letters, N, T, d, t0
from unrolled.handset import construct
from unrolled.handset.dit_parts import head_dim_for
from unrolled.handset.gaussian_heads import fit_dictionary
from unrolled.handset.relu_conjugate_gradient import SMALLEST
from unrolled.handset.relu_iteration import X_LIMIT, step_rates
from unrolled.handset.truncation import TruncatedCovariance, truncate
from unrolled.kernels import Exponential, Logarithmic, Polynomial, TemporalKernel
from unrolled.process import GaussianProcess, random_spatial_covariance
from unrolled.solvers import chebyshev_nodes

__all__ = [
    "CLAIMS", "covariance_values", "measure_sizes", "process_values", "size_relations", "size_settings", "solver_nodes",
]  # fmt: skip

LETTERS = Letters("sizes", NOTATION, LAGS, SIZES)
NORM, RADIUS, rate, smallest, largest = LETTERS.symbols({
    "B": "largest Frobenius norm of a weight matrix", "R": "radius of the decoder",
    "a_1": "smallest a of a step size 1/(a + tau)", "g_J": "smallest eigenvalue of Gamma_J x Sigma",
    "G_J": "largest eigenvalue of Gamma_J x Sigma",
})  # fmt: skip
layers, head_dim, distinct = LETTERS.symbols({
    "n_m": "layers of a published multiplication module", "d_h": "dimensions of a head",
    "n_a": "different step sizes",
}, integer=True, positive=True)  # fmt: skip
limit, floor, low = LETTERS.symbols({
    "X": "largest root mean square of x", "rho_0": "residual norm squared that counts as converged",
    "m_0": "smallest eigenvalue of C_{t,J} at t_0",
}, positive=True)  # fmt: skip
mean = LETTERS.define("|mu|", "norm of the mean", nonnegative=True)
BITS = sp.Max(1, sp.ceiling(sp.log(N, 2)))
OCTAVES = 6 + sp.ceiling(2 * sp.log(N, 2))
gaussians, squares = LETTERS.symbols({
    "n_g": "Gaussians that hold the kernel; 1 for an RBF, see sizes-dictionary",
    "b_2": "sum of the squares of their width parameters b",
})  # fmt: skip
FULL = sp.Piecewise((1, sp.Eq(J, N)), (0, True))


def _power_of_two(number: Any) -> Any:
    return 2 ** sp.ceiling(sp.log(number, 2))


def _positions(extra: Any = 0) -> Any:
    """Norm of the ReLU position table: p, p^2, one bit or its complement each, the one, the mean."""
    squares, fourths = N * (N**2 - 1) / 12, N * (N**2 - 1) * (3 * N**2 - 7) / 240
    return sp.sqrt(squares + fourths + N * BITS + N + mean**2 + extra)


def _mask(bound: Any) -> Any:
    """Norm of the query map of a masked product with that bound."""
    return sp.sqrt(1 + 2 * BITS * _power_of_two(bound) ** 2)


LAG_QUERY = sp.sqrt(6 + J**4)
RELU_RADIUS = _power_of_two(2 * (limit * sp.sqrt(N * d) + mean) / low)


def size_relations(**sizes: Any) -> Statement:
    left = {"D": WIDTH, "L": DEPTH, "M": HEADS, "H": HIDDEN, "B": NORM, "R": RADIUS}
    return tuple(equal(left[name], size) for name, size in sizes.items())


T_RANGE = (0.01, 5.0)
MODULE_LAYERS = 6
OVER = (
    "six processes of 6 to 32 frames, d = 1, 2, 3, an RBF and powers of two among them, means 0, of size 1 and large,"
    " Sigma from 0.01 to 4, K = 2 to 5, t from 0.01 to 1 and 5"
)


class Setting(NamedTuple):
    """A process, a number of steps, and the times of the model."""

    process: GaussianProcess
    steps: int
    t_range: tuple[float, float]


def size_settings() -> Iterator[Setting]:
    """Every case of the formulas: powers of two, an RBF, mean 0 and large, small and large Sigma and T, J < N."""
    chosen: tuple[tuple[int, int, TemporalKernel, int, float, float, float], ...] = (
        (6, 1, Polynomial(2.0, 1.5), 2, 1.0, 1.0, 5.0), (8, 1, Exponential(2.0, 1.0), 2, 0.0, 1.0, 1.0),
        (9, 1, Exponential(2.0, 2.0), 2, 1.0, 1.0, 5.0), (12, 2, Logarithmic(3.0, 1.0), 3, 1.0, 0.01, 5.0),
        (17, 3, Exponential(0.6, 1.0), 5, 1.0, 4.0, 5.0), (32, 1, Exponential(0.3, 1.0), 2, 1000.0, 4.0, 1.0),
    )  # fmt: skip
    for length, dim, kernel, steps, shifted, scale, largest in chosen:
        generator = torch.Generator().manual_seed(length)
        spatial = scale * random_spatial_covariance(dim, 4.0, generator)
        shift = shifted * torch.randn(length, dim, generator=generator, dtype=torch.float64)
        yield Setting(GaussianProcess(length, kernel, spatial, shift), steps, (T_RANGE[0], largest))


def measure_sizes(setting: Setting, algorithm: str, model: str, **options: Any) -> dict[Any, float]:
    """Sizes of a model that is built, with the letters that its formulas need."""
    process, steps, t_range = setting
    built: Any = construct(process, algorithm, steps, model=model, t_range=t_range, **options)
    names = {"D": WIDTH, "L": DEPTH, "M": HEADS, "H": HIDDEN, "B": NORM, "R": RADIUS}
    measured = {names[name]: float(size) for name, size in built.construction.sizes.items()}
    known = process_values(process, steps, t_range)
    if model == "dit":
        return {**measured, **known}
    covariance = truncate(process, built.construction.truncation, t_range[0])
    return {
        **measured,
        **known,
        **covariance_values(covariance, algorithm, steps, t_range),
        limit: built.config.x_limit,
    }


def process_values(process: GaussianProcess, steps: int, t_range: tuple[float, float]) -> dict[Any, float]:
    """Values of the letters that a process and a number of steps determine."""
    widths = fit_dictionary(cast(TemporalKernel, process.temporal), process.length, 4).widths
    return {
        gaussians: len(widths), squares: float(widths.square().sum()),
        N: process.length, d: process.dim, K: steps, t0: t_range[0], T: t_range[1], mean: float(process.mean.norm()),
        head_dim: head_dim_for(process.dim),
    }  # fmt: skip


def covariance_values(
    covariance: TruncatedCovariance, algorithm: str, steps: int, t_range: tuple[float, float]
) -> dict[Any, float]:
    """Values of the letters that a truncated covariance determines."""
    rates = step_rates(covariance, solver_nodes(algorithm, steps))
    least, most = (float(covariance.eigenvalues[k]) for k in (0, -1))
    size = covariance.process.length * covariance.process.dim
    return {
        J: covariance.lags, low: covariance.extreme_eigenvalues(t_range[0])[0], smallest: least, largest: most,
        rate: min(rates),
        distinct: len(set(rates)), limit: X_LIMIT,
        floor: min(1.0, least + math.expm1(t_range[0])) * (SMALLEST * torch.finfo(torch.float64).eps) ** 2 * size,
    }  # fmt: skip


def solver_nodes(algorithm: str, steps: int) -> list[float]:
    return chebyshev_nodes(steps) if algorithm == "chebyshev" else [0.0] * steps


def _relu(algorithm: str, **options: Any) -> Callable[[], Iterator[dict[Any, float]]]:
    def points() -> Iterator[dict[Any, float]]:
        for setting in size_settings():
            extra = {layers: options["multiplication_layers"]} if options else {}
            yield {**measure_sizes(setting, algorithm, "relu", **options), **extra}

    return points


TOP = sp.Max(sp.exp(T), 1 / (rate + sp.exp(t0) - 1))


def _relu_claim(algorithm: str, words: str) -> Claim:
    right = {
        "D": 5 * d + 6 + 2 * BITS + distinct, "L": 1 + 2 * K, "M": J + 1 + FULL, "H": 2 * d,
        "B": sp.Max(_mask(TOP), LAG_QUERY, _positions()), "R": RELU_RADIUS,
    }  # fmt: skip
    return Claim(
        name=f"sizes-relu-{algorithm.replace('_', '-')}",
        title=f"A ReLU transformer that runs K steps of {words} on J lags: 1 + 2K blocks of J + 1 heads,"
        " one more for J = N.",
        statement=size_relations(**right),
        certificate=Sweep(_relu(algorithm), f"{OVER}; J = N and J < N", rtol=1e-12),
        provenance="derived",
        bound=right["D"],
        mutants=(
            Mutant("J heads", size_relations(M=J)),
            Mutant("2K blocks", size_relations(L=2 * K)),
            Mutant("R without the factor 2", size_relations(R=RELU_RADIUS / 2)),
            Mutant("mask of a +-1 code", size_relations(B=sp.sqrt(1 + BITS * _power_of_two(TOP) ** 2))),
            Mutant("floor(log2 N) + 1 bits", size_relations(D=right["D"] + 2 * (sp.floor(sp.log(N, 2)) + 1 - BITS))),
        ),
        steps=(("B is that of a masked product with the largest time feature, unless positions or squared lags "
                "exceed it", _mask(TOP)),),
    )  # fmt: skip


CG_RIGHT = {
    "D": 7 * d + 18 + 2 * BITS, "L": 11 * K, "M": sp.Max(4, J + 2 + FULL), "B": _mask(4 / floor), "R": RELU_RADIUS,
}  # fmt: skip
CG = Claim(
    name="sizes-relu-conjugate-gradient",
    title="A ReLU transformer that runs K steps of conjugate gradient: 11K blocks of J + 2 heads, 4 at least, width "
    "7d + 18 + 2 ceil(log2 N).",
    statement=size_relations(**CG_RIGHT),
    certificate=Sweep(_relu("conjugate_gradient"), f"{OVER}; J = N and J < N", rtol=1e-12),
    provenance="derived",
    bound=CG_RIGHT["D"],
    mutants=(
        Mutant("33 blocks per step", size_relations(L=33 * K)),
        Mutant("a head fewer", size_relations(M=J + 1 + FULL)),
        Mutant("J + 2 heads for J = 1 too", size_relations(M=J + 2 + FULL)),
        Mutant("mask of 1/floor", size_relations(B=_mask(1 / floor))),
    ),
    scope="float64; its hidden units, four per octave of the residuals' range, are not predicted.",
)

SOLUTION_BOUND = 2 * (limit * sp.sqrt(N * d) + sp.Max(1, mean)) * sp.Max(
    sp.exp(t0) / (smallest + sp.exp(t0) - 1), sp.exp(T) / (smallest + sp.exp(T) - 1)
)  # fmt: skip
INPUT, MEAN_BOUND = sp.exp(T) * limit * sp.sqrt(N * d), sp.exp(T / 2) * sp.Max(1, mean)
STEP_BOUND = 2 / (smallest + largest + 2 * (sp.exp(t0) - 1))
WORK_BOUND = (largest + sp.exp(T) - 1) * SOLUTION_BOUND + INPUT + MEAN_BOUND
PRODUCTS = sp.Max(
    4 * d * (1 + ((sp.exp(T) - 1) * SOLUTION_BOUND) ** 2) + 2 * d,
    4 * d * (1 + (STEP_BOUND * WORK_BOUND) ** 2),
    4 * d * (2 + INPUT**2 + MEAN_BOUND**2),
)
"""Squared norm of the first layer of tau s (and of the pair that adds r), of eta w, of e^t x beside e^(t/2) mu."""
PUBLISHED_RIGHT = {
    "D": 9 * d + 9 + 2 * BITS, "L": (layers + 1) * (1 + 2 * K), "M": 4 * J, "H": 8 * d,
    "B": sp.sqrt(PRODUCTS), "R": RELU_RADIUS,
}  # fmt: skip
PUBLISHED = Claim(
    name="sizes-relu-published",
    title="With the published modules K steps take (n_m + 1)(1 + 2K) blocks of 4J heads, n_m layers to each "
    "multiplication.",
    statement=size_relations(**PUBLISHED_RIGHT),
    certificate=Sweep(_relu("gradient_descent", multiplication_layers=MODULE_LAYERS), f"{OVER}, n_m = 6", rtol=1e-12),
    provenance="derived",
    source="modules of arXiv 2510.02216, assembled here",
    bound=PUBLISHED_RIGHT["L"],
    mutants=(
        Mutant("n_m layers for n_m + 1", size_relations(L=layers * (1 + 2 * K))),
        Mutant("one head for each lag", size_relations(M=J)),
        Mutant("B without the bound on s", size_relations(B=sp.sqrt(4 * d * sp.exp(2 * T)))),
    ),
    steps=(("B is that of the first layer of a product, which writes the product's scale", sp.sqrt(PRODUCTS)),),
)

CLAIMS = (
    _relu_claim("gradient_descent", "gradient descent"), _relu_claim("chebyshev", "Chebyshev"), CG, PUBLISHED,
)  # fmt: skip
