"""All claims, by subject and by name."""

from dataclasses import replace
from functools import cache
from importlib import import_module

from theory.claim import Claim
from unrolled.checks import InputError, refuse

__all__ = ["SUBJECTS", "claims", "find"]

SUBJECTS = {
    "score": "The score and how hard it is",
    "best_affine": "What accuracy forces on any score model",
    "convergence": "How fast solvers converge",
    "chebyshev": "Chebyshev polynomials and optimality",
    "noise": "Errors on the way",
    "truncation": "Truncated covariances",
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
