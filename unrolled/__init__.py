"""Gaussian-process data with exact diffusion scores, and diffusion transformers trained on it or set by hand."""

import os
import signal
import sys

if [os.path.basename(name) for name in sys.argv[:1]] in (["-m"], ["unrolled"]):
    # A command is starting: OpenMP threads that spin while they wait slow busy machines tenfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during imports ends the command without a traceback


from unrolled.checkpoint import Checkpoint, example, load_checkpoint, save_checkpoint
from unrolled.checks import InputError
from unrolled.conditional import Conditional
from unrolled.diffusion import ScoreModel, add_noise, alpha, denoising_loss, relative_error, sigma
from unrolled.evaluate import denoising_losses, score_errors
from unrolled.fit.excess import expected_score_error
from unrolled.fit.study import fit_model
from unrolled.folding import fold
from unrolled.gaussian import GaussianLaw, kl_divergence, total_variation_bound, wasserstein2
from unrolled.generated import discrete_law, generated_law, girsanov_bound, marginal_law
from unrolled.handset import construct, extend, hidden_iterates, reference_iterates
from unrolled.kernels import Exponential, Logarithmic, Matern, Polynomial, RoughPolynomial, TemporalKernel
from unrolled.models.dit import DiT, DiTConfig
from unrolled.models.empirical import EmpiricalScore
from unrolled.models.gaussian import GaussianScore
from unrolled.models.relu import ReluTransformer, ReluTransformerConfig
from unrolled.models.scan import Scan
from unrolled.process import ExactScore, GaussianProcess, random_spatial_covariance
from unrolled.samplers import log_time_grid, probability_flow, reverse_sde
from unrolled.series.data import SequenceData, draw_training_set
from unrolled.series.load import load_data
from unrolled.series.windows import SeriesData
from unrolled.solvers import chebyshev, conjugate_gradient, gradient_descent, preconditioned

__all__ = [
    "Checkpoint",
    "Conditional",
    "DiT",
    "DiTConfig",
    "EmpiricalScore",
    "ExactScore",
    "Exponential",
    "GaussianLaw",
    "GaussianProcess",
    "GaussianScore",
    "InputError",
    "Logarithmic",
    "Matern",
    "Polynomial",
    "ReluTransformer",
    "ReluTransformerConfig",
    "RoughPolynomial",
    "Scan",
    "ScoreModel",
    "SequenceData",
    "SeriesData",
    "TemporalKernel",
    "add_noise",
    "alpha",
    "chebyshev",
    "conjugate_gradient",
    "construct",
    "denoising_loss",
    "denoising_losses",
    "discrete_law",
    "draw_training_set",
    "example",
    "expected_score_error",
    "extend",
    "fit_model",
    "fold",
    "generated_law",
    "girsanov_bound",
    "gradient_descent",
    "hidden_iterates",
    "kl_divergence",
    "load_checkpoint",
    "load_data",
    "log_time_grid",
    "marginal_law",
    "preconditioned",
    "probability_flow",
    "random_spatial_covariance",
    "reference_iterates",
    "relative_error",
    "reverse_sde",
    "save_checkpoint",
    "score_errors",
    "sigma",
    "total_variation_bound",
    "wasserstein2",
]
