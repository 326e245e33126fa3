"""Read a video transformer and its latents from a local folder of diffusers, offline.

Only safetensors are read, since unpickling a file runs what is in it. Every weight must be there: a model with a random
layer would be probed without a word.
"""

import json
import math
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.video.adapters import ADAPTERS
from unrolled.checks import InputError

__all__ = ["WEIGHTS", "load_folder", "model_folder", "read_latents"]

WEIGHTS = "diffusion_pytorch_model.safetensors"
"""Name of the file with the weights, or of its index with `.index.json` after it."""
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types of weights, by the names of safetensors."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DISABLE_TELEMETRY": "YES"}
"""No network, as far as libraries that read the environment when they are imported ask it."""


def load_folder(path: Path) -> nn.Module:
    """The transformer in a diffusers pipeline or model folder, in evaluation mode, in the dtype of its weights.

    Args:
        path: folder with model_index.json and a folder transformer, or with config.json.

    Raises:
        InputError: no such folder; a class that is not in `ADAPTERS`; diffusers is not installed; weights that are
            missing, unexpected, of another shape, quantised or no safetensors.
    """
    folder, name = model_folder(Path(path))
    with patch.dict(os.environ, OFFLINE):
        try:
            import diffusers
            from accelerate import init_empty_weights
        except ImportError:
            raise InputError(
                f'ckpt: reading {str(path)!r} needs diffusers; pip install "unrolled[diffusers]"'
            ) from None
        kind = getattr(diffusers, name)
        stored = _stored_tensors(folder)
        try:
            config = kind.load_config(folder, local_files_only=True)
            _require_plain(folder, config, len(stored))
            with init_empty_weights():
                empty = kind.from_config(config)
        except InputError:
            raise
        except Exception as error:  # whatever a class raises whose sizes are strings, zeros or lists
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise InputError(f"ckpt: {str(folder / 'config.json')!r} does not describe a {name} ({reason})") from None
        dtype = _check_weights(folder, empty, stored)
        model = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, torch_dtype=dtype)
    return model.eval()


def model_folder(path: Path) -> tuple[Path, str]:
    """The folder with the transformer's config.json, and the name of its class.

    Raises:
        InputError: no such folder, or a class that is not in `ADAPTERS`.
    """
    if not path.is_dir():
        hint = " (python -m probes.attention takes checkpoints of this project)" if path.is_file() else ""
        raise InputError(f"ckpt: {str(path)!r} is no folder; accepted: a folder of diffusers with a transformer{hint}")
    folder = path / "transformer" if (path / "model_index.json").is_file() else path
    config = _read_json(folder / "config.json")
    name = config.get("_class_name")
    if not isinstance(name, str) or name not in ADAPTERS:
        raise InputError(
            f"ckpt: {str(folder)!r} holds a {name!r}, which is not accepted; accepted: {', '.join(ADAPTERS)};"
            " for any nn.Module see probes.video.grid_attention.probe_module"
        )
    return folder, name


def _read_json(file: Path) -> dict[str, Any]:
    try:
        read = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read as JSON"
        raise InputError(f"ckpt: {str(file)!r} {reason}; accepted: a folder of diffusers with a transformer") from None
    return read if isinstance(read, dict) else {}


def _require_plain(folder: Path, config: dict[str, Any], tensors: int) -> None:
    """Refuse quantised weights, and more layers than the files have tensors, which would take minutes to build."""
    if config.get("quantization_config"):
        raise InputError(f"ckpt: the weights in {str(folder)!r} are quantised; accepted: plain ones")
    for name, value in config.items():
        if name.startswith("num_") and name.endswith("layers") and isinstance(value, int) and value > tensors:
            raise InputError(
                f"ckpt: {str(folder / 'config.json')!r} has {name} {value}, and {tensors} weights are stored;"
                " accepted: exactly all weights"
            )


def _weight_map(folder: Path) -> dict[str, str] | None:
    """Tensor -> file from the index, None without one.

    Raises:
        InputError: an index that is not such, or that names a file elsewhere.
    """
    index = folder / f"{WEIGHTS}.index.json"
    if not index.is_file():
        return None
    files = _read_json(index).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise InputError(f"ckpt: {str(index)!r} has no map of weights; accepted: the index that diffusers writes")
    return files


def _stored_tensors(folder: Path) -> dict[str, tuple[list[int], str]]:
    """Tensor -> (shape, dtype), from the headers of the files.

    Raises:
        InputError: a file that is missing, elsewhere or no safetensors; a tensor that is not where the index says.
    """
    from safetensors import SafetensorError, safe_open

    index = _weight_map(folder)
    stored: dict[str, tuple[list[int], str]] = {}
    for name in [WEIGHTS] if index is None else sorted(set(index.values())):
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise InputError(
                f"ckpt: {str(folder)!r} lacks {name!r}; accepted: all weights as safetensors (pickles are not read)"
            )
        try:
            with safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 (not a dictionary)
                    if index is not None and index.get(key) != name:
                        raise InputError(
                            f"ckpt: {str(file)!r} holds {key!r}, which its index has in {index.get(key)!r};"
                            " accepted: files that agree with their index"
                        )
                    part = tensors.get_slice(key)
                    stored[key] = part.get_shape(), part.get_dtype()
        except (SafetensorError, OSError) as error:
            raise InputError(f"ckpt: {str(file)!r} cannot be read as safetensors ({error})") from None
    return stored


def _check_weights(folder: Path, empty: nn.Module, stored: dict[str, tuple[list[int], str]]) -> torch.dtype:
    """The most common dtype of the weights, after comparing names and shapes with those of the model."""
    shapes = {key: shape for key, (shape, _) in stored.items()}
    dtypes: Counter[str] = Counter()
    for key, (shape, dtype) in stored.items():
        if dtype not in DTYPES:
            raise InputError(f"ckpt: weight {key!r} in {str(folder)!r} is {dtype}; accepted: {', '.join(DTYPES)}")
        dtypes[dtype] += math.prod(shape)
    needed = {key: list(tensor.shape) for key, tensor in empty.state_dict().items()}
    ignored = getattr(empty, "_keys_to_ignore_on_load_unexpected", None) or []
    missing = sorted(needed.keys() - shapes.keys())
    unexpected = sorted(
        key for key in shapes.keys() - needed.keys() if not any(re.search(pattern, key) for pattern in ignored)
    )
    wrong = sorted(key for key in needed.keys() & shapes.keys() if needed[key] != shapes[key])
    for keys, what in ((missing, "lacks the"), (unexpected, "has unexpected"), (wrong, "has wrong shapes of the")):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise InputError(f"ckpt: {str(folder)!r} {what} weights {keys[0]!r}{more}; accepted: exactly all weights")
    return DTYPES[dtypes.most_common(1)[0][0]]


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
            f"latents: {str(file)!r} cannot be read ({error}); accepted: a .npy file, or a .safetensors file of one"
            " tensor"
        ) from None
    if latents.ndim != 5 or tuple(latents.shape[1:]) != shape or not len(latents) or not latents.is_floating_point():
        raise InputError(
            f"latents: {latents.dtype} of shape {tuple(latents.shape)} is not accepted; accepted: real numbers"
            f" (samples, {', '.join(map(str, shape))}), channels, frames, rows and columns that give the grid"
        )
    if not latents.isfinite().all():
        raise InputError(f"latents: {str(file)!r} has NaN or infinite entries; accepted: finite ones")
    return latents
