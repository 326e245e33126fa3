"""The controls of a checkpoint as tables, a file and a figure."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from probes.control_networks import can_be_retrained, other_kernel, train_control, white_noise
from probes.control_study import study_controls
from probes.controls import LEVEL, SMALL, verdicts
from probes.decay import fit_decay
from probes.study import truth_by_lag
from unrolled.checkpoint import Checkpoint, load_checkpoint
from unrolled.cli import print_table
from unrolled.files import atomic_path

__all__ = ["control_networks", "print_controls", "run_controls", "write_controls"]


def control_networks(
    checkpoint: Checkpoint, given: dict[str, Path], out: Path | None, device: torch.device
) -> dict[str, nn.Module]:
    """The networks trained on white noise and on another kernel: those of the files in `given`, by name, the rest trained if
    the checkpoint is a training run.

    Raises:
        ValueError: a file whose sequences have another shape.
    """
    process = checkpoint.process
    # Bad files are refused before anything is trained.
    networks = {name: _given_network(checkpoint, path, name).to(device) for name, path in given.items()}
    lengthscale = 1.0
    if not checkpoint.exact:
        truth = truth_by_lag(process)
        lengthscale = fit_decay(np.arange(len(truth)), truth).lengthscale
    for name, data in (("white noise", white_noise(process)), ("other kernel", other_kernel(process, lengthscale))):
        if name in networks or not can_be_retrained(checkpoint):
            continue
        with tqdm(desc=f"train on {name}", unit="step") as bar:

            def progress(step: int, steps: int, bar: tqdm = bar) -> None:
                bar.total = steps
                bar.update(step - bar.n)

            path = out / f"{name.replace(' ', '_')}.pt" if out is not None else None
            networks[name] = train_control(checkpoint, data, device, path, progress)
    return networks


def _given_network(checkpoint: Checkpoint, path: Path, name: str) -> nn.Module:
    argument = name.replace(" ", "_")
    other = load_checkpoint(path, argument)
    shapes = [(each.data.length, each.data.dim) for each in (other, checkpoint)]
    if shapes[0] != shapes[1]:
        found, accepted = (f"{length} frames of {dim} values" for length, dim in shapes)
        raise ValueError(f"{argument}: its sequences are {found}; accepted are {accepted}")
    return other.model.to(checkpoint.dtype)


def run_controls(
    checkpoint: Checkpoint,
    times: list[float],
    networks: dict[str, nn.Module],
    samples: int,
    batch: int,
    seed: int,
    untrained: int,
    device: torch.device,
) -> pd.DataFrame:
    """`study_controls` under a progress bar."""
    with tqdm(total=len(times) * (untrained + 3 + len(networks)), desc="controls", unit="network") as bar:
        return study_controls(
            checkpoint, times, networks, samples, batch, seed, untrained, device, cast(Callable[[], object], bar.update)
        )


def print_controls(table: pd.DataFrame) -> None:
    """For each t and target, one row per head: its r, and r, q and p of each control."""
    controls = list(dict.fromkeys(table["control"]))
    decided = verdicts(table).set_index(["t", "target", "layer", "head"])
    for key, part in table.groupby(["t", "target"], sort=False):
        t, target = cast(tuple[float, str], key)
        rows = []
        for head_key, of_head in part.groupby(["layer", "head"], sort=False):
            layer, head = cast(tuple[int, int], head_key)
            cells = [_cell(of_head[of_head["control"] == each].iloc[0]) for each in controls]
            learned, from_data = decided.loc[(t, target, layer, head), ["learned", "from_data"]]
            verdict = ("learned" if learned else "-") + (", from data" if from_data else "")
            rows.append((f"layer {layer} head {head}", f"{of_head['r'].iloc[0]:.3f}", *cells, verdict))
        print_table(f"match with the {target} at t = {t:g}: r, then r q p of each control", ("", "r", *controls, ""), rows)
    print(
        f"learned: q >= {SMALL:g} and p < {LEVEL:g}, corrected for the number of heads, against all controls but the first"
        " two; from data: against those two"
    )


def _cell(row: pd.Series) -> str:
    return f"{row['r_control']:6.3f} {row['q']:+5.2f} {row['p_corrected']:.3f}"


def write_controls(table: pd.DataFrame, out: Path) -> None:
    """controls.csv and controls.png."""
    from probes.control_figure import control_figure  # plotting is slow to import
    from probes.figures import save_figure

    with atomic_path(out / "controls.csv") as temporary:
        table.to_csv(temporary, index=False)
    save_figure(control_figure(table), out / "controls.png")
