"""The study of one video transformer: attention over frames and over the frame of every head, and what kind it is.

Latents are noise unless given, and text is noise always: what is measured is how far a head looks on such inputs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate.utils import send_to_device

from probes.video.adapters import ADAPTERS, fitted_shape, model_inputs
from probes.video.folder import load_folder, read_latents
from probes.video.grid import TokenGrid
from probes.video.grid_attention import GridAttention, attention_on_grid
from probes.video.heads import check_grid, head_table
from unrolled.checks import InputError, require_integer

__all__ = ["ForeignProbe", "probe_folder"]


@dataclass(frozen=True)
class ForeignProbe:
    """What `probe_folder` found.

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
    require_integer("samples", samples)
    require_integer("batch", batch)
    require_integer("timestep", timestep, 0, 999)
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
            yield count, lambda inputs=inputs: model(**send_to_device(inputs, device))
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
