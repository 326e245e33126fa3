"""`python -m probes.stability --ckpt a.pt b.pt`: is what a head looks at fixed over t, inputs and training seeds?"""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from probes.inputs import open_run
from probes.stability.report import print_stability, write_stability
from probes.stability.study import study_stability
from unrolled.checks import InputError, require_integer
from unrolled.cli import DeviceOption, TimesOption, module_app, run_app
from unrolled.files import require_writable_folder
from unrolled.progress import Progress
from unrolled.provenance import command_line


def stability(
    *,
    ckpt: Annotated[tuple[Path, ...], Parameter(help="Checkpoints of the same sizes, such as training seeds.")],
    t: TimesOption = (),
    samples: int = 128,
    seed: int = 0,
    device: DeviceOption = "auto",
    out: Path | None = None,
) -> None:
    """Is what a head looks at fixed over diffusion times, inputs and training seeds?

    Example: `python -m probes.stability --ckpt a.pt b.pt --out stability`

    The answer is the variance of the profiles of heads by lag, split into that between training seeds, heads, times,
    sequences, and sequences differently at each time. For every head it says what its profile changes with.

    Parameters
    ----------
    samples
        Sequences, at least 3. Intervals of single heads are too narrow below about 100.
    seed
        Seed of the sequences and their noise.
    out
        Folder for heads.csv, components.csv, summary.json and stability.png.
    """
    require_integer("samples", samples, 3)
    if not ckpt:
        raise InputError("ckpt: none is given; accepted: one checkpoint or more")
    runs = [open_run(path, t, device) for path in ckpt]
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
    print_stability(study, len(ckpt))
    if out is not None:
        settings = {
            "command": command_line(), "samples": samples, "seed": seed, "device": str(target), "times": times,
            "checkpoints": [path.name for path in ckpt],
        }  # fmt: skip
        print(f"wrote {out}/" + ", ".join(write_stability(study, settings, out)))


def _sizes(checkpoint: Any) -> tuple[Any, ...]:
    config = checkpoint.model.config
    return checkpoint.data.length, config.heads, len(checkpoint.model.blocks)


app = module_app("probes.stability", stability)

if __name__ == "__main__":
    run_app(app)
