"""Training on a finite set of sequences, and when it stops.

The rule is the same for every network. Every `CHECK_STEPS` steps the averaged weights are judged by their denoising
loss on held-out sequences, always with the same noise at the same diffusion times. The run keeps the weights of the
lowest loss, and it stops when those are older than a fifth of all its steps, but at least `PATIENCE` checks.
"""

import copy
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unrolled.diffusion import denoising_loss
from unrolled.options import TrainConfig
from unrolled.series.data import SequenceData
from unrolled.train.batches import Batch, generator_of, noisy_pairs

__all__ = ["CHECK_STEPS", "EarlyStopping", "FiniteSet"]

CHECK_STEPS = 100
"""Steps between two checks."""
PATIENCE = 5
"""Fewest checks without a lower loss after which a run stops."""
HELD_OUT = 512
"""Sequences behind a loss."""
STREAM = (0, 1)
"""Beside the seed of a run, what its held-out sequences and the noise of its checks are drawn from."""


class FiniteSet:
    """Sequences that were drawn once; a batch takes some of them at random, all equally likely."""

    def __init__(self, sequences: Float[Tensor, "n N d"]):
        self.sequences = sequences

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` of the sequences, with replacement, on the device they are on."""
        pick = torch.randint(len(self.sequences), (n,), generator=generator, device=self.sequences.device)
        return self.sequences[pick]


class EarlyStopping:
    """Judges the averaged weights of a run and keeps the best.

    Args:
        training: the training sequences, of which `HELD_OUT` (a smaller set is repeated) are judged too, to show what
            was learned by heart.
        data: draws the held-out sequences.
        config: the options of the run.
        device: of the networks.

    Attributes:
        model: the averaged model of the lowest held-out loss; None before the first check.
        step: the step it is from.
        losses: denoising losses of the last check, by the name of the set.
    """

    def __init__(self, training: Float[Tensor, "n N d"], data: SequenceData, config: TrainConfig, device: torch.device):
        generator = generator_of((config.seed, *STREAM), torch.device("cpu"))
        some = training.cpu()[torch.arange(HELD_OUT) % len(training)]
        sets = {"held-out loss": data.sample_held_out(HELD_OUT, generator), "training loss": some}
        self._sets: dict[str, list[Batch]] = {}
        for name, x0 in sets.items():
            whole = [part.to(device) for part in noisy_pairs(x0.float(), config.t_range, generator)]
            parts = [part.split(config.batch) for part in whole]
            self._sets[name] = list(zip(*parts, strict=True))
        self.patience = max(config.steps // 5, PATIENCE * CHECK_STEPS)
        self.model: nn.Module | None = None
        self.step = 0
        self.losses: dict[str, float] = {}
        self._lowest = math.inf

    @torch.no_grad()
    def check(self, model: nn.Module, step: int) -> None:
        """Judge the averaged model of this step, and keep a copy of it if it is the best."""
        self.losses = {
            name: sum(float(denoising_loss(model, *batch).double().sum()) for batch in batches)
            / sum(len(x0) for x0, _, _ in batches)
            for name, batches in self._sets.items()
        }
        self._keep_if_best(model, step, self.losses["held-out loss"])

    def _keep_if_best(self, model: nn.Module, step: int, loss: float) -> None:
        if loss < self._lowest:
            self._lowest, self.step, self.model = loss, step, copy.deepcopy(model)

    def stops(self, step: int) -> bool:
        """Whether the rule ends the run after this step."""
        return step % CHECK_STEPS == 0 and step - self.step >= self.patience

    def state(self) -> dict[str, Any]:
        """What `load_state` needs, beside the model."""
        return {"step": self.step, "lowest": self._lowest}

    def load_state(self, state: dict[str, Any], model: nn.Module) -> None:
        """Go on from `state`, `model` being the one that was kept."""
        self.step, self._lowest, self.model = state["step"], state["lowest"], model
