"""The table that training and fitting end with: how far a model is from the truth, or from what stands in for it."""

import torch

from unrolled.cli import print_table
from unrolled.diffusion import ScoreModel
from unrolled.evaluate import denoising_losses, score_errors, times_within
from unrolled.series.data import SequenceData

__all__ = ["print_errors"]

SAMPLES = 512
"""Sequences behind the table."""


def print_errors(
    model: ScoreModel,
    data: SequenceData,
    t_range: tuple[float, float],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> None:
    """Print the relative score error at the usual times, or for real data the loss on held-out windows.

    Beside the loss stands that of the Gaussian with the empirical covariance of the training windows.

    Args:
        model: on `device`.
        data: what it was made for.
        t_range: diffusion times that it accepts.
        dtype: of the sequences that it gets.
        device: where it runs.
    """
    times = times_within(t_range)
    if data.exact:
        errors = score_errors(model, data.gaussian(), times, SAMPLES, dtype=dtype, device=device)
        rows = [(f"{t:g}", f"{error:.4f}") for t, error in errors.items()]
        print_table(f"relative score error, {SAMPLES} fresh samples, exact score as truth", ("t", "error"), rows)
    else:
        held_out = data.sample_held_out(SAMPLES, torch.Generator().manual_seed(1)).to(device)
        ours = denoising_losses(model, held_out, times, dtype=dtype)
        linear = denoising_losses(data.gaussian().score, held_out, times, dtype=dtype)
        rows = [(f"{t:g}", f"{ours[t]:.4f}", f"{linear[t]:.4f}") for t in times]
        print_table(
            f"denoising loss on {SAMPLES} held-out windows (lower is better)",
            ("t", "model", "Gaussian of the empirical covariance"),
            rows,
        )
