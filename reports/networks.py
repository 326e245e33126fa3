"""Networks that experiments train: one run of `unrolled.train`, kept in memory."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import nn

from unrolled.checkpoint import Checkpoint
from unrolled.models.dit import DiT, DiTConfig
from unrolled.options import train_config
from unrolled.process import GaussianProcess
from unrolled.series.data import SequenceData
from unrolled.train.trainer import Trainer, make_data

__all__ = ["parameter_count", "trained_network", "trained_on"]


def trained_network(
    options: dict[str, Any], make: Callable[[DiTConfig, torch.Generator], DiT] | None = None
) -> tuple[Checkpoint, float]:
    """The network of a training run on the CPU, as `python -m unrolled.train` would save it.

    Args:
        options: fields of `TrainConfig` as plain values, on a Gaussian process.
        make: makes the network from its sizes and a generator of its first weights, in place of a DiT.

    Returns:
        The checkpoint without the state of its training, and the seconds of processor time that the training took. Of a
        run that diverges it is the network with weights that are not finite.

    Raises:
        InputError: options that a run refuses.
    """
    config = train_config(options)
    process = cast(GaussianProcess, make_data(config))
    model, seconds = trained_on(process, options, make)
    return Checkpoint(model, process, asdict(config), {}, [], {}), seconds


def trained_on(
    data: SequenceData, options: dict[str, Any], make: Callable[[DiTConfig, torch.Generator], DiT] | None = None
) -> tuple[nn.Module, float]:
    """The network of a training run on any data, and the seconds of processor time that it took; see above.

    Args:
        data: what it trains on, whatever `options` say of data.
        options: fields of `TrainConfig` as plain values.
        make: see above.
    """
    config, network = train_config(options), None
    if make is not None:
        sizes = DiTConfig(length=data.length, dim=data.dim, t_range=config.t_range, **asdict(config.dit))
        network = make(sizes, torch.Generator().manual_seed(config.seed))
    trainer, start = Trainer(config, data, torch.device("cpu"), network), time.process_time()
    for loss in trainer.run():
        if not torch.isfinite(loss):
            break
    return trainer.result.eval(), time.process_time() - start


def parameter_count(model: nn.Module) -> int:
    """Trainable numbers of a model."""
    return sum(weight.numel() for weight in model.parameters())
