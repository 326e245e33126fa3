"""`python -m reports.probe_cost`: the experiment on what the attention probe costs, at any sizes."""

from pathlib import Path

from reports.experiments.probe_cost import experiment, plan
from reports.report import report_here
from unrolled.checks import InputError, require_integer
from unrolled.cli import module_app, run_app


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
    """What does the attention probe cost?

    Example: `python -m reports.probe_cost --out cost`

    The answer: seconds and peak memory of a forward pass without and with the attention probe, float32 on the CPU.

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
        Folder for the files; without it none are written.
    """
    sizes = {"length": length, "depth": depth, "heads": heads, "width": width, "batch": batch, "threads": threads}
    for name, value in {**sizes, "repeats": repeats}.items():
        require_integer(name, value)
    if width % heads:
        raise InputError(f"heads: {heads} does not divide width {width}; accepted: a divisor")
    report_here(experiment, plan(repeats, **sizes), out)


app = module_app("reports.probe_cost", probe_cost)

if __name__ == "__main__":
    run_app(app)
