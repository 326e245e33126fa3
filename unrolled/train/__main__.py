"""`python -m unrolled.train`: train a network on a Gaussian process or on real data, and say how far it is from the
truth."""

import os
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from cyclopts import App, Parameter
from cyclopts.argument import ArgumentCollection
from cyclopts.config import Dict

from unrolled.checkpoint import load_checkpoint
from unrolled.checks import InputError
from unrolled.cli import module_app, print_table, resolve_device, run_app
from unrolled.evaluate import denoising_losses, score_errors, times_within
from unrolled.files import require_output_file, require_writable_folder
from unrolled.models.dit import DiTSizes
from unrolled.models.unet import UNetSizes
from unrolled.options import TrainConfig, train_config
from unrolled.provenance import command_line, provenance
from unrolled.series.data import SequenceData
from unrolled.train.run import reserve, train_and_save
from unrolled.train.snapshots import require_no_snapshots
from unrolled.train.trainer import Trainer, make_data

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {},
    "weather": {"data": "weather", "dim": 4, "steps": 1000},
    "long": {
        **{"length": 128, "lengthscale": 8.0, "width": 256, "depth": 8, "heads": 8, "t-range": [0.001, 8.0]},
        **{"steps": 20000, "batch": 512, "learning-rate": 1e-3, "ema": 0.999},
    },
}
"""Values a preset gives to options that are not on the command line."""


