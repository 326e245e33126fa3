"""Name the solver of a hand-set model from its iterates: classes of iterates that cannot be told apart, and "none".

A cell is a (completed solver step, t). Its iterate h, read at the subspace that the model's record names, is compared
with the iterates c of every solver, all steps: distance |h - c|_F/|s|_F over the batch, s the exact score. Candidates
closer to each other than LINK times the model's own error at that t form one class (single linkage): the model could
not tell them apart. The answer is the class of the nearest candidate, or none where that is more than FAR away.

A model that is far from its solver has one large class, in which the truth always is: how many cells are scored, their
true class holding a single step, says how much the rest is worth.

The model's own error is its largest deviation from the solver it was built to follow. It sets the scale and nothing
else: naming sees neither the algorithm nor the step of the record. What it does see, since a reference needs them, are
settings: the number of completed steps (Chebyshev is tuned to it), the lag at which the covariance is truncated, and
the ridge, ramps and t range of the preconditioner's fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from probes.layers.iterates import Name, candidate_iterates, preconditioner_fits
from unrolled.handset.construct import RAMPS, RIDGE
from unrolled.handset.dense_inverses import held_preconditioners
from unrolled.handset.iterates import hidden_iterates
from unrolled.models.dit import DiT
from unrolled.models.record import Construction, DiTConstruction, ReluConstruction, record_of
from unrolled.models.relu import ReluTransformer
from unrolled.process import GaussianProcess

__all__ = [
    "FAR",
    "LINK",
    "Answer",
    "candidates_at",
    "confusion",
    "indistinguishable",
    "inverses_at",
    "name_iterates",
    "name_model",
    "summarise",
    "truncation_of",
]

LINK = 10.0
"""Candidates nearer than this times the model's own error form one class."""
FAR = 1e-3
"""Relative distance of the nearest candidate above which the answer is none."""
FEWEST = {"preconditioned": 5, "other": 16}
"""Steps of the candidates that every model is held against, whatever its own number."""


@dataclass(frozen=True)
class Answer:
    """What an iterate was called.

    Attributes:
        members: the class of the nearest candidate, empty for none.
        distance: of the nearest candidate, relative to the exact score; inf for an iterate with NaN.
    """

    members: frozenset[Name]
    distance: float

    @property
    def word(self) -> str:
        """The algorithm where the class holds a single (algorithm, step), else "class", or "none"."""
        if len(self.members) == 1:
            return next(iter(self.members))[0]
        return "class" if self.members else "none"


def _distances(a: Float[Tensor, "m entries"], b: Float[Tensor, "n entries"]) -> Float[Tensor, "m n"]:
    """Euclidean, by differences: the expanded square would lose what is nearer than 1e-8."""
    return torch.stack([(b - row).norm(dim=1) for row in a])


def indistinguishable(
    candidates: Mapping[Name, Float[Tensor, "batch N d"]], size: float, threshold: float
) -> list[frozenset[Name]]:
    """Classes by single linkage: chains of candidates each nearer to the next than `threshold` times `size`."""
    names = list(candidates)
    stack = torch.stack([candidates[name].flatten() for name in names])
    near = (_distances(stack, stack) <= threshold * size).numpy()
    count, label = connected_components(near, directed=False)
    return [frozenset(n for n, own in zip(names, label, strict=True) if own == k) for k in range(count)]


def name_iterates(
    iterates: Sequence[Float[Tensor, "batch N d"]],
    candidates: Mapping[Name, Float[Tensor, "batch N d"]],
    exact: Float[Tensor, "batch N d"],
    own_error: float,
) -> tuple[list[Answer], list[frozenset[Name]]]:
    """An answer for each of `iterates`, and the classes of the candidates.

    Args:
        iterates: as scores.
        candidates: those of the solvers, float64.
        exact: the exact score, whose norm is the unit of every distance.
        own_error: of the model, relative to it.
    """
    size = float(exact.double().norm())
    classes = indistinguishable(candidates, size, LINK * own_error)
    names = list(candidates)
    stack = torch.stack([candidate.flatten() for candidate in candidates.values()])
    answers = []
    for iterate in iterates:
        distance = (stack - iterate.double().flatten()).norm(dim=1) / size
        distance[distance.isnan()] = torch.inf  # a forward pass that overflowed is near to nothing
        nearest = int(distance.argmin())
        close = bool(distance[nearest] <= FAR)
        members = next(one for one in classes if names[nearest] in one) if close else frozenset()
        answers.append(Answer(members, float(distance[nearest])))
    return answers, classes


