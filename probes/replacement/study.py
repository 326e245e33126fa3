"""The replacement study of one DiT: what every stand-in costs at several t, and the paths of the network made linear.

Means are taken over the first half of the sequences, errors over the second. A change is the relative score error with
a stand-in minus that of the network on the same sequences; its interval is a 95 % bootstrap interval over these. The
means are held fixed in it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.inputs import double_copy, noisy_batches
from probes.replacement.explicit import BATCH, Parts, batched_score
from probes.replacement.laws import AffineScore, best_affine, kl_by_time, sampler_grid
from probes.replacement.means import Means, network_means
from probes.replacement.paths import path_tables
from probes.replacement.stand_ins import Replaced, StandIn, head_stand_ins, part_stand_ins, plain_stand_ins
from probes.resampling import bootstrap_counts
from unrolled.checkpoint import Checkpoint
from unrolled.checks import InputError, refuse
from unrolled.diffusion import relative_error
from unrolled.generated import affine_score
from unrolled.models.dit import DiT

__all__ = ["MOST_HEADS", "MOST_VALUES", "ReplacementStudy", "study_replacement"]

RESAMPLES = 1000
"""Resamples behind every interval."""
MOST_VALUES = 256
"""Largest N d for which dense operators of a sequence are formed: laws, the best affine map, and paths."""
MOST_HEADS = 64
"""A model with more heads has them replaced all at once, and not one at a time."""
SEQUENCES_PER_VALUE = 8
"""Sequences behind the best affine map for each of the N d values."""
ROUNDING = 2.0**14
"""Machine epsilons by which the rebuilt forward pass may differ from the model's own in float64, relative to its
size."""


@dataclass(frozen=True)
class ReplacementStudy:
    """What `study_replacement` found.

    Attributes:
        table: columns t, stand_in, layer, head, error, change, low, high, kl. stand_in is "network", a name of
            `probes.replacement.stand_ins`, "affine", the best affine map, or "exact", the exact score. layer and head
            are -1 for all of them at once. kl is NaN where no exact law is known.
        paths: see `probes.replacement.paths`; empty for sequences of more than `MOST_VALUES` values.
        influence: see there.
        reference: the t whose mean maps stand in at every t.
        deviation: largest relative deviation of the rebuilt forward pass from the model's own, in its dtype.
    """

    table: pd.DataFrame
    paths: pd.DataFrame
    influence: pd.DataFrame
    reference: float
    deviation: float


class _Study:
    """One checkpoint with its sequences: what the parts of a study share."""

    def __init__(self, checkpoint: Checkpoint, samples: int, seed: int, device: torch.device):
        model = checkpoint.model
        if not isinstance(model, DiT) or model.config.depth == 0:
            refuse("ckpt", type(model).__name__, "a checkpoint of a DiT with at least one block")
        self.checkpoint, self.samples, self.seed, self.device = checkpoint, samples, seed, device
        self.model, self.double = cast(DiT, model.to(device)), double_copy(cast(DiT, model), device)
        self.affine = self.model.construction is not None and not isinstance(self.model.head.norm, nn.LayerNorm)
        self.by_head = self.model.config.depth * self.model.config.heads <= MOST_HEADS
        self.small = checkpoint.process.length * checkpoint.process.dim <= MOST_VALUES

    def noisy(self, t: float, samples: int, seed: int) -> Float[Tensor, "n N d"]:
        return torch.cat(list(noisy_batches(self.checkpoint, t, samples, BATCH, seed, self.device)))

    def halves(self, t: float) -> tuple[Float[Tensor, "fit N d"], Float[Tensor, "judged N d"]]:
        """Sequences for the means, and sequences for the errors."""
        x = self.noisy(t, self.samples, self.seed)
        return x[: self.samples // 2], x[self.samples // 2 :]

    def means(self, t: float) -> Means:
        """In float64."""
        return network_means(self.double, self.halves(t)[0].double(), t)

    def best_affine(self, t: float) -> tuple[Tensor, Tensor]:
        """(W, w) of the network, from sequences of their own."""
        process = self.checkpoint.process
        x = self.noisy(t, SEQUENCES_PER_VALUE * process.length * process.dim, self.seed + 1)
        with torch.no_grad():
            score = torch.cat([self.model(part, t) for part in x.split(BATCH)])
        return best_affine(process, x.cpu(), score.cpu(), t)

    def deviation(self, t: float) -> float:
        """Relative deviation of the rebuilt forward pass from the model's own, in its dtype; refused where float64 has
        one."""
        x = self.halves(t)[1][:4]
        found = []
        for model, inputs in ((self.model, x), (self.double, x.double())):
            with torch.no_grad():
                found.append(relative_error(batched_score(model, inputs, t, Parts(model)), model(inputs, t)))
        if not found[1] <= ROUNDING * torch.finfo(torch.float64).eps:
            raise InputError(
                f"ckpt: the forward pass of its {type(self.model).__name__} differs by {found[1]:.2g} from the one that"
                " this probe rebuilds; accepted: a DiT of this project"
            )
        return found[0]

    def affine_maps(self, t: float) -> dict[str, tuple[Tensor, Tensor]]:
        """(A_t, b_t) of the exact score, of the stand-ins that are affine in x, and of the best affine map."""
        process, means = self.checkpoint.process, self.means(t)
        stand_ins = {"linear": part_stand_ins(means)["linear"]}
        if self.affine:
            stand_ins |= {"network": StandIn(), **plain_stand_ins(means)}

        def matrices(score: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
            return affine_score(lambda x, _: score(x.to(self.device)).cpu(), process.length, process.dim, t)

        maps = {"exact": matrices(lambda x: process.score(x, t))}
        for name, stand_in in stand_ins.items():
            parts = Replaced(self.double, stand_in)
            maps[name] = matrices(lambda x, parts=parts: batched_score(self.double, x, t, parts))
        return maps | {"affine": maps["network"] if self.affine else self.best_affine(t)}


def _one_by_one(
    means: Means, reference: Means, registers: int, by_head: bool
) -> Iterator[tuple[str, int, int, StandIn]]:
    """(name, layer, head, stand-in), everything at once first; -1 for all layers or heads."""
    yield "network", -1, -1, StandIn()
    heads = head_stand_ins(means, reference, registers)
    for name, stand_in in {**heads, **part_stand_ins(means)}.items():
        yield name, -1, -1, stand_in
    for layer, activation in enumerate(means.activations):
        yield "mlp", layer, -1, StandIn(activations={layer: activation})
    if by_head:
        for layer, head in np.ndindex(*means.maps.shape[:2]):
            for name, stand_in in heads.items():
                yield name, layer, head, stand_in.only(layer, head)


def _rows(study: _Study, t: float, reference: Means, affine: dict[str, AffineScore]) -> list[dict]:
    """The rows of one t, without their KL."""
    fit, judged = study.halves(t)
    exact = study.checkpoint.process.score(judged.double(), t)
    counts = bootstrap_counts(len(judged), RESAMPLES, study.seed)

    def squares(values: Tensor) -> np.ndarray:
        return values.double().square().sum(dim=(1, 2)).cpu().numpy()

    def relative(errors: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.sqrt(weights @ errors / (weights @ size))

    size, whole = squares(exact), np.ones((1, len(judged)))
    rows: list[dict] = []

    def add(name: str, layer: int, head: int, score: Tensor) -> None:
        errors = squares(score.double() - exact)
        error, drawn = float(relative(errors, whole)[0]), relative(errors, counts)
        own, own_drawn = (rows[0]["error"], own_draws[0]) if rows else (error, drawn)
        own_draws.append(drawn)
        low, high = np.quantile(drawn - own_drawn, [0.025, 0.975])
        rows.append({
            "t": t, "stand_in": name, "layer": layer, "head": head, "error": error, "change": error - own,
            "low": float(low), "high": float(high),
        })  # fmt: skip

    own_draws: list[np.ndarray] = []
    means = network_means(study.model, fit, t)
    for name, layer, head, stand_in in _one_by_one(means, reference, study.model.config.registers, study.by_head):
        add(name, layer, head, batched_score(study.model, judged, t, Replaced(study.model, stand_in)))
    if affine:
        add("affine", -1, -1, affine["affine"](judged.cpu(), t).to(exact))
        add("exact", -1, -1, exact)
    return rows


def study_replacement(
    checkpoint: Checkpoint,
    times: Sequence[float],
    samples: int = 256,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> ReplacementStudy:
    """Replace the parts of a DiT by ever simpler ones at each t, and split the linear network into paths.

    Args:
        checkpoint: of a DiT, trained or hand-set.
        times: diffusion times that it accepts, ascending. The middle one is the reference.
        samples: sequences, at least 4.
        seed: of the sequences, their noise and the bootstrap.
        device: where the model runs; the CPU where not given.
        progress: called with the steps of work that are done and their total.

    Raises:
        InputError: a model that is no DiT with blocks, or one whose forward pass is not that of this project's DiT.
    """
    study = _Study(checkpoint, samples, seed, device or torch.device("cpu"))
    grid = sampler_grid(checkpoint.t_range, times) if study.small else []
    middle = times[len(times) // 2]
    reference = network_means(study.model, study.halves(middle)[0], middle)
    deviation = max(study.deviation(t) for t in times)
    maps: dict[str, dict[float, tuple[Tensor, Tensor]]] = {}
    for k, t in enumerate(grid):
        for name, matrices in study.affine_maps(t).items():
            maps.setdefault(name, {})[t] = matrices
        progress(k + 1, len(grid) + 3 * len(times))
    affine = {name: AffineScore(known) for name, known in maps.items()}
    kl = {name: kl_by_time(score, checkpoint.process, grid, times) for name, score in affine.items()}
    rows: list[dict] = []
    paths: list[pd.DataFrame] = []
    influence: list[pd.DataFrame] = []
    for k, t in enumerate(times):
        rows += _rows(study, t, reference, affine)
        if study.small:
            of_orders, by_lag = path_tables(study.double, checkpoint.process, study.means(t), t, study.by_head)
            paths.append(of_orders)
            influence.append(by_lag)
        progress(len(grid) + 3 * (k + 1), len(grid) + 3 * len(times))
    for row in rows:
        at_once = row["layer"] < 0 and row["stand_in"] in kl
        row["kl"] = kl[row["stand_in"]][row["t"]] if at_once else math.nan
    joined = [pd.concat(tables, ignore_index=True) if tables else pd.DataFrame() for tables in (paths, influence)]
    return ReplacementStudy(pd.DataFrame(rows), joined[0], joined[1], middle, deviation)
