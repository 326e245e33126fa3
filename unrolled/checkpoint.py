# pyright: strict
"""Checkpoints: one file with the weights, the whole configuration, the data's description and where it came from.

A checkpoint is a plain dict of tensors, strings, numbers, lists and dicts, so that `torch.load(weights_only=True)`
reads it: loading one never runs code from the file.

Format 2 keeps in the record of a hand-set model what its class has. In format 1 every record had the same fields, with
0 or an empty list where one did not apply; such a file is read as if it were of format 2. Format 3 stores equal weights
once, and of a weight that is mostly zeros the other entries: blocks of a hand-set model repeat each other.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from unrolled.checks import InputError
from unrolled.examples import PREFIX, example_file
from unrolled.files import atomic_path
from unrolled.models.dit import DiT, DiTConfig
from unrolled.models.empirical import EmpiricalScore, EmpiricalScoreConfig
from unrolled.models.gaussian import GaussianScore, GaussianScoreConfig
from unrolled.models.record import Construction, DiTConstruction, ReluConstruction
from unrolled.models.relu import ReluTransformer, ReluTransformerConfig
from unrolled.models.unet import UNet, UNetConfig
from unrolled.options import config_from_dict
from unrolled.process import GaussianProcess
from unrolled.series.data import SequenceData
from unrolled.series.windows import SeriesData

__all__ = ["FORMAT_VERSION", "Checkpoint", "example", "load_checkpoint", "save_checkpoint"]

FORMAT = "unrolled checkpoint"
FORMAT_VERSION = 3
MODELS: dict[str, tuple[type[nn.Module], type[Any], type[Construction]]] = {
    "DiT": (DiT, DiTConfig, DiTConstruction),
    "ReluTransformer": (ReluTransformer, ReluTransformerConfig, ReluConstruction),
    "UNet": (UNet, UNetConfig, Construction),
    "GaussianScore": (GaussianScore, GaussianScoreConfig, Construction),
    "EmpiricalScore": (EmpiricalScore, EmpiricalScoreConfig, Construction),
}
DATA: dict[str, type[GaussianProcess] | type[SeriesData]] = {"gaussian": GaussianProcess, "series": SeriesData}


@dataclass
class Checkpoint:
    """What `load_checkpoint` returns.

    Attributes:
        model: the score model, in evaluation mode.
        data: the `GaussianProcess` or `SeriesData` it was made for.
        config: the run's options, nested dicts of plain values.
        provenance: package, git, torch and Python versions, command, seed, device, dtype, seconds.
        history: one dict per logged step.
        training: optimiser state for `--resume`, empty in checkpoints of models that were not trained.
        path: the file it came from.
    """

    model: nn.Module
    data: GaussianProcess | SeriesData
    config: dict[str, Any]
    provenance: dict[str, Any]
    history: list[dict[str, float]]
    training: dict[str, Any]
    path: Path | None = None

    @cached_property
    def process(self) -> GaussianProcess:
        """The Gaussian process of the data: exact for sampled data, matched in covariance for a real series."""
        return self.data if isinstance(self.data, GaussianProcess) else self.data.gaussian()

    @property
    def exact(self) -> bool:
        """Whether `process` is the true law of the data, so that its score is the exact one."""
        return isinstance(self.data, GaussianProcess)

    @property
    def t_range(self) -> tuple[float, float]:
        """Diffusion times the model accepts."""
        low, high = self._model_config.t_range
        return float(low), float(high)

    @property
    def registers(self) -> int:
        """Tokens of the model that come before those of the sequence."""
        return int(getattr(self._model_config, "registers", 0))

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the model's parameters; of its buffers where it has none."""
        return _dtype(self.model)

    @property
    def _model_config(self) -> Any:
        return self.model.config


