# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""The transformer of the theory, T(D, L, M, B, R) (published: arXiv 2510.02216, eq. 5), as a score model.

An encoder writes tokens, L blocks add to them, a decoder reads the score and clips it to radius R. With tokens as rows
of Y,

    Y += sum_m ReLU(Y Q_m (Y K_m)') Y V_m              no softmax, no 1/sqrt(D)
    Y += ReLU(Y W_1 + b_1) W_2 + b_2

D is the width, M the largest number of heads of a block, B the largest Frobenius norm of a matrix Q, K, V, W. A block
with fewer than M heads is one whose other heads are zero; they are not computed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.checks import InputError, require_integer, require_t_range
from unrolled.diffusion import check_sequences, check_time
from unrolled.models.record import ReluConstruction

__all__ = ["ReluBlock", "ReluTransformer", "ReluTransformerConfig", "time_features"]

CHUNK_ELEMENTS = 2**24
"""Entries of the largest stack of attention maps that is held when no gradient is asked for: 128 MB in float64."""


@dataclass(frozen=True)
class ReluTransformerConfig:
    """Sizes of a ReluTransformer, everything needed to rebuild one before its state dict is loaded."""

    length: int
    """Tokens (frames) in a sequence, N."""
    dim: int
    """Values per frame, d."""
    width: int
    """Width of the residual stream, D."""
    heads: Sequence[int]
    """Attention heads of each block."""
    hidden: Sequence[int]
    """Hidden units of the feed-forward layer of each block."""
    rates: Sequence[float] = ()
    """Each a gives the encoder a time feature 1/(a + tau), tau = exp(t) - 1, which must be positive in the t range."""
    radius: float = math.inf
    """R: the score of a sequence is scaled back to this 2-norm where it is larger."""
    x_limit: float = math.inf
    """Largest root mean square of a sequence x that the model accepts."""
    t_range: tuple[float, float] = (1e-3, 8.0)
    """Diffusion times the model accepts; outside it raises."""

    def __post_init__(self) -> None:
        for name in ("length", "dim", "width"):
            require_integer(name, getattr(self, name))
        for name in ("heads", "hidden"):
            values = getattr(self, name)
            if not all(isinstance(value, int) and value >= 0 for value in values):
                raise InputError(f"{name}: {values!r} is not accepted; accepted: integers >= 0, one for each block")
        if len(self.heads) != len(self.hidden):
            raise InputError(f"hidden: {len(self.hidden)} blocks are not accepted; accepted: {len(self.heads)}")
        for name in ("radius", "x_limit"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}: {getattr(self, name)!r} is not accepted; accepted: a number > 0")
        low, _ = require_t_range(self.t_range)
        if not all(rate + math.expm1(low) > 0 for rate in self.rates):
            raise InputError(f"rates: {self.rates!r} are not accepted; accepted: numbers > {-math.expm1(low):g}")


def time_features(t: Float[Tensor, "..."], rates: Sequence[float]) -> Float[Tensor, "... features"]:
    """phi(t) = (tau, e^t, e^(t/2), 1/(a + tau) for each rate a), tau = exp(t) - 1 = sigma_t^2/alpha_t^2, float64.

    C_t = alpha_t^2 (Gamma (x) Sigma + tau I), so these are all that a solver of C_t needs of t: the last ones are
    step sizes.
    """
    tau = torch.expm1(t)
    return torch.stack([tau, tau + 1, torch.exp(t / 2), *(1 / (rate + tau) for rate in rates)], dim=-1)


class ReluBlock(nn.Module):
    """One block: ReLU attention, then a ReLU feed-forward layer, each added to the stream."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.query = nn.Parameter(torch.empty(heads, width, width))
        self.key = nn.Parameter(torch.empty(heads, width, width))
        self.value = nn.Parameter(torch.empty(heads, width, width))
        self.inner = nn.Parameter(torch.empty(width, hidden))  # W_1
        self.inner_bias = nn.Parameter(torch.empty(hidden))
        self.outer = nn.Parameter(torch.empty(hidden, width))  # W_2
        self.outer_bias = nn.Parameter(torch.empty(width))

    def maps(self, y: Float[Tensor, "batch N D"], part: slice = slice(None)) -> Float[Tensor, "batch heads N N"]:
        """ReLU(Y Q_m (Y K_m)') of the heads in `part`."""
        query, key = (torch.einsum("bnd,mde->bmne", y, weight[part]) for weight in (self.query, self.key))
        return F.relu(query @ key.transpose(-1, -2))

    def attend(self, y: Float[Tensor, "batch N D"]) -> Float[Tensor, "batch N D"]:
        """The sum over heads, a chunk of heads at a time."""
        heads = len(self.query)
        chunk = heads if torch.is_grad_enabled() else max(1, CHUNK_ELEMENTS // (len(y) * y.shape[1] ** 2))
        mixed = torch.zeros_like(y)
        for first in range(0, heads, max(1, chunk)):
            part = slice(first, first + chunk)
            value = torch.einsum("bnd,mde->bmne", y, self.value[part])
            mixed = mixed + (self.maps(y, part) @ value).sum(dim=1)
        return mixed

    def forward(self, y: Float[Tensor, "batch N D"]) -> Float[Tensor, "batch N D"]:
        y = y + self.attend(y)
        return y + F.relu(y @ self.inner + self.inner_bias) @ self.outer + self.outer_bias


class ReluTransformer(nn.Module):
    """Score model of the class T(D, L, M, B, R): x (batch, N, d), t scalar or (batch,) -> score like x.

    The encoder writes x W + position + phi(t) U, phi of `time_features`; the decoder reads Y W_out. Everything is
    computed in the dtype of the parameters, phi(t) in float64 before it is rounded to that.

    Raises:
        InputError: x not of shape (batch, N, d); a sequence of root mean square above `config.x_limit`; t outside
            `config.t_range`.
    """

    construction: ReluConstruction | None = None
    """The record of a hand-set model, see `unrolled.handset`."""

    def __init__(self, config: ReluTransformerConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Parameter(torch.empty(config.dim, config.width))
        self.position = nn.Parameter(torch.empty(config.length, config.width))
        self.time = nn.Parameter(torch.empty(3 + len(config.rates), config.width))
        self.blocks = nn.ModuleList(
            ReluBlock(config.width, heads, hidden) for heads, hidden in zip(config.heads, config.hidden, strict=True)
        )
        self.out = nn.Parameter(torch.empty(config.width, config.dim))
        self.reset_parameters()

    @property
    def block_list(self) -> list[ReluBlock]:
        """The blocks, with their type."""
        return [cast(ReluBlock, block) for block in self.blocks]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Initialise for training: normal matrices that keep the size of what they multiply, every block's output
        zero."""
        for name, parameter in self.named_parameters():
            zero = name.endswith(("value", "outer", "bias")) or name == "out"
            if zero or parameter.numel() == 0:
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=parameter.shape[-2] ** -0.5, generator=generator)

    def forward(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        config = self.config
        check_sequences(x, config.length, config.dim)
        if config.x_limit < math.inf and len(x):
            size = float(x.detach().square().mean(dim=(1, 2)).sqrt().max())
            if not size <= config.x_limit:
                raise InputError(
                    f"x: root mean square {size:.3g} is not accepted; accepted: at most {config.x_limit:g}"
                )
        time = check_time(t, len(x), config.t_range, x.device)
        features = time_features(time.reshape(-1, 1), config.rates).to(self.time.dtype)  # (1 or batch, 1, features)
        y = x.to(self.embed.dtype) @ self.embed + self.position + features @ self.time
        for block in self.blocks:
            y = block(y)
        score = y @ self.out
        if config.radius < math.inf:
            norm = score.flatten(1).norm(dim=1)[:, None, None]
            score = score * torch.clamp(config.radius / norm.clamp_min(torch.finfo(norm.dtype).tiny), max=1.0)
        return score.to(x.dtype)
