"""`python -m probes.attention --ckpt run.pt`: attention of every head by lag, its decay, and the truth beside it."""

import json
import math
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import torch
from cyclopts import Parameter
from tqdm import tqdm

from probes.control_report import control_networks, print_controls, run_controls, write_controls
from probes.decay import MIN_LAGS
from probes.study import AttentionStudy, best_families, study_attention
from unrolled.checkpoint import Checkpoint, load_checkpoint
from unrolled.cli import command_line, module_app, print_table, resolve_device, run_app
from unrolled.diffusion import check_time
from unrolled.evaluate import times_within
from unrolled.files import atomic_path, require_writable_folder


def probe(
    *,
    ckpt: Path,
    t: Annotated[tuple[float, ...], Parameter(consume_multiple=True, negative=())] = (),
    samples: int = 256,
    batch: int = 64,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    out: Path | None = None,
    controls: Annotated[bool, Parameter(negative=())] = False,
    white_noise: Path | None = None,
    other_kernel: Path | None = None,
    untrained: int = 199,
) -> None:
    """Mean attention by signed lag of every layer and head at several t, with decay fits beside those of the truth.

    The maps are computed from the queries and keys the model used, checked against its fused output, and reduced while it
    runs. For real data the truth is the empirical covariance of the training windows, and the attention is that on
    held-out windows.

    Parameters
    ----------
    ckpt
        Checkpoint to look at.
    t
        Diffusion times; 0.01, 0.05, 0.2, 1 and 3, as far as the model accepts them, where not given.
    samples
        Sequences; fits use the first half and are judged on the second.
    batch
        Sequences per forward pass.
    seed
        Seed of the sequences and their noise.
    device
        auto is CUDA where there is one.
    out
        Folder for attention.csv, fits.csv, summary.json and PNG figures; with --controls, controls.csv, controls.png and the
        two networks that were trained for it, which are not trained again.
    controls
        Compare every head with untrained weights, position code only, shuffled frames, a wrong kernel, and this network
        trained on white noise and on a kernel of four times the lengthscale: effect sizes and p-values. A network that was
        trained takes as long twice again; at the middle one of the times where t is not given.
    white_noise
        Checkpoint to use as the network trained on white noise, in place of training one.
    other_kernel
        Checkpoint to use as the network trained on another kernel.
    untrained
        Networks of random weights among the controls.
    """
    target = resolve_device(device)
    for name, value, least in (("samples", samples, 2), ("batch", batch, 1), ("untrained", untrained, 1)):
        if value < least:
            raise ValueError(f"{name}: {value} is not accepted; accepted is an integer >= {least}")
    checkpoint = load_checkpoint(ckpt)
    times = sorted(t) or times_within(checkpoint.t_range) or [checkpoint.t_range[0]]
    for each in times:
        check_time(each, 1, checkpoint.t_range)
    if checkpoint.data.length < MIN_LAGS:
        raise ValueError(f"ckpt: its sequences have {checkpoint.data.length} frames; accepted is at least {MIN_LAGS}")
    if out is not None:
        require_writable_folder("out", out)
    given = {name: path for name, path in (("white noise", white_noise), ("other kernel", other_kernel)) if path is not None}
    if given and not controls:
        raise ValueError(f"{next(iter(given)).replace(' ', '_')}: accepted only with --controls")
    networks = control_networks(checkpoint, given, out, target) if controls else {}
    study = run_study(checkpoint, times, samples, batch, seed, target)
    print_study(study, times)
    if out is not None:
        settings = {"command": command_line(), "samples": samples, "seed": seed, "device": str(target)}
        write_study(study, checkpoint, settings, out)
        print(f"wrote {out}/attention.csv, fits.csv, summary.json, decay.png, maps.png")
    if controls:
        chosen = times if t else [times[len(times) // 2]]
        table = run_controls(checkpoint, chosen, networks, samples, batch, seed, untrained, target)
        print_controls(table)
        if out is not None:
            write_controls(table, out)
            print(f"wrote {out}/controls.csv, controls.png")


def run_study(
    checkpoint: Checkpoint, times: list[float], samples: int, batch: int, seed: int, device: torch.device
) -> AttentionStudy:
    """`study_attention` under a progress bar."""
    with tqdm(total=len(times), desc="attention", unit="t") as bar:

        def progress(t: float) -> None:
            bar.set_postfix(t=f"{t:g}")
            bar.update()

        return study_attention(checkpoint, times, samples, batch, seed, device, progress)


def print_study(study: AttentionStudy, times: list[float]) -> None:
    """The exponential family's lengthscale, power and R^2 for each head and t, under those of the truth."""
    fits = study.fits.query("family == 'exponential'")
    rows: list[tuple[str, ...]] = []

    def add(name: str, selected: pd.DataFrame) -> None:
        found = {float(row["t"]): row for row in selected.to_dict("records")}
        rows.append((name, *(_cell(found.get(t, found.get(0.0))) for t in times)))

    add(study.truth_name, fits.query("kind == 'true covariance'"))
    add("inverse of C_t", fits.query("kind == 'inverse of C_t'"))
    for layer, heads in enumerate(study.middle.mean_profiles()):
        for head in range(len(heads)):
            add(f"layer {layer} head {head}", fits.query("layer == @layer and head == @head"))
    print_table(
        "floor + amplitude exp(-(lag/l)^p): l, p, R^2 (- for a negative amplitude, * at the edge of the search)",
        ("", *(f"t={t:g}" for t in times)),
        rows,
    )
    best = best_families(study.fits.query("kind == 'attention'"), ["layer", "head", "t"])
    counts = ", ".join(f"{family} {count}" for family, count in best["family"].value_counts().items())
    print(f"family of the largest R^2 over heads and t, which is no test of a family: {counts}")
    deviation = max(each.deviation for each in study.attention)
    print(f"largest relative deviation of map times values from the model's own attention output: {deviation:.1e}")


def _cell(row: dict[Hashable, Any] | None) -> str:
    if row is None or not math.isfinite(row["r2"]):
        return "constant"
    marks = ("-" if row["amplitude"] < 0 else "") + ("*" if row["at_boundary"] else "")
    return f"{row['lengthscale']:5.2f} {row['power']:4.2f} {row['r2']:6.3f}{marks:2}"


def write_study(study: AttentionStudy, checkpoint: Checkpoint, settings: dict, out: Path) -> None:
    """The tables, the summary and the figures of a study, each written whole or not at all."""
    from probes.figures import decay_figure, map_figure, save_figure  # plotting is slow to import

    for name, table in (("attention.csv", study.profiles), ("fits.csv", study.fits)):
        with atomic_path(out / name) as temporary:
            table.to_csv(temporary, index=False)
    process = checkpoint.process
    summary = {
        "settings": settings,
        "checkpoint": {"file": checkpoint.path.name if checkpoint.path else None, **checkpoint.provenance},
        "truth": study.truth_name,
        "truth_by_lag": study.truth.tolist(),
        "layers": study.middle.layers,
        "attention_to_registers": {f"{each.t:g}": each.outside.tolist() for each in study.attention},
        "largest_deviation_from_fused": max(each.deviation for each in study.attention),
        "dtype": str(checkpoint.dtype).removeprefix("torch."),
        "condition_number": {f"{each.t:g}": process.condition_number(each.t) for each in study.attention},
    }
    with atomic_path(out / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1))
    covariance = process.temporal_covariance.numpy()
    save_figure(decay_figure(study.middle, study.truth, study.truth_name), out / "decay.png")
    save_figure(map_figure(study.middle, covariance, study.truth_name), out / "maps.png")


app = module_app("probes.attention", probe)

if __name__ == "__main__":
    run_app(app)
