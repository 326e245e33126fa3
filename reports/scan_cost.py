"""`python -m reports.scan_cost --out DIR`: seconds of the exact score by a scan against the length of the sequence, and
beside celerite2.

celerite2 is a C++ solver for the same kind of kernels (published: Foreman-Mackey et al., arXiv 1703.09710). It stands
beside the scan where it is installed, as a measure of what a compiled loop takes. Its Matern 3/2 is an approximation of
the kernel.
"""

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from probes.figures import save_figure, theme
from unrolled.checks import require_integer
from unrolled.cli import module_app, print_table, run_app
from unrolled.diffusion import alpha, sigma
from unrolled.files import require_writable_folder, write_csv
from unrolled.kernels import Exponential, Matern, TemporalKernel
from unrolled.process import GaussianProcess
from unrolled.progress import Progress

__all__ = ["growth", "scan_figure", "seconds"]

LENGTHSCALE, T = 8.0, 0.1
"""What is measured; the cost depends on neither."""
KERNELS: dict[str, TemporalKernel] = {
    "Ornstein-Uhlenbeck": Exponential(LENGTHSCALE),
    "Matern 3/2": Matern(LENGTHSCALE, 1.5),
    "Matern 5/2": Matern(LENGTHSCALE, 2.5),
}
SHORTEST = 1000
STEADY = 10_000
"""Length from which the exponent is fitted: below it the time is that of calls, not of frames."""


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The shortest wall time of so many calls, after one that is not counted."""
    work()
    times: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def _scan(kernel: TemporalKernel, x: torch.Tensor) -> Callable[[], object]:
    """A call that computes the score of x, all that depends on t included."""
    process = GaussianProcess(x.shape[1], kernel, [[1.0]])
    return lambda: process.scan_score(x, T)


def _celerite(name: str, x: torch.Tensor) -> Callable[[], object] | None:
    """A call that factors C_t and solves for x by celerite2; None without it, or for a kernel it has not."""
    if importlib.util.find_spec("celerite2") is None:
        return None
    celerite2: Any = importlib.import_module("celerite2")
    square = alpha(T) ** 2
    terms = {
        "Ornstein-Uhlenbeck": lambda: celerite2.terms.RealTerm(a=square, c=1 / LENGTHSCALE),
        "Matern 3/2": lambda: celerite2.terms.Matern32Term(sigma=square**0.5, rho=LENGTHSCALE),
    }
    if name not in terms:
        return None
    process = celerite2.GaussianProcess(terms[name]())
    frames, noise = np.arange(x.shape[1], dtype=np.float64), np.full(x.shape[1], sigma(T) ** 2)
    right = np.ascontiguousarray(x[..., 0].numpy().T)
    right = right[:, 0].copy() if right.shape[1] == 1 else right

    def work() -> object:
        process.compute(frames, diag=noise, check_sorted=False)
        return process.apply_inverse(right)

    return work


def _measured(lengths: list[int], batch: int, repeats: int) -> Iterator[dict[str, Any]]:
    """One row for each kernel, length, number of sequences and solver; batches at the longest length alone."""
    generator = torch.Generator().manual_seed(0)
    for name, kernel in KERNELS.items():
        for length, sequences in [*((each, 1) for each in lengths), (lengths[-1], batch)]:
            x = torch.randn(sequences, length, 1, generator=generator, dtype=torch.float64)
            for solver, work in (("scan", _scan(kernel, x)), ("celerite2", _celerite(name, x))):
                if work is not None:
                    row = {"kernel": name, "solver": solver, "length": length, "sequences": sequences}
                    yield {**row, "seconds": seconds(work, repeats)}


def growth(table: pd.DataFrame) -> pd.Series:
    """Exponent of N in the seconds of the scan for one sequence, by kernel: least squares in logarithms."""
    part = table.query("solver == 'scan' and sequences == 1 and length >= @STEADY")
    slopes = {
        str(name): float(np.polyfit(np.log(rows.length), np.log(rows.seconds), 1)[0])
        for name, rows in part.groupby("kernel", sort=False)
    }
    return pd.Series(slopes)


@theme()
def scan_figure(table: pd.DataFrame) -> Figure:
    """Seconds against N for one sequence, both solvers, with a line of slope 1."""
    figure, ax = plt.subplots(figsize=(6.0, 3.6), layout="constrained")
    part = table.query("sequences == 1")
    sns.lineplot(part, x="length", y="seconds", hue="kernel", style="solver", markers=True, ax=ax)
    ends = np.array([STEADY, part.length.max()])
    ax.plot(ends, part.seconds.max() * 2 * ends / ends[-1], color="grey", linewidth=0.8, linestyle=":")
    ax.annotate("slope 1", (ends[0], part.seconds.max() * 2.4 * ends[0] / ends[-1]), color="grey", fontsize="x-small")
    ax.set(xscale="log", yscale="log", xlabel="frames N", title="Exact score of one sequence, float64")
    ax.grid(which="major", alpha=0.3)
    sns.move_legend(ax, "upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small")
    return figure


def scan_cost(
    *, length: int = 10**6, batch: int = 64, repeats: int = 3, threads: int = 1, out: Path = Path("scan_cost")
) -> None:
    """What does the exact score of a million frames cost, and what does it cost with a compiled solver?

    Example: `python -m reports.scan_cost --length 100000 --out scan_cost`

    Measures the seconds of the scan for one value in a frame, and those of celerite2 where it is installed. Writes
    scan_cost.csv and scan_cost.png.

    Parameters
    ----------
    length
        Longest sequence; the others are shorter by factors of the root of 10.
    batch
        Sequences in a batch, measured at the longest length.
    repeats
        Calls of which the fastest counts.
    threads
        Threads of torch; celerite2 has one.
    out
        Folder for the two files.
    """
    require_integer("length", length, STEADY)
    for name, value in (("batch", batch), ("repeats", repeats), ("threads", threads)):
        require_integer(name, value)
    require_writable_folder("out", out)
    torch.set_num_threads(threads)
    steps = round(2 * np.log10(length / SHORTEST))
    lengths = [round(length * 10 ** (-k / 2)) for k in range(steps, -1, -1)]
    rows: list[dict[str, Any]] = []
    with Progress(total=None, title="scan cost", unit="measurement") as bar:
        for row in _measured(lengths, batch, repeats):
            rows.append(row)
            bar.update()
    table = pd.DataFrame(rows)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(table, out / "scan_cost.csv")
    save_figure(scan_figure(table), out / "scan_cost.png")
    slopes = growth(table)
    longest = table.query("length == length.max()").to_dict("records")
    lines = [(row["kernel"], row["solver"], f"{row['sequences']}", f"{row['seconds']:.3g}") for row in longest]
    print_table(f"N = {length}, float64, CPU, {threads} threads", ("kernel", "solver", "sequences", "seconds"), lines)
    for name, slope in slopes.items():
        print(f"{name}: seconds grow like N^{slope:.2f} from {STEADY} frames on")
    print(f"wrote {out / 'scan_cost.csv'} and {out / 'scan_cost.png'}")


app = module_app("reports.scan_cost", scan_cost)

if __name__ == "__main__":
    run_app(app)
