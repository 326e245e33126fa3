"""The study of one video transformer: attention over frames and over the frame of every head, and what kind it is.

Latents are noise unless given, and text is noise always: what is measured is how far a head looks on such inputs.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate.utils import send_to_device
from jaxtyping import Float
from torch import Tensor

from probes.video.adapters import ADAPTERS, fitted_shape, hidden_states, model_inputs, output_latents
from probes.video.folder import load_folder, read_latents
from probes.video.grid import TokenGrid
from probes.video.grid_attention import GridAttention, attention_on_grid
from probes.video.heads import check_grid, head_table
from probes.video.influence import GridInfluence, Pass, grid_influence, latents_of, tokens_of
from unrolled.checks import InputError, require_integer

__all__ = ["ForeignProbe", "Videos", "probe_folder"]


@dataclass(frozen=True)
class ForeignProbe:
    """What `probe_folder` found.

    Attributes:
        folder: its name.
        model: class of the model.
        attention: profiles of every layer.
        heads: one row per head, see `probes.video.heads`.
        settings: samples, seed, timestep, device, dtype and source of the latents.
        influence: of tokens on the output, where it was asked for.
    """

    folder: str
    model: str
    attention: GridAttention
    heads: pd.DataFrame
    settings: dict[str, Any]
    influence: GridInfluence | None = None


class Videos:
    """The transformer in a diffusers folder, and what it runs on: the same videos and text at every timestep.

    Args:
        folder: see `load_folder`.
        grid: video tokens, after patch embedding.
        samples: videos; the first ones of `latents` where given.
        batch: videos per pass.
        seed: of latents and text.
        device: where the model runs.
        latents: file of latents (samples, C, F, H, W); standard normal numbers where not given.

    Raises:
        InputError: see `load_folder`, `read_latents` and `fitted_shape`.
    """

    def __init__(
        self, folder: Path, grid: TokenGrid, samples: int, batch: int, seed: int, device: torch.device,
        latents: Path | None,
    ):  # fmt: skip
        require_integer("samples", samples)
        require_integer("batch", batch)
        model: Any = load_folder(folder)
        self.name, self.config = type(model).__name__, dict(model.config)
        self.shape = fitted_shape(self.name, self.config, grid)
        self.given = None if latents is None else read_latents(latents, self.shape)
        if self.given is not None and len(self.given) < samples:
            raise InputError(
                f"samples: {samples} is not accepted; accepted: at most {len(self.given)}, those of latents"
            )
        self.model = model.to(device).requires_grad_(False)
        self.grid, self.samples, self.batch, self.seed, self.device = grid, samples, batch, seed, device

    def drawn(self, timestep: int) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Latents and the arguments of the forward pass, a batch at a time, on the CPU."""
        generator = torch.Generator().manual_seed(self.seed)
        for first in range(0, self.samples, self.batch):
            count = min(self.batch, self.samples - first)
            if self.given is None:
                videos = torch.randn((count, *self.shape), generator=generator, dtype=torch.float64)
            else:
                videos = self.given[first : first + count]
            videos = videos.to(self.model.dtype)
            yield videos, model_inputs(self.name, self.config, self.grid, videos, timestep, generator)

    def attention(self, timestep: int, progress: Callable[[int], object] = lambda samples: None) -> GridAttention:
        """Profiles of every layer; `progress` is called with the number of videos of each pass that is done."""

        def passes() -> Iterator[tuple[int, Callable[[], Any]]]:
            for videos, inputs in self.drawn(timestep):
                yield len(videos), lambda inputs=inputs: self.model(**send_to_device(inputs, self.device))
                progress(len(videos))

        return attention_on_grid(self.model, passes(), self.grid, ADAPTERS[self.name].layouts)

    def influence(
        self, timestep: int, probes: int, progress: Callable[[int], object] = lambda samples: None
    ) -> GridInfluence:
        """Influence of tokens on what the model predicts of them."""
        return grid_influence(self.functions(timestep), self.grid, probes, self.seed + 1, progress=progress)

    def functions(self, timestep: int) -> Iterator[Pass]:
        """Videos as tokens, and the output of the model as tokens of the same channels; all else is held fixed."""
        patch = ADAPTERS[self.name].patch(self.config)
        channels = min(self.shape[0], self.config.get("out_channels") or self.shape[0])
        for videos, inputs in self.drawn(timestep):
            rest = videos[:, channels:].to(self.device)
            function = partial(self._predicted, send_to_device(inputs, self.device), rest, patch)
            yield tokens_of(videos[:, :channels], patch).to(self.device), function

    def _predicted(
        self, inputs: Any, rest: Tensor, patch: tuple[int, int, int], tokens: Float[Tensor, "n F H W d"]
    ) -> Float[Tensor, "n F H W d"]:
        """What the model predicts of tokens, besides which it sees the channels `rest`."""
        channels = tokens.shape[-1] // math.prod(patch)
        states = hidden_states(self.name, torch.cat([latents_of(tokens, patch), rest], dim=1))
        output = self.model(**{**inputs, "hidden_states": states})[0]
        return tokens_of(output_latents(self.name, output, channels), patch)


def probe_folder(
    folder: Path,
    grid: TokenGrid,
    samples: int = 16,
    batch: int = 2,
    seed: int = 0,
    device: torch.device | None = None,
    timestep: int = 500,
    latents: Path | None = None,
    influence: int | None = None,
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
        influence: random vectors for each video, of the influence of tokens on the output; none where not given.
        progress: called with the number of videos of each pass that is done.

    Raises:
        InputError: see `Videos`, `check_grid`, `attention_on_grid` and `grid_influence`.
    """
    require_integer("timestep", timestep, 0, 999)
    if influence is not None:
        require_integer("influence", influence)
        require_integer("samples", samples, 2)
    check_grid(grid)
    device = device or torch.device("cpu")
    videos = Videos(folder, grid, samples, batch, seed, device, latents)
    attention = videos.attention(timestep, progress)
    found = None if influence is None else videos.influence(timestep, influence, progress)
    settings = {
        "samples": samples,
        "seed": seed,
        "timestep": timestep,
        "device": str(device),
        "dtype": str(videos.model.dtype).removeprefix("torch."),
        "latents": "standard normal" if latents is None else Path(latents).name,
        "text": "standard normal embeddings",
    }
    heads = head_table(attention, seed)
    return ForeignProbe(Path(folder).resolve().name, videos.name, attention, heads, settings, found)
