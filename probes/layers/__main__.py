"""`python -m probes.layers --ckpt run.pt`: which solver the layers resemble, and how many steps the network is worth.

Three answers. Effective depth: `probes.layers.depth`. Nearest step of each layer by linear readouts:
`probes.layers.readout`. For hand-set models, whose record says where their iterate stands, the name of every iterate:
`probes.layers.names`.
"""

from pathlib import Path
from typing import Any

from probes.inputs import open_transformer
from probes.layers.readout import fewest_sequences
from probes.layers.report import print_study, write_study
from probes.layers.study import RESAMPLES, study_layers
from unrolled.checks import InputError, require_integer
from unrolled.cli import CheckpointOption, DeviceOption, TimesOption, module_app, run_app
from unrolled.files import require_writable_folder
from unrolled.progress import Progress
from unrolled.provenance import command_line


def layers(
    *,
    ckpt: CheckpointOption,
    t: TimesOption = (),
    samples: int = 256,
    steps: int = 2000,
    seed: int = 0,
    device: DeviceOption = "auto",
    out: Path | None = None,
) -> None:
    """Which steps of which solver do the layers resemble, and how many steps is the whole network worth?

    Example: `python -m probes.layers --ckpt run.pt --t 0.05 1 --out layers`

    Solvers: gradient descent with its best step, Chebyshev, conjugate gradient, and the preconditioned iteration of the
    hand-set models. A linear readout of a layer is matched with the same readout of the solver's state, because the
    stream holds x besides the iterate. Iterates of hand-set models are also named directly, in classes of those that
    cannot be told apart. For real data the exact score is that of the Gaussian of the same covariance.

    Parameters
    ----------
    samples
        Sequences. Readouts are fitted on the first half and judged on the second.
    steps
        Most steps of a solver; six for the preconditioned one.
    seed
        Seed of the sequences, their noise and the bootstrap.
    out
        Folder for layers.csv, nearest.csv, depth.csv, names.csv (hand-set models), summary.json and PNG figures.
    """
    require_integer("steps", steps)
    checkpoint, times, target = open_transformer(ckpt, t, device)
    config: Any = checkpoint.model.config
    if not len(getattr(checkpoint.model, "blocks", ())):
        raise InputError(f"ckpt: {str(ckpt)!r} holds a model without blocks; accepted: one with at least one block")
    if samples < (least := fewest_sequences(config.width, checkpoint.data.length)):
        raise InputError(f"samples: {samples} is not accepted; accepted: an integer >= {least} for this model's width")
    if out is not None:
        require_writable_folder("out", out)
    with Progress(len(times), "layers", "t") as bar:
        study = study_layers(checkpoint, times, samples, steps, seed, target, lambda t: bar.update())
    print_study(study, checkpoint)
    if out is not None:
        settings = {"command": command_line(), "samples": samples, "steps": steps, "seed": seed, "device": str(target),
                    "resamples": RESAMPLES}  # fmt: skip
        print(f"wrote {out}/" + ", ".join(write_study(study, checkpoint, settings, out)))


app = module_app("probes.layers", layers)

if __name__ == "__main__":
    run_app(app)
