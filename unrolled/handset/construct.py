# pyright: strict
"""`construct`: a score model whose forward pass is the asked solver, with a record of what it should do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from unrolled.checks import InputError, require_choice
from unrolled.handset.closed_form_recipe import closed_form_recipe
from unrolled.handset.dit_recipes import chebyshev_recipe, gradient_descent_recipe, preconditioned_recipe
from unrolled.handset.options import RAMPS, RIDGE, DiTOptions, ReluOptions, options_of
from unrolled.handset.relu_recipes import (
    relu_chebyshev_recipe,
    relu_conjugate_gradient_recipe,
    relu_gradient_descent_recipe,
)
from unrolled.kernels import TemporalKernel
from unrolled.models.dit import DiT
from unrolled.models.record import record_of
from unrolled.models.relu import ReluTransformer
from unrolled.process import GaussianProcess

__all__ = ["ALGORITHMS", "RAMPS", "RIDGE", "construct"]


@dataclass(frozen=True)
class Recipe:
    """How one model holds one algorithm.

    Attributes:
        build: (process, steps, options) -> the finished model. It checks `steps`, which a solver may not need.
        remedy: what lowers the predicted error beside a narrower t_range.
    """

    build: Callable[[GaussianProcess, int | None, Any], DiT | ReluTransformer]
    remedy: str


@dataclass(frozen=True)
class Kind:
    """A class of models: its options, and its recipe for each algorithm."""

    options: type[DiTOptions] | type[ReluOptions]
    recipes: Mapping[str, Recipe]


MODELS = {
    "dit": Kind(
        DiTOptions,
        {
            "gradient_descent": Recipe(gradient_descent_recipe, "torch.float64, more heads, or more ramps"),
            "chebyshev": Recipe(chebyshev_recipe, "torch.float64, more heads, or more ramps"),
            "preconditioned": Recipe(preconditioned_recipe, "more steps"),
            "closed_form": Recipe(closed_form_recipe, "a smaller error"),
        },
    ),
    "relu": Kind(
        ReluOptions,
        {
            "gradient_descent": Recipe(relu_gradient_descent_recipe, "torch.float64"),
            "chebyshev": Recipe(relu_chebyshev_recipe, "torch.float64"),
            "conjugate_gradient": Recipe(relu_conjugate_gradient_recipe, "more steps, or torch.float64"),
        },
    ),
}
ALGORITHMS = {name: tuple(kind.recipes) for name, kind in MODELS.items()}
"""What each model can hold."""


def construct(
    process: GaussianProcess, algorithm: str, steps: int | None = None, model: str = "dit", **options: Any
) -> DiT | ReluTransformer:
    """A model with hand-set weights that computes `steps` steps of a solver for the score of `process`.

    It is an ordinary instance of the class that is trained. Its `.construction` says how it was made (`Construction`).

    Args:
        process: with a temporal kernel of the project; any N, d and mean.
        algorithm: "gradient_descent", "chebyshev"; for a DiT "preconditioned" (applications of a fitted approximate
            inverse: 1, 2, 3 steps are 1, 3, 5 blocks) or "closed_form" (one block, for an Ornstein-Uhlenbeck process);
            for a ReluTransformer "conjugate_gradient".
        steps: iterations, >= 1; the closed form has none.
        model: "dit", or "relu" for the theory's transformer.
        options: the attributes of `DiTOptions` or `ReluOptions`, by name: t_range, dtype, heads and tolerance of both;
            norm, dominance, ramps, ridge, fit_length and error of a DiT; truncation and multiplication_layers of a
            ReluTransformer.

    Raises:
        InputError: an argument that is none of the above; too few heads; a truncation that leaves the covariance
            indefinite; a predicted error above `tolerance`.
    """
    if not isinstance(process.temporal, TemporalKernel):
        raise InputError(
            "process: its temporal covariance is a matrix, which hand-set heads cannot hold; accepted: a kernel"
        )
    require_choice("model", model, MODELS)
    recipe = _recipe(model, algorithm)
    chosen = options_of(MODELS[model].options, model, options)
    made = recipe.build(process, steps, chosen)
    if chosen.tolerance is not None:
        _require_tolerance(made, chosen.tolerance, recipe.remedy)
    return made


def _recipe(model: str, algorithm: str) -> Recipe:
    recipes = MODELS[model].recipes
    accepted = f"accepted for {model!r} are {', '.join(recipes)}"
    if model == "dit" and algorithm == "conjugate_gradient":
        raise InputError(
            "algorithm: 'conjugate_gradient' divides inner products of the data, which a DiT's softmax heads and fixed"
            f" gates cannot; {accepted}, or model 'relu'"
        )
    if algorithm not in recipes:
        raise InputError(f"algorithm: {algorithm!r} is not accepted; {accepted}")
    return recipes[algorithm]


def _require_tolerance(model: DiT | ReluTransformer, tolerance: float, remedy: str) -> None:
    """Refuse a model whose predicted error is above `tolerance`."""
    record = record_of(model)
    error, t = max(zip(record.predicted_error, record.times, strict=True), key=lambda pair: pair[0])
    if not error <= tolerance:
        raise InputError(
            f"tolerance: {tolerance:g} is below the predicted error {error:.2g} of torch.{record.dtype} at t = {t:.2g};"
            f" accepted: a larger tolerance, a narrower t_range, or {remedy}"
        )
