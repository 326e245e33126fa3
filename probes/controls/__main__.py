"""`python -m probes.controls --ckpt run.pt`: every head against networks and inputs that cannot know the covariance."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from probes.controls.comparison import LEAST_SEQUENCES
from probes.controls.networks import NETWORKS, control_networks
from probes.controls.report import print_controls, write_controls
from probes.controls.study import study_controls
from probes.decay.fit import require_fit_lags
from probes.inputs import open_transformer
from unrolled.checks import require_integer
from unrolled.cli import CheckpointOption, DeviceOption, TimesOption, module_app, run_app
from unrolled.files import require_writable_folder
from unrolled.progress import Progress

LEAST_UNTRAINED = 20
"""With fewer no p-value is below 0.05."""
TIMES_HELP = "Diffusion times. Otherwise the middle one of 0.01, 0.05, 0.2, 1 and 3, as far as the model accepts them."


def controls(
    *,
    ckpt: CheckpointOption,
    t: Annotated[TimesOption, Parameter(help=TIMES_HELP)] = (),
    samples: int = 256,
    untrained: int = 199,
    white_noise: Path | None = None,
    other_kernel: Path | None = None,
    batch: int = 64,
    seed: int = 0,
    device: DeviceOption = "auto",
    out: Path | None = None,
) -> None:
    """Does a head match the true covariance better than something that never learned it?

    Example: `python -m probes.controls --ckpt run.pt --t 0.2 --out controls`

    Every head is compared with untrained weights, position code only, shuffled frames, a wrong kernel, and this network
    trained on white noise and on a kernel of four times the lengthscale. The answer is effect sizes and p-values. Each
    of the two trainings takes as long as that of the checkpoint.

    Parameters
    ----------
    samples
        Sequences, at least 64: with fewer the p-values are too small.
    untrained
        Networks of random weights, at least 20. The smallest p-value against them is 1/(1 + untrained).
    white_noise
        Checkpoint of a network trained on white noise. Without this option it is trained.
    other_kernel
        Checkpoint of a network trained on another kernel. Without this option it is trained.
    batch
        Sequences per forward pass.
    seed
        Seed of everything random.
    out
        Folder for controls.csv, controls.png and the two networks that were trained. Networks that are there already
        are not trained again.
    """
    require_integer("samples", samples, LEAST_SEQUENCES)
    require_integer("batch", batch)
    require_integer("untrained", untrained, LEAST_UNTRAINED)
    checkpoint, times, target = open_transformer(ckpt, t, device)
    times = times if t else [times[len(times) // 2]]
    require_fit_lags(checkpoint.data.length)
    if out is not None:
        require_writable_folder("out", out)
    files = dict(zip(NETWORKS, (white_noise, other_kernel), strict=True))
    given = {name: path for name, path in files.items() if path is not None}
    with Progress(None, "train controls", "step", delay=1e-3) as bar:  # no bar where there is nothing to train
        networks = control_networks(checkpoint, given, times, out, target, bar.reach)
    with Progress(len(times) * (untrained + 3 + len(networks)), "controls", "network") as bar:
        table = study_controls(checkpoint, times, networks, samples, batch, seed, untrained, target, bar.update)
    print_controls(table, checkpoint.exact)
    if out is not None:
        print(f"wrote {out}/" + ", ".join(write_controls(table, out)))


app = module_app("probes.controls", controls)

if __name__ == "__main__":
    run_app(app)
