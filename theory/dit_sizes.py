"""Sizes of the hand-set DiTs, compared with the models that are built."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import sympy as sp
import torch

from theory.certify import Sweep, equal
from theory.claim import Claim, Mutant, Statement
from theory.sizes import LETTERS as SHARED
from theory.sizes import (
    NORM,
    OCTAVES,
    OVER,
    T_RANGE,
    gaussians,
    head_dim,
    measure_sizes,
    size_relations,
    size_settings,
    solver_nodes,
    squares,
)
from theory.symbols import K, Letters, N, d, t0
from unrolled.diffusion import alpha, sigma
from unrolled.handset.construct import RAMPS, RIDGE
from unrolled.handset.gates import WEIGHT_CUTOFF, GateFitter
from unrolled.handset.gaussian_heads import MANTISSAS, NARROWEST, REGISTER_LOGIT, fit_dictionary
from unrolled.handset.iteration import step_sizes
from unrolled.kernels import Exponential
from unrolled.models.dit import TimeRamps
from unrolled.process import GaussianProcess

__all__ = ["CLAIMS", "gate_norms"]

LETTERS = Letters("dit_sizes", SHARED)
ramps_norm, gates = LETTERS.symbols({
    "s_0": "largest singular value of the time ramps on the grid of the fit",
    "theta": "norm of the fitted gates of a block, from the least-squares fit",
}, positive=True)  # fmt: skip
grid = LETTERS.define("n_t", "points of the grid of the fit", integer=True, positive=True)


def gate_norms(
    process: GaussianProcess, nodes: list[float], t_range: tuple[float, float] = T_RANGE
) -> dict[Any, float]:
    """Norm of the fitted gates of the block whose step size has the largest coefficients (biases are no matrices)."""
    ramps = TimeRamps(RAMPS, t_range).double()
    fitter = GateFitter(ramps, t_range)
    functions = {
        "alpha^2": (lambda t: alpha(t) ** 2, 0.0), "sigma^2": (lambda t: sigma(t) ** 2, 1.0), "sigma": (sigma, 1.0),
        "sigma alpha": (lambda t: sigma(t) * alpha(t), 1.0),
    }  # fmt: skip
    shared = sum(float(fitter.relative(name, f, offset)[:-1].square().sum()) for name, (f, offset) in functions.items())
    steps = [
        float(fitter.relative(f"eta {k}", f)[:-1].square().sum()) for k, f in enumerate(step_sizes(process, nodes))
    ]
    features = torch.cat([ramps(fitter.t), torch.ones(len(fitter.t), 1, dtype=torch.float64)], dim=1)
    return {
        gates: math.sqrt(process.dim * (shared + max(steps))),
        ramps_norm: float(torch.linalg.matrix_norm(features, ord=2)), grid: len(fitter.t),
    }  # fmt: skip


def _dit(algorithm: str) -> Callable[[], Iterator[dict[Any, float]]]:
    def points() -> Iterator[dict[Any, float]]:
        for setting in size_settings():
            # Fitting weights takes seconds for each application: K = 1, 2, 2 will do there.
            taken = min(setting.steps - 1, 2) if algorithm == "preconditioned" else setting.steps
            if algorithm == "preconditioned" and setting.process.length > 32:
                continue
            yield {
                **measure_sizes(setting._replace(steps=taken), algorithm, "dit"),
                **gate_norms(setting.process, solver_nodes(algorithm, taken), setting.t_range),
            }

    return points


DIT_QUERY = sp.sqrt(
    gaussians * (3 + d + head_dim * (2 + sp.Integer(int(REGISTER_LOGIT)) ** 2)) + (1 + 5 * head_dim) * squares
)
"""Norm of the query, key and value map: see set_gaussian_head, whose query map undoes the 1/sqrt(d_h)."""


def _dictionaries() -> Iterator[dict[Any, float]]:
    for length in (2, 3, 6, 12, 17, 64, 100, 1024):
        widths = fit_dictionary(Exponential(4.0, 1.0), length, 4).widths
        yield {N: length, gaussians: len(widths), squares: float(widths.square().sum())}


MANTISSAS_SQUARED = sum(sp.Rational(mantissa) ** 2 for mantissa in MANTISSAS[4])


def _dictionary(per_octave: int = 4, octaves: Any = OCTAVES) -> Statement:
    quarter = sp.Rational(1, 4)
    return (
        equal(gaussians, per_octave * octaves),
        equal(squares, int(NARROWEST) ** 2 * MANTISSAS_SQUARED * (1 - quarter**octaves) / (1 - quarter)),
    )


DICTIONARY = Claim(
    name="sizes-dictionary",
    title="A kernel other than an RBF takes 4 (6 + ceil(2 log2 N)) Gaussians, four in each octave of b"
    " from 8 down to 1/(4 N^2).",
    statement=_dictionary(),
    certificate=Sweep(_dictionaries, "eight lengths from 2 to 1024", rtol=1e-12),
    provenance="derived",
    bound=4 * OCTAVES,
    mutants=(
        Mutant("an octave less", _dictionary(octaves=OCTAVES - 1)),
        Mutant("two in each octave", _dictionary(per_octave=2)),
    ),
)


def _dit_claim(algorithm: str, words: str) -> Claim:
    right = {"D": 4 * d + 4 + gaussians, "L": K, "M": gaussians, "H": 4 * d, "B": sp.Max(DIT_QUERY, gates)}
    return Claim(
        name=f"sizes-dit-{algorithm.replace('_', '-')}",
        title=f"A DiT that runs K steps of {words}: K blocks of n_g heads, width 4d + 4 + n_g.",
        statement=size_relations(**right),
        certificate=Sweep(_dit(algorithm), OVER, rtol=1e-12),
        provenance="derived",
        bound=right["D"],
        mutants=(
            Mutant("one block more", size_relations(L=K + 1)),
            Mutant("half as many heads", size_relations(M=gaussians / 2)),
            Mutant("width without the scratch", size_relations(D=right["D"] - d)),
            Mutant("B of the keys alone", size_relations(B=sp.sqrt(squares))),
        ),
        scope="kernels other than an RBF, which takes one head; the norm theta of the gates comes from their "
        "least-squares fit.",
    )


OWN = OCTAVES
"""Widths of the preconditioner's dictionary, one in each octave."""
FITTED = 2 * sp.sqrt(d * grid) / (RIDGE * WEIGHT_CUTOFF * sp.sqrt(1 - sp.exp(-t0)) * ramps_norm)


