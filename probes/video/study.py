"""Video transformers of diffusers, read from a local folder and probed offline.

Only safetensors are read, since unpickling a file runs what is in it, and every weight must be there: a model with a
random layer would be probed without a word. Latents are noise unless given, and text is noise always: what is measured
is how far a head looks on such inputs.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.video.adapters import ADAPTERS, fitted_shape, model_inputs
from probes.video.grid import TokenGrid
from probes.video.grid_attention import GridAttention, attention_on_grid
from probes.video.heads import check_grid, head_table
from unrolled.checks import InputError

__all__ = ["ForeignProbe", "is_foreign", "load_folder", "probe_folder"]

WEIGHTS = "diffusion_pytorch_model.safetensors"
PYTHON_WAY = "for any nn.Module see probes.video.grid_attention.probe_module"


@dataclass(frozen=True)
class ForeignProbe:
    """What was found in a folder.

    Attributes:
        folder: its name.
        model: class of the model.
        attention: profiles of every layer.
        heads: one row per head, see `probes.video.heads`.
        settings: samples, seed, timestep, device, dtype and source of the latents.
    """

    folder: str
    model: str
    attention: GridAttention
    heads: pd.DataFrame
    settings: dict[str, Any]


def is_foreign(path: Path) -> bool:
    """Whether `path` is a diffusers folder, rather than a checkpoint file of the project.

    Raises:
        InputError: a folder of another kind.
    """
    if not path.is_dir():
        return False
    if not any((path / name).is_file() for name in ("model_index.json", "config.json")):
        raise InputError(
            f"ckpt: {str(path)!r} is a folder without model_index.json or config.json; accepted: a checkpoint file, or"
            " a diffusers pipeline or transformer folder"
        )
    return True


def load_folder(path: Path) -> nn.Module:
    """The transformer in a diffusers pipeline or model folder, in evaluation mode, in the dtype of its weights.

    Args:
        path: folder with model_index.json and a folder transformer, or with config.json.

    Raises:
        InputError: no such folder; a class that is not in `ADAPTERS`; diffusers is not installed; weights that are
            missing, unexpected, of another shape, quantised or no safetensors.
    """
    folder, name = _model_folder(Path(path))
    with _offline():
        try:
            import diffusers
            from accelerate import init_empty_weights
        except ImportError:
            raise InputError(
                f'ckpt: reading {str(path)!r} needs diffusers; pip install "unrolled[diffusers]"'
            ) from None
        kind = getattr(diffusers, name)
        config = kind.load_config(folder, local_files_only=True)
        if config.get("quantization_config"):
            raise InputError(f"ckpt: the weights in {str(folder)!r} are quantised; accepted: plain ones")
        try:
            with init_empty_weights():
                empty = kind.from_config(config)
        except (TypeError, ValueError, KeyError, NotImplementedError) as error:
            raise InputError(f"ckpt: {str(folder / 'config.json')!r} does not describe a {name}: {error}") from None
        dtype = _check_weights(folder, empty)
        model = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, torch_dtype=dtype)
    return model.eval()


def _model_folder(path: Path) -> tuple[Path, str]:
    """The folder with the transformer's config.json, and the name of its class."""
    if not path.is_dir():
        raise InputError(f"ckpt: {str(path)!r} is no folder; accepted: a diffusers pipeline or transformer folder")
    folder = path / "transformer" if (path / "model_index.json").is_file() else path
    config = _read_json(folder / "config.json")
    name = config.get("_class_name")
    if name not in ADAPTERS:
        raise InputError(
            f"ckpt: {str(folder)!r} holds a {name!r}, which is not accepted; accepted: {', '.join(ADAPTERS)};"
            f" {PYTHON_WAY}"
        )
    return folder, name


def _read_json(file: Path) -> dict[str, Any]:
    try:
        read = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read as JSON"
        raise InputError(
            f"ckpt: {str(file)!r} {reason}; accepted: a diffusers pipeline or transformer folder"
        ) from None
    return read if isinstance(read, dict) else {}


def _weight_files(folder: Path) -> list[Path]:
    index = folder / f"{WEIGHTS}.index.json"
    names = sorted(set(_read_json(index).get("weight_map", {}).values())) if index.is_file() else [WEIGHTS]
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise InputError(
                f"ckpt: {str(folder)!r} lacks {name!r}; accepted: all weights as safetensors (pickles are not read)"
            )
    return [folder / name for name in names]


