"""`python -m unrolled.fit --kind affine --out affine.pt`: a classical score model fitted to n sequences."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import Parameter

from unrolled.checkpoint import save_checkpoint
from unrolled.checks import require_t_range
from unrolled.chosen_data import chosen_data, refuse_options, say_what_was_read, without_effect
from unrolled.cli import module_app, run_app
from unrolled.files import require_output_file
from unrolled.fit.study import Kind, fit_model
from unrolled.options import DataOptions, ProcessOptions
from unrolled.progress import Progress
from unrolled.provenance import command_line, provenance
from unrolled.series.data import draw_training_set
from unrolled.summary import print_errors


def fit(
    *,
    kind: Kind = "affine",
    samples: int = 1000,
    process: ProcessOptions = ProcessOptions(),  # noqa: B008 (frozen)
    data: DataOptions = DataOptions(),  # noqa: B008 (frozen)
    t_range: tuple[float, float] = (0.004, 8.0),
    seed: int = 0,
    out: Path = Path("fit.pt"),
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """How good is the score of a classical estimate from so many sequences?

    Example: `python -m unrolled.fit --kind affine --samples 1000 --out affine.pt`

    The sequences are drawn once, from the Gaussian process or from the training windows of a series. The answer is the
    error against the exact score, or for real data the loss on held-out windows. The checkpoint goes wherever a trained
    one does. A checkpoint of kind `empirical` or `nearest` holds the sequences.

    Parameters
    ----------
    kind
        What is fitted. `affine`: the Wiener denoiser of the covariance that the rule of Ledoit and Wolf shrinks.
        `empirical`: the optimal denoiser of the sequences, a softmax over them. `nearest`: its limit, the nearest
        sequence. `sample-covariance`: the Gaussian of sample mean and covariance. `kronecker`: the most likely
        covariance Gamma (x) Sigma. `kernel`: the same with Gamma from the family `--temporal`, whose parameters are
        fitted.
    samples
        Sequences. For a series, different windows of its training part.
    t_range
        Diffusion times the model accepts.
    seed
        Seed of the sequences.
    out
        Checkpoint to write.
    overwrite
        Replace `out` if it exists.
    """
    require_t_range(t_range)
    refuse_options(app.given, without_effect(process, data, ("--temporal",) if kind == "kernel" else ()))
    require_output_file("out", out, overwrite)
    chosen = chosen_data(process, data)
    say_what_was_read(chosen)
    sequences = draw_training_set(chosen, samples, seed)
    with Progress(None, f"fit {kind}", "step", delay=1.0) as bar:  # no bar for what is done at once
        fitted = fit_model(kind, sequences, t_range, process.temporal, bar.update)
    facts = fitted.facts
    options = {
        "kind": kind, "samples": samples, "process": asdict(process), "data": asdict(data), "t_range": t_range,
        "seed": seed, "fitted": facts,
    }  # fmt: skip
    record = {**provenance(), "command": command_line(), "seed": seed, "device": "cpu", "dtype": "float64"}
    save_checkpoint(out, fitted.model, chosen, options, record)
    print_errors(fitted.model, chosen, t_range, torch.float64)
    found = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in facts.items())
    print(", ".join([f"{kind} of {samples} sequences", *found]) + f"; wrote {out}")
    print(f"next: python -m reports.compare --ckpt {out} --out report")


app = module_app("unrolled.fit", fit)

if __name__ == "__main__":
    run_app(app)
