"""All claims, by subject and by name."""

from functools import cache
from importlib import import_module

from theory.claim import Claim
from theory.symbols import NOTATION, Letters
from unrolled.checks import InputError

__all__ = ["SUBJECTS", "alphabet_of", "claims", "find"]

SUBJECTS = {
    "score": "The score and how hard it is",
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
        InputError: packages of the extra `theory` that are not installed.
        RuntimeError: two claims of one name.
    """
    found: dict[str, tuple[str, Claim]] = {}
    for subject in SUBJECTS:
        try:
            module = import_module(f"theory.{subject}")
        except ModuleNotFoundError as error:
            if error.name in ("flint", "z3"):
                raise InputError(
                    f"{error.name}: not installed; accepted: an environment with pip install '.[theory]'"
                ) from None
            raise
        for claim in module.CLAIMS:
            if claim.name in found:
                raise RuntimeError(f"two claims are called {claim.name!r}")
            found[claim.name] = (subject, claim)
    return found


def alphabet_of(claim: Claim) -> Letters:
    """The letters of the claim's subject; the shared notation for a claim that is not in the registry."""
    subject, known = claims().get(claim.name, ("", None))
    return import_module(f"theory.{subject}").LETTERS if known is claim else NOTATION


def find(name: str) -> Claim:
    """The claim of that name.

    Raises:
        InputError: an unknown name.
    """
    known = claims()
    if name not in known:
        near = [each for each in known if name and (name in each or each in name)] or list(known)
        raise InputError(f"claim: {name!r} is not a claim; accepted: {', '.join(near)}")
    return known[name][1]
