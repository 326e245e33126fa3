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
from unrolled.chosen_data import refuse_options, say_what_was_read, without_effect
from unrolled.cli import module_app, resolve_device, run_app
from unrolled.files import require_output_file, require_writable_folder
from unrolled.models.dit import DiTSizes
from unrolled.models.unet import UNetSizes
from unrolled.options import TrainConfig, train_config
from unrolled.provenance import command_line, provenance
from unrolled.summary import print_errors
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
    given = set(app.given) - {"--resume", "--device"}
    if resume is not None and given:
        raise InputError(f"resume: cannot be combined with {', '.join(sorted(given))}; accepted beside it: --device")
    if resume is not None and not os.path.isfile(resume):
        raise InputError(f"resume: {str(resume)!r} is not a file; accepted: a checkpoint of a training run")
    first = int(os.environ.get("RANK", "0")) == 0  # of several processes, the one that writes
    out = resume or out
    if resume is None:
        require_output_file("out", out, overwrite or not first, f", or --resume {out}")
    with reserve(out) if first else nullcontext():
        if resume is not None:
            trainer, record, history = _resumed(resume, target)
        else:
            _require_effect(config)
            if first and config.snapshots is not None:
                require_no_snapshots(out, overwrite)
            data = make_data(config)
            say_what_was_read(data)
            trainer = Trainer(config, data, target)
            record, history = {**provenance(), "command": command_line(), "seed": config.seed}, []
        train_and_save(trainer, out, record, history)
    if first:
        _print_summary(trainer, out)
    trainer.accelerator.end_training()


def _resumed(path: Path, device: torch.device) -> tuple[Trainer, dict[str, Any], list[dict[str, float]]]:
    """(trainer, provenance, history) of the run in a checkpoint."""
    checkpoint = load_checkpoint(path, "resume")
    if not checkpoint.training:
        raise InputError(f"resume: {str(path)!r} has no training state; accepted: a checkpoint of a training run")
    require_writable_folder("resume", path.parent)
    trainer = Trainer(train_config(checkpoint.config), checkpoint.data, device)
    try:
        trainer.load_state(checkpoint.training, checkpoint.model)
    except Exception as error:  # whatever a damaged part raises where it is used
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(
            f"resume: {str(path)!r} has a damaged training state ({reason}); accepted: a checkpoint of a training run"
        ) from None
    return trainer, checkpoint.provenance, checkpoint.history


def _require_effect(config: TrainConfig) -> None:
    """Refuse options of the data that would change nothing, and sizes of the network that is not chosen."""
    other = UNetSizes if config.model == "dit" else DiTSizes
    sizes = {f"--{field.name.replace('_', '-')}": f"beside --model {config.model}" for field in fields(other)}
    refuse_options(app.given, without_effect(config.process, config.data) | sizes)


def _print_summary(trainer: Trainer, out: Path) -> None:
    """The table every run ends with."""
    print_errors(trainer.result.eval(), trainer.data, trainer.config.t_range, device=trainer.device)
    if (rule := trainer.stopping) is not None:
        losses = ", ".join(f"{name} {value:.4g}" for name, value in rule.losses.items())
        why = "held-out loss stopped falling" if trainer.step < trainer.config.steps else "all steps done"
        print(
            f"{why} at step {trainer.step} ({losses}); kept the model of step {rule.step}, of the lowest held-out loss"
        )
    print(
        f"{trainer.step} steps in {trainer.seconds:.0f} s ({trainer.precision} on {trainer.device.type}); wrote {out}"
    )
    following = (
        f"probes.attention --ckpt {out}"
        if trainer.config.model == "dit"
        else f"reports.compare --ckpt {out} --out report"
    )
    print(f"next: python -m {following}")


def _apply_preset(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Give the preset's values to options without one (a hook of the command-line library)."""
    del commands
    given = {argument.name: argument for argument in arguments if argument.tokens}
    preset = given["--preset"].tokens[-1].value if "--preset" in given else "quick"
    values = Dict(PRESETS.get(preset, {}), use_commands_as_keys=False, source=f"preset {preset}")
    values(app, (), arguments)


app = module_app("unrolled.train", train)
app.config = (*app.config, _apply_preset)

if __name__ == "__main__":
    run_app(app)
