"""One training run from its first step to its file: progress, checkpoints, and how it stops.

A checkpoint is written at least every `SAVE_SECONDS`, at the end, and when the run is asked to stop (Ctrl-C, SIGTERM).
A run whose loss is no longer finite stops at once and leaves the last finite checkpoint as it is.
"""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from filelock import FileLock, Timeout

from unrolled.checkpoint import save_checkpoint
from unrolled.checks import InputError, StoppedError
from unrolled.evaluate import denoising_losses, score_errors
from unrolled.files import remove_leftovers, require_writable_folder
from unrolled.progress import Progress
from unrolled.train.finite import CHECK_STEPS
from unrolled.train.snapshots import snapshot_file, snapshot_folder, snapshot_steps
from unrolled.train.trainer import Trainer

__all__ = ["DIVERGED", "reserve", "train_and_save"]

SAVE_SECONDS = 30.0
"""A checkpoint is written at least this often while training."""
DIVERGED = 3
"""Exit status of a run that stopped because its loss was not finite."""


@contextmanager
def reserve(out: Path) -> Iterator[None]:
    """Keep `out` for this run, by a lock on a file beside it, which ends with the process however that ends.

    Temporary files that an earlier run was killed over are removed.

    Raises:
        InputError: another run is writing `out`, or its folder cannot be written.
    """
    require_writable_folder("out", out.parent)
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"out: {str(out)!r} is being written by another run; accepted: another file") from None
    try:
        remove_leftovers(out)
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


class _StopRequest:
    """Remembers the first Ctrl-C or SIGTERM, so that the run can stop between two steps; a second one acts as
    always."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def __enter__(self) -> "_StopRequest":
        for number in self._before:
            signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, self._before[number])


def train_and_save(trainer: Trainer, out: Path, record: dict[str, Any], history: list[dict[str, float]]) -> None:
    """Train to the end under a progress bar and write `out`, also on the way.

    Raises:
        StoppedError: the loss was not finite, or the run was asked to stop; the message says what `out` holds.
    """
    main = trainer.accelerator.is_main_process
    device = torch.cuda.get_device_name() if trainer.device.type == "cuda" else "cpu"
    record |= {"device": device, "dtype": trainer.precision, "processes": trainer.accelerator.num_processes}
    steps, saved_step, saved = trainer.config.steps, trainer.step, time.perf_counter()
    kept = snapshot_steps(steps, trainer.config.snapshots)
    config = asdict(trainer.config)

    def save() -> None:
        nonlocal saved_step, saved
        if not all(bool(weight.isfinite().all()) for weight in trainer.result.parameters()):
            raise _diverged("the weights are", trainer.step, out, saved_step)
        if main:
            record["seconds"] = round(trainer.seconds, 1)
            try:
                save_checkpoint(out, trainer.result, trainer.data, config, record, history, trainer.state())
            except InputError as error:
                raise StoppedError(f"stopped at step {trainer.step}: {error}; {_kept(out, saved_step)}", 1) from None
        saved_step, saved = trainer.step, time.perf_counter()

    if main and kept:
        require_writable_folder("out", snapshot_folder(out))
    with _StopRequest() as stop, Progress(total=steps, start=trainer.step, title="train", unit="step", on=main) as bar:
        for loss in trainer.run():
            if not math.isfinite(float(loss)):
                raise _diverged("the loss is", trainer.step, out, saved_step)
            if main and trainer.step in kept:
                taken = {**record, "step": trainer.step}
                save_checkpoint(snapshot_file(out, trainer.step), trainer.averaged, trainer.data, config, taken)
            if trainer.step % CHECK_STEPS == 0 or trainer.finished:
                history.append({"step": trainer.step, "loss": trainer.mean_loss(), **_watch(trainer)})
                bar.say({name: f"{value:.3g}" for name, value in history[-1].items() if name != "step"})
            bar.update()
            if stop.signal is not None and not trainer.finished:
                save()
                raise StoppedError(
                    f"interrupted at step {trainer.step} of {steps}; it goes on with --resume {out}", 128 + stop.signal
                )
            if time.perf_counter() - saved > SAVE_SECONDS and not trainer.finished:
                save()
        trainer.accelerator.wait_for_everyone()
        if saved_step < trainer.step:  # a complete run is left as it is
            save()


def _kept(out: Path, saved_step: int) -> str:
    return f"{out} holds step {saved_step}" if saved_step else "nothing was written"


def _diverged(what: str, step: int, out: Path, saved_step: int) -> StoppedError:
    return StoppedError(
        f"diverged: {what} not finite at step {step}; {_kept(out, saved_step)}; a smaller --learning-rate may help",
        DIVERGED,
    )


def _watch(trainer: Trainer) -> dict[str, float]:
    """Cheap figures for the progress bar: the losses of a finite set, else the score error or the held-out loss."""
    if trainer.stopping is not None:
        return trainer.stopping.losses
    low, high = trainer.config.t_range
    t = min(max(0.2, low), high)
    data = trainer.data
    if data.exact:
        return {"score error": score_errors(trainer.averaged, data.gaussian(), [t], 64, device=trainer.device)[t]}
    held_out = data.sample_held_out(64, torch.Generator().manual_seed(1)).to(trainer.device)
    return {"held-out loss": denoising_losses(trainer.averaged, held_out, [t])[t]}
