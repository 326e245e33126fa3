"""Averaged models that a run keeps on its way, for curves of what is learned when.

They are checkpoints without training state, in a folder beside that of the run. Keeping them changes nothing of the
run, and one that is resumed keeps the same ones.
"""

from pathlib import Path

from unrolled.checks import InputError

__all__ = ["require_no_snapshots", "snapshot_file", "snapshot_folder", "snapshot_steps", "snapshots_in"]


def snapshot_steps(steps: int, count: int | None) -> frozenset[int]:
    """Steps after which a model is kept: `count` of them, evenly spaced in log from 1 to `steps`, equal ones once."""
    if not count:
        return frozenset()
    return frozenset(round(steps ** ((k + 1) / count)) for k in range(count))


def snapshot_folder(out: Path) -> Path:
    """Where the run that writes `out` keeps its models."""
    return out.with_name(f"{out.name}.snapshots")


def snapshot_file(out: Path, step: int) -> Path:
    """The model of one step."""
    return snapshot_folder(out) / f"step_{step:07d}.pt"


def require_no_snapshots(out: Path, overwrite: bool) -> None:
    """Remove the models of an earlier run with the same file, where it may be overwritten.

    Raises:
        InputError: there are some, and it may not.
    """
    old = sorted(snapshot_folder(out).glob("step_*.pt"))
    if old and not overwrite:
        raise InputError(f"snapshots: {str(old[0].parent)!r} holds models; accepted: no such folder, or --overwrite")
    for path in old:
        path.unlink()


def snapshots_in(folder: Path) -> list[Path]:
    """The models in a folder, by their step.

    Raises:
        InputError: it holds none.
    """
    if not (found := sorted(folder.glob("step_*.pt"))):
        raise InputError(
            f"snapshots: {str(folder)!r} holds no model; accepted: the folder RUN.snapshots that python -m"
            " unrolled.train --snapshots writes"
        )
    return found
