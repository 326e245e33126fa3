"""`python -m probes.modes --ckpt run.pt`: the operator that a network computes, by eigenmode and by lag."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from probes.inputs import open_run
from probes.modes.operator import fewest_sequences
from probes.modes.report import print_modes, write_modes
from probes.modes.study import Method, enough_sequences, study_modes
from unrolled.checks import require_integer
from unrolled.cli import DeviceOption, TimesOption, module_app, run_app
from unrolled.files import require_writable_folder
from unrolled.progress import Progress
from unrolled.provenance import command_line


def modes(
    *,
    ckpt: Annotated[tuple[Path, ...], Parameter(help="Checkpoint to look at; of several, training seeds of one run.")],
    t: TimesOption = (),
    samples: int | None = None,
    method: Method = "regression",
    seed: int = 0,
    device: DeviceOption = "auto",
    out: Path | None = None,
) -> None:
    """Which operator did a network learn, in which eigenmodes is it wrong, and what of it is not affine?

    Example: `python -m probes.modes --ckpt run.pt --t 0.01 0.2 1 --out modes`

    The answer is the best affine map W x + w of the score model at each t, beside the exact -C_t^{-1}: error and gain
    in each eigenmode of Gamma and of Sigma, influence of frame on frame by lag, and the squared error split into that
    of the affine map, of the mean, and of what no affine map can be. Influence by lag is forced by accuracy alone, and
    the last lines say so. For real data the score of the Gaussian of the training windows stands for the exact one.

    Intervals are over sequences, and of several checkpoints over checkpoints.

    Parameters
    ----------
    samples
        Sequences at each t: two thirds find the map, the rest judges it. Without this option 24 for each number in a
        sequence.
    method
        How the map is found: least squares, or the mean Jacobian, which is the same map for Gaussian data.
    seed
        Seed of sequences and noise.
    out
        Folder for modes.csv, influence.csv, parts.csv, errors.csv, summary.json and PNG figures.
    """
    opened = [open_run(path, t, device) for path in ckpt]
    checkpoints, (first, times, target) = [each[0] for each in opened], opened[0]
    values = first.data.length * first.data.dim
    if samples is None:
        samples = enough_sequences(values)
    require_integer("samples", samples, 3 * fewest_sequences(values))
    if out is not None:
        require_writable_folder("out", out)
    with Progress(len(times) * len(checkpoints), "modes", "model and t") as bar:
        study = study_modes(checkpoints, times, samples, seed, target, method, bar.update)
    print_modes(study)
    if out is not None:
        settings = {"command": command_line(), "samples": samples, "method": method, "seed": seed,
                    "device": str(target)}  # fmt: skip
        print(f"wrote {out}/" + ", ".join(write_modes(study, checkpoints, settings, out)))


app = module_app("probes.modes", modes)

if __name__ == "__main__":
    run_app(app)