def train(
    *,
    preset: Literal["quick", "weather", "long"] = "quick",
    config: TrainConfig = TrainConfig(),  # noqa: B008 (frozen)
    out: Path = Path("run.pt"),
    resume: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """How well does a network learn the diffusion score of a Gaussian process, or of your own series?

    Example: `python -m unrolled.train --lengthscale 8 --out run.pt`

    Trains by denoising score matching. The answer is the error against the exact score, or for real data the loss on
    held-out windows beside that of the best Gaussian.

    Presets set what the command line does not: `quick` (the defaults: 32 frames of 4 values, two minutes on two cores),
    `weather` (hourly weather at New York's airports, shipped with the package) and `long` (128 frames, width 256,
    8 blocks, for a GPU).

    Several processes share every batch: `torchrun --nproc_per_node 2 -m unrolled.train ...` with the same options gives
    the same run up to float error.

    Parameters
    ----------
    preset
        Where the defaults come from.
    out
        Checkpoint to write, also while training. It holds the data's description; for real data, the series itself.
    resume
        Go on with this checkpoint and its options, into the same file; one that is complete is left alone.
    overwrite
        Replace `out` if it exists.
    device
        auto is CUDA where there is one.
    """
    target = resolve_device(device)
    given = _options_given - {"--resume", "--device"}
    if resume is not None and given:
        raise InputError(f"resume: cannot be combined with {', '.join(sorted(given))}; accepted beside it: --device")
    first = int(os.environ.get("RANK", "0")) == 0  # of several processes, the one that writes
    out = resume or out
    with reserve(out) if first else nullcontext():
        if resume is not None:
            trainer, record, history = _resumed(resume, target)
        else:
            _require_effect(config)
            require_output_file("out", out, overwrite or not first, f", or --resume {out}")
            if first and config.snapshots is not None:
                require_no_snapshots(out, overwrite)
            data = make_data(config)
            _say_what_was_read(data)
            trainer = Trainer(config, data, target)
            record, history = {**provenance(), "command": command_line(), "seed": config.seed}, []
        train_and_save(trainer, out, record, history)
    if first:
        _print_summary(trainer, out)
    trainer.accelerator.end_training()


def _say_what_was_read(data: SequenceData) -> None:
    """A line on what of a file is no data, or is not what it seems."""
    facts = data.description
    if left_out := facts.get("columns_left_out"):
        print(f"data: left out {', '.join(left_out)}; --columns chooses others")
    if missing := facts.get("rows_missing"):
        print(f"data: the clock {facts['time_column_ignored']!r} misses {missing} rows; no window crosses such a gap")
    if clock := facts.get("clock"):
        print(f"data: {facts['time_column_ignored']!r} is taken for a clock; {clock}")


def _resumed(path: Path, device: torch.device) -> tuple[Trainer, dict[str, Any], list[dict[str, float]]]:
    """(trainer, provenance, history) of the run in a checkpoint."""
    checkpoint = load_checkpoint(path, "resume")
    if not checkpoint.training:
        raise InputError(f"resume: {str(path)!r} has no training state; accepted: a checkpoint of a training run")
    require_writable_folder("resume", path.parent)
    trainer = Trainer(train_config(checkpoint.config), checkpoint.data, device)
    trainer.load_state(checkpoint.training, checkpoint.model)
    return trainer, checkpoint.provenance, checkpoint.history


def _require_effect(config: TrainConfig) -> None:
    """Refuse options that would change nothing.

    Raises:
        InputError: an option of the Gaussian process beside --data, one of a series without it, a parameter that the
            chosen kernel or Sigma does not have, or a size of the network that is not chosen.
    """
    process = config.process
    why: dict[str, str] = {}
    if config.data.data is not None:
        of_process = ("temporal", "lengthscale", "power", "smoothness", "spatial", "spatial-condition", "spatial-seed")
        why = {f"--{name}": "beside --data" for name in of_process}
    else:
        why = {"--periods": "without --data", "--columns": "without --data"}
        why["--power" if process.temporal == "matern" else "--smoothness"] = f"beside --temporal {process.temporal}"
        if process.spatial == "identity":
            why |= {f"--spatial-{name}": "beside --spatial identity" for name in ("condition", "seed")}
    other = UNetSizes if config.model == "dit" else DiTSizes
    why |= {f"--{field.name.replace('_', '-')}": f"beside --model {config.model}" for field in fields(other)}
    for option in sorted(_options_given & set(why)):
        raise InputError(f"{option.lstrip('-')}: has no effect {why[option]}")


def _print_summary(trainer: Trainer, out: Path) -> None:
    """The table every run ends with."""
    data, model = trainer.data, trainer.result
    times = times_within(trainer.config.t_range)
    model.eval()
    if data.exact:
        errors = score_errors(model, data.gaussian(), times, device=trainer.device)
        rows = [(f"{t:g}", f"{error:.4f}") for t, error in errors.items()]
        print_table("relative score error, 512 fresh samples, exact score as truth", ("t", "error"), rows)
    else:
        held_out = data.sample_held_out(512, torch.Generator().manual_seed(1)).to(trainer.device)
        ours = denoising_losses(model, held_out, times)
        linear = denoising_losses(data.gaussian().score, held_out, times)
        rows = [(f"{t:g}", f"{ours[t]:.4f}", f"{linear[t]:.4f}") for t in times]
        print_table(
            "denoising loss on 512 held-out windows (lower is better)",
            ("t", "model", "Gaussian of the empirical covariance"),
            rows,
        )
    if (rule := trainer.stopping) is not None:
        losses = ", ".join(f"{name} {value:.4g}" for name, value in rule.losses.items())
        why = "held-out loss stopped falling" if trainer.step < trainer.config.steps else "all steps done"
        print(
            f"{why} at step {trainer.step} ({losses}); kept the model of step {rule.step}, of the lowest held-out loss"
        )
    print(
        f"{trainer.step} steps in {trainer.seconds:.0f} s ({trainer.precision} on {trainer.device.type}); wrote {out}"
    )
    print(f"next: python -m probes.attention --ckpt {out}")


_options_given: set[str] = set()
"""Options on the command line that runs now."""


def _apply_preset(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Give the preset's values to options without one (a hook of the command-line library)."""
    del commands
    given = {argument.name: argument for argument in arguments if argument.tokens}
    _options_given.clear()
    _options_given.update(given)
    preset = given["--preset"].tokens[-1].value if "--preset" in given else "quick"
    values = Dict(PRESETS.get(preset, {}), use_commands_as_keys=False, source=f"preset {preset}")
    values(app, (), arguments)


app = module_app("unrolled.train", train)
app.config = (*app.config, _apply_preset)

if __name__ == "__main__":
    run_app(app)
