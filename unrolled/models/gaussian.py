# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""The score of a Gaussian law as a model with a checkpoint: of any covariance, or of one of the form Gamma (x) Sigma.

`GaussianProcess` computes both. A covariance C of all N d values is that of a process of N d frames of one value, with
Gamma = C and Sigma = 1.
"""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unrolled.checks import require_integer, require_t_range
from unrolled.diffusion import check_sequences, check_time
from unrolled.process import GaussianProcess

__all__ = ["GaussianScore", "GaussianScoreConfig"]


@dataclass(frozen=True, kw_only=True)
class GaussianScoreConfig:
    """Sizes of a GaussianScore, everything needed to rebuild one before its state dict is loaded."""

    length: int
    """Frames in a sequence, N."""
    dim: int
    """Values per frame, d."""
    separable: bool = False
    """Whether the covariance is Gamma (x) Sigma; otherwise it is any (N d, N d) matrix."""
    t_range: tuple[float, float] = (1e-3, 8.0)
    """Diffusion times the model accepts; outside it raises."""

    def __post_init__(self) -> None:
        require_integer("length", self.length)
        require_integer("dim", self.dim)
        require_t_range(self.t_range)


class GaussianScore(nn.Module):
    """Score model -(alpha_t^2 C + sigma_t^2 I)^{-1} (x - alpha_t m): x (batch, N, d), t scalar or (batch,) -> like x.

    C and m are buffers in float64 and no parameters. The score is computed in float64 from the law that was loaded last
    and returned in the dtype of x. Before anything is loaded, the law is the standard normal one.

    Attributes:
        config: sizes.

    Raises:
        InputError: x not of shape (batch, N, d); t outside `config.t_range`; on loading, a covariance that is not
            positive semidefinite.
    """

    temporal: Tensor
    spatial: Tensor
    mean: Tensor

    def __init__(self, config: GaussianScoreConfig):
        super().__init__()
        self.config = config
        rows, columns = (config.length, config.dim) if config.separable else (config.length * config.dim, 1)
        self.register_buffer("temporal", torch.eye(rows, dtype=torch.float64))
        self.register_buffer("spatial", torch.eye(columns, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(rows, columns, dtype=torch.float64))
        self._process: GaussianProcess | None = None
        self.register_load_state_dict_post_hook(_read_process)

    @property
    def process(self) -> GaussianProcess:
        """The law: of N frames of d values where it is separable, of N d frames of one value otherwise."""
        if self._process is None:  # not made with the module, which may be on the meta device
            _read_process(self, None)
        return cast(GaussianProcess, self._process)

    @classmethod
    def separable(cls, process: GaussianProcess, t_range: tuple[float, float] = (1e-3, 8.0)) -> "GaussianScore":
        """The model of a process with covariance Gamma (x) Sigma."""
        config = GaussianScoreConfig(length=process.length, dim=process.dim, separable=True, t_range=t_range)
        return cls(config)._load(_matrix(*process.temporal_eigen), process.spatial_covariance, process.mean)

    @classmethod
    def dense(
        cls,
        mean: Float[Tensor, "N d"],
        covariance: Float[Tensor, "Nd Nd"],
        t_range: tuple[float, float] = (1e-3, 8.0),
    ) -> "GaussianScore":
        """The model of a law with any positive semidefinite covariance of the values, row-major in (N, d)."""
        config = GaussianScoreConfig(length=len(mean), dim=mean.shape[1], t_range=t_range)
        return cls(config)._load(_matrix(*torch.linalg.eigh(covariance)), torch.ones(1, 1), mean.reshape(-1, 1))

    def _load(self, temporal: Tensor, spatial: Tensor, mean: Tensor) -> "GaussianScore":
        self.load_state_dict({"temporal": temporal, "spatial": spatial, "mean": mean})
        return self

    def forward(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        check_sequences(x, self.config.length, self.config.dim)
        time = check_time(t, len(x), self.config.t_range, x.device)
        return self.process.score(x.reshape(len(x), *self.mean.shape), time).reshape(x.shape)


def _matrix(eigenvalues: Float[Tensor, " n"], eigenvectors: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """The matrix of these; eigenvalues that are 0 to rounding become 8 eps of the largest, lest they be negative."""
    floor = 8 * torch.finfo(torch.float64).eps * eigenvalues[-1]
    raised = torch.where(eigenvalues.abs() < floor, floor, eigenvalues)
    matrix = (eigenvectors * raised) @ eigenvectors.T
    return (matrix + matrix.T) / 2


def _read_process(model: nn.Module, _: object) -> None:
    """Take the law from the buffers: what happens when a state dict was loaded."""
    ours = cast(GaussianScore, model)
    process = GaussianProcess(len(ours.mean), ours.temporal, ours.spatial, ours.mean)
    ours._process = process  # pyright: ignore[reportPrivateUsage]
