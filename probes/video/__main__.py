"""`python -m probes.video --ckpt FOLDER --grid FxHxW`: how far each head of a video model looks in time and space."""

from pathlib import Path
from typing import Literal

from probes.video.folder import model_folder
from probes.video.grid import TokenGrid
from probes.video.report import print_foreign, write_foreign
from probes.video.study import probe_folder
from unrolled.cli import module_app, resolve_device, run_app
from unrolled.files import require_writable_folder
from unrolled.progress import Progress


def video(
    *,
    ckpt: Path,
    grid: str,
    samples: int = 16,
    batch: int = 2,
    timestep: int = 500,
    latents: Path | None = None,
    influence: int | None = None,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    out: Path | None = None,
) -> None:
    """How far does each head of a video transformer look over frames and over the frame, and is it temporal or spatial?

    Example: `python -m probes.video --ckpt FOLDER --grid 13x30x45 --out video`

    The answer is the decay of attention over frames and over the frame, and whether a head is temporal, spatial, mixed
    or neither. Accepted are DiT, Latte, CogVideoX, Wan and HunyuanVideo of diffusers. There is no truth to hold them
    against.

    Parameters
    ----------
    ckpt
        Local folder with a pipeline or a transformer of diffusers.
    grid
        Frames x rows x columns of tokens after patch embedding, such as 13x30x45.
    samples
        Videos.
    batch
        Videos per forward pass.
    timestep
        Training step that the model is told, 0 to 999.
    latents
        File of latents (videos, channels, frames, rows, columns) at that noise level, .npy or .safetensors. Without
        this option they are standard normal numbers.
    influence
        Also estimate the influence of tokens on the output, by frame lag and displacement, with so many random vectors
        for each video. Each costs a backward pass.
    seed
        Seed of everything random.
    device
        auto is CUDA where there is one.
    out
        Folder for heads.csv, profiles.csv, influence.csv, summary.json and PNG figures.
    """
    target, tokens = resolve_device(device), TokenGrid.parse(grid)
    model_folder(ckpt)  # refuses before `out` is made
    if out is not None:
        require_writable_folder("out", out)
    # The delay keeps the bar off the screen until a pass is done, and so from beside an error line about the folder.
    rounds = 1 if influence is None else 2
    with Progress(rounds * samples, "passes", "video", delay=1e-3) as bar:
        study = probe_folder(ckpt, tokens, samples, batch, seed, target, timestep, latents, influence, bar.update)
    print_foreign(study)
    if out is not None:
        print(f"wrote {out}/" + ", ".join(write_foreign(study, out)))


app = module_app("probes.video", video)

if __name__ == "__main__":
    run_app(app)
