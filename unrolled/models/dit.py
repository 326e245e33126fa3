"""The diffusion transformer (published: Peebles and Xie, arXiv 2212.09748, adaLN-Zero), as trained and as hand-set.

    x += g1(c) Attention((1 + s1(c)) norm(x) + b1(c))
    x += g2(c) MLP((1 + s2(c)) norm(x) + b2(c))

One class serves both purposes: trained models start from `reset_parameters`, hand-set ones load a computed state dict.
"""

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.checks import InputError, require_choice, require_integer, require_t_range
from unrolled.diffusion import check_sequences, check_time, per_sequence, sigma
from unrolled.models.record import DiTConstruction

__all__ = ["Attention", "Block", "DiT", "DiTConfig", "DiTSizes", "TimeRamps"]


@dataclass(frozen=True, kw_only=True)
class DiTSizes:
    """Sizes of a DiT that do not depend on its data."""

    width: int = 64
    """Width of the residual stream."""
    depth: int = 4
    """Number of blocks."""
    heads: int = 4
    """Attention heads per block."""
    head_dim: int | None = None
    """Query, key and value dimensions per head; width / heads where not given."""
    mlp_width: int | None = None
    """Hidden width of the MLP; 4 width where not given."""
    registers: int = 0
    """Learned register tokens put before the sequence, which carry no data (published: arXiv 2309.16588)."""
    norm: Literal["layer", "none"] = "layer"
    """LayerNorm without affine parameters, or no normalisation."""
    ramps: int = 64
    """SiLU ramps over log t from which the adaLN gates are linear maps."""


@dataclass(frozen=True, kw_only=True)
class DiTConfig(DiTSizes):
    """Sizes of a DiT, everything needed to rebuild one before its state dict is loaded."""

    length: int
    """Tokens (frames) in a sequence, N."""
    dim: int
    """Values per frame, d."""
    t_range: tuple[float, float] = (1e-3, 8.0)
    """Diffusion times the model accepts; outside it raises."""

    def __post_init__(self) -> None:
        for name in ("length", "dim", "width", "heads"):
            require_integer(name, getattr(self, name))
        for name in ("registers", "depth"):
            require_integer(name, getattr(self, name), 0)
        require_integer("ramps", self.ramps, 2)
        for name in ("head_dim", "mlp_width"):
            if getattr(self, name) is not None:
                require_integer(name, getattr(self, name))
        if self.head_dim is None and self.width % self.heads:
            raise InputError(
                f"heads: {self.heads} does not divide width {self.width}; accepted: a divisor, or give head_dim"
            )
        require_choice("norm", self.norm, ("layer", "none"))
        require_t_range(self.t_range)


class TimeRamps(nn.Module):
    """SiLU ramps over log t: silu(slope (log t - knot_k)) / (slope span), about 1 for a ramp at the far end of its
    range.

    Knots are evenly spaced over the t range and a tenth of it beyond either end, and slope times spacing is 0.45, where
    neighbouring ramps overlap enough for their linear span to hold smooth functions of log t, such as the step sizes of
    a
    solver, to many digits: measured, 64 ramps hold sigma_t^2 on [1e-3, 8] to a relative 1e-12 with coefficients that
    cancel tenfold. Without the knots beyond the ends it is 2e-5; sinusoids of 1000 t miss by 0.6.
    """

    knot: Tensor

    def __init__(self, ramps: int, t_range: tuple[float, float]):
        super().__init__()
        low, high = math.log(t_range[0]), math.log(t_range[1])
        span = high - low
        knots = torch.linspace(low - 0.1 * span, high + 0.1 * span, ramps)
        self.slope = 0.45 * (ramps - 1) / (1.2 * span)
        self.scale = 1 / (self.slope * span)
        self.register_buffer("knot", knots)

    def forward(self, t: Float[Tensor, "..."]) -> Float[Tensor, "... ramps"]:
        """Features of float64 times t, in the dtype of the knots."""
        log_t = torch.log(t)[..., None] - self.knot
        return self.scale * F.silu(self.slope * log_t).to(self.knot.dtype)


