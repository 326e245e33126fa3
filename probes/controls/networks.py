"""Networks that never saw the covariance of a run: random weights, and the same training on other data."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import torch

from unrolled.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from unrolled.checks import InputError
from unrolled.kernels import Exponential, TemporalKernel
from unrolled.models.dit import DiT
from unrolled.models.relu import ReluTransformer
from unrolled.options import TrainConfig, config_from_dict
from unrolled.process import GaussianProcess
from unrolled.provenance import command_line, provenance
from unrolled.train.trainer import Trainer

__all__ = [
    "STRETCH",
    "can_be_retrained",
    "kept_control",
    "other_kernel",
    "train_control",
    "untrained_networks",
    "white_noise",
]

STRETCH = 4.0
"""Factor between the lengthscale of a run and that of a wrong kernel."""


def untrained_networks(checkpoint: Checkpoint, count: int, seed: int) -> Iterator[torch.nn.Module]:
    """`count` networks of the checkpoint's class and sizes, initialised as for training, from seeds of their own."""
    model = cast(DiT | ReluTransformer, checkpoint.model)
    for k in range(count):
        fresh = type(model)(model.config)  # pyright: ignore[reportArgumentType]
        fresh.reset_parameters(torch.Generator().manual_seed(seed + k))
        yield fresh.to(next(model.parameters()).device, checkpoint.dtype).eval()


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


def can_be_retrained(checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint is a training run, whose options can be used again."""
    return bool(checkpoint.training)


def train_control(
    checkpoint: Checkpoint,
    data: GaussianProcess,
    device: torch.device,
    path: Path | None = None,
    progress: Callable[[int, int], object] = lambda step, steps: None,
) -> torch.nn.Module:
    """The network of `checkpoint`, trained with the same options and seed on `data` instead.

    Args:
        checkpoint: of a training run.
        data: what to train on.
        device: where.
        path: a file to keep it in, see `kept_control`.
        progress: called with (step, steps).
    """
    config = cast(TrainConfig, config_from_dict(TrainConfig, checkpoint.config))
    trainer = Trainer(config, data, device)
    for _ in trainer.run():
        progress(trainer.step, config.steps)
    model = trainer.averaged.eval()
    if path is not None:
        record = {**provenance(), "command": command_line(), "seed": config.seed, "seconds": round(trainer.seconds, 1)}
        record |= {"device": str(device), "dtype": trainer.precision, "control": repr(data)}
        save_checkpoint(path, model, data, asdict(config), record, training=trainer.state())
    return model


def kept_control(checkpoint: Checkpoint, data: GaussianProcess, path: Path) -> torch.nn.Module:
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
