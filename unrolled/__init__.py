"""Gaussian-process data with exact diffusion scores, and diffusion transformers trained on it."""

from unrolled.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from unrolled.diffusion import add_noise, alpha, denoising_loss, relative_error, sigma
from unrolled.gaussian import GaussianLaw, kl_divergence, total_variation_bound, wasserstein2
from unrolled.handset import construct
from unrolled.kernels import Exponential, Logarithmic, Matern, Polynomial, TemporalKernel
from unrolled.models.dit import DiT, DiTConfig
from unrolled.models.relu import ReluTransformer, ReluTransformerConfig
from unrolled.process import ExactScore, GaussianProcess, random_spatial_covariance
from unrolled.samplers import log_time_grid, probability_flow, reverse_sde
from unrolled.series.load import load_data
from unrolled.series.windows import SeriesData

__all__ = [
    "Checkpoint",
    "DiT",
    "DiTConfig",
    "ExactScore",
    "Exponential",
    "GaussianLaw",
    "GaussianProcess",
    "Logarithmic",
    "Matern",
    "Polynomial",
    "ReluTransformer",
    "ReluTransformerConfig",
    "SeriesData",
    "TemporalKernel",
    "add_noise",
    "alpha",
    "construct",
    "denoising_loss",
    "kl_divergence",
    "load_checkpoint",
    "load_data",
    "log_time_grid",
    "probability_flow",
    "random_spatial_covariance",
    "relative_error",
    "reverse_sde",
    "save_checkpoint",
    "sigma",
    "total_variation_bound",
    "wasserstein2",
]
