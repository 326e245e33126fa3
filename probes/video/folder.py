"""Read a video transformer and its latents from a local folder of diffusers, offline.

Only safetensors are read, since unpickling a file runs what is in it. Every weight must be there: a model with a random
layer would be probed without a word.
"""

import json
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
    if name not in ADAPTERS:
        raise InputError(
            f"ckpt: {str(folder)!r} holds a {name!r}, which is not accepted; accepted: {', '.join(ADAPTERS)};"
            " for any nn.Module see probes.video.grid_attention.probe_module"
        )
    return folder, name


def _read_json(file: Path) -> dict[str, Any]:
    try:
        read = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read as JSON"
        raise InputError(f"ckpt: {str(file)!r} {reason}; accepted: a folder of diffusers with a transformer") from None
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

    shapes: dict[str, list[int]] = {}
    dtypes: Counter[str] = Counter()
    for file in _weight_files(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 (not a dictionary)
                    part = tensors.get_slice(key)
                    shapes[key] = part.get_shape()
                    dtypes[part.get_dtype()] += int(np.prod(shapes[key]))
        except (SafetensorError, OSError) as error:
            raise InputError(f"ckpt: {str(file)!r} cannot be read as safetensors ({error})") from None
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
    names = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    common = dtypes.most_common(1)[0][0]
    if common not in names:
        raise InputError(f"ckpt: the weights in {str(folder)!r} are {common}; accepted: {', '.join(names)}")
    return names[common]


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