def _preconditioned(norm: Any = FITTED) -> Statement:
    right = {
        "D": 5 * d + 4 + gaussians + OWN + 2 * OWN * d, "L": 2 * K - 1, "M": sp.Max(gaussians, 2 * OWN),
        "H": 2 * d * (1 + 2 * OWN),
    }  # fmt: skip
    return (*size_relations(**right), sp.Le(NORM, norm))


PRECONDITIONED = Claim(
    name="sizes-dit-preconditioned",
    title="A DiT that applies K fitted inverses: 2K - 1 blocks; width 5d + 4 + (5 + 2d) (6 + ceil(2 log2 N)); its "
    "depth has no kappa.",
    statement=_preconditioned(),
    certificate=Sweep(_dit("preconditioned"), OVER.replace("2, 2, 3, 5", "1, 1, 2, 2"), rtol=1e-12),
    provenance="derived",
    bound=2 * K - 1,
    mutants=(
        Mutant("2K blocks", size_relations(L=2 * K)),
        Mutant("heads of one kind only", size_relations(H=2 * d * (1 + OWN))),
        Mutant("B without the ridge", _preconditioned(sp.sqrt(d))),
    ),
    steps=(
        ("w = 0 is allowed, so ridge^2 sigma_0^2 |w|^2 over the grid is at most the number of its points", None),
        ("The ramps hold w with singular values above the cut-off, 1e-6 s_0: coefficients are at most", FITTED),
    ),
    true_variants={"relation 5: right side times 0.9": "least squares stays far below what its cut-off allows"},
    scope="B is an upper bound, loose by the margin shown, since least squares sets these weights: the sweep "
    "does not test"
    " its factors ridge and cut-off; D, L, M, H are exact.",
)  # fmt: skip

CLAIMS = (
    DICTIONARY, _dit_claim("gradient_descent", "gradient descent"), _dit_claim("chebyshev", "Chebyshev"),
    PRECONDITIONED,
)  # fmt: skip
