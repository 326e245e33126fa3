"""`python -m probes.spatial --ckpt run.pt`: do value/output products recover the eigenvectors of Sigma?
(`spatial_gains`)"""

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import pandas as pd
from cyclopts import Parameter
from tqdm import tqdm

from probes.controls.comparison import LEVEL
from probes.spatial.gains import study_spatial
from unrolled.checkpoint import load_checkpoint
from unrolled.checks import InputError
from unrolled.cli import module_app, print_table, resolve_device, run_app
from unrolled.evaluate import chosen_times
from unrolled.files import atomic_path, require_writable_folder
from unrolled.provenance import command_line


def probe(
    *,
    ckpt: Path,
    t: Annotated[tuple[float, ...], Parameter(consume_multiple=True, negative=())] = (),
    samples: int = 64,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    out: Path | None = None,
) -> None:
    """For each head, whether what it carries of a frame lies along the eigenvectors of the spatial covariance Sigma.

    Parameters
    ----------
    ckpt
        Checkpoint to look at.
    t
        Diffusion times; 0.01, 0.05, 0.2, 1 and 3, as far as the model accepts them, where not given.
    samples
        Sequences over which what a head writes is averaged.
    seed
        Seed of sequences, noise, random bases and untrained weights.
    device
        auto is CUDA where there is one.
    out
        Folder for spatial.csv, summary.json and spatial.png.
    """
    target = resolve_device(device)
    if samples < 1:
        raise InputError(f"samples: {samples} is not accepted; accepted: an integer >= 1")
    checkpoint = load_checkpoint(ckpt)
    times = chosen_times(t, checkpoint.t_range)
    values = checkpoint.process.spatial_eigen[0]
    if len(values) < 2:
        raise InputError(
            "ckpt: its frames have one value, and Sigma no directions; accepted: frames of 2 values or more"
        )
    if float(values.diff().min()) < 1e-6 * float(values[-1]):
        raise InputError(
            f"ckpt: Sigma has eigenvalues {', '.join(f'{value:.4g}' for value in values)}, and some have no eigenvectors of"
            " their own; accepted: a Sigma with distinct eigenvalues"
        )
    if out is not None:
        require_writable_folder("out", out)
    table = pd.concat(
        [study_spatial(checkpoint, each, samples, seed, target) for each in tqdm(times, desc="spatial", unit="t")],
        ignore_index=True,
    )
    print_spatial(table, len(values))
    if out is not None:
        with atomic_path(out / "spatial.csv") as temporary:
            table.to_csv(temporary, index=False)
        summary = {
            "command": command_line(), "samples": samples, "seed": seed, "device": str(target), "dtype": "float64",
            "eigenvalues": values.tolist(),
            "checkpoint": {"file": ckpt.name, **checkpoint.provenance},
        }  # fmt: skip
        with atomic_path(out / "summary.json") as temporary:
            temporary.write_text(json.dumps(summary, indent=1))
        from probes.figures import save_figure  # plotting is slow to import
        from probes.spatial.figures import spatial_figure

        save_figure(spatial_figure(table), out / "spatial.png")
        print(f"wrote {out}/spatial.csv, summary.json, spatial.png")


def print_spatial(table: pd.DataFrame, dim: int) -> None:
    """Share and corrected p of the score and of each head at each t; the untrained heads as their mean."""
    times = list(dict.fromkeys(table["t"]))
    rows: list[tuple[str, ...]] = []
    for key, part in table.query("kind != 'untrained'").groupby(["layer", "head"]):
        layer, head = cast(tuple[int, int], key)
        cells = {row["t"]: row for row in part.to_dict("records")}
        name = "score of the model" if layer < 0 else f"layer {layer} head {head}"
        rows.append((name, *(_cell(cells[t]) for t in times)))
    untrained = [table.query("kind == 'untrained' and t == @t") for t in times]
    sums = [f"{each['share'].mean():.3f} ({(each['p_corrected'] < LEVEL).sum()} of {len(each)})" for each in untrained]
    rows.append(("untrained heads", *sums))
    print_table(
        f"share on the diagonal in the eigenbasis of Sigma, and its p ({2 / (dim + 2):.2f} in a random basis; of untrained"
        f" heads the mean, and how many have p < {LEVEL:g})",
        ("", *(f"t={t:g}" for t in times)),
        rows,
    )


def _cell(row: dict[Hashable, Any]) -> str:
    p = row["p"] if row["kind"] == "score" else row["p_corrected"]
    return f"{row['share']:.3f} {p:.4f}" if np.isfinite(p) else "-"


app = module_app("probes.spatial", probe)

if __name__ == "__main__":
    run_app(app)
