"""Networks that never saw the covariance of a run: the same training on white noise and on another kernel."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from probes.decay.fit import fit_decay
from probes.targets import truth_by_lag
from unrolled.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from unrolled.checks import InputError
from unrolled.kernels import Exponential, TemporalKernel
from unrolled.options import train_config
from unrolled.process import GaussianProcess
from unrolled.provenance import command_line, provenance
from unrolled.train.trainer import Trainer

__all__ = [
    "NETWORKS",
    "STRETCH",
    "control_networks",
    "kept_control",
    "other_kernel",
    "train_control",
    "white_noise",
]

NETWORKS: tuple[str, ...] = ("white noise", "other kernel")
"""Names of the network controls, by what they were trained on."""
STRETCH = 4.0
"""Factor between the lengthscale of a run and that of a wrong kernel."""


def white_noise(process: GaussianProcess) -> GaussianProcess:
    """The process with independent frames: Gamma = I, the same Sigma and mean."""
    return GaussianProcess(process.length, torch.eye(process.length), process.spatial_covariance, process.mean)


def other_kernel(process: GaussianProcess, lengthscale: float) -> GaussianProcess:
    """The process with `STRETCH` times the lengthscale; one without a kernel becomes exponential, of `STRETCH` times
    the `lengthscale` that was fitted to it."""
    if isinstance(process.temporal, TemporalKernel):
        kernel = replace(process.temporal, lengthscale=STRETCH * process.temporal.lengthscale)
    else:
        kernel = Exponential(STRETCH * lengthscale)
    return GaussianProcess(process.length, kernel, process.spatial_covariance, process.mean)


def train_control(
    checkpoint: Checkpoint,
    data: GaussianProcess,
    device: torch.device,
    path: Path | None = None,
    progress: Callable[[int, int], object] = lambda step, steps: None,
) -> nn.Module:
    """The network of `checkpoint`, trained with the same options and seed on `data` instead.

    Args:
        checkpoint: of a training run.
        data: what to train on.
        device: where.
        path: a file to keep it in, see `kept_control`.
        progress: called with (step, steps).
    """
    config = train_config(checkpoint.config)
    trainer = Trainer(config, data, device)
    for _ in trainer.run():
        progress(trainer.step, config.steps)
    model = trainer.result.eval()
    if path is not None:
        record = {**provenance(), "command": command_line(), "seed": config.seed, "seconds": round(trainer.seconds, 1)}
        record |= {"device": str(device), "dtype": trainer.precision, "control": repr(data)}
        save_checkpoint(path, model, data, asdict(config), record, training=trainer.state())
    return model


def kept_control(checkpoint: Checkpoint, data: GaussianProcess, path: Path) -> nn.Module:
    """The network that `train_control` kept at `path`.

    Raises:
        InputError: a file of a run with other options or on other data.
    """
    kept = load_checkpoint(path, "out")
    if kept.config != checkpoint.config or not _same_process(kept.data, data):
        raise InputError(f"out: {str(path)!r} holds another run; accepted: a folder without it")
    return kept.model


def _same_process(kept: object, data: GaussianProcess) -> bool:
    return isinstance(kept, GaussianProcess) and all(
        torch.equal(a, b)
        for a, b in (
            (kept.temporal_covariance, data.temporal_covariance),
            (kept.spatial_covariance, data.spatial_covariance),
            (kept.mean, data.mean),
        )
    )


def control_networks(
    checkpoint: Checkpoint,
    given: Mapping[str, Path],
    times: list[float],
    out: Path | None,
    device: torch.device,
    progress: Callable[[int, int], object] = lambda step, steps: None,
) -> dict[str, nn.Module]:
    """The networks trained on white noise and on another kernel.

    A network whose file is given is read. The rest are trained if the checkpoint is a training run.

    Args:
        checkpoint: the run they are controls of.
        given: files, by a name in `NETWORKS`.
        times: diffusion times that every network must accept.
        out: folder that trained networks are kept in, and read from if they are there already.
        device: where they are trained, and where all of them are in the end.
        progress: called with (step, steps) after each step, counted over all trainings together.

    Raises:
        InputError: a file of a network for other sequences, registers or times, or trained on something else; a folder
            `out` with control networks of another run.
    """
    process = checkpoint.process
    # Bad files are refused before anything is trained.
    networks = {name: _given_network(checkpoint, path, name, times).to(device) for name, path in given.items()}
    lengthscale = 1.0
    if not checkpoint.exact:
        truth = truth_by_lag(process)
        lengthscale = fit_decay(np.arange(len(truth)), truth).lengthscale
    processes = dict(zip(NETWORKS, (white_noise(process), other_kernel(process, lengthscale)), strict=True))
    missing = [name for name in NETWORKS if name not in networks] if checkpoint.training else []
    files = {name: out / f"{name.replace(' ', '_')}.pt" for name in missing} if out is not None else {}
    for name in missing:
        if name in files and files[name].exists():
            networks[name] = kept_control(checkpoint, processes[name], files[name]).to(device)
    rest = [name for name in missing if name not in networks]
    for k, name in enumerate(rest):
        networks[name] = train_control(
            checkpoint, processes[name], device, files.get(name),
            lambda step, steps, before=k: progress(before * steps + step, len(rest) * steps),
        )  # fmt: skip
    return networks


def _given_network(checkpoint: Checkpoint, path: Path, name: str, times: list[float]) -> nn.Module:
    argument = name.replace(" ", "_")
    other = load_checkpoint(path, argument)
    shapes = [(run.data.length, run.data.dim, run.registers) for run in (other, checkpoint)]
    if shapes[0] != shapes[1]:
        given, accepted = (f"{n} frames of {d} values with {registers} registers" for n, d, registers in shapes)
        raise InputError(f"{argument}: it is made for {given}; accepted: {accepted}")
    low, high = other.t_range
    if not all(low <= t <= high for t in times):
        raise InputError(f"{argument}: it accepts t in [{low:g}, {high:g}]; accepted: one that accepts {times}")
    ours, theirs = checkpoint.process, other.process
    white = bool((theirs.temporal_covariance - torch.eye(theirs.length)).abs().max() < 1e-6)
    if not torch.allclose(ours.spatial_covariance, theirs.spatial_covariance, atol=1e-6) or white != (
        name == "white noise"
    ):
        kind = "white noise" if name == "white noise" else "a kernel that is not white noise"
        raise InputError(f"{argument}: it was trained on {theirs}; accepted: {kind}, with the Sigma of the checkpoint")
    if torch.allclose(ours.temporal_covariance, theirs.temporal_covariance, atol=1e-6):
        raise InputError(f"{argument}: it was trained on the covariance of the checkpoint; accepted: another one")
    return other.model.to(checkpoint.dtype)
