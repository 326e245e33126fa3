# pyright: reportMissingTypeStubs=false
"""Temporal kernels: the correlation gamma(lag) of two frames that are `lag` positions apart.

Every family here is a mixture of Gaussians, gamma(r) = int exp(-b r^2) dm(b) with a positive measure m,
and therefore positive definite in every dimension (published: Schoenberg, Ann. Math. 39, 1938). Positive
definiteness is decided by the parameters alone: a float Cholesky cannot decide it, because the spectrum of a
smooth kernel falls below rounding (the RBF of lengthscale 8 on 64 points has a computed eigenvalue of -2e-15).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import InputError, require_number

__all__ = [
    "KERNELS",
    "Exponential",
    "Logarithmic",
    "Matern",
    "Polynomial",
    "RoughPolynomial",
    "TemporalKernel",
    "kernel_from_config",
]


@dataclass(frozen=True)
class TemporalKernel(ABC):
    """Correlation gamma(lag), with gamma(0) = 1, of a stationary sequence with unit spacing.

    Calling a kernel with lags of any shape, real or integer and of either sign, returns gamma(abs(lag)) as
    float64 of that shape.

    Raises:
        InputError: on construction, where the parameters do not give a positive definite kernel.
    """

    lengthscale: float

    name: ClassVar[str]
    decay: ClassVar[str]

    def __post_init__(self) -> None:
        require_number("lengthscale", self.lengthscale, above=0)

    def __call__(self, lag: Tensor | np.ndarray | float) -> Float[Tensor, "..."]:
        return self._correlation(torch.as_tensor(lag, dtype=torch.float64).abs())

    @abstractmethod
    def _correlation(self, lag: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """gamma at lags that are float64 and >= 0."""

    def matrix(self, length: int) -> Float[Tensor, "N N"]:
        """Gamma, the matrix of gamma(abs(i-j)), float64."""
        position = torch.arange(length)
        return self(torch.arange(length))[(position[:, None] - position[None, :]).abs()]

    def config(self) -> dict[str, str | float]:
        """Name and parameters as plain values, the inverse of `kernel_from_config`."""
        return {"name": self.name, **asdict(self)}


@dataclass(frozen=True)
class Exponential(TemporalKernel):
    """gamma(lag) = exp(-(lag/lengthscale)^power), 0 < power <= 2.

    Power 1 is the Ornstein-Uhlenbeck process ("OU"), power 2 the RBF. The mixing measure is the one-sided
    stable law of index power/2, a point mass for power 2 (published: Schoenberg 1938, theorem 2); for
    power > 2 the function is not positive definite.
    """

    power: float = 1.0
    name = "exponential"
    decay = "exponential"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("power", self.power, above=0, below=2, closed="high", why=", where it is positive definite")

    def _correlation(self, lag: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return torch.exp(-((lag / self.lengthscale) ** self.power))


@dataclass(frozen=True)
class Polynomial(TemporalKernel):
    """gamma(lag) = (1 + (lag/lengthscale)^2)^(-power/2), power > 0, which falls like lag^(-power).

    The mixing measure of b is Gamma(power/2) (published: the rational quadratic kernel, Rasmussen and Williams,
    Gaussian Processes for Machine Learning, eq. 4.19).
    """

    power: float = 1.0
    name = "polynomial"
    decay = "polynomial"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("power", self.power, above=0)

    def _correlation(self, lag: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return torch.exp(-self.power / 2 * torch.log1p((lag / self.lengthscale) ** 2))


@dataclass(frozen=True)
class RoughPolynomial(TemporalKernel):
    """gamma(lag) = (1 + lag/lengthscale)^(-power), power > 0, which falls like lag^(-power) and is rough at lag 0.

    It decays as `Polynomial` does and is as rough as OU, so that decay and smoothness can be told apart: these two are
    the members alpha = 1 and 2 of the generalised Cauchy kernels (1 + (lag/lengthscale)^alpha)^(-power/alpha)
    (published: Gneiting and Schlather, SIAM Review 46, 2004). A mixture of OU kernels: with y ~ Gamma(power),
    E[exp(-y lag/lengthscale)] is gamma (derived), and OU kernels are mixtures of Gaussians.
    """

    power: float = 1.0
    name = "rough_polynomial"
    decay = "polynomial"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("power", self.power, above=0)

    def _correlation(self, lag: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return torch.exp(-self.power * torch.log1p(lag / self.lengthscale))


@dataclass(frozen=True)
class Logarithmic(TemporalKernel):
    """gamma(lag) = (1 + log(1 + (lag/lengthscale)^2))^(-power), power > 0.

    A mixture of `Polynomial` kernels: with u = (lag/lengthscale)^2 and y ~ Gamma(power),
    E[(1+u)^(-y)] = E[exp(-y log(1+u))] = (1 + log(1+u))^(-power) (derived), and each (1+u)^(-y) is a mixture of
    Gaussians.
    """

    power: float = 1.0
    name = "logarithmic"
    decay = "logarithmic"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("power", self.power, above=0)

    def _correlation(self, lag: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return (1 + torch.log1p((lag / self.lengthscale) ** 2)) ** (-self.power)


@dataclass(frozen=True)
class Matern(TemporalKernel):
    """gamma(lag) = 2^(1-nu)/Gamma(nu) z^nu K_nu(z), z = sqrt(2 nu) lag/lengthscale, nu = smoothness in (0, 100].

    Published: Rasmussen and Williams, eq. 4.14. Half-integer nu <= 5/2 use the elementary forms (eq. 4.17); other nu
    use the logarithm of the exponentially scaled Bessel function, with an absolute error below 3e-14 max(nu, 1)
    (measured against 60 digits).
    As nu grows the kernel tends to the RBF exp(-lag^2/(2 lengthscale^2)), which is
    Exponential(sqrt(2) lengthscale, 2).
    """

    smoothness: float = 1.5
    name = "matern"
    decay = "exponential"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("smoothness", self.smoothness, above=0, below=100, closed="high")

    def _correlation(self, lag: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        nu = float(self.smoothness)
        z = math.sqrt(2 * nu) * lag / self.lengthscale
        if nu == 0.5:
            return torch.exp(-z)
        if nu == 1.5:
            return (1 + z) * torch.exp(-z)
        if nu == 2.5:
            return (1 + z + z**2 / 3) * torch.exp(-z)
        log_bessel = torch.log(torch.as_tensor(scipy.special.kve(nu, z.numpy()))) - z
        log_gamma = (1 - nu) * math.log(2) - scipy.special.gammaln(nu) + nu * torch.log(z) + log_bessel
        # K_nu overflows (or z is 0) only where z is so small that the two leading terms of the power series are exact
        # to rounding; a nu <= 1 never overflows before z < 1e-300.
        near_zero = 1 - z**2 / (4 * (nu - 1)) if nu > 1 else torch.ones_like(z)
        gamma = torch.where(torch.isfinite(log_bessel), torch.exp(log_gamma).clamp(max=1.0), near_zero)
        return torch.where(z > FAR, 0.0, gamma)


FAR = 1e5
"""sqrt(2 nu) lag/lengthscale beyond which a Matern kernel is 0: it is below z^100 e^-z, hence below 1e-42000."""
KERNELS: dict[str, type[TemporalKernel]] = {
    kernel.name: kernel for kernel in (Exponential, Polynomial, RoughPolynomial, Logarithmic, Matern)
}


def kernel_from_config(config: Mapping[str, str | float]) -> TemporalKernel:
    """The kernel that `TemporalKernel.config` described.

    Raises:
        InputError: unknown name, missing or unknown parameter, or parameters that are not accepted.
    """
    parameters = dict(config)
    name = parameters.pop("name", None)
    if name not in KERNELS:
        raise InputError(f"temporal: {name!r} is not a kernel; accepted: {', '.join(KERNELS)}")
    try:
        return KERNELS[str(name)](**parameters)  # pyright: ignore[reportArgumentType]
    except TypeError as error:
        raise InputError(f"temporal: parameters {sorted(parameters)} do not fit {name}: {error}") from None
