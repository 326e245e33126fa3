"""`python -m probes.attention --ckpt run.pt`: attention of every head by lag, its decay, and the truth beside it.

`--ckpt FOLDER --grid FxHxW` does the same for a video model of diffusers, without a truth to hold it against.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from cyclopts import Parameter
from tqdm import tqdm

from probes.attention.report import print_study, write_study
from probes.attention.study import AttentionStudy, study_attention
from probes.controls.comparison import LEAST_SEQUENCES
from probes.controls.report import control_networks, print_controls, run_controls, write_controls
from probes.decay.fit import MIN_LAGS
from probes.video.grid import TokenGrid
from probes.video.report import print_foreign, write_foreign
from probes.video.study import is_foreign, probe_folder
from unrolled.checkpoint import Checkpoint, load_checkpoint
from unrolled.checks import InputError
from unrolled.cli import module_app, resolve_device, run_app
from unrolled.evaluate import chosen_times
from unrolled.files import require_writable_folder
from unrolled.provenance import command_line

SAMPLES, BATCH = 256, 64
FOREIGN_SAMPLES, FOREIGN_BATCH = 16, 2
LEAST_UNTRAINED = 20
"""With fewer no p-value is below 0.05."""


def probe(
    *,
    ckpt: Path,
    t: Annotated[tuple[float, ...], Parameter(consume_multiple=True, negative=())] = (),
    samples: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    out: Path | None = None,
    controls: Annotated[bool, Parameter(negative=())] = False,
    white_noise: Path | None = None,
    other_kernel: Path | None = None,
    untrained: int | None = None,
    grid: str | None = None,
    timestep: int | None = None,
    latents: Path | None = None,
) -> None:
    """Mean attention by signed lag of every layer and head at several t, with decay fits beside those of the truth.

    The maps are computed from the queries and keys the model used, checked against its fused output, and reduced while
    it runs. For real data the truth is the empirical covariance of the training windows, and the attention is that on
    held-out windows.

    Of a folder with a video model of diffusers (DiT, Latte, CogVideoX, Wan, HunyuanVideo) it gives the decay of
    attention over frames and over the frame, and whether a head is temporal, spatial, mixed or neither.

    Parameters
    ----------
    ckpt
        Checkpoint to look at, or a local folder with a pipeline or transformer of diffusers.
    t
        Diffusion times; 0.01, 0.05, 0.2, 1 and 3, as far as the model accepts them, where not given.
    samples
        Sequences, 256 where not given; fits use the first half and are judged on the second. Videos of a folder, 16.
    batch
        Sequences per forward pass, 64 where not given; videos of a folder, 2.
    seed
        Seed of everything random.
    device
        auto is CUDA where there is one.
    out
        Folder for CSV tables, summary.json and PNG figures; with --controls, also for the two networks that were
        trained, which are not trained again.
    controls
        Compare every head with untrained weights, position code only, shuffled frames, a wrong kernel, and this network
        trained on white noise and on a kernel of four times the lengthscale: effect sizes and p-values. The trainings
        take as long as that of the checkpoint, each. At the middle one of the times where t is not given; from 64
        samples on.
    white_noise
        Checkpoint to use as the network trained on white noise, in place of training one.
    other_kernel
        Checkpoint to use as the network trained on another kernel.
    untrained
        Networks of random weights among the controls, 199 where not given, at least 20; the least p-value is
        1/(1 + untrained).
    grid
        Of a folder: frames x rows x columns of tokens after patch embedding, such as 13x30x45.
    timestep
        Of a folder: training step the model is told, 0 to 999; 500 where not given.
    latents
        Of a folder: .npy or .safetensors file of latents (videos, channels, frames, rows, columns) at that noise level;
        standard normal numbers where not given.
    """
    target = resolve_device(device)
    of_controls = {"white_noise": white_noise, "other_kernel": other_kernel, "untrained": untrained}
    of_folder = {"grid": grid, "timestep": timestep, "latents": latents}
    _refuse({} if controls else of_controls, "with --controls")
    if is_foreign(ckpt):
        _refuse({"t": t or None, "controls": controls or None}, "for checkpoints of this project")
        if grid is None:
            raise InputError(
                f"ckpt: {str(ckpt)!r} is a folder; accepted: a checkpoint, or a folder of diffusers with --grid FxHxW"
            )
        defaults = {"samples": (samples, FOREIGN_SAMPLES), "batch": (batch, FOREIGN_BATCH), "timestep": (timestep, 500)}
        settings = {name: default if given is None else given for name, (given, default) in defaults.items()}
        settings |= {"latents": latents, "seed": seed, "device": target}
        _probe_folder(ckpt, TokenGrid.parse(grid), settings, out)
        return
    _refuse(of_folder, "for a folder")
    samples, batch, untrained = (
        given if given is not None else default
        for given, default in ((samples, SAMPLES), (batch, BATCH), (untrained, 199))
    )
    least_samples = LEAST_SEQUENCES if controls else 2
    for name, value, least in (
        ("samples", samples, least_samples), ("batch", batch, 1), ("untrained", untrained, LEAST_UNTRAINED)
    ):  # fmt: skip
        if value < least:
            raise InputError(f"{name}: {value} is not accepted; accepted: an integer >= {least}")
    checkpoint = load_checkpoint(ckpt)
    times = chosen_times(t, checkpoint.t_range)
    if checkpoint.data.length < MIN_LAGS:
        raise InputError(f"ckpt: its sequences have {checkpoint.data.length} frames; accepted: at least {MIN_LAGS}")
    if out is not None:
        require_writable_folder("out", out)
    given = {name.replace("_", " "): path for name, path in of_controls.items() if isinstance(path, Path)}
    chosen = times if t else [times[len(times) // 2]]
    networks = control_networks(checkpoint, given, chosen, out, target) if controls else {}
    study = run_study(checkpoint, times, samples, batch, seed, target)
    print_study(study, times)
    if out is not None:
        settings = {"command": command_line(), "samples": samples, "seed": seed, "device": str(target)}
        print(f"wrote {out}/" + ", ".join(write_study(study, checkpoint, settings, out)))
    if controls:
        table = run_controls(checkpoint, chosen, networks, samples, batch, seed, untrained, target)
        print_controls(table, checkpoint.exact)
        if out is not None:
            write_controls(table, out)
            print(f"wrote {out}/controls.csv, controls.png")


def _refuse(options: dict[str, Any], accepted: str) -> None:
    """Raise an InputError for the first option that was given."""
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name}: is not accepted here; accepted: it only {accepted}")


def _probe_folder(folder: Path, grid: TokenGrid, settings: dict[str, Any], out: Path | None) -> None:
    """`probe_folder` under a progress bar, printed and written."""
    if out is not None:
        require_writable_folder("out", out)
    # The delay keeps the bar off the screen until a pass is done, and so from beside an error line about the folder.
    with tqdm(total=settings["samples"], desc="attention", unit="video", delay=1e-3) as bar:
        found = probe_folder(folder, grid, **settings, progress=bar.update)
    print_foreign(found)
    if out is not None:
        print(f"wrote {out}/" + ", ".join(write_foreign(found, out)))


def run_study(
    checkpoint: Checkpoint, times: list[float], samples: int, batch: int, seed: int, device: torch.device
) -> AttentionStudy:
    """`study_attention` under a progress bar."""
    with tqdm(total=len(times), desc="attention", unit="t") as bar:

        def progress(t: float) -> None:
            bar.set_postfix(t=f"{t:g}")
            bar.update()

        return study_attention(checkpoint, times, samples, batch, seed, device, progress)


app = module_app("probes.attention", probe)

if __name__ == "__main__":
    run_app(app)
