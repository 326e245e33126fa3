"""`python -m probes.spatial --ckpt run.pt`: do value/output products recover the eigenvectors of Sigma?

See `probes.spatial.gains` for what is measured.
"""

from pathlib import Path

from probes.inputs import open_transformer
from probes.spatial.report import print_spatial, write_spatial
from probes.spatial.study import study_spatial
from unrolled.checks import InputError, require_integer
from unrolled.cli import CheckpointOption, DeviceOption, TimesOption, module_app, run_app
from unrolled.files import require_writable_folder
from unrolled.progress import Progress
from unrolled.provenance import command_line


def spatial(
    *,
    ckpt: CheckpointOption,
    t: TimesOption = (),
    samples: int = 64,
    seed: int = 0,
    device: DeviceOption = "auto",
    out: Path | None = None,
) -> None:
    """Does what a head carries of a frame lie along the eigenvectors of the spatial covariance Sigma?

    Example: `python -m probes.spatial --ckpt run.pt --t 0.2 --out spatial`

    The answer is the share of what each head carries that is diagonal in the eigenbasis of Sigma, with a p-value
    against random bases. The heads of an untrained network and the score of the model itself stand beside it.

    Parameters
    ----------
    samples
        Sequences over which what a head writes is averaged.
    seed
        Seed of sequences, noise, random bases and untrained weights.
    out
        Folder for spatial.csv, summary.json and spatial.png.
    """
    require_integer("samples", samples)
    checkpoint, times, target = open_transformer(ckpt, t, device)
    values = checkpoint.process.spatial_eigen[0]
    written = ", ".join(f"{value:.4g}" for value in values)
    if len(values) < 2:
        raise InputError(
            "ckpt: its frames have one value, and Sigma no directions; accepted: frames of 2 values or more"
        )
    if float(values.diff().min()) < 1e-6 * float(values[-1]):
        raise InputError(
            f"ckpt: Sigma has eigenvalues {written}, and some have no eigenvectors of their own; accepted: a Sigma with"
            " distinct eigenvalues"
        )
    if out is not None:
        require_writable_folder("out", out)
    with Progress(len(times), "spatial", "t") as bar:
        table = study_spatial(checkpoint, times, samples, seed, target, bar.update)
    print_spatial(table, len(values))
    if out is not None:
        settings = {"command": command_line(), "samples": samples, "seed": seed, "device": str(target)}
        print(f"wrote {out}/" + ", ".join(write_spatial(table, checkpoint, settings, out)))


app = module_app("probes.spatial", spatial)

if __name__ == "__main__":
    run_app(app)
