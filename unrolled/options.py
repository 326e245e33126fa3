"""The options of a run, as typed dataclasses: they are the command line, its help, and the record in a checkpoint."""

from dataclasses import dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import torch

from unrolled.checks import InputError, refuse, require_integer, require_number, require_t_range
from unrolled.kernels import KERNELS, TemporalKernel
from unrolled.models.dit import DiTSizes
from unrolled.models.unet import UNetSizes
from unrolled.process import GaussianProcess, random_spatial_covariance

__all__ = ["DataOptions", "ProcessOptions", "TrainConfig", "config_from_dict", "fits", "train_config"]


@dataclass(frozen=True)
class ProcessOptions:
    """The Gaussian process: N frames of d values, covariance Gamma (x) Sigma."""

    length: int = 32
    """Frames in a sequence, N."""
    dim: int | None = None
    """Values per frame, d; 4 for a Gaussian process, chosen by the data otherwise (PCA reduces to it)."""
    temporal: Literal["exponential", "polynomial", "rough_polynomial", "logarithmic", "matern"] = "exponential"
    """Family of the temporal kernel gamma(lag)."""
    lengthscale: float = 4.0
    """Lengthscale of the kernel, in frames."""
    power: float = 1.0
    """Power of the kernel, at most 2 for the exponential one."""
    smoothness: float = 1.5
    """Smoothness nu of the Matern kernel."""
    spatial: Literal["random", "identity"] = "random"
    """Sigma: random with the condition number below, or the identity."""
    spatial_condition: float = 10.0
    """Condition number of the random Sigma."""
    spatial_seed: int = 0
    """Seed of the random Sigma."""

    def kernel(self) -> TemporalKernel:
        """The temporal kernel."""
        shape = self.smoothness if self.temporal == "matern" else self.power
        return KERNELS[self.temporal](self.lengthscale, shape)  # pyright: ignore[reportCallIssue]

    def process(self) -> GaussianProcess:
        """The Gaussian process these options describe."""
        dim = 4 if self.dim is None else self.dim
        require_integer("dim", dim)
        if self.spatial == "identity":
            spatial = torch.eye(dim, dtype=torch.float64)
        else:
            generator = torch.Generator().manual_seed(self.spatial_seed)
            spatial = random_spatial_covariance(dim, self.spatial_condition, generator)
        return GaussianProcess(self.length, self.kernel(), spatial)


@dataclass(frozen=True)
class DataOptions:
    """Real data in place of the Gaussian process."""

    data: str | None = None
    """`weather`, or a file: .csv, .npy, .npz, or a video such as .mp4; not given, the Gaussian process is sampled."""
    columns: tuple[str, ...] = ()
    """Columns of a .csv to use; all but the clock, text and constants where not given."""
    periods: tuple[float, ...] = ()
    """Seasonal periods in frames to remove from a series (repeat the option for several)."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of a training run."""

    process: ProcessOptions = field(default_factory=ProcessOptions)
    data: DataOptions = field(default_factory=DataOptions)
    dit: DiTSizes = field(default_factory=DiTSizes)
    unet: UNetSizes = field(default_factory=UNetSizes)
    model: Literal["dit", "unet"] = "dit"
    """The network: a diffusion transformer, or a one-dimensional UNet."""
    t_range: tuple[float, float] = (0.004, 8.0)
    """Diffusion times the model is trained on and accepts."""
    samples: int | None = None
    """Train on so many sequences, drawn once, and stop by the loss on held-out ones; not given, every step draws fresh
    sequences."""
    steps: int = 2000
    """Optimiser steps; with --samples at most."""
    snapshots: int | None = None
    """Keep so many averaged models on the way, at steps evenly spaced in log, in the folder OUT.snapshots."""
    batch: int = 64
    """Sequences per step, over all processes together."""
    learning_rate: float | None = None
    """Largest learning rate of the one-cycle schedule (AdamW); not given, 1e-2 for a DiT and 4e-3 for a UNet."""
    weight_decay: float = 0.0
    """Decoupled weight decay of AdamW."""
    ema: float = 0.99
    """Decay per step of the averaged weights, which are the ones evaluated and saved."""
    seed: int = 0
    """Seed of the weights, the batches, the noise and the diffusion times."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward pass; auto is bfloat16 on CUDA, float32 on the CPU."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile; auto is on for CUDA runs of 2000 steps and more, where it pays for its start."""

    def __post_init__(self) -> None:
        require_t_range(self.t_range)
        if self.samples is not None:
            require_integer("samples", self.samples)
        require_integer("steps", self.steps)
        if self.snapshots is not None:
            require_integer("snapshots", self.snapshots)
        if require_integer("batch", self.batch, 2) % 2:
            refuse("batch", self.batch, "an even number, since noise comes in pairs")
        if self.learning_rate is not None:
            require_number("learning_rate", self.learning_rate, above=0)
        require_number("weight_decay", self.weight_decay, above=0, closed="low")
        require_integer("seed", self.seed, 0)
        require_number("ema", self.ema, above=0, below=1, closed="low")

    @property
    def largest_rate(self) -> float:
        """The largest learning rate: the given one, or that of the network, found by the same search for both.

        Measured on preset `quick`: with 1e-2 a UNet diverges; in 600 steps its score error at t = 0.2 is 0.091, 0.078
        and 0.071 with 1e-3, 2e-3 and 4e-3.
        """
        return self.learning_rate or (1e-2 if self.model == "dit" else 4e-3)


def train_config(values: dict[str, Any]) -> TrainConfig:
    """The options that a checkpoint of a training run holds, of today or of checkpoints before format 3.

    Raises:
        InputError: a field that a run does not have, or a value that it refuses.
    """
    if isinstance(sizes := values.get("model"), dict):  # before there was another network, its sizes were the model
        sizes = dict(sizes)
        values = {**values, "t_range": sizes.pop("t_range", TrainConfig.t_range), "dit": sizes, "model": "dit"}
    return cast(TrainConfig, config_from_dict(TrainConfig, values))


def config_from_dict(kind: Any, values: dict[str, Any]) -> Any:
    """The dataclass of type `kind` that `dataclasses.asdict` took apart, nested ones included.

    Raises:
        InputError: a field that `kind` does not have, or a value that it refuses.
    """
    hints = get_type_hints(kind)
    types = {field.name: hints[field.name] for field in fields(kind)}
    if unknown := sorted(set(map(str, values)) - set(types)):
        raise InputError(f"config: {kind.__name__} has no {', '.join(unknown)}; accepted: {', '.join(types)}")
    given: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and is_dataclass(types[name]):
            given[name] = config_from_dict(types[name], value)
        elif fits(value, types[name]):
            given[name] = value
        else:
            refuse(name, value, str(getattr(types[name], "__name__", types[name])).removeprefix("typing."))
    return kind(**given)


def fits(value: object, kind: Any) -> bool:
    """Whether a plain value is of an annotated type; an integer is a float, and a list a tuple."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is dict:
        return isinstance(value, dict) and all(fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items())
    if origin is tuple and inner[-1] is not Ellipsis:
        return isinstance(value, list | tuple) and len(value) == len(inner) and all(map(fits, value, inner))
    if origin is not None:  # list[X], tuple[X, ...] and Sequence[X]
        return isinstance(value, list | tuple) and all(fits(item, inner[0]) for item in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is Any:
        return True
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
