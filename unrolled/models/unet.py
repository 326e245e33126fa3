# pyright: strict
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""A one-dimensional UNet, to set beside a DiT: that of diffusers behind the interface of a score model.

It is the temporal UNet of Janner et al. (published: arXiv 2205.09991) with a skip connection at every resolution.

Frames are the convolved axis and values are channels. Convolutions see where a sequence ends by their zero padding;
no other position code is given.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.checks import InputError, refuse, require_integer, require_t_range
from unrolled.diffusion import check_sequences, check_time, per_sequence, sigma

__all__ = ["UNet", "UNetConfig", "UNetSizes"]

GROUPS = 8
"""Groups of the normalisation; each has two channels or more, since one value alone has no variance."""
TIMESTEPS = 1000.0
"""Times go in as log t, spread over [0, 1000], the range that the sinusoids of the network are made for."""


@dataclass(frozen=True, kw_only=True)
class UNetSizes:
    """Sizes of a UNet that do not depend on its data."""

    channels: tuple[int, ...] = (32, 32, 64)
    """Channels at each resolution, the full one first; each next resolution has half as many frames."""

    def __post_init__(self) -> None:
        if not self.channels:
            refuse("channels", self.channels, "one number for each resolution")
        for number in self.channels:
            if require_integer("channels", number) % (2 * GROUPS):
                refuse("channels", number, f"a multiple of {2 * GROUPS}")


@dataclass(frozen=True, kw_only=True)
class UNetConfig(UNetSizes):
    """Sizes of a UNet, everything needed to rebuild one before its state dict is loaded."""

    length: int
    """Frames in a sequence, N; padded with zeros to a multiple of the coarsest resolution."""
    dim: int
    """Values per frame, d."""
    t_range: tuple[float, float] = (1e-3, 8.0)
    """Diffusion times the model accepts; outside it raises."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("length", self.length)
        require_integer("dim", self.dim)
        require_t_range(self.t_range)


class UNet(nn.Module):
    """Score model: x (batch, N, d), t scalar or (batch,) -> score like x.

    The network computes u = sigma_t score in the dtype of its parameters, as a DiT does.

    Raises:
        InputError: x not of shape (batch, N, d); t outside `config.t_range`; diffusers is not installed.
    """

    def __init__(self, config: UNetConfig):
        super().__init__()
        try:
            from diffusers.models.unets.unet_1d import UNet1DModel
        except ImportError:
            raise InputError(
                "model: 'unet' needs diffusers; accepted: dit, or pip install 'unrolled[diffusers]'"
            ) from None
        self.config = config
        levels = len(config.channels)
        self.net: Any = UNet1DModel(
            in_channels=config.dim, out_channels=config.dim, block_out_channels=config.channels,
            down_block_types=("DownResnetBlock1D",) * levels, up_block_types=("UpResnetBlock1D",) * levels,
            mid_block_type="MidResTemporalBlock1D", out_block_type="OutConv1DBlock", act_fn="mish",
            time_embedding_type="positional", use_timestep_embedding=True, freq_shift=1.0, norm_num_groups=GROUPS,
        )  # fmt: skip
        self.padding = -config.length % 2 ** (levels - 1)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Initialise for training as torch does, with a zero output map, which starts the score at 0."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            for module in self.net.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
        nn.init.zeros_(self.net.out_block.final_conv1d_2.weight)
        nn.init.zeros_(self.net.out_block.final_conv1d_2.bias)

    def forward(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        config = self.config
        check_sequences(x, config.length, config.dim)
        time = check_time(t, len(x), config.t_range, x.device)
        low, high = torch.tensor(config.t_range, dtype=torch.float64).log()
        step = (TIMESTEPS * (time.log() - low) / (high - low)).expand(len(x))
        frames = F.pad(x.to(self.net.dtype).transpose(1, 2), (0, self.padding))  # (batch, d, padded N)
        u = self.net(frames, step.to(self.net.dtype)).sample[..., : config.length].transpose(1, 2).to(x.dtype)
        return u / per_sequence(sigma(time), x)
