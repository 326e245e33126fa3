"""Training by denoising score matching.

The batch of step k is a function of (seed, k) alone. A resumed run therefore continues exactly as the uninterrupted
one, and a run over several processes, each taking its slice of the same batch, equals the run of one up to float error.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from unrolled.checks import InputError
from unrolled.chosen_data import chosen_data
from unrolled.diffusion import denoising_loss
from unrolled.models.dit import DiT, DiTConfig
from unrolled.models.unet import UNet, UNetConfig
from unrolled.options import TrainConfig
from unrolled.series.data import SequenceData, draw_training_set
from unrolled.train.batches import Source, training_batch
from unrolled.train.finite import CHECK_STEPS, EarlyStopping, FiniteSet
from unrolled.train.state import SCHEDULE, require_training_state

__all__ = ["Trainer", "make_data", "make_network"]

COMPILE_STEPS = 2000
"""torch.compile `auto`: runs shorter than this do not earn back its start of about a minute."""


def make_data(config: TrainConfig) -> SequenceData:
    """The Gaussian process or the series that `config` asks for.

    Raises:
        InputError: a file that cannot be used, under the name of the option.
    """
    return chosen_data(config.process, config.data)


def make_network(config: TrainConfig, data: SequenceData) -> DiT | UNet:
    """The network of a run, initialised from its seed."""
    shape: dict[str, Any] = {"length": data.length, "dim": data.dim, "t_range": config.t_range}
    if config.model == "unet":
        network = UNet(UNetConfig(**shape, **asdict(config.unet)))
    else:
        network = DiT(DiTConfig(**shape, **asdict(config.dit)))
    network.reset_parameters(torch.Generator().manual_seed(config.seed))
    return network


class Trainer:
    """Model, averaged weights, optimiser and schedule of one run, stepped by `run`.

    AdamW with a one-cycle learning rate (15 % warm-up, cosine to nearly 0) and gradients clipped to norm 1. The model
    that counts, `result`, is the exponential moving average of the weights; of a run on a finite set, that of the
    lowest held-out loss (see `unrolled.train.finite`).

    Args:
        config: of the run.
        data: what it trains on.
        device: where.
        network: trained in place of that of `config`, for networks that no option describes.
    """

    def __init__(self, config: TrainConfig, data: SequenceData, device: torch.device, network: nn.Module | None = None):
        bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
        self.precision = "bfloat16" if bfloat16 else "float32"
        self.accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="bf16" if bfloat16 else "no")
        self.config, self.data, self.device = config, data, self.accelerator.device
        if config.batch % self.accelerator.num_processes:
            raise InputError(
                f"batch: {config.batch} is not accepted; accepted: a multiple of the"
                f" {self.accelerator.num_processes} processes"
            )
        self.source: Source = data
        self.stopping: EarlyStopping | None = None
        if config.samples is not None:
            drawn = draw_training_set(data, config.samples, config.seed)
            self.source = FiniteSet(drawn.float().to(self.device))
            self.stopping = EarlyStopping(self.source.sequences, data, config, self.device)
        self.model = (network or make_network(config, data)).to(self.device)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.largest_rate, weight_decay=config.weight_decay, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, config.largest_rate, total_steps=config.steps + 1, pct_start=0.15
        )
        if config.compile == "on" or (
            config.compile == "auto" and self.device.type == "cuda" and config.steps >= COMPILE_STEPS
        ):
            self.model.compile()
        self.wrapped, self.optimiser = self.accelerator.prepare(self.model, optimiser)
        self.step = 0
        self.seconds = 0.0
        self._losses: list[Tensor] = []

    @property
    def averaged(self) -> nn.Module:
        """The averaged model."""
        return self.average.module

    @property
    def result(self) -> nn.Module:
        """The model to evaluate and to save."""
        return self.averaged if self.stopping is None or self.stopping.model is None else self.stopping.model

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the rule of a finite set has stopped the run."""
        return self.step >= self.config.steps or (self.stopping is not None and self.stopping.stops(self.step))

    def run(self) -> Iterator[Float[Tensor, ""]]:
        """Train to the end, yielding the loss of every step on this process's slice of the batch."""
        size = self.config.batch // self.accelerator.num_processes
        mine = slice(self.accelerator.process_index * size, (self.accelerator.process_index + 1) * size)
        while not self.finished:
            started = time.perf_counter()
            x0, t, noise = training_batch(self.source, self.config, self.step, self.device)
            loss = denoising_loss(self.wrapped, x0[mine], t[mine], noise[mine]).mean()
            self.optimiser.zero_grad()
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            self.schedule.step()
            self.average.update_parameters(self.model)
            self.step += 1
            if self.stopping is not None and (self.step % CHECK_STEPS == 0 or self.step == self.config.steps):
                self.stopping.check(self.averaged, self.step)
            self.seconds += time.perf_counter() - started
            self._losses.append(loss.detach())
            yield loss.detach()

    def mean_loss(self) -> float:
        """Mean loss of the steps since it was asked for last."""
        mean = float(torch.stack(self._losses).mean())
        self._losses.clear()
        return mean

    def state(self) -> dict[str, Any]:
        """What `load_state` needs, beside `result`, to go on as if nothing had happened."""
        kept = (
            {}
            if self.stopping is None or self.stopping.model is None
            else {"stopping": self.stopping.state(), "averaged": self.averaged.state_dict()}
        )
        return {
            **kept,
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "averaged_steps": int(self.average.n_averaged),
            "losses": torch.stack(self._losses).cpu() if self._losses else torch.zeros(0),
        }

    def load_state(self, state: dict[str, Any], result: nn.Module) -> None:
        """Go on from `state`, `result` being the model that a checkpoint holds.

        Raises:
            InputError: a part of the state that does not fit this run.
            KeyError, RuntimeError: one that is missing, or weights of other shapes.
        """
        require_training_state(state, self.optimiser, self.config.steps)
        self.step, self.seconds = state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict({name: state["schedule"][name] for name in SCHEDULE})
        self.averaged.load_state_dict(state.get("averaged", result.state_dict()))
        if self.stopping is not None and "stopping" in state:
            self.stopping.load_state(state["stopping"], result.to(self.device))
        self.average.n_averaged.fill_(state["averaged_steps"])
        self._losses = list(state.get("losses", torch.zeros(0)).to(self.device))  # absent in files of format 1
