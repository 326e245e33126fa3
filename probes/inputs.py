"""What a study of a checkpoint runs: noisy sequences X_t of its data, its network, and fresh networks of its sizes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar, cast

import torch
from jaxtyping import Float
from torch import nn

from unrolled.checkpoint import Checkpoint, load_checkpoint
from unrolled.checks import InputError
from unrolled.cli import resolve_device
from unrolled.diffusion import add_noise
from unrolled.evaluate import chosen_times
from unrolled.models.dit import DiT
from unrolled.models.relu import ReluTransformer

__all__ = ["double_copy", "has_attention", "noisy_batches", "open_run", "open_transformer", "untrained_networks"]

Network = TypeVar("Network", bound=DiT | ReluTransformer)


def has_attention(checkpoint: Checkpoint) -> bool:
    """Whether the model is of a class with layers of attention, which the probes look at."""
    return isinstance(checkpoint.model, DiT | ReluTransformer)


def double_copy(model: Network, device: torch.device) -> Network:
    """A float64 copy of a transformer in evaluation mode, on `device`; the checkpoint keeps its own."""
    copy = type(model)(model.config).double()  # pyright: ignore[reportArgumentType]
    copy.load_state_dict(model.state_dict())
    return copy.to(device).eval()


def open_run(ckpt: Path, t: Sequence[float], device: str) -> tuple[Checkpoint, list[float], torch.device]:
    """The checkpoint that a command looks at, the diffusion times, and the device.

    Raises:
        InputError: a file that is no checkpoint, a time that its model does not accept, or a device that is not there.
    """
    if ckpt.is_dir():
        raise InputError(
            f"ckpt: {str(ckpt)!r} is a folder; accepted: a checkpoint file (folders of diffusers belong to"
            " python -m probes.video)"
        )
    checkpoint = load_checkpoint(ckpt)
    return checkpoint, chosen_times(t, checkpoint.t_range), resolve_device(device)


def open_transformer(ckpt: Path, t: Sequence[float], device: str) -> tuple[Checkpoint, list[float], torch.device]:
    """The same for a command that looks at attention.

    Raises:
        InputError: a model without attention, and what `open_run` refuses.
    """
    checkpoint, times, target = open_run(ckpt, t, device)
    if not has_attention(checkpoint):
        raise InputError(
            f"ckpt: {str(ckpt)!r} holds a {type(checkpoint.model).__name__}, which has no attention; accepted: a DiT or"
            " a ReluTransformer (python -m probes.modes and reports.compare take every model)"
        )
    return checkpoint, times, target


def noisy_batches(
    checkpoint: Checkpoint, t: float, samples: int, batch: int, seed: int, device: torch.device
) -> Iterator[Float[torch.Tensor, "batch N d"]]:
    """X_t of fresh samples of the process, or of held-out windows, in the dtype of the model."""
    generator = torch.Generator().manual_seed(seed)
    for first in range(0, samples, batch):
        x0 = checkpoint.data.sample_held_out(min(batch, samples - first), generator)
        noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
        yield add_noise(x0, t, noise).to(device, checkpoint.dtype)


def untrained_networks(checkpoint: Checkpoint, count: int, seed: int) -> Iterator[nn.Module]:
    """`count` networks of the checkpoint's class and sizes, initialised as for training, each from its own seed."""
    model = cast(DiT | ReluTransformer, checkpoint.model)
    for k in range(count):
        fresh = type(model)(model.config)  # pyright: ignore[reportArgumentType]
        fresh.reset_parameters(torch.Generator().manual_seed(seed + k))
        yield fresh.to(next(model.parameters()).device, checkpoint.dtype).eval()