def _check_weights(folder: Path, empty: nn.Module) -> torch.dtype:
    """The most common dtype of the weights, after comparing names and shapes with those of the model."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, list[int]] = {}
    dtypes: Counter[str] = Counter()
    for file in _weight_files(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 (not a dictionary)
                    part = tensors.get_slice(key)
                    found[key] = part.get_shape()
                    dtypes[part.get_dtype()] += int(np.prod(found[key]))
        except (SafetensorError, OSError) as error:
            raise InputError(f"ckpt: {str(file)!r} cannot be read as safetensors ({error})") from None
    needed = {key: list(tensor.shape) for key, tensor in empty.state_dict().items()}
    ignored = getattr(empty, "_keys_to_ignore_on_load_unexpected", None) or []
    missing = sorted(needed.keys() - found.keys())
    unexpected = sorted(
        key for key in found.keys() - needed.keys() if not any(re.search(pattern, key) for pattern in ignored)
    )
    wrong = sorted(key for key in needed.keys() & found.keys() if needed[key] != found[key])
    for keys, what in (
        (missing, "lacks the"),
        (unexpected, "has unexpected"),
        (wrong, "has wrong shapes of the"),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise InputError(f"ckpt: {str(folder)!r} {what} weights {keys[0]!r}{more}; accepted: exactly all weights")
    names = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    common = dtypes.most_common(1)[0][0]
    if common not in names:
        raise InputError(f"ckpt: the weights in {str(folder)!r} are {common}; accepted: {', '.join(names)}")
    return names[common]


@contextmanager
def _offline() -> Iterator[None]:
    """No network, as far as libraries that read the environment when they are imported ask it."""
    wanted = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DISABLE_TELEMETRY": "YES"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def read_latents(file: Path, shape: tuple[int, int, int, int]) -> Float[Tensor, "samples channels frames rows columns"]:
    """Latents (samples, C, F, H, W) from a .npy file, or from a .safetensors file that holds one tensor.

    Raises:
        InputError: another kind of file, another shape, or entries that are not finite.
    """
    try:
        if file.suffix == ".npy":
            latents = torch.from_numpy(np.load(file, allow_pickle=False))
        elif file.suffix == ".safetensors":
            from safetensors.torch import load_file

            (latents,) = load_file(file).values()
        else:
            raise InputError("neither .npy nor .safetensors")
    except Exception as error:
        raise InputError(
            f"latents: {str(file)!r} cannot be read ({error}); accepted: a .npy file, or a .safetensors file of one tensor"
        ) from None
    if latents.ndim != 5 or tuple(latents.shape[1:]) != shape or not len(latents) or not latents.is_floating_point():
        raise InputError(
            f"latents: {latents.dtype} of shape {tuple(latents.shape)} is not accepted; accepted: real numbers"
            f" (samples, {', '.join(map(str, shape))}), channels, frames, rows and columns that give the grid"
        )
    if not latents.isfinite().all():
        raise InputError(f"latents: {str(file)!r} has NaN or infinite entries; accepted: finite ones")
    return latents


def probe_folder(
    folder: Path,
    grid: TokenGrid,
    samples: int = 16,
    batch: int = 2,
    seed: int = 0,
    device: torch.device | None = None,
    timestep: int = 500,
    latents: Path | None = None,
    progress: Callable[[int], object] = lambda samples: None,
) -> ForeignProbe:
    """Temporal and spatial decay of every head of the transformer in a diffusers folder.

    Args:
        folder: see `load_folder`.
        grid: video tokens, after patch embedding.
        samples: videos; the first ones of `latents` where given.
        batch: videos per pass.
        seed: of latents and text.
        device: the CPU where not given.
        timestep: training step the model is told, 0 to 999; the noise of `latents` should be that of it.
        latents: file of latents (samples, C, F, H, W); standard normal numbers where not given.
        progress: called with the number of videos of each pass that is done.

    Raises:
        InputError: see `load_folder`, `read_latents`, `fitted_shape`, `check_grid` and `attention_on_grid`.
    """
    for argument, value, least in (("samples", samples, 1), ("batch", batch, 1), ("timestep", timestep, 0)):
        if value < least or (argument == "timestep" and value > 999):
            accepted = "0 to 999" if argument == "timestep" else f"an integer >= {least}"
            raise InputError(f"{argument}: {value} is not accepted; accepted: {accepted}")
    check_grid(grid)
    device = device or torch.device("cpu")
    model: Any = load_folder(folder)
    name, config = type(model).__name__, dict(model.config)
    shape = fitted_shape(name, config, grid)
    given = None if latents is None else read_latents(latents, shape)
    if given is not None and len(given) < samples:
        raise InputError(f"samples: {samples} is not accepted; accepted: at most {len(given)}, those of latents")
    model = model.to(device)
    generator = torch.Generator().manual_seed(seed)

    def passes() -> Iterator[tuple[int, Callable[[], Any]]]:
        for first in range(0, samples, batch):
            count = min(batch, samples - first)
            if given is None:
                videos = torch.randn((count, *shape), generator=generator, dtype=torch.float64)
            else:
                videos = given[first : first + count]
            inputs = model_inputs(name, config, grid, videos.to(model.dtype), timestep, generator)
            yield count, lambda inputs=inputs: model(**{key: _moved(value, device) for key, value in inputs.items()})
            progress(count)

    attention = attention_on_grid(model, passes(), grid, ADAPTERS[name].layouts)
    settings = {
        "samples": samples,
        "seed": seed,
        "timestep": timestep,
        "device": str(device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "latents": "standard normal" if latents is None else Path(latents).name,
        "text": "standard normal embeddings",
    }
    return ForeignProbe(Path(folder).resolve().name, name, attention, head_table(attention, seed), settings)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, tuple):
        return tuple(_moved(each, device) for each in value)
    return value.to(device) if isinstance(value, Tensor) else value
