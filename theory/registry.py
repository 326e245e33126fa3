"""All claims, by subject and by name."""

from dataclasses import replace
from functools import cache
from importlib import import_module

from theory.claim import Claim
from unrolled.checks import InputError, refuse

__all__ = ["PATH", "SUBJECTS", "claims", "find"]

SUBJECTS = {
    "score": "The score and how hard it is",
    "best_affine": "What accuracy forces on any score model",
    "convergence": "How fast solvers converge",
    "chebyshev": "Chebyshev polynomials and optimality",
    "noise": "Errors on the way",
    "truncation": "Truncated covariances",
    "tails": "Tails of the kernels",
    "kernels": "Temporal kernels as mixtures of Gaussians",
    "recipes": "Attention recipes",
    "arithmetic": "Feed-forward recipes",
    "blocks": "A block is a step",
    "sizes": "Sizes of the ReLU transformers",
    "dit_sizes": "Sizes of the DiTs",
    "one_block": "One block for Ornstein-Uhlenbeck: the inverse with images",
    "gaussian_widths": "One block: widths that serve every rate",
    "one_block_sizes": "One block: its sizes, and what its depth says",
    "predictions": "Built models against their predictions",
    "distances": "Distances between Gaussian laws",
    "sampling": "From score error to samples",
    "guarantee": "What a score error guarantees",
    "estimation": "Estimation and rates",
}
"""Module of each subject, and its heading."""
PATH = (
    ("The score is the solution of a linear system", ("score-formula", "score-variational", "covariance-rescaled")),
    ("that noise makes easier", ("kappa-monotone", "kappa-noise")),
    (
        "A covariance cut off at J lags changes it by r",
        (
            "truncation-norm",
            "tail-ou",
            "tail-exponential",
            "tail-polynomial",
            "tail-rough-polynomial",
            "tail-logarithmic",
            "tail-matern",
            "truncation-solution",
        ),
    ),
    (
        "K steps of a solver leave an error of 2 q^K",
        (
            "chebyshev-zeros",
            "chebyshev-residual",
            "chebyshev-value",
            "chebyshev-depth",
            "gd-depth",
            "cg-two-norm",
        ),
    ),
    (
        "A block of a transformer is a step",
        (
            "lag-heads",
            "sink-head",
            "row-sum",
            "gelu-pair",
            "dit-block-is-step",
            "masked-product",
            "relu-blocks-are-step",
        ),
    ),
    ("at these sizes", ("sizes-dit-chebyshev", "sizes-relu-chebyshev")),
    ("so the score is off by epsilon of itself", ("score-error-budget",)),
    ("which moves the law of the samples", ("girsanov", "score-energy", "guarantee")),
    ("as do the steps of the sampler", ("frozen-score", "girsanov-discretised")),
    ("its start from N(0, I), and its end at t_0", ("terminal-kl-bound", "early-stopping-kl")),
    ("A divergence bounds the total variation", ("pinsker", "bretagnolle-huber")),
)
"""The path from the score to total variation: each link in words, and the claims it rests on."""


@cache
def claims() -> dict[str, tuple[str, Claim]]:
    """name -> (subject, claim), in the order of the page.

    Raises:
        InputError: the packages of the extra `theory` are not installed.
        ValueError: two claims of one name.
    """
    registered: dict[str, tuple[str, Claim]] = {}
    for subject in SUBJECTS:
        try:
            module = import_module(f"theory.{subject}")
        except ModuleNotFoundError as error:
            if error.name in ("flint", "z3"):
                raise InputError(f"claim: claims need {error.name}: pip install '.[theory]'") from None
            raise
        for claim in module.CLAIMS:
            if claim.name in registered:
                raise ValueError(f"two claims are called {claim.name!r}")
            registered[claim.name] = (subject, replace(claim, letters=module.LETTERS))
    return registered


def find(name: str) -> Claim:
    """The claim of that name.

    Raises:
        InputError: an unknown name.
    """
    known = claims()
    if name not in known:
        near = [other for other in known if name and (name in other or other in name)]
        refuse("claim", name, ", ".join(near or known))
    return known[name][1]
