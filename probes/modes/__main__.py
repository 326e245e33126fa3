"""`python -m probes.modes --ckpt run.pt`: the operator that a network computes, by eigenmode and by lag."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from probes.inputs import open_run
from probes.modes.curve import study_curve
from probes.modes.operator import fewest_sequences
from probes.modes.report import print_curve, print_generated, print_modes, write_curve, write_generated, write_modes
from probes.modes.samples import generated_by_mode
from probes.modes.study import Method, enough_sequences, study_modes
from unrolled.checks import InputError, require_integer
from unrolled.cli import DeviceOption, TimesOption, module_app, run_app
from unrolled.files import require_writable_folder
from unrolled.progress import Progress
from unrolled.provenance import command_line
from unrolled.train.snapshots import snapshots_in


def modes(
    *,
    ckpt: Annotated[
        tuple[Path, ...], Parameter(help="Checkpoint to look at; several are training seeds of one run.")
    ] = (),
    snapshots: Path | None = None,
    t: TimesOption = (),
    samples: int | None = None,
    method: Method = "regression",
    generate: int | None = None,
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
    snapshots
        Instead of --ckpt, the folder of models that `unrolled.train --snapshots` kept: when is each mode learned?
    samples
        Sequences at each t: two thirds find the map, the rest judges it. Without this option 24 for each number in a
        sequence.
    method
        How the map is found: least squares, or the mean Jacobian, which is the same map for Gaussian data.
    generate
        Also generate sequences, in so many steps, and compare their variance by mode with the exact law of the affine
        part.
    seed
        Seed of sequences and noise.
    out
        Folder for CSV tables, summary.json and PNG figures.
    """
    if (snapshots is None) == (not ckpt):
        raise InputError("ckpt: needs one of --ckpt and --snapshots; accepted: either of them")
    if generate is not None and (len(ckpt) != 1 or require_integer("generate", generate) == 0):
        raise InputError("generate: is not accepted beside snapshots or several checkpoints; accepted: one --ckpt")
    paths = list(ckpt) if snapshots is None else snapshots_in(snapshots)
    opened = [open_run(path, t, device) for path in (paths if snapshots is None else paths[:1])]
    checkpoints, (first, times, target) = [each[0] for each in opened], opened[0]
    values = first.data.length * first.data.dim
    samples = enough_sequences(values) if samples is None else samples
    require_integer("samples", samples, 3 * fewest_sequences(values))
    if out is not None:
        require_writable_folder("out", out)
    settings = {"command": command_line(), "samples": samples, "method": method, "seed": seed, "device": str(target)}
    bar = Progress(len(times) * len(paths), "modes", "model and t")
    if snapshots is not None:
        with bar:
            curve = study_curve(paths, times, samples, seed, target, method, bar.update)
        print_curve(curve)
        written = [] if out is None else write_curve(curve, settings, out)
    else:
        with bar:
            study = study_modes(checkpoints, times, samples, seed, target, method, bar.update)
        print_modes(study)
        written = [] if out is None else write_modes(study, checkpoints, settings, out)
    if generate is not None:
        with Progress(generate + 1, "affine maps", "t") as bar:
            table = generated_by_mode(first, generate, samples, samples, seed, target, bar.update)
        print_generated(table)
        written += [] if out is None else write_generated(table, out)
    if out is not None:
        print(f"wrote {out}/" + ", ".join(written))


app = module_app("probes.modes", modes)

if __name__ == "__main__":
    run_app(app)
