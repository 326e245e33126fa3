"""What governs how an estimator's error falls with the number of sequences: decay, smoothness or condition number.

Two by two kernels, rough and smooth, of fast and of slow decay, have equal condition numbers of C_t at t = 0.01, that
of an Ornstein-Uhlenbeck process of lengthscale 4 (level low) and four times that (level high). So each of the three
factors is varied with the others held. Classical estimates know the Gaussian form, and their errors and laws are exact.
Networks are trained on n sequences that are drawn once, with the stopping rule of `unrolled.train.finite`, and on fresh
ones; their laws are those of the affine part of the score (`probes.modes.samples`) in 32 steps of the sampler, and the
rest is seen by the energy distance of their samples. The UNet has the low level only.
"""

from dataclasses import asdict
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from probes.modes.operator import Coordinates, score_residuals
from probes.modes.samples import AffineParts
from probes.replacement.laws import sampler_grid
from reports.effects import figure, finding, table
from reports.experiment import Budget, Configuration, Experiment, Row
from reports.factors import KERNELS, matched
from reports.laws import affine_errors, energy_distance
from reports.networks import parameter_count, trained_network
from unrolled.diffusion import ScoreModel
from unrolled.fit.study import Kind, fit_model
from unrolled.gaussian import GaussianLaw, kl_divergence, wasserstein2
from unrolled.generated import affine_score, discrete_law, marginal_law
from unrolled.models.gaussian import GaussianScore
from unrolled.options import ProcessOptions
from unrolled.process import GaussianProcess
from unrolled.samplers import probability_flow
from unrolled.series.data import draw_training_set

__all__ = ["experiment"]

TIME = 0.01
"""Diffusion time of all figures, and of the match."""
LEVELS = {"low": 1.0, "high": 4.0}
"""Level -> its condition number over that of the process that is matched to."""
CLASSICAL: tuple[Kind, ...] = ("sample-covariance", "affine", "kronecker", "kernel")
SAMPLES, SEEDS = (100, 300, 1000, 3000, 10000, 30000), 20
TRAINED_SAMPLES, TRAINED_SEEDS, STEPS, BATCH = (100, 1000, 10000), 3, 1500, 64
NETWORKS = {"dit": "DiT", "unet": "UNet"}
SIZES: dict[str, dict[str, Any]] = {
    "dit": {"dit": {"width": 64, "depth": 2, "heads": 4}}, "unet": {"unet": {"channels": [16, 32, 32]}},
}  # fmt: skip
SMALL_SIZES: dict[str, dict[str, Any]] = {
    "dit": {"dit": {"width": 32, "depth": 1, "heads": 2}}, "unet": {"unet": {"channels": [16, 16]}},
}  # fmt: skip
PER_VALUE = 8
"""Sequences behind an affine map for each of the N d values."""
TWO_SAMPLES = 512
"""Sequences of either sample of the energy distance."""


def _processes(base: ProcessOptions) -> list[tuple[str, str, ProcessOptions]]:
    """(kernel, level, process) of the design."""
    kappa = base.process().condition_number(TIME)
    return [
        (name, level, matched(kernel, base, factor * kappa, TIME))
        for level, factor in LEVELS.items() for name, kernel in KERNELS.items()
    ]  # fmt: skip


def configurations(budget: Budget) -> list[Configuration]:
    """A run for the classical estimates of each process and seed, and one for each network."""
    full = budget == "full"
    designs = _processes(ProcessOptions() if full else ProcessOptions(length=16, dim=2))
    samples, seeds = (SAMPLES, SEEDS) if full else ((300, 1000, 3000, 10000), 2)
    steps, sizes = (STEPS, SIZES) if full else (200, SMALL_SIZES)
    finite, trained_seeds = (TRAINED_SAMPLES, TRAINED_SEEDS) if full else ((100, 1000), 2)
    classical = [
        {"kernel": kernel, "level": level, "process": asdict(process), "samples": list(samples), "seed": seed}
        for kernel, level, process in designs for seed in range(seeds)
    ]  # fmt: skip
    trained = [
        {
            "kernel": kernel, "level": level, "options": {
                "process": asdict(process), "model": model, **sizes[model], "samples": n, "steps": steps,
                "batch": BATCH, "seed": seed,
            },
        }
        for seed in range(trained_seeds) for kernel, level, process in designs for model in NETWORKS
        for n in (*finite, None) if level == "low" or (full and model == "dit")
    ]  # fmt: skip
    return classical + trained