class Attention(nn.Module):
    """Multi-head softmax attention over all tokens, logits q.k/sqrt(head_dim), through the fused kernel of torch."""

    qkv: nn.Linear
    out: nn.Linear

    def __init__(self, width: int, heads: int, head_dim: int):
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.qkv = nn.Linear(width, 3 * heads * head_dim)
        self.out = nn.Linear(heads * head_dim, width)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim))  # (batch, tokens, 3, heads, head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, tokens, head_dim)
        mixed = F.scaled_dot_product_attention(q, k, v)  # (batch, heads, tokens, head_dim)
        return self.out(mixed.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """One DiT block: attention, then MLP, each with an input scale, an input shift and an output gate from c."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        width = config.width
        hidden = config.mlp_width or 4 * width
        self.norm = _norm(config)
        self.attention = Attention(width, config.heads, config.head_dim or width // config.heads)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.modulation = nn.Linear(config.ramps, 6 * width)

    def forward(
        self, x: Float[Tensor, "batch tokens width"], c: Float[Tensor, "one_or_batch 1 ramps"]
    ) -> Float[Tensor, "batch tokens width"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
        # addcmul(a, b, c) = a + b c in one pass over memory, which is what bounds small models on a CPU.
        x = torch.addcmul(x, gate1, self.attention(torch.addcmul(shift1, 1 + scale1, self.norm(x))))
        return torch.addcmul(x, gate2, self.mlp(torch.addcmul(shift2, 1 + scale2, self.norm(x))))


class Head(nn.Module):
    """Norm, scale and shift from c, and a linear map to the d output channels."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.norm = _norm(config)
        self.modulation = nn.Linear(config.ramps, 2 * config.width)
        self.out = nn.Linear(config.width, config.dim)

    def forward(
        self, x: Float[Tensor, "batch N width"], c: Float[Tensor, "one_or_batch 1 ramps"]
    ) -> Float[Tensor, "batch N d"]:
        shift, scale = self.modulation(c).chunk(2, dim=-1)
        return self.out(torch.addcmul(shift, 1 + scale, self.norm(x)))


def _norm(config: DiTConfig) -> nn.Module:
    if config.norm == "none":
        return nn.Identity()
    return nn.LayerNorm(config.width, eps=1e-6, elementwise_affine=False)


class DiT(nn.Module):
    """Score model: x (batch, N, d), t scalar or (batch,) -> score like x.

    The network computes u = sigma_t score in the dtype of its parameters (u is minus the usual noise prediction, of
    order 1 at every t) and divides by sigma_t at its edge.

    Raises:
        InputError: x not of shape (batch, N, d); t outside `config.t_range`.
    """

    construction: DiTConstruction | None = None
    """The record of a hand-set model, see `unrolled.handset`."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.dim, config.width)
        self.position = nn.Parameter(torch.empty(config.length, config.width))
        self.register = nn.Parameter(torch.empty(config.registers, config.width))
        self.time = TimeRamps(config.ramps, config.t_range)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head = Head(config)
        self.reset_parameters()

    @property
    def block_list(self) -> list[Block]:
        """The blocks, with their type."""
        return [cast(Block, block) for block in self.blocks]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Initialise for training: Xavier-uniform maps, cosine positions, zero gates and zero output (adaLN-Zero).

        With zero gates every block starts as the identity, and the zero output map starts the score at 0.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, Block | Head):
                nn.init.zeros_(module.modulation.weight)
        nn.init.zeros_(self.head.out.weight)
        frequency = torch.pi * torch.arange(self.config.width) / self.config.length
        position = torch.arange(self.config.length)[:, None] + 0.5
        with torch.no_grad():
            self.position.copy_(torch.cos(frequency * position))
        nn.init.normal_(self.register, std=0.02, generator=generator)

    def forward(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        config = self.config
        check_sequences(x, config.length, config.dim)
        time = check_time(t, len(x), config.t_range, x.device)
        c = self.time(time.reshape(-1, 1))  # (1 or batch, 1, ramps)
        stream = self.embed(x.to(self.position.dtype)) + self.position  # (batch, N, width)
        stream = torch.cat([self.register.expand(len(x), -1, -1), stream], dim=1)  # registers first
        for block in self.blocks:
            stream = block(stream, c)
        u = self.head(stream[:, config.registers :], c).to(x.dtype)
        return u / per_sequence(sigma(time), x)