def inverses_at(
    model: DiT | ReluTransformer, process: GaussianProcess, times: Sequence[float]
) -> list[Float[Tensor, "applications d N N"]] | None:
    """P_1, P_2, .. of the preconditioned candidates at each t; None where sequences are too long to fit them.

    They depend on the process and on settings of the model alone, so models that share those may share them.
    """
    if not preconditioner_fits(process):
        return None
    record = record_of(model)
    low, high = record.t_range
    # A ridge is recorded where there are weights that it was put on; the number of applications goes with it.
    ridge = record.ridge if isinstance(record, DiTConstruction) else None
    applications = max(FEWEST["preconditioned"], len(record.iterate_blocks) if ridge else 0)
    ramps = model.config.ramps if isinstance(model, DiT) else RAMPS
    return held_preconditioners(process, times, applications, ridge or RIDGE, (low, high), ramps)


def truncation_of(record: Construction) -> int | None:
    """J of the covariance C_{t,J} that the model's solver runs on; None for C_t."""
    return record.truncation if isinstance(record, ReluConstruction) else None


def candidates_at(
    model: DiT | ReluTransformer,
    process: GaussianProcess,
    x: Mapping[float, Float[Tensor, "batch N d"]],
    truncation: int | None,
    inverses: Sequence[Float[Tensor, "applications d N N"]] | None = None,
) -> dict[float, dict[Name, Float[Tensor, "batch N d"]]]:
    """The candidates that the iterates of `model` are named by, at each t.

    Args:
        model: gives the number of steps.
        process: whose covariance the solvers run on.
        x: noisy sequences at each t.
        truncation: J of C_{t,J}, None for C_t.
        inverses: `inverses_at` for these t; without them no candidate is preconditioned.
    """
    steps = len(record_of(model).iterate_blocks)
    most = max(steps, FEWEST["other"])
    return {
        t: candidate_iterates(process, each, t, steps, most, inverses[k] if inverses else None, truncation)
        for k, (t, each) in enumerate(x.items())
    }


def name_model(
    model: DiT | ReluTransformer,
    process: GaussianProcess,
    x: Mapping[float, Float[Tensor, "batch N d"]],
    inverses: Sequence[Float[Tensor, "applications d N N"]] | None = None,
) -> pd.DataFrame:
    """One row per cell of a hand-set model: what it was called, and whether that is what it is.

    Args:
        model: with a record.
        process: the one it was built for.
        x: noisy sequences at each t, in the dtype of the model.
        inverses: `inverses_at`, computed where not given.

    Returns:
        Columns t, step, truth, named ("class" and "none" among them), members, inside (the truth is in the named
        class), scored (the truth's class holds nothing else), distance, own_error.
    """
    record = record_of(model)
    rows = []
    inverses = inverses or inverses_at(model, process, list(x))
    for t, candidates in candidates_at(model, process, x, truncation_of(record), inverses).items():
        iterates = hidden_iterates(model, process, x[t], t)
        exact = process.score(x[t].double(), t)
        true_names = [(record.algorithm, k) for k in range(1, len(iterates) + 1)]
        deviations = [(h.double() - candidates[n]).norm() for h, n in zip(iterates, true_names, strict=True)]
        own_error = float(torch.stack(deviations).max() / exact.norm())
        answers, classes = name_iterates(iterates, candidates, exact, own_error)
        for name, answer in zip(true_names, answers, strict=True):
            own_class = next(one for one in classes if name in one)
            rows.append({
                "t": t, "step": name[1], "truth": record.algorithm, "named": answer.word,
                "members": "; ".join(f"{a} {k}" for a, k in sorted(answer.members)), "inside": name in answer.members,
                "scored": len(own_class) == 1, "distance": answer.distance, "own_error": own_error,
            })  # fmt: skip
    return pd.DataFrame(rows)


def confusion(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells by true algorithm (rows) and by what they were called (columns)."""
    order = ["gradient_descent", "chebyshev", "conjugate_gradient", "preconditioned", "class", "none"]
    if "closed_form" in {*cells.truth, *cells.named}:
        order.insert(-2, "closed_form")
    counts = pd.crosstab(cells.truth, cells.named)
    rows = [*(name for name in order if name in counts.index), *(name for name in counts.index if name not in order)]
    return counts.reindex(index=rows, columns=order, fill_value=0)


def summarise(cells: pd.DataFrame) -> str:
    """How many cells are scored, how many of them are right, and how often the truth is inside the named class."""
    scored = cells[cells.scored]
    right = int(scored.inside.sum())
    share = f" ({right / len(scored):.1%})" if len(scored) else ""
    inside = f"{int(cells.inside.sum())} of {len(cells)} ({cells.inside.mean():.1%})"
    return (
        f"{len(scored)} of {len(cells)} cells are scored (their class holds a single step); {right} of these are"
        f" right{share}; the truth is inside the named class in {inside}"
    )
