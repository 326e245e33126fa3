"""Time and peak memory of the attention probe beside those of the model's own forward pass.

Each measurement is a process of its own, since the peak resident set of a process never falls. The model has random
weights; the cost does not depend on them.
"""

import json
import os
import resource
import subprocess
import sys
import time

import pandas as pd
import seaborn as sns
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from probes.capture.by_lag import attention_by_lag
from probes.figures import theme
from reports.experiment import Budget, Configuration, Experiment, Row
from unrolled.models.dit import DiT, DiTConfig

__all__ = ["experiment", "measure", "measure_apart", "plan"]

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
    code = f"import json; from {__name__} import measure; print(json.dumps(measure({probe}, **{sizes})))"
    threads = str(sizes["threads"])
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"the measurement ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def plan(repeats: int, **sizes: int) -> list[Configuration]:
    """A pass without and a pass with the probe, in turn."""
    return [{**sizes, "repeat": repeat, "probe": probe} for repeat in range(repeats) for probe in (False, True)]


def configurations(budget: Budget) -> list[Configuration]:
    """A DiT of base size, and a small one."""
    if budget == "full":
        return plan(3, length=2048, depth=12, heads=12, width=768, batch=4, threads=2)
    return plan(3, length=512, depth=6, heads=8, width=256, batch=4, threads=2)


def run(configuration: Configuration) -> list[Row]:
    """One row: the cost of one pass, in a process of its own."""
    sizes = {name: value for name, value in configuration.items() if name != "repeat"}
    return [{**configuration, **measure_apart(**sizes)}]


def table(results: pd.DataFrame) -> pd.DataFrame:
    """The fastest time and the largest memory of both passes, and how they compare."""
    passes = results.groupby("probe").agg({"seconds": "min", "CPU seconds": "min", "peak MB": "max"})
    plain, probed = passes.loc[False], passes.loc[True]
    rows = pd.DataFrame({"forward pass": plain, "with probe": probed, "ratio": probed / plain, "more": probed - plain})
    return rows.T.rename_axis("pass").reset_index()


@theme()
def figure(results: pd.DataFrame) -> Figure:
    """Seconds and memory of every pass."""
    drawn, axes = plt.subplots(1, 3, figsize=(8.2, 3.0), layout="constrained")
    named = results.assign(probe=results.probe.map({False: "forward pass", True: "with probe"}))
    for ax, what in zip(axes, ("seconds", "CPU seconds", "peak MB"), strict=True):
        sns.stripplot(named, x="probe", y=what, hue="probe", jitter=False, ax=ax)
        ax.set(xlabel=None, ylim=(0, None))
    first = results.iloc[0]
    drawn.suptitle(
        f"N = {first.length}, {first.depth} layers, {first.heads} heads, width {first.width}, batch {first.batch},"
        f" float32, {first.threads} threads", fontsize="medium",
    )  # fmt: skip
    return drawn


def finding(results: pd.DataFrame) -> str:
    """What the probe costs in time, and whether its memory is that of all maps."""
    cost = table(results).set_index("pass")
    first = results.iloc[0]
    maps = float(first.batch * first.depth * first.heads * first.length**2) * 4 / 2**20
    more = cost.loc["more", "peak MB"]
    return (
        f"The probe multiplies the seconds of a forward pass by {cost.loc['ratio', 'seconds']:.2f} and takes"
        f" {more:.0f} MB more, {'less' if more < maps else 'no less'} than all attention maps together, which are"
        f" {maps:.0f} MB."
    )


def core_seconds(configuration: Configuration) -> float:
    """Measured; the passes take time like their products."""
    size = configuration["depth"] * configuration["width"] * configuration["batch"] * configuration["length"]
    return 3.0 + 2.2e-10 * size * (configuration["length"] + 6 * configuration["width"])


experiment = Experiment(
    module=__name__,
    question="What does the attention probe cost beside the forward pass that it looks at?",
    columns={
        "length": int, "depth": int, "heads": int, "width": int, "batch": int, "threads": int, "repeat": int,
        "probe": bool, "seconds": float, "CPU seconds": float, "peak MB": float,
    },
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
    about_time=True,
)  # fmt: skip