def run(configuration: Configuration) -> list[Row]:
    """A row for a network, or one for each classical estimate and number of sequences."""
    kernel, level = configuration["kernel"], configuration["level"]
    if "options" in configuration:
        process, rows = _trained(configuration["options"])
    else:
        process, rows = _classical(configuration)
    factors = KERNELS[kernel]
    shared = {
        "kernel": kernel, "decay": factors.decay, "smoothness": factors.smoothness, "level": level,
        "kappa": float(process.condition_number(TIME)),
    }  # fmt: skip
    return [{**shared, **row} for row in rows]


def _classical(configuration: Configuration) -> tuple[GaussianProcess, list[Row]]:
    options, seed = ProcessOptions(**configuration["process"]), configuration["seed"]
    process, rows = options.process(), []
    for n in configuration["samples"]:
        sequences = draw_training_set(process, n, seed)
        for kind in CLASSICAL:
            model = cast(GaussianScore, fit_model(kind, sequences, temporal=options.temporal).model)
            matrix, offset = affine_score(model, process.length, process.dim, TIME)
            error, longest = affine_errors(process, matrix, offset, TIME)
            generated = model.process.noisy(TWO_SAMPLES, TIME, torch.Generator().manual_seed(seed))
            shape = (-1, process.length, process.dim)
            rows.append({
                "model": kind, "n": n, "fresh": False, "seed": seed, "parameters": 0, "error": error,
                "longest": longest, **_law(process, marginal_law(model.process, TIME)),
                "energy": _energy(process, generated.reshape(shape)),
            })  # fmt: skip
    return process, rows


def _law(process: GaussianProcess, law: GaussianLaw) -> Row:
    """KL from the law of X_t to another, and their W2."""
    truth = marginal_law(process, TIME)
    return {"kl": kl_divergence(truth, law), "w2": wasserstein2(truth, law)}


def _energy(process: GaussianProcess, generated: Float[Tensor, "n N d"]) -> float:
    """Energy distance to fresh X_t, in whitened coordinates."""
    fresh = process.noisy(TWO_SAMPLES, TIME, torch.Generator().manual_seed(2**31))
    coordinates = Coordinates(process, TIME)
    return energy_distance(coordinates.whitened(generated), coordinates.whitened(fresh))


def _sampled_errors(model: ScoreModel, process: GaussianProcess, x: Float[Tensor, "n N d"]) -> tuple[float, float]:
    """What `affine_errors` says of an affine score, from sequences X_t for any score."""
    size = 1 / process.eigenvalues(TIME)
    residual = Coordinates(process, TIME).rotated(score_residuals(model, process, x, TIME))
    square = residual.square().mean(dim=0).reshape(size.shape)
    return float((square.sum() / size.sum()).sqrt()), float((square[-1].sum() / size[-1].sum()).sqrt())


def _trained(options: dict[str, Any]) -> tuple[GaussianProcess, list[Row]]:
    if "unet" in options:  # JSON has no tuples
        options = {**options, "unet": {"channels": tuple(options["unet"]["channels"])}}
    made, _ = trained_network(options)
    model, process, seed = made.model, made.process, options["seed"]
    n, d = process.length, process.dim
    generator = torch.Generator().manual_seed(seed + 1)

    def draw(t: float) -> Float[Tensor, "n N d"]:
        return process.noisy(PER_VALUE * n * d, t, generator).float()

    grid = sampler_grid(made.t_range, (TIME,))
    affine = AffineParts(model, process, draw, grid)
    error, longest = _sampled_errors(model, process, draw(TIME))
    start = torch.randn(TWO_SAMPLES, n, d, generator=generator)
    *_, (_, generated) = probability_flow(model, start, grid)
    return process, [{
        "model": NETWORKS[options["model"]], "n": options["samples"] or options["steps"] * options["batch"],
        "fresh": options["samples"] is None, "seed": seed, "parameters": parameter_count(made.model),
        "error": error, "longest": longest,
        **_law(process, discrete_law(affine, n, d, grid, "ode")), "energy": _energy(process, generated),
    }]  # fmt: skip


def core_seconds(configuration: Configuration) -> float:
    """A guess, from short runs on a busy machine."""
    if "options" not in configuration:
        return 6e-4 * sum(configuration["samples"]) ** 0.9
    return 12 + 0.03 * configuration["options"]["steps"]


experiment = Experiment(
    module=__name__,
    question="Is it decay, smoothness or condition number that governs how the error falls with n?",
    columns={
        "kernel": str, "decay": str, "smoothness": str, "level": str, "kappa": float, "model": str, "n": int,
        "fresh": bool, "seed": int, "parameters": int, "error": float, "longest": float, "kl": float, "w2": float,
        "energy": float,
    },
    configurations=configurations,
    run=run,
    core_seconds=core_seconds,
    table=table,
    figure=figure,
    finding=finding,
    needs={"diffusers": "diffusers"},
)  # fmt: skip
