"""`python -m reports.probe_cost`: time and peak memory of the attention probe beside those of the model's own forward
pass.

Each measurement is a process of its own, since the peak resident set of a process never falls. The model has random
weights; the cost does not depend on them.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from probes.capture.by_lag import attention_by_lag
from unrolled.checks import InputError, require_integer
from unrolled.cli import module_app, print_table, run_app
from unrolled.files import require_writable_folder, write_json
from unrolled.models.dit import DiT, DiTConfig
from unrolled.progress import Progress
from unrolled.provenance import command_line

__all__ = ["measure", "measure_apart"]

TIME = 0.5
"""Diffusion time of the pass; the cost does not depend on it."""


@torch.no_grad()
def measure(probe: bool, length: int, depth: int, heads: int, width: int, batch: int, threads: int) -> dict[str, float]:
    """Wall and CPU seconds of one pass and peak memory in MB of this process, of a DiT of these sizes in float32.

    CPU seconds are those of all threads together; other work on the machine disturbs them less than wall time.

    Args:
        probe: reduce attention by lag during the pass, and verify it.
        length: tokens.
        depth: layers.
        heads: attention heads per layer.
        width: width of the stream.
        batch: sequences.
        threads: threads of torch.
    """
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    model = DiT(DiTConfig(length=length, dim=4, width=width, depth=depth, heads=heads))
    for name, parameter in model.named_parameters():
        if "modulation" in name:  # open gates, so that attention depends on the data
            torch.nn.init.normal_(parameter, std=0.02, generator=generator)
    x = torch.randn(batch, length, 4, generator=generator)
    start, cpu_start = time.perf_counter(), time.process_time()
    if probe:
        attention_by_lag(model, [x], TIME)
    else:
        model(x, TIME)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes on Linux
    return {
        "seconds": seconds,
        "CPU seconds": cpu,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit,
    }


def measure_apart(probe: bool, **sizes: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    code = f"import json; from reports.probe_cost import measure; print(json.dumps(measure({probe}, **{sizes})))"
    threads = str(sizes["threads"])
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"the measurement ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def probe_cost(
    *,
    length: int = 2048,
    depth: int = 12,
    heads: int = 12,
    width: int = 768,
    batch: int = 4,
    threads: int = 2,
    repeats: int = 3,
    out: Path | None = None,
) -> None:
    """Seconds and peak memory of a forward pass without and with the attention probe, float32 on the CPU.

    The probe of the pass includes the comparison of every map with the fused output.

    Parameters
    ----------
    length
        Tokens, N.
    depth
        Layers.
    heads
        Attention heads per layer.
    width
        Width of the stream.
    batch
        Sequences.
    threads
        Threads of torch.
    repeats
        Measurements of each kind, in turn; the fastest time and the largest memory are shown.
    out
        Folder for probe_cost.json.
    """
    sizes = {"length": length, "depth": depth, "heads": heads, "width": width, "batch": batch, "threads": threads}
    for name, value in {**sizes, "repeats": repeats}.items():
        require_integer(name, value)
    if width % heads:
        raise InputError(f"heads: {heads} does not divide width {width}; accepted: a divisor")
    if out is not None:
        require_writable_folder("out", out)
    runs: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    with Progress(total=2 * repeats, title="passes") as bar:
        for _ in range(repeats):
            for probe in (False, True):
                runs[probe].append(measure_apart(probe, **sizes))
                bar.update()
    wall, cpu = (
        [min(run[what] for run in runs[probe]) for probe in (False, True)] for what in ("seconds", "CPU seconds")
    )
    peak = [max(run["peak MB"] for run in runs[probe]) for probe in (False, True)]
    rows = [
        ("forward pass", f"{wall[0]:.1f}", f"{cpu[0]:.1f}", f"{peak[0]:.0f}"),
        ("forward pass with probe", f"{wall[1]:.1f}", f"{cpu[1]:.1f}", f"{peak[1]:.0f}"),
        ("ratio / difference", f"{wall[1] / wall[0]:.2f} x", f"{cpu[1] / cpu[0]:.2f} x", f"+{peak[1] - peak[0]:.0f}"),
    ]
    print_table(
        f"N={length}, {depth} layers, {heads} heads, width {width}, batch {batch}, float32, CPU, {threads} threads",
        ("", "seconds", "CPU seconds", "peak MB"),
        rows,
    )
    maps = batch * depth * heads * length**2 * 4 / 2**20
    print(f"all maps together would be {maps:.0f} MB")
    if out is not None:
        kinds = {"forward pass": runs[False], "forward pass with probe": runs[True]}
        record = {"command": command_line(), "sizes": sizes, "dtype": "float32", "runs": kinds}
        write_json(record, out / "probe_cost.json")
        print(f"wrote {out / 'probe_cost.json'}")


app = module_app("reports.probe_cost", probe_cost)

if __name__ == "__main__":
    run_app(app)
