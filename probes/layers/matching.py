"""Match the readouts of layers with those of solver states, and say how sure the nearest step is.

See `probes.layers.readout` for what is compared. Uncertainty is that of the held-out sequences: they are drawn again
with replacement, the readouts stay as fitted. A step is not distinguishable from the nearest one where the 95 %
interval of the difference of their squared distances, over the same resamples, holds 0, or where the two readouts are
themselves equal up to the ridge. First steps are multiples of x, second ones combinations of x and C_t x, whatever the
solver; third ones of gradient descent and of Chebyshev's method of three steps agree as well, as their polynomials
differ by a multiple of z, z = (L+m)/2 - c, which x and the constant take up (derived); and converged iterates are one.

A small distance alone says little where the layer is near the exact score anyway. `explained` = 1 - distance^2/error^2,
the error being the layer's own against the exact score, is the share of it that the step accounts for: 1 for the step
itself, 0 where the exact score is as near as the step, which then explains nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from probes.layers.iterates import Name, solver_states
from probes.layers.readout import held_out, readout, streams
from probes.resampling import bootstrap_counts
from unrolled.diffusion import sigma
from unrolled.process import GaussianProcess

__all__ = ["RESEMBLES", "Matches", "match_layers", "match_readouts", "state_readouts"]

LEVEL = 0.95
"""Nominal coverage of every interval."""
RESEMBLES = 0.01
"""Share of a layer's squared error below which the nearest step explains none of it."""
ROUNDING = 1e-13
"""Squared distances below this, relative to the score, are rounding of the sums they are computed from."""


@dataclass(frozen=True)
class Matches:
    """What `match_layers` found at one t.

    Attributes:
        table: a row per (layer, solver, step): cosine, distance, and the relative errors of the layer's and of the
            state's readout against the exact score, and the share of the layer's error that is explained, on held-out
            sequences.
        nearest: a row per (layer, solver): the nearest step, its interval low..high, `alike` the steps that are not
            distinguishable from it, at_most where it is the last one looked at, the interval of the explained share;
            `best` where no other solver is nearer, and then `members`, the (solver, step) of equal readouts, and
            `rivals`, the solvers with a step that is not distinguishable from it.
        equal: for each (solver, step), those whose readouts are equal to its own up to the ridge, itself among them.
    """

    table: pd.DataFrame
    nearest: pd.DataFrame
    equal: dict[Name, list[Name]]


def state_readouts(
    process: GaussianProcess, x: Float[Tensor, "n N d"], t: float, blocks: int, most: int, epsilon: float
) -> dict[Name, Float[Tensor, "held N d"]]:
    """Readouts of (x, s_k, mu, 1) to u for every (solver, step) of `probes.layers.iterates.solver_states`."""
    u = sigma(t) * process.score(x.double(), t)
    mean = process.mean.expand(len(x), -1, -1)
    return {
        (solver, step): readout(torch.cat([x.double(), sigma(t) * s, mean], dim=2), u, epsilon)
        for solver, step, s in solver_states(process, x, t, blocks, most)
    }


def match_layers(
    model: torch.nn.Module,
    process: GaussianProcess,
    x: Float[Tensor, "n N d"],
    t: float,
    registers: int = 0,
    most: int = 2000,
    resamples: int = 1000,
    seed: int = 0,
) -> Matches:
    """Match every layer of `model` with every solver at one t.

    Args:
        model: a score model with `blocks`.
        process: whose exact score is the truth.
        x: noisy sequences, half to fit the readouts and half to judge them.
        t: diffusion time.
        registers: tokens of the model before those of the sequence.
        most: most steps of a solver.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InputError: a model without blocks; too few sequences.
    """
    epsilon = torch.finfo(x.dtype).eps
    exact = x.detach().cpu().double()
    u = sigma(t) * process.score(exact, t)
    layers = [readout(stream, u, epsilon) for _, stream in streams(model, x, t, registers)]
    states = state_readouts(process, exact, t, len(layers) - 1, most, epsilon)
    counts = torch.from_numpy(bootstrap_counts(len(layers[0]), resamples, seed))
    return match_readouts(layers, states, u[held_out(len(u))], counts, t, epsilon)


