"""What each diffusers class needs to run on a token grid: latents, text of its width, a timestep, and the place of
tokens.

Token order (read from the sources of diffusers 0.42): DiT and Latte fold frames or positions into the batch, sample by
sample; CogVideoX puts text before the video, HunyuanVideo after it; Wan sees text by cross attention alone. Text is
random numbers, so nothing here says what a model attends to in a real prompt.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes.video.grid import Layout, TokenGrid
from unrolled.checks import InputError

__all__ = ["ADAPTERS", "Adapter", "fitted_shape", "hidden_states", "model_inputs", "output_latents"]

IMAGE_MODEL = "DiTTransformer2DModel"
TEXT_TOKENS = 64
"""Text tokens of models that accept any number."""

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Adapter:
    """How a class is run.

    Attributes:
        layouts: what its attention modules see, by regular expression on their names.
        patch: (frames, rows, columns) of latents in a token, from its configuration.
        grid: the only grid that the configuration allows, None in a place that is free.
        inputs: arguments besides the latents, from (configuration, grid, samples, random normal numbers of a shape).
        frames_first: latents are (samples, frames, channels, ...) rather than (samples, channels, frames, ...).
    """

    layouts: dict[str, Layout]
    patch: Callable[[Config], tuple[int, int, int]]
    grid: Callable[[Config], tuple[int | None, int | None, int | None]]
    inputs: Callable[[Config, TokenGrid, int, Callable[..., Tensor]], dict[str, Any]]
    frames_first: bool = False


def _square(config: Config) -> tuple[int, int, int]:
    return 1, config["patch_size"], config["patch_size"]


def _any(config: Config) -> tuple[None, None, None]:
    return None, None, None


def _dit_inputs(config: Config, grid: TokenGrid, samples: int, normal: Callable[..., Tensor]) -> dict[str, Any]:
    uniform = torch.special.ndtr(normal(samples).double())
    return {
        "class_labels": (uniform * config["num_embeds_ada_norm"]).long().clamp(max=config["num_embeds_ada_norm"] - 1)
    }


def _latte_inputs(config: Config, grid: TokenGrid, samples: int, normal: Callable[..., Tensor]) -> dict[str, Any]:
    return {"encoder_hidden_states": normal(samples, TEXT_TOKENS, config["caption_channels"])}


def _cogvideox_inputs(config: Config, grid: TokenGrid, samples: int, normal: Callable[..., Tensor]) -> dict[str, Any]:
    inputs: dict[str, Any] = {
        "encoder_hidden_states": normal(samples, config["max_text_seq_length"], config["text_embed_dim"])
    }
    if config["ofs_embed_dim"]:
        inputs["ofs"] = torch.full((1,), 2.0, dtype=inputs["encoder_hidden_states"].dtype)  # as its pipeline does
    if config["use_rotary_positional_embeddings"]:
        inputs["image_rotary_emb"] = _cogvideox_rotations(config, grid)
    return inputs


def _cogvideox_rotations(config: Config, grid: TokenGrid) -> tuple[Tensor, Tensor]:
    """(cos, sin) of the rotary position code, with the grid scaled into the trained one as the pipeline does."""
    from diffusers.models.embeddings import get_3d_rotary_pos_embed

    patch, trained = config["patch_size"], (config["sample_height"], config["sample_width"])
    rows, columns = (side // patch for side in trained)
    options: dict[str, Any]
    if config["patch_size_t"] is None:  # CogVideoX 1.0: the largest centred box of the grid's proportions
        if grid.height / grid.width > rows / columns:
            box = rows, round(rows / grid.height * grid.width)
        else:
            box = round(columns / grid.width * grid.height), columns
        top, left = round((rows - box[0]) / 2), round((columns - box[1]) / 2)
        options = {"crops_coords": ((top, left), (top + box[0], left + box[1]))}
    else:
        options = {"crops_coords": None, "grid_type": "slice", "max_size": (rows, columns)}
    size = (grid.height, grid.width)
    cos, sin = get_3d_rotary_pos_embed(
        config["attention_head_dim"], grid_size=size, temporal_size=grid.frames, device=torch.device("cpu"), **options
    )
    return cos, sin  # pyright: ignore[reportReturnType] (Tensors, since use_real is on)


def _cogvideox_grid(config: Config) -> tuple[int | None, int | None, int | None]:
    patch = config["patch_size"]
    rows, columns = config["sample_height"] // patch, config["sample_width"] // patch
    if config["use_learned_positional_embeddings"]:
        return (config["sample_frames"] - 1) // config["temporal_compression_ratio"] + 1, rows, columns
    return None, None, None


def _wan_inputs(config: Config, grid: TokenGrid, samples: int, normal: Callable[..., Tensor]) -> dict[str, Any]:
    if config["image_dim"] is None:
        return {"encoder_hidden_states": normal(samples, TEXT_TOKENS, config["text_dim"])}
    # Image-to-video models take the last 512 tokens for text, and 257 for each image; with positions for them, two
    # images.
    images = (2 * samples, config["pos_embed_seq_len"] // 2) if config["pos_embed_seq_len"] else (samples, 257)
    return {
        "encoder_hidden_states": normal(samples, 512, config["text_dim"]),
        "encoder_hidden_states_image": normal(*images, config["image_dim"]),
    }


def _hunyuan_inputs(config: Config, grid: TokenGrid, samples: int, normal: Callable[..., Tensor]) -> dict[str, Any]:
    inputs = {
        "encoder_hidden_states": normal(samples, TEXT_TOKENS, config["text_embed_dim"]),
        "encoder_attention_mask": torch.ones(samples, TEXT_TOKENS, dtype=torch.long),
        "pooled_projections": normal(samples, config["pooled_projection_dim"]),
    }
    if config["guidance_embeds"]:
        like = inputs["pooled_projections"]
        inputs["guidance"] = torch.full((samples,), 6000.0, dtype=like.dtype)  # its pipeline's scale of 6, times 1000
    return inputs


ADAPTERS: dict[str, Adapter] = {
    "DiTTransformer2DModel": Adapter(
        {r"attn1": "video"},
        _square,
        lambda config: (1, *(2 * [config["sample_size"] // config["patch_size"]])),
        _dit_inputs,
    ),
    "LatteTransformer3DModel": Adapter(
        {r"attn2": "cross", r"^temporal_transformer_blocks\.": "temporal", r"^transformer_blocks\.": "spatial"},
        _square,
        lambda config: (config["video_length"], *(2 * [config["sample_size"] // config["patch_size"]])),
        _latte_inputs,
    ),
    "CogVideoXTransformer3DModel": Adapter(
        {r"attn1": "text first"},
        lambda config: (config["patch_size_t"] or 1, config["patch_size"], config["patch_size"]),
        _cogvideox_grid,
        _cogvideox_inputs,
        frames_first=True,
    ),
    "WanTransformer3DModel": Adapter(
        {r"attn1": "video", r"attn2": "cross"}, lambda config: tuple(config["patch_size"]), _any, _wan_inputs
    ),
    "HunyuanVideoTransformer3DModel": Adapter(
        {r"^context_embedder\.": "text", r"transformer_blocks\.": "text last"},
        lambda config: (config["patch_size_t"], config["patch_size"], config["patch_size"]),
        _any,
        _hunyuan_inputs,
    ),
}


def fitted_shape(name: str, config: Config, grid: TokenGrid) -> tuple[int, int, int, int]:
    """(channels, frames, rows, columns) of the latents that give `grid` in a model of class `name`.

    Raises:
        InputError: a grid that the model's position table does not hold.
    """
    adapter = ADAPTERS[name]
    only = adapter.grid(config)
    sides = (grid.frames, grid.height, grid.width)
    if any(side is not None and side != given for side, given in zip(only, sides, strict=True)):
        accepted = "x".join("any" if side is None else str(side) for side in only)
        raise InputError(f"grid: {grid} is not accepted; accepted: {accepted}, the positions of this {name}")
    longest = config.get("rope_max_seq_len")
    if longest is not None and max(sides) > longest:
        raise InputError(f"grid: {grid} is not accepted; accepted: sides up to {longest}, the positions of this {name}")
    frames, rows, columns = (side * patch for side, patch in zip(sides, adapter.patch(config), strict=True))
    return config["in_channels"], frames, rows, columns


def model_inputs(
    name: str,
    config: Config,
    grid: TokenGrid,
    latents: Float[Tensor, "samples channels frames rows columns"],
    timestep: int,
    generator: torch.Generator,
) -> dict[str, Any]:
    """Arguments of the forward pass of a model of class `name`, on the CPU, numbers in the dtype of `latents`.

    Args:
        name: a key of `ADAPTERS`.
        config: the model's configuration.
        grid: video tokens.
        latents: see `fitted_shape`.
        timestep: training step, 0 to 999.
        generator: of the random text.
    """
    adapter, samples = ADAPTERS[name], len(latents)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(latents.dtype)

    inputs = adapter.inputs(config, grid, samples, normal)
    states = hidden_states(name, latents)
    return {"hidden_states": states, "timestep": torch.full((samples,), timestep), "return_dict": False, **inputs}


def hidden_states(name: str, latents: Float[Tensor, "samples channels frames rows columns"]) -> Tensor:
    """Latents in the order of axes of a class: an image has no frames, and some classes put frames first."""
    if name == IMAGE_MODEL:
        return latents[:, :, 0]
    return latents.transpose(1, 2) if ADAPTERS[name].frames_first else latents


def output_latents(name: str, output: Tensor, channels: int) -> Float[Tensor, "samples channels frames rows columns"]:
    """What a class predicts of the first `channels` channels of its latents; others may hold a variance."""
    if name == IMAGE_MODEL:
        return output[:, :channels, None]
    return (output.transpose(1, 2) if ADAPTERS[name].frames_first else output)[:, :channels]