def save_checkpoint(
    path: Path,
    model: nn.Module,
    data: SequenceData,
    config: dict[str, Any],
    provenance: dict[str, Any],
    history: list[dict[str, float]] | None = None,
    training: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint under a temporary name and rename it, so that `path` is always whole."""
    record = getattr(model, "construction", None)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": {
            "class": type(model).__name__,
            "config": asdict(model.config),  # pyright: ignore[reportArgumentType]
            "dtype": str(_dtype(model)).removeprefix("torch."),
            "state": _packed(model.state_dict()),
            "construction": record.state() if isinstance(record, Construction) else None,
        },
        "data": {"kind": data.kind, "state": data.state()},
        "config": config,
        "provenance": provenance,
        "history": history or [],
        "training": training or {},
    }
    # By its name torch would call the archive what stands before the last dot, which may be nothing.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def load_checkpoint(path: str | Path, argument: str = "ckpt") -> Checkpoint:
    """Read a checkpoint onto the CPU, with `weights_only=True`.

    Args:
        path: a file, or `example:` and the name of one that ships with the package (see `example`).
        argument: what errors call it.

    Raises:
        InputError: a file that is missing, truncated, not a checkpoint of this project, of a newer format, or that
            holds anything but plain values and tensors. The message starts with `argument`.
    """
    name = str(path).removeprefix(PREFIX)
    path = Path(path) if name == str(path) else example_file(name)
    if not path.is_file():
        raise InputError(f"{argument}: {str(path)!r} is not a file; accepted: a checkpoint written by this project")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on foreign files
        reason = str(error).split(".")[0].split("\n")[0]
        raise InputError(
            f"{argument}: {str(path)!r} is truncated or not a checkpoint ({type(error).__name__}: {reason});"
            " accepted: a checkpoint written by this project"
        ) from None
    content = cast(dict[str, Any], content) if isinstance(content, dict) else {}
    if content.get("format") != FORMAT:
        raise InputError(
            f"{argument}: {str(path)!r} holds something else; accepted: a checkpoint written by this project"
        )
    version = content.get("format_version")
    if version not in range(1, FORMAT_VERSION + 1):
        raise InputError(f"{argument}: {str(path)!r} has format version {version!r}; accepted: 1 to {FORMAT_VERSION}")
    try:
        data = DATA[content["data"]["kind"]].from_state(content["data"]["state"])
        return Checkpoint(
            _model(content["model"], version).eval(),
            data,
            content["config"],
            content["provenance"],
            content["history"],
            content["training"],
            path,
        )
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{argument}: {str(path)!r} is damaged ({type(error).__name__}: {reason});"
            " accepted: a checkpoint written by this project"
        ) from None


def example(name: str) -> Checkpoint:
    """A trained checkpoint that ships with the package: "ou", "polynomial", "weather" or "unet".

    The first three are small DiTs of preset `quick`, trained on the processes `Exponential(4)` and `Polynomial(4)`, and
    on the weather. The UNet is trained on the first of these and needs diffusers. `python -m unrolled.examples` trains
    them again. The state of the optimiser is not in them.

    Raises:
        InputError: an unknown name.
    """
    return load_checkpoint(PREFIX + name)


def _dtype(model: nn.Module) -> torch.dtype:
    return next(chain(model.parameters(), model.buffers())).dtype


def _model(stored: dict[str, Any], version: Any) -> nn.Module:
    """The model that a file of this version stored, with its weights and its record."""
    model_class, config_class, record_class = MODELS[stored["class"]]
    model = model_class(config_from_dict(config_class, stored["config"]))
    model = model.to(getattr(torch, stored["dtype"]))
    model.load_state_dict({name: _dense(value) for name, value in stored["state"].items()}, strict=True)
    record = stored.get("construction")
    if record:
        record = _record_of_format_1(record_class, record, stored["config"]) if version == 1 else record
        cast(Any, model).construction = record_class(**record)
    return model


def _packed(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The weights as they are stored: equal ones as one tensor, which torch writes once, and sparse ones by entries."""
    stored: dict[bytes, Any] = {}
    return {name: stored.setdefault(_digest(value), _sparse(value.detach().cpu())) for name, value in state.items()}


def _digest(value: Tensor) -> bytes:
    """A name for the content of a tensor: bits, dtype and shape."""
    bits = value.detach().cpu().contiguous().flatten().view(torch.uint8)
    digest = hashlib.sha256(bits.numpy().tobytes())
    digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
    return digest.digest()


def _sparse(value: Tensor) -> Tensor | dict[str, Any]:
    """A tensor, or its shape, indices and entries if fewer than a quarter of them are not 0."""
    flat = value.flatten()
    index = flat.nonzero()[:, 0]
    if 4 * len(index) >= len(flat):
        return value
    return {"shape": list(value.shape), "index": index, "values": flat[index]}


def _dense(stored: Tensor | dict[str, Any]) -> Tensor:
    """The tensor that `_sparse` was given; an index outside its shape raises."""
    if isinstance(stored, Tensor):
        return stored
    flat = stored["values"].new_zeros(math.prod(stored["shape"]))
    flat[stored["index"]] = stored["values"]
    return flat.reshape(stored["shape"])


def _record_of_format_1(
    record_class: type[Construction], record: dict[str, Any], config: dict[str, Any]
) -> dict[str, Any]:
    """The fields of `record_class` from a record of format 1, whose ramps stood in the model's configuration alone."""
    absent = {name: None for name in ("ridge", "dominance", "neutralisation_error") if not record.get(name)}
    known: dict[str, Any] = {"widths": [], "fit_length": 0, "ramps": config.get("ramps"), **record, **absent}
    return {field.name: known[field.name] for field in fields(record_class)}
