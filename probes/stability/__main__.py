"""`python -m probes.stability --ckpt a.pt b.pt`: is what a head looks at fixed over t, inputs and training seeds?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import Parameter

from probes.inputs import open_transformer
from probes.stability.report import print_stability, write_stability
from probes.stability.study import StabilityStudy, study_stability, study_videos
from probes.video.folder import model_folder
from probes.video.grid import TokenGrid
from probes.video.study import Videos
from unrolled.checks import InputError, require_integer
from unrolled.cli import DeviceOption, TimesOption, module_app, resolve_device, run_app
from unrolled.files import require_writable_folder
from unrolled.progress import Progress
from unrolled.provenance import command_line

CKPT_HELP = "Checkpoints of the same sizes, such as training seeds; or folders of diffusers with --grid."


def stability(
    *,
    ckpt: Annotated[tuple[Path, ...], Parameter(help=CKPT_HELP)],
    t: TimesOption = (),
    grid: str | None = None,
    timestep: Annotated[tuple[int, ...], Parameter(negative=())] = (100, 500, 900),
    latents: Path | None = None,
    batch: int = 2,
    samples: int | None = None,
    seed: int = 0,
    device: DeviceOption = "auto",
    out: Path | None = None,
) -> None:
    """Is what a head looks at fixed over diffusion times, inputs and training seeds?

    Example: `python -m probes.stability --ckpt a.pt b.pt --out stability`

    The answer is the variance of the profiles of heads by lag, split into that between training seeds, heads, times,
    sequences, and sequences differently at each time. For every head it says what its profile changes with.

    Of a video model the profiles are those over frames and over the frame, and the times are training steps.

    Parameters
    ----------
    grid
        Video models: frames x rows x columns of tokens, such as 13x30x45.
    timestep
        Video models: training steps that the model is told, 0 to 999, two or more. The latents are the same at all.
    latents
        Video models: file of latents, as for probes.video. Otherwise they are standard normal numbers.
    batch
        Video models: videos per forward pass.
    samples
        Sequences or videos, at least 3; otherwise 128 sequences or 16 videos. Intervals of single heads are too narrow
        below about 100.
    seed
        Seed of the sequences and their noise, or of latents and text.
    out
        Folder for heads.csv, components.csv, summary.json and stability.png.
    """
    if not ckpt:
        raise InputError("ckpt: none is given; accepted: one checkpoint or more")
    if any(path.is_dir() for path in ckpt) != (grid is not None):
        raise InputError(
            "grid: belongs to folders of diffusers; accepted: --grid with folders, and without checkpoints"
        )
    samples = require_integer("samples", (128 if grid is None else 16) if samples is None else samples, 3)
    settings: dict[str, Any] = {"command": command_line(), "samples": samples, "seed": seed}
    if grid is None:
        study, more = _checkpoints(ckpt, t, samples, seed, device, out)
    else:
        target, tokens = resolve_device(device), TokenGrid.parse(grid)
        study, more = _folders(ckpt, tokens, timestep, latents, (samples, batch, seed), target, out)
    print_stability(study, len(ckpt))
    if out is not None:
        print(f"wrote {out}/" + ", ".join(write_stability(study, {**settings, **more}, out)))


def _checkpoints(
    ckpt: Sequence[Path], t: Sequence[float], samples: int, seed: int, device: str, out: Path | None
) -> tuple[StabilityStudy, dict[str, Any]]:
    """The study of checkpoints, and its settings."""
    runs = [open_transformer(path, t, device) for path in ckpt]
    checkpoints = [checkpoint for checkpoint, _, _ in runs]
    _, times, target = runs[0]
    if len(times) < 2:
        raise InputError(f"t: {times[0]:g} alone is not accepted; accepted: two times or more")
    for path, checkpoint in zip(ckpt, checkpoints, strict=True):
        if _sizes(checkpoint) != _sizes(checkpoints[0]):
            raise InputError(
                f"ckpt: {str(path)!r} has other frames, blocks or heads than {str(ckpt[0])!r}; accepted: equal ones"
            )
    if out is not None:
        require_writable_folder("out", out)
    with Progress(len(ckpt), "stability", "network") as bar:
        study = study_stability(checkpoints, times, samples, seed, target, bar.update)
    return study, {"device": str(target), "times": times, "checkpoints": [path.name for path in ckpt]}


def _sizes(checkpoint: Any) -> tuple[Any, ...]:
    config = checkpoint.model.config
    return checkpoint.data.length, config.heads, len(checkpoint.model.blocks)


def _folders(
    ckpt: Sequence[Path], grid: TokenGrid, timesteps: Sequence[int], latents: Path | None,
    sizes: tuple[int, int, int], device: torch.device, out: Path | None,
) -> tuple[StabilityStudy, dict[str, Any]]:  # fmt: skip
    """The study of folders of diffusers, and its settings; sizes are samples, batch and seed."""
    steps = sorted({require_integer("timestep", step, 0, 999) for step in timesteps})
    if len(steps) < 2:
        raise InputError(f"timestep: {steps[0]} alone is not accepted; accepted: two steps or more")
    for path in ckpt:
        model_folder(path)  # refuses before anything is made
    if out is not None:
        require_writable_folder("out", out)
    samples, batch, seed = sizes
    with Progress(len(ckpt) * len(steps) * samples, "stability", "video", delay=1e-3) as bar:
        videos = [Videos(path, grid, samples, batch, seed, device, latents) for path in ckpt]
        study = study_videos(videos, steps, bar.update)
    names = [path.resolve().name for path in ckpt]
    return study, {"device": str(device), "timesteps": steps, "grid": str(grid), "folders": names}


app = module_app("probes.stability", stability)

if __name__ == "__main__":
    run_app(app)
