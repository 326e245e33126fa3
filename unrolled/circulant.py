"""Exact sampling of stationary Gaussian sequences: by a matrix factor when short, by circulant embedding when long."""

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import InputError
from unrolled.kernels import TemporalKernel

__all__ = ["CirculantSampler", "FactorSampler", "symmetric_eigen"]

FACTOR_LENGTH = 512
"""Up to here a factor is always used: measured, one matrix product beats the FFT below about 1000 positions."""
DENSE_LENGTH = 4096
"""Longest sequence for which an (N, N) matrix is decomposed; beyond it only the circulant embedding is tried."""
CIRCULANT_TOLERANCE = 1e-10
"""Most negative eigenvalue of an embedding, relative to the largest, that may be set to 0."""
CIRCULANT_LENGTH = 2**22
"""Longest embedding tried, unless the minimal one is longer already."""


def symmetric_eigen(matrix: Float[Tensor, "n n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """Eigenvalues, negative rounding set to 0, and eigenvectors of a positive semidefinite float64 matrix."""
    eigenvalues, eigenvectors = torch.linalg.eigh(matrix)
    return eigenvalues.clamp(min=0), eigenvectors


class FactorSampler:
    """Samples sequences of covariance Gamma as U sqrt(lambda) z; the error of the covariance is rounding."""

    covariance_error = 0.0
    method = "factor"

    def __init__(self, eigenvalues: Float[Tensor, " N"], eigenvectors: Float[Tensor, "N N"]):
        self.factor = eigenvectors * eigenvalues.sqrt()

    def __call__(self, n: int, dim: int, generator: torch.Generator | None) -> Float[Tensor, "n N d"]:
        device = torch.device("cpu") if generator is None else generator.device
        noise = torch.randn(n, len(self.factor), dim, generator=generator, dtype=torch.float64, device=device)
        return self.factor.to(device) @ noise


class CirculantSampler:
    """Samples stationary sequences by the FFT of a circulant matrix that contains Gamma as a corner.

    Published: Dietrich and Newsam, SIAM J. Sci. Comput. 18, 1997. Real and imaginary part of one transform are
    independent samples. Eigenvalues in [-1e-10 largest, 0) are set to 0, which changes the covariance at every lag by
    at most `covariance_error`.

    Raises:
        InputError: no embedding up to `CIRCULANT_LENGTH` has a spectrum that is positive within the tolerance.
    """

    method = "circulant"

    def __init__(self, kernel: TemporalKernel, length: int):
        self.length = length
        size = max(2 * (length - 1), 1)
        while True:
            lag = torch.arange(size)
            spectrum = torch.fft.fft(kernel(torch.minimum(lag, size - lag))).real
            largest, most_negative = float(spectrum.max()), float(spectrum.min())
            if most_negative >= -CIRCULANT_TOLERANCE * largest:
                break
            if 2 * size > CIRCULANT_LENGTH:
                raise InputError(
                    f"length: {kernel} at length {length} has no positive circulant embedding up to {CIRCULANT_LENGTH};"
                    f" accepted: a length <= {DENSE_LENGTH}, or a rougher kernel"
                )
            size *= 2
        self.root = spectrum.clamp(min=0).sqrt()
        # What clipping adds at lag k is minus the inverse transform of the clipped part.
        self.covariance_error = float(torch.fft.ifft(spectrum.clamp(max=0)).real[:length].abs().max())

    def __call__(self, n: int, dim: int, generator: torch.Generator | None) -> Float[Tensor, "n N d"]:
        device = torch.device("cpu") if generator is None else generator.device
        root = self.root.to(device)
        pairs = (n * dim + 1) // 2
        # Each part of a complex standard normal number has variance 1/2.
        noise = torch.randn(pairs, len(root), generator=generator, dtype=torch.complex128, device=device)
        wave = torch.fft.fft(root * noise, norm="ortho")[:, : self.length] * 2**0.5  # (pairs, N)
        columns = torch.view_as_real(wave).permute(0, 2, 1).reshape(-1, self.length)  # (2 pairs, N)
        return columns[: n * dim].reshape(n, dim, self.length).transpose(1, 2)
