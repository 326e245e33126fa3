"""All controls of one checkpoint, run on the same noisy sequences: what the heads match, and what the controls do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from probes.attention.study import fit_lag_count, inverse_by_lag, noisy_batches, truth_by_lag
from probes.capture.by_lag import attention_by_lag
from probes.controls.comparison import (
    LEAST_SEQUENCES,
    compare_heads,
    folded_profiles,
    has_shape,
    match,
    moved_attention,
    untrained_p_values,
)
from probes.controls.networks import STRETCH, untrained_networks
from probes.decay.fit import fold_lags
from unrolled.checkpoint import Checkpoint
from unrolled.checks import InputError
from unrolled.kernels import TemporalKernel
from unrolled.process import GaussianProcess

__all__ = ["TARGETS", "study_controls"]

TARGETS = ("covariance", "prediction")
UNTRAINED_SEQUENCES = 64
"""Behind the mean profile of each untrained network, whose attention depends little on the data."""


@dataclass(frozen=True)
class _Target:
    """What heads are matched with: values by lag, the wrong ones beside it, and the first lag that counts."""

    values: np.ndarray
    wrong: np.ndarray
    first: int


def _targets(process: GaussianProcess, t: float, lags: int) -> dict[str, _Target]:
    """By name; the wrong ones are of the process with its lags stretched and shrunk by `STRETCH`."""
    stretched = [_stretched(process, factor) for factor in (STRETCH, 1 / STRETCH)]
    return {
        "covariance": _Target(truth_by_lag(process)[:lags], np.stack([truth_by_lag(p)[:lags] for p in stretched]), 0),
        "prediction": _Target(
            -inverse_by_lag(process, t)[:lags], np.stack([-inverse_by_lag(p, t)[:lags] for p in stretched]), 1
        ),
    }


def _stretched(process: GaussianProcess, factor: float) -> GaussianProcess:
    """The process whose gamma(lag) is gamma(lag/factor), between lags and beyond the last by interpolation for a
    matrix."""
    n = process.length
    if isinstance(process.temporal, TemporalKernel):
        matrix = process.temporal(torch.arange(n) / factor)
    else:
        truth = truth_by_lag(process)
        matrix = torch.as_tensor(np.interp(np.arange(n) / factor, np.arange(n), truth, right=float(truth[-1])))
    position = torch.arange(n)
    gamma = matrix[(position[:, None] - position[None, :]).abs()]
    if not isinstance(
        process.temporal, TemporalKernel
    ):  # interpolation of an estimate may leave it slightly indefinite
        values, vectors = torch.linalg.eigh(gamma)
        gamma = (vectors * values.clamp_min(0)) @ vectors.T
        gamma = (gamma + gamma.T) / 2
    return GaussianProcess(n, gamma, process.spatial_covariance, process.mean)


def _shuffled(x: Tensor, generator: torch.Generator) -> Tensor:
    """The frames of each sequence in an order of its own."""
    order = torch.rand(x.shape[:2], generator=generator).argsort(dim=1).to(x.device)
    return x.gather(1, order[..., None].expand_as(x))


def study_controls(
    checkpoint: Checkpoint,
    times: Sequence[float],
    networks: Mapping[str, nn.Module],
    samples: int = 256,
    batch: int = 64,
    seed: int = 0,
    untrained: int = 199,
    device: torch.device | None = None,
    progress: Callable[[], object] = lambda: None,
) -> pd.DataFrame:
    """One row per (t, target, control, layer, head), see `probes.controls.comparison`.

    Columns: r and r_control, q with its 95 % interval q_low, q_high, p and p_corrected; `moved`, the attention that an
    input control moves to other lags.

    Args:
        checkpoint: the model and its data.
        times: diffusion times.
        networks: name of a network control -> the network, on `device`.
        samples: sequences.
        batch: sequences per forward pass.
        seed: of sequences, noise, shuffles, bootstrap and untrained weights.
        untrained: networks of random weights; the smallest p-value against them is 1/(1 + untrained).
        device: where the models run.
        progress: called after each forward study, `untrained` + 3 + len(networks) times for each t.

    Targets that do not vary over lags, such as the prediction weights of white noise, are left out.

    Raises:
        InputError: fewer than `LEAST_SEQUENCES` samples.
    """
    if samples < LEAST_SEQUENCES:
        raise InputError(f"samples: {samples} is not accepted with controls; accepted: an integer >= {LEAST_SEQUENCES}")
    device = device or torch.device("cpu")
    model, registers, process = checkpoint.model.to(device), checkpoint.registers, checkpoint.process
    lags = fit_lag_count(process.length)
    all_weights = fold_lags(np.zeros(2 * process.length - 1))[2][:lags]
    tables: list[pd.DataFrame] = []
    for t in times:
        batches = list(noisy_batches(checkpoint, t, samples, batch, seed, device))

        def profiles(network: nn.Module, inputs: Sequence[Tensor], t: float = t) -> dict[tuple[int, int], np.ndarray]:
            found = folded_profiles(attention_by_lag(network, inputs, t, registers))
            progress()
            return found

        heads = profiles(model, batches)
        nothing = np.zeros((samples, process.length))
        alone = profiles(model, [torch.zeros_like(batches[0][:1])])
        generator = torch.Generator().manual_seed(seed)
        shuffled = profiles(model, [_shuffled(x, generator) for x in batches])
        # A head of a ReluTransformer may see nothing on another input.
        inputs = {
            "position code only": {head: alone.get(head, nothing[:1]).repeat(samples, axis=0) for head in heads},
            "shuffled frames": {head: shuffled.get(head, nothing) for head in heads},
        }
        others = {name: profiles(network, batches) for name, network in networks.items()}
        few = torch.cat(batches)[:UNTRAINED_SEQUENCES].split(batch)
        fresh = [profiles(network, few) for network in untrained_networks(checkpoint, untrained, seed)]
        for name, target in _targets(process, t, lags).items():
            goal, weights = target.values[target.first :], all_weights[target.first :]
            if not has_shape(goal, weights):
                continue

            def shown(each: Mapping, first: int = target.first) -> dict[tuple[int, int], np.ndarray]:
                return {head: profile[:, first:lags] for head, profile in each.items()}

            def add(table: pd.DataFrame, control: str, t: float = t, name: str = name) -> None:
                tables.append(table.assign(t=t, target=name, control=control))

            rng = np.random.default_rng(seed)
            for control, other in inputs.items():
                table = compare_heads(shown(heads), goal, weights, rng, same_head=shown(other))
                moved = [moved_attention(heads[head], other[head]) for head in heads]
                add(table.assign(moved=moved), control)
            for control, other in others.items():
                add(compare_heads(shown(heads), goal, weights, rng, best_of=shown(other)), control)
            wrong = [each for each in target.wrong[:, target.first :] if has_shape(each, weights)]
            if wrong:
                add(compare_heads(shown(heads), goal, weights, rng, wrong_targets=np.stack(wrong)), "wrong kernel")
            best = np.array([
                max((float(match(p.mean(axis=0), goal, weights)) for p in shown(each).values()), default=0.0)
                for each in fresh
            ])  # fmt: skip
            add(untrained_p_values(shown(heads), best, goal, weights), "untrained")
    return pd.concat(tables, ignore_index=True)
