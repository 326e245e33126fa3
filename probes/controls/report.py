"""The controls of a checkpoint as tables, a file and a figure."""

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from probes.attention.study import truth_by_lag
from probes.controls.comparison import LEVEL, SMALL, verdicts
from probes.controls.networks import can_be_retrained, kept_control, other_kernel, train_control, white_noise
from probes.controls.study import study_controls
from probes.decay.fit import fit_decay
from unrolled.checkpoint import Checkpoint, load_checkpoint
from unrolled.checks import InputError
from unrolled.cli import print_table
from unrolled.files import atomic_path

__all__ = ["control_networks", "print_controls", "run_controls", "write_controls"]

NETWORKS: tuple[str, ...] = ("white noise", "other kernel")


def control_networks(
    checkpoint: Checkpoint, given: dict[str, Path], times: list[float], out: Path | None, device: torch.device
) -> dict[str, nn.Module]:
    """The networks trained on white noise and on another kernel: those of the files in `given`, by name, the rest
    trained if the checkpoint is a training run.

    Raises:
        InputError: a file of a network for other sequences, registers or times, or trained on something else; a folder
            `out` with control networks of another run.
    """
    process = checkpoint.process
    # Bad files are refused before anything is trained.
    networks = {name: _given_network(checkpoint, path, name, times).to(device) for name, path in given.items()}
    lengthscale = 1.0
    if not checkpoint.exact:
        truth = truth_by_lag(process)
        lengthscale = fit_decay(np.arange(len(truth)), truth).lengthscale
    processes = dict(zip(NETWORKS, (white_noise(process), other_kernel(process, lengthscale)), strict=True))
    missing = [name for name in NETWORKS if name not in networks] if can_be_retrained(checkpoint) else []
    files = {name: out / f"{name.replace(' ', '_')}.pt" for name in missing} if out is not None else {}
    for name in missing:
        if name in files and files[name].exists():
            networks[name] = kept_control(checkpoint, processes[name], files[name]).to(device)
    for name in [each for each in missing if each not in networks]:
        with tqdm(desc=f"train on {name}", unit="step") as bar:

            def progress(step: int, steps: int, bar: tqdm = bar) -> None:
                bar.total = steps
                bar.update(step - bar.n)

            networks[name] = train_control(checkpoint, processes[name], device, files.get(name), progress)
    return networks


def _given_network(checkpoint: Checkpoint, path: Path, name: str, times: list[float]) -> nn.Module:
    argument = name.replace(" ", "_")
    other = load_checkpoint(path, argument)
    shapes = [(each.data.length, each.data.dim, each.registers) for each in (other, checkpoint)]
    if shapes[0] != shapes[1]:
        found, accepted = (f"{n} frames of {d} values with {registers} registers" for n, d, registers in shapes)
        raise InputError(f"{argument}: it is made for {found}; accepted: {accepted}")
    low, high = other.t_range
    if not all(low <= t <= high for t in times):
        raise InputError(f"{argument}: it accepts t in [{low:g}, {high:g}]; accepted: one that accepts {times}")
    ours, theirs = checkpoint.process, other.process
    white = bool((theirs.temporal_covariance - torch.eye(theirs.length)).abs().max() < 1e-6)
    if not torch.allclose(ours.spatial_covariance, theirs.spatial_covariance, atol=1e-6) or white != (
        name == "white noise"
    ):
        kind = "white noise" if name == "white noise" else "a kernel that is not white noise"
        raise InputError(f"{argument}: it was trained on {theirs}; accepted: {kind}, with the Sigma of the checkpoint")
    if torch.allclose(ours.temporal_covariance, theirs.temporal_covariance, atol=1e-6):
        raise InputError(f"{argument}: it was trained on the covariance of the checkpoint; accepted: another one")
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


def print_controls(table: pd.DataFrame, exact: bool = True) -> None:
    """For each t and target, one row per head: its r, and r, q and p of each control; `exact` as in `Checkpoint`."""
    controls = list(dict.fromkeys(table["control"]))
    decided = verdicts(table).set_index(["t", "target", "layer", "head"])
    for key, part in table.groupby(["t", "target"], sort=False):
        t, target = cast(tuple[float, str], key)
        rows = []
        for head_key, of_head in part.groupby(["layer", "head"], sort=False):
            layer, head = cast(tuple[int, int], head_key)
            found = {row["control"]: row for row in of_head.to_dict("records")}
            cells = [_cell(found[each]) if each in found else "-" for each in controls]
            learned, from_data = decided.loc[(t, target, layer, head), ["learned", "from_data"]]
            verdict = ("learned" if learned else "-") + (", from data" if from_data else "")
            rows.append((f"layer {layer} head {head}", f"{of_head['r'].iloc[0]:.3f}", *cells, verdict))
        print_table(
            f"match with the {target} at t = {t:g}: r, then r q p of each control", ("", "r", *controls, ""), rows
        )
    print(
        f"learned: q >= {SMALL:g} and p < {LEVEL:g}, corrected for the number of heads, against all controls but the first"
        " two; from data: against those two"
    )
    if not set(NETWORKS) <= set(controls):
        absent = " and ".join(name for name in NETWORKS if name not in controls)
        print(f"control networks that are missing, since the checkpoint is no training run: {absent}")
    if not exact:
        print("held-out windows overlap and count as independent sequences, so that p-values over them are too small")


def _cell(row: dict[Hashable, Any]) -> str:
    return f"{row['r_control']:6.3f} {row['q']:+5.2f} {row['p_corrected']:.3f}"


def write_controls(table: pd.DataFrame, out: Path) -> None:
    """controls.csv and controls.png."""
    from probes.controls.figures import control_figure  # plotting is slow to import
    from probes.figures import save_figure

    with atomic_path(out / "controls.csv") as temporary:
        table.to_csv(temporary, index=False)
    save_figure(control_figure(table), out / "controls.png")