def match_readouts(
    layers: Sequence[Float[Tensor, "held N d"]],
    states: dict[Name, Float[Tensor, "held N d"]],
    u: Float[Tensor, "held N d"],
    counts: Float[Tensor, "resamples held"],
    t: float,
    epsilon: float,
) -> Matches:
    """The same from the readouts on held-out sequences; `counts` from `probes.resampling.bootstrap_counts`."""
    names = list(states)
    truth = u.flatten(1)
    size = truth.square().sum(dim=1)
    ours = torch.stack([layer.flatten(1) - truth for layer in layers], dim=1)  # (held, layers, N d), the errors
    theirs = torch.stack([states[name].flatten(1) - truth for name in names], dim=1)
    a, b = ours.square().sum(dim=2), theirs.square().sum(dim=2)
    inner = ours @ theirs.transpose(1, 2)  # (held, layers, states)
    squares = (a[:, :, None] + b[:, None, :] - 2 * inner).clamp_min(0)
    total = float(size.sum())
    distance = (squares.sum(dim=0) / total).sqrt()
    cosine = inner.sum(dim=0) / (a.sum(dim=0)[:, None] * b.sum(dim=0)).sqrt()
    errors = [(squared.sum(dim=0) / total).sqrt() for squared in (a, b)]
    table = pd.DataFrame([
        {
            "t": t, "layer": layer, "solver": solver, "step": step, "cosine": float(cosine[layer, j]),
            "distance": float(distance[layer, j]), "layer_error": float(errors[0][layer]),
            "state_error": float(errors[1][j]),
            "explained": 1 - float(distance[layer, j] / errors[0][layer]) ** 2 if errors[0][layer] > 0 else math.nan,
        }
        for layer in range(len(layers)) for j, (solver, step) in enumerate(names)
    ])  # fmt: skip
    # Readouts of the states that are equal up to the effect of the ridge.
    flat = theirs.transpose(0, 1).flatten(1)
    gram = flat @ flat.T
    apart = gram.diagonal()[:, None] + gram.diagonal() - 2 * gram
    same = apart <= max(epsilon, ROUNDING) * total
    rows = []
    for layer in range(len(layers)):
        drawn = (counts @ squares[:, layer]).numpy()  # (resamples, states), squared distances
        own = (counts @ a[:, layer]).numpy()[:, None]
        rows += _nearest(names, drawn, own, distance[layer].numpy(), same.numpy(), {"t": t, "layer": layer})
    nearest = pd.DataFrame(rows)
    keys = ["t", "layer", "solver", "step"]
    equal = {name: [names[j] for j in same[k].nonzero().flatten().tolist()] for k, name in enumerate(names)}
    return Matches(table, nearest.merge(table, on=keys, how="left"), equal)


def _nearest(
    names: list[Name], drawn: np.ndarray, own: np.ndarray, distance: np.ndarray, same: np.ndarray, where: dict
) -> list[dict]:
    """The rows of one layer, from resampled squared distances (resamples, states) and own squared errors (resamples,
    1)."""
    tail = (1 - LEVEL) / 2

    def alike(chosen: int) -> np.ndarray:
        low = np.quantile(drawn - drawn[:, [chosen]], tail, axis=0)
        return (low <= 0) | same[chosen]

    best = int(distance.argmin())
    rivals = "; ".join(dict.fromkeys(names[j][0] for j in np.flatnonzero(alike(best))))
    members = "; ".join(f"{names[j][0]} {names[j][1]}" for j in np.flatnonzero(same[best]))
    rows = []
    for solver in dict.fromkeys(name for name, _ in names):
        index = np.array([j for j, (name, _) in enumerate(names) if name == solver])
        steps = np.array([names[j][1] for j in index])
        chosen = int(index[distance[index].argmin()])
        low, high = np.quantile(steps[drawn[:, index].argmin(axis=1)], [tail, 1 - tail], method="inverted_cdf")
        with np.errstate(invalid="ignore"):
            explained = np.quantile(1 - drawn[:, [chosen]] / own, [tail, 1 - tail])
        rows.append({
            **where, "solver": solver, "step": names[chosen][1], "low": int(low), "high": int(high),
            "alike": " ".join(map(str, steps[alike(chosen)[index]])), "at_most": bool(names[chosen][1] == steps.max()),
            "explained_low": float(explained[0]), "explained_high": float(explained[1]), "best": chosen == best,
            "members": members if chosen == best else "", "rivals": rivals if chosen == best else "",
        })  # fmt: skip
    return rows
