"""`python -m probes.attention --ckpt run.pt`: attention of every head by lag, its decay, and the truth beside it."""

from pathlib import Path

from probes.attention.report import print_study, write_study
from probes.attention.study import study_attention
from probes.decay.fit import require_fit_lags
from probes.inputs import open_transformer
from unrolled.checks import require_integer
from unrolled.cli import CheckpointOption, DeviceOption, TimesOption, module_app, run_app
from unrolled.files import require_writable_folder
from unrolled.progress import Progress
from unrolled.provenance import command_line

MOVED = {
    **dict.fromkeys(("--controls", "--white-noise", "--other-kernel", "--untrained"), "python -m probes.controls"),
    **dict.fromkeys(("--grid", "--timestep", "--latents"), "python -m probes.video"),
}
"""Options of other commands, and the command that has each."""


def probe(
    *,
    ckpt: CheckpointOption,
    t: TimesOption = (),
    samples: int = 256,
    batch: int = 64,
    seed: int = 0,
    device: DeviceOption = "auto",
    out: Path | None = None,
) -> None:
    """How far does each head look, and does its attention fall with the lag as the covariance of the data does?

    Example: `python -m probes.attention --ckpt run.pt --t 0.05 0.2 1 --out probe`

    The answer is the mean attention of every layer and head by signed lag, at several t, with decay fits beside those
    of the truth. The maps are computed from the queries and keys that the model used, and checked against its fused
    output. For real data the truth is the empirical covariance of the training windows, and the attention is that on
    held-out windows.

    Parameters
    ----------
    samples
        Sequences, at least 2. Fits use the first half and are judged on the second.
    batch
        Sequences per forward pass.
    seed
        Seed of everything random.
    out
        Folder for CSV tables, summary.json and PNG figures.
    """
    require_integer("samples", samples, 2)
    require_integer("batch", batch)
    checkpoint, times, target = open_transformer(ckpt, t, device)
    require_fit_lags(checkpoint.data.length)
    if out is not None:
        require_writable_folder("out", out)
    with Progress(len(times), "attention", "t") as bar:
        study = study_attention(checkpoint, times, samples, batch, seed, target, lambda t: bar.update())
    print_study(study, times)
    if out is not None:
        settings = {"command": command_line(), "samples": samples, "seed": seed, "device": str(target)}
        print(f"wrote {out}/" + ", ".join(write_study(study, checkpoint, settings, out)))


app = module_app("probes.attention", probe, MOVED)

if __name__ == "__main__":
    run_app(app)
