"""All controls of one checkpoint, run on the same noisy sequences: what the heads match, and what the controls do."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.capture.by_lag import attention_by_lag
from probes.capture.lags import folded_pairs
from probes.controls.comparison import (
    LEAST_SEQUENCES,
    compare_heads,
    folded_profiles,
    has_shape,
    match,
    moved_attention,
    untrained_p_values,
)
from probes.controls.networks import STRETCH
from probes.inputs import noisy_batches, untrained_networks
from probes.targets import fit_lag_count, inverse_by_lag, truth_by_lag
from unrolled.checkpoint import Checkpoint
from unrolled.checks import require_integer
from unrolled.kernels import TemporalKernel
from unrolled.process import GaussianProcess

__all__ = ["study_controls"]

Heads = dict[tuple[int, int], np.ndarray]
"""(layer, head) -> profile of every sequence, see `folded_profiles`."""
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
    if not isinstance(process.temporal, TemporalKernel):  # interpolation of an estimate may be slightly indefinite
        values, vectors = torch.linalg.eigh(gamma)
        gamma = (vectors * values.clamp_min(0)) @ vectors.T
        gamma = (gamma + gamma.T) / 2
    return GaussianProcess(n, gamma, process.spatial_covariance, process.mean)


def _shuffled(x: Tensor, generator: torch.Generator) -> Tensor:
    """The frames of each sequence in an order of its own."""
    order = torch.rand(x.shape[:2], generator=generator).argsort(dim=1).to(x.device)
    return x.gather(1, order[..., None].expand_as(x))


@dataclass(frozen=True)
class _Profiles:
    """Profiles at one t, (layer, head) -> (sequences, N), of everything that is compared.

    Attributes:
        heads: of the network.
        inputs: of the same heads on each control input.
        others: of each network control.
        untrained: of each untrained network.
    """

    heads: Heads
    inputs: dict[str, Heads]
    others: dict[str, Heads]
    untrained: list[Heads]


def _profiles(
    batches: Sequence[Tensor],
    run: Callable[[nn.Module, Sequence[Tensor]], Heads],
    model: nn.Module,
    networks: Mapping[str, nn.Module],
    untrained: Iterable[nn.Module],
    seed: int,
) -> _Profiles:
    """Run everything on the noisy sequences in `batches`, by `run`."""
    heads = run(model, batches)
    alone = run(model, [torch.zeros_like(batches[0][:1])])
    generator = torch.Generator().manual_seed(seed)
    shuffled = run(model, [_shuffled(x, generator) for x in batches])
    # A head of a ReluTransformer may see nothing on another input.
    nothing = np.zeros_like(next(iter(heads.values())))
    inputs = {
        "position code only": {head: alone.get(head, nothing[:1]).repeat(len(nothing), axis=0) for head in heads},
        "shuffled frames": {head: shuffled.get(head, nothing) for head in heads},
    }
    others = {name: run(network, batches) for name, network in networks.items()}
    few = torch.cat(list(batches))[:UNTRAINED_SEQUENCES].split(len(batches[0]))
    return _Profiles(heads, inputs, others, [run(network, few) for network in untrained])


def _compare(
    profiles: _Profiles, target: _Target, weights: Float[np.ndarray, " lags"], seed: int
) -> Iterator[tuple[str, pd.DataFrame]]:
    """(control, table of its comparison) for each control, on the lags of `weights` from the target's first on."""
    lags, rng = slice(target.first, len(weights)), np.random.default_rng(seed)
    goal, weights = target.values[lags], weights[lags]

    def cut(heads: Heads) -> Heads:
        return {head: sequences[:, lags] for head, sequences in heads.items()}

    ours = cut(profiles.heads)
    for control, heads in profiles.inputs.items():
        moved = [moved_attention(sequences, heads[head]) for head, sequences in profiles.heads.items()]
        yield control, compare_heads(ours, goal, weights, rng, same_head=cut(heads)).assign(moved=moved)
    for control, heads in profiles.others.items():
        yield control, compare_heads(ours, goal, weights, rng, best_of=cut(heads))
    wrong = [values for values in target.wrong[:, lags] if has_shape(values, weights)]
    if wrong:
        yield "wrong kernel", compare_heads(ours, goal, weights, rng, wrong_targets=np.stack(wrong))
    best = np.array([
        max((float(match(sequences.mean(axis=0), goal, weights)) for sequences in cut(heads).values()), default=0.0)
        for heads in profiles.untrained
    ])  # fmt: skip
    yield "untrained", untrained_p_values(ours, best, goal, weights)


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
    require_integer("samples", samples, LEAST_SEQUENCES)
    device = device or torch.device("cpu")
    model, process = checkpoint.model.to(device), checkpoint.process
    weights = folded_pairs(process.length)[: fit_lag_count(process.length)]
    tables: list[pd.DataFrame] = []
    for t in times:

        def run(network: nn.Module, batches: Sequence[Tensor], t: float = t) -> Heads:
            heads = folded_profiles(attention_by_lag(network, batches, t, checkpoint.registers))
            progress()
            return heads

        batches = list(noisy_batches(checkpoint, t, samples, batch, seed, device))
        fresh = untrained_networks(checkpoint, untrained, seed)
        profiles = _profiles(batches, run, model, networks, fresh, seed)
        for name, target in _targets(process, t, len(weights)).items():
            if has_shape(target.values[target.first :], weights[target.first :]):
                compared = _compare(profiles, target, weights, seed)
                tables += [table.assign(t=t, target=name, control=control) for control, table in compared]
    return pd.concat(tables, ignore_index=True)
