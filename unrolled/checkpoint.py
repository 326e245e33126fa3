# pyright: strict
"""Checkpoints: one file with the weights, the whole configuration, the data's description and where it came from.

A checkpoint is a plain dict of tensors, strings, numbers, lists and dicts, so that `torch.load(weights_only=True)`
reads it: loading one never runs code from the file.

Format 2 keeps in the record of a hand-set model what its class has. In format 1 every record had the same fields, with
0 or an empty list where one did not apply; such a file is read as if it were of format 2. Format 3 stores equal weights
once, and of a weight that is mostly zeros the other entries.

A file is read by `unrolled.archive`, which tests its checksums, and its model by `unrolled.stored_model`, which tests
that it agrees with itself.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from unrolled.archive import DamagedError, read_archive, tensors_in
from unrolled.checks import InputError
from unrolled.examples import PREFIX, example_file
from unrolled.files import atomic_path
from unrolled.options import fits
from unrolled.process import GaussianProcess
from unrolled.series.data import SequenceData
from unrolled.series.windows import SeriesData
from unrolled.stored_model import dtype_of, model_from, stored

__all__ = ["FORMAT_VERSION", "Checkpoint", "example", "load_checkpoint", "save_checkpoint"]

FORMAT = "unrolled checkpoint"
FORMAT_VERSION = 3
DATA: dict[str, type[GaussianProcess] | type[SeriesData]] = {"gaussian": GaussianProcess, "series": SeriesData}
PARTS: dict[str, Any] = {
    "config": dict[str, Any],
    "provenance": dict[str, Any],
    "history": list[dict[str, float]],
    "training": dict[str, Any],
}
"""Types of the parts that are plain values."""


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
        return dtype_of(self.model)

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
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": stored(model),
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
        InputError: a file that is missing, truncated, damaged in any byte of a part, not a checkpoint of this project,
            or of a newer format; that holds anything but plain values and tensors, contradicts itself, or has weights
            that are not finite. The message starts with `argument`.
    """
    name = str(path).removeprefix(PREFIX)
    path = Path(path) if name == str(path) else example_file(name)
    if not os.path.isfile(path):  # also False for names that no file system takes
        raise InputError(f"{argument}: {str(path)!r} is not a file; accepted: a checkpoint written by this project")
    try:
        content = read_archive(path)
        _check_format(content)
        return _checkpoint(content, path)
    except DamagedError as error:
        reason = str(error)
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except Exception as error:  # whatever a damaged part raises where it is used
        reason = f"is damaged ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    raise InputError(f"{argument}: {str(path)!r} {reason}; accepted: a checkpoint written by this project")


def example(name: str) -> Checkpoint:
    """A trained checkpoint that ships with the package: "ou", "polynomial", "weather" or "unet".

    The first three are small DiTs of preset `quick`, trained on the processes `Exponential(4)` and `Polynomial(4)`, and
    on the weather. The UNet is trained on the first of these and needs diffusers. `python -m unrolled.examples` trains
    them again. The state of the optimiser is not in them.

    Raises:
        InputError: an unknown name.
    """
    return load_checkpoint(PREFIX + name)


def _check_format(content: object) -> None:
    """Refuse what another program or a later version wrote.

    Raises:
        DamagedError: it is not a checkpoint of a format that is known.
    """
    given = cast(dict[str, Any], content) if isinstance(content, dict) else {}
    if given.get("format") != FORMAT:
        raise DamagedError("is of another program")
    version = given.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise DamagedError(f"is damaged (format version {version!r})")
    if version > FORMAT_VERSION:
        raise DamagedError(f"is of a newer version of this project (format version {version}, here {FORMAT_VERSION})")


def _checkpoint(content: dict[str, Any], path: Path) -> Checkpoint:
    """The parts of a file, each in its type.

    Raises:
        DamagedError: one is of another type, or contradicts another.
        Exception: anything that a damaged part can raise.
    """
    for name, kind in PARTS.items():
        if not fits(content[name], kind):
            raise DamagedError(f"is damaged (its {name} is not plain values)")
    data = DATA[content["data"]["kind"]].from_state(content["data"]["state"])
    model = model_from(content["model"], content["format_version"], content["config"])
    sizes = cast(Any, model.config)
    if (sizes.length, sizes.dim) != (data.length, data.dim):
        raise DamagedError(
            f"contradicts itself (its model is of {sizes.length} frames of {sizes.dim} values, and its data of"
            f" {data.length} frames of {data.dim})"
        )
    for name, value in tensors_in(content["training"], "training"):
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise DamagedError(f"is damaged ({name!r} has NaN or infinite entries)")
    config, provenance, history, training = (content[name] for name in PARTS)
    return Checkpoint(model.eval(), data, config, provenance, history, training, path)
