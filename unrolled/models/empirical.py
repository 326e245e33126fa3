# pyright: strict
"""The score of a finite set of sequences as a model: the optimal denoiser of the training set, and its limit.

If X_0 is one of n sequences x_k, all equally likely, then X_t is a mixture of n Gaussians with means alpha_t x_k and
covariance sigma_t^2 I, whose score is (published: Karras et al., arXiv 2206.00364, appendix B.3)

    (alpha_t E[X_0 | X_t = x] - x) / sigma_t^2,   E[X_0 | X_t = x] = sum_k w_k x_k,
    w = softmax_k(-|x - alpha_t x_k|^2 / (2 sigma_t^2))

It minimises the training loss over all functions, and the sequences that it generates are the training sequences.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.checks import require_integer, require_t_range
from unrolled.diffusion import alpha, check_sequences, check_time, per_sequence, sigma

__all__ = ["EmpiricalScore", "EmpiricalScoreConfig"]

CHUNK_WEIGHTS = 2**22
"""Weights w of several sequences that are held at once: 32 MB."""


@dataclass(frozen=True, kw_only=True)
class EmpiricalScoreConfig:
    """Sizes of an EmpiricalScore, everything needed to rebuild one before its state dict is loaded."""

    length: int
    """Frames in a sequence, N."""
    dim: int
    """Values per frame, d."""
    samples: int
    """Sequences in the set, n."""
    nearest: bool = False
    """Whether all weight is on the nearest sequence: the limit of weights that fall ever faster with the distance."""
    t_range: tuple[float, float] = (1e-3, 8.0)
    """Diffusion times the model accepts; outside it raises."""

    def __post_init__(self) -> None:
        for name in ("length", "dim", "samples"):
            require_integer(name, getattr(self, name))
        require_t_range(self.t_range)


class EmpiricalScore(nn.Module):
    """Score model of a set of sequences: x (batch, N, d), t scalar or (batch,) -> score like x.

    The set is a buffer in float64 and no parameter. The score is computed in the dtype of the buffer, the weights from
    their logarithms, and returned in the dtype of x. Of several nearest sequences the first counts.

    Raises:
        InputError: x not of shape (batch, N, d); t outside `config.t_range`.
    """

    sequences: Tensor

    def __init__(self, config: EmpiricalScoreConfig):
        super().__init__()
        self.config = config
        shape = (config.samples, config.length, config.dim)
        self.register_buffer("sequences", torch.zeros(shape, dtype=torch.float64))

    @classmethod
    def of(
        cls, sequences: Float[Tensor, "n N d"], nearest: bool = False, t_range: tuple[float, float] = (1e-3, 8.0)
    ) -> "EmpiricalScore":
        """The model of these sequences."""
        samples, length, dim = sequences.shape
        config = EmpiricalScoreConfig(length=length, dim=dim, samples=samples, nearest=nearest, t_range=t_range)
        model = cls(config)
        model.load_state_dict({"sequences": sequences})
        return model

    def denoise(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        """E[X_0 | X_t = x], or the nearest sequence, in the dtype of the set.

        Both x and the set are taken relative to the mean of the set, since a common offset would cost digits. |x|^2 is
        the same for every k and is left out.
        """
        check_sequences(x, self.config.length, self.config.dim)
        time = check_time(t, len(x), self.config.t_range, x.device).expand(len(x))
        centre = self.sequences.mean(dim=0).flatten()
        known = self.sequences.flatten(1) - centre  # (n, N d)
        half_norm = known.square().sum(dim=1) / 2
        rows = max(1, CHUNK_WEIGHTS // len(known))
        denoised: list[Tensor] = []
        flat = x.to(known.dtype).flatten(1)
        for first in range(0, len(x), rows):
            part, at = flat[first : first + rows], time[first : first + rows, None]
            a, s = alpha(at).to(known.dtype), sigma(at).to(known.dtype)
            log_weight = a * ((part - a * centre) @ known.T - a * half_norm) / s**2  # up to a constant of each row
            weight = (
                F.one_hot(log_weight.argmax(dim=1), len(known)).to(known.dtype)
                if self.config.nearest
                else log_weight.softmax(dim=1)
            )
            denoised.append(centre + weight @ known)
        return torch.cat([*denoised, flat[:0]]).reshape(x.shape)  # of no sequences there are no parts

    def forward(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        mean = self.denoise(x, t)
        time = torch.as_tensor(t, dtype=mean.dtype, device=x.device)
        a, s = (per_sequence(value, mean) for value in (alpha(time), sigma(time)))
        return ((a * mean - x.to(mean.dtype)) / s**2).to(x.dtype)
