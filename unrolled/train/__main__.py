"""`python -m unrolled.train`: train a DiT on a Gaussian process or on real data, and say how far it is from the
truth."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from cyclopts import App, Parameter
from cyclopts.argument import ArgumentCollection
from cyclopts.config import Dict
from tqdm import tqdm

from unrolled.checkpoint import load_checkpoint, save_checkpoint
from unrolled.checks import InputError
from unrolled.cli import module_app, print_table, resolve_device, run_app
from unrolled.evaluate import denoising_losses, score_errors, times_within
from unrolled.files import require_writable_folder
from unrolled.options import TrainConfig, config_from_dict
from unrolled.provenance import command_line, provenance
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

SAVE_SECONDS = 30.0
"""A checkpoint is written at least this often while training."""
WATCH_STEPS = 100
"""Steps between two evaluations for the progress bar."""


def train(
    *,
    preset: Literal["quick", "weather", "long"] = "quick",
    config: TrainConfig = TrainConfig(),  # noqa: B008 (frozen)
    out: Path = Path("run.pt"),
    resume: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Train a DiT by denoising score matching and print its error against the exact score.

    Presets set what the command line does not: `quick` (the defaults: 32 frames of 4 values, two minutes on two cores),
    `weather` (hourly weather at New York's airports, shipped with the package) and `long` (128 frames, width 256,
    8 blocks, for a GPU).

    Several processes share each batch: `torchrun --nproc_per_node 2 -m unrolled.train ...` with the same options gives
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
    history: list[dict[str, float]] = []
    if resume is not None:
        if _given_options:
            raise InputError(
                f"resume: cannot be combined with {', '.join(_given_options)}; accepted beside it is device"
            )
        checkpoint, out = load_checkpoint(resume, "resume"), resume
        if not checkpoint.training:
            raise InputError(f"resume: {str(resume)!r} has no training state; accepted: a checkpoint of a training run")
        trainer = Trainer(config_from_dict(TrainConfig, checkpoint.config), checkpoint.data, target)
        trainer.load_state(checkpoint.training, checkpoint.model.state_dict())
        record, history = checkpoint.provenance, checkpoint.history
    else:
        if out.exists() and not overwrite:
            raise InputError(f"out: {str(out)!r} exists; accepted: a new file, --overwrite, or --resume {out}")
        trainer = Trainer(config, make_data(config), target)
        record = {**provenance(), "command": command_line(), "seed": config.seed}
    require_writable_folder("out", out.parent)
    _train_and_save(trainer, out, record, history)
    if trainer.accelerator.is_main_process:
        _print_summary(trainer, out)
    trainer.accelerator.end_training()


def _train_and_save(trainer: Trainer, out: Path, record: dict[str, Any], history: list[dict[str, float]]) -> None:
    """Train to the end under a progress bar, saving every `SAVE_SECONDS` and when done."""
    main = trainer.accelerator.is_main_process
    device = torch.cuda.get_device_name() if trainer.device.type == "cuda" else "cpu"
    record |= {"device": device, "dtype": trainer.precision, "processes": trainer.accelerator.num_processes}

    def save() -> None:
        if main:
            record["seconds"] = round(trainer.seconds, 1)
            save_checkpoint(
                out, trainer.averaged, trainer.data, asdict(trainer.config), record, history, trainer.state()
            )

    steps = trainer.config.steps
    saved = time.perf_counter()
    losses: list[torch.Tensor] = []
    with tqdm(total=steps, initial=trainer.step, desc="train", unit="step", disable=not main) as bar:
        for loss in trainer.run():
            bar.update()
            losses.append(loss)
            if trainer.step % WATCH_STEPS == 0 or trainer.step == steps:
                history.append({"step": trainer.step, "loss": float(torch.stack(losses).mean()), **_watch(trainer)})
                losses.clear()
                bar.set_postfix({name: f"{value:.3g}" for name, value in history[-1].items() if name != "step"})
                if time.perf_counter() - saved > SAVE_SECONDS and trainer.step < steps:
                    save()
                    saved = time.perf_counter()
    trainer.accelerator.wait_for_everyone()
    save()


def _watch(trainer: Trainer) -> dict[str, float]:
    """One cheap figure for the progress bar: the score error, or for real data the held-out loss."""
    low, high = trainer.config.model.t_range
    t = min(max(0.2, low), high)
    data = trainer.data
    if data.exact:
        return {"score error": score_errors(trainer.averaged, data.gaussian(), [t], 64, device=trainer.device)[t]}
    held_out = data.sample_held_out(64, torch.Generator().manual_seed(1)).to(trainer.device)
    return {"held-out loss": denoising_losses(trainer.averaged, held_out, [t])[t]}


def _print_summary(trainer: Trainer, out: Path) -> None:
    """The table every run ends with."""
    data, model = trainer.data, trainer.averaged
    times = times_within(trainer.config.model.t_range)
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
    print(
        f"{trainer.step} steps in {trainer.seconds:.0f} s ({trainer.precision} on {trainer.device.type}); wrote {out}"
    )
    print(f"next: python -m probes.attention --ckpt {out}")


_given_options: list[str] = []
"""Options on the command line that `--resume` does not go with."""


def _apply_preset(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Give the preset's values to options without one (a hook of the command-line library)."""
    del commands
    given = {argument.name: argument for argument in arguments if argument.tokens}
    _given_options[:] = sorted(set(given) - {"--resume", "--device"})
    preset = given["--preset"].tokens[-1].value if "--preset" in given else "quick"
    values = Dict(PRESETS.get(preset, {}), use_commands_as_keys=False, source=f"preset {preset}")
    values(app, (), arguments)


app = module_app("unrolled.train", train)
app.config = (_apply_preset,)

if __name__ == "__main__":
    run_app(app)
