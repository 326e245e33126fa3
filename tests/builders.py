"""What many tests build: seeded generators, processes, models, files, and commands run in this process."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from unrolled import (
    Checkpoint,
    DiT,
    DiTConfig,
    Exponential,
    GaussianProcess,
    Logarithmic,
    Matern,
    Polynomial,
    add_noise,
    random_spatial_covariance,
)
from unrolled.cli import run_app

TINY = [
    "--width",
    "16",
    "--depth",
    "1",
    "--heads",
    "2",
    "--ramps",
    "16",
    "--steps",
    "4",
    "--batch",
    "8",
    "--device",
    "cpu",
]
KERNELS = [
    Exponential(8), Exponential(8, 0.5), Exponential(8, 2), Polynomial(4, 1), Logarithmic(4, 1), Matern(8, 1.5),
]  # fmt: skip


def many(fast: int, fuzz: int) -> int:
    """How many random inputs a test takes: few in `make test`, many in `make fuzz`."""
    return fuzz if os.environ.get("UNROLLED_FUZZ") else fast


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(length: int, dim: int, kernel, mean: bool = True) -> GaussianProcess:
    spatial = random_spatial_covariance(dim, generator=generator(0))
    shift = torch.randn(length, dim, generator=generator(5), dtype=torch.float64) if mean else None
    return GaussianProcess(length, kernel, spatial, shift)


def noisy(process: GaussianProcess, t: float, n: int = 3) -> torch.Tensor:
    x0 = process.sample(n, generator(1))
    return add_noise(x0, t, torch.randn(x0.shape, generator=generator(2), dtype=torch.float64))


def random_dit(**options) -> DiT:
    """A DiT with random gates and head, so that nothing is zero."""
    model = DiT(DiTConfig(**{"length": 6, "dim": 2, "width": 16, "depth": 2, "heads": 2, **options}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2, generator=generator())
    return model.eval()


def checkpoint_of(model, process) -> Checkpoint:
    return Checkpoint(model, process, {}, {}, [], {})


def run(app, *arguments: str | Path) -> None:
    run_app(app, [str(each) for each in arguments])


def refused(capsys, app, *arguments: str | Path) -> str:
    """Run a command that must end with status 2 and one line on standard error; returns the line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        run(app, *arguments)
    output = capsys.readouterr()
    lines = output.err.strip().splitlines()
    assert exit_.value.code == 2 and len(lines) == 1 and output.out == "", output
    assert lines[0].startswith("error: ") and "Traceback" not in output.err
    return lines[0]


def write_csv(folder: Path, frames: int = 300) -> Path:
    steps = torch.randn(frames, 3, generator=generator())
    series = torch.zeros(frames, 3)
    for k in range(1, frames):
        series[k] = 0.9 * series[k - 1] + steps[k]
    table = pd.DataFrame(series.numpy(), columns=["a", "b", "c"])
    table.insert(0, "when", pd.date_range("2020-01-01", periods=frames, freq="h").astype(str))
    path = folder / "series.csv"
    table.to_csv(path, index=False)
    return path


def write_video(folder: Path, frames: int = 160) -> Path:
    av = pytest.importorskip("av")
    path = folder / "clip.mp4"
    grid = np.mgrid[0:48, 0:64]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(frames):
            wave = np.sin(grid[0] / 7 + k / 9) + np.cos(grid[1] / 11 - k / 13 + np.sin(k / 5))
            image = np.repeat((110 + 50 * wave).astype(np.uint8)[..., None], 3, axis=2)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
