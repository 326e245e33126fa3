"""`python -m probes.replacement --ckpt run.pt`: what of a trained network matters at which t?"""

from pathlib import Path

from probes.decay.fit import require_fit_lags
from probes.inputs import open_transformer
from probes.replacement.report import print_study, write_study
from probes.replacement.study import study_replacement
from unrolled.checks import require_integer
from unrolled.cli import CheckpointOption, DeviceOption, TimesOption, module_app, run_app
from unrolled.files import require_writable_folder
from unrolled.progress import Progress
from unrolled.provenance import command_line


def replacement(
    *,
    ckpt: CheckpointOption,
    t: TimesOption = (),
    samples: int = 256,
    seed: int = 0,
    device: DeviceOption = "auto",
    out: Path | None = None,
) -> None:
    """Which parts of a DiT matter at which t, and which can be replaced by something simpler at no cost?

    Example: `python -m probes.replacement --ckpt run.pt --out replacement`

    The answer is the score error with ever simpler stand-ins: for the attention maps, all at once and one head at a
    time, for the MLPs and LayerNorms, and for the whole network. Where a stand-in is affine, the law of its samples is
    exact. The network made linear is split by how many attention layers a path passes, and by head.

    Parameters
    ----------
    samples
        Sequences, at least 4. Means use the first half, errors the second.
    seed
        Seed of everything random.
    out
        Folder for replacement.csv, paths.csv, influence.csv, summary.json and PNG figures.
    """
    require_integer("samples", samples, 4)
    checkpoint, times, target = open_transformer(ckpt, t, device)
    require_fit_lags(checkpoint.data.length)
    if out is not None:
        require_writable_folder("out", out)
    with Progress(None, "replacement", "step", delay=1e-3) as bar:
        study = study_replacement(checkpoint, times, samples, seed, target, bar.reach)
    print_study(study, checkpoint)
    if out is not None:
        settings = {"command": command_line(), "samples": samples, "seed": seed, "device": str(target)}
        print(f"wrote {out}/" + ", ".join(write_study(study, checkpoint, settings, out)))


app = module_app("probes.replacement", replacement)

if __name__ == "__main__":
    run_app(app)
