"""Weights of the approximate inverses Q_j of `preconditioned_dit`: least squares over all diffusion times at once.

The error u - u* is E_j y_1 with E_0 = sigma_t C^{-1}, E_1 = E_0 - Q_1, E_j = E_{j-1} - Q_j C
E_{j-1}/sigma_t^2 (derived), and y_1 has covariance C_t, so the expected squared error is |E_j C^{1/2}|_F^2. Each Q_j in
turn minimises it plus ridge^2 |w|^2 times |E_{j-1} C^{1/2}|_F^2, summed over a grid of t in units of the latter, over
all weights that the ramps can hold with moderate coefficients: the problem is solved for the coefficients themselves,
since weights found at each t alone are not smooth in t where the heads are nearly dependent. Q_j = 0 is allowed, so the
summed objective cannot grow.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.diffusion import alpha, sigma
from unrolled.handset.gates import GateFitter
from unrolled.handset.gaussian_heads import dyadic_widths, gaussian_matrices, normaliser
from unrolled.process import GaussianProcess

__all__ = ["WeightSolver", "expected_errors", "head_matrices", "held_weights"]


class WeightSolver:
    """Solves for the weights of one application after another on a grid of t, and keeps the error operators E_j.

    Args:
        process: gives the covariance.
        heads: (H, N, N) head matrices, the identity last.
        t: (n,) grid.
        ridge: see the module.
    """

    def __init__(self, process: GaussianProcess, heads: Float[Tensor, "H N N"], t: Float[Tensor, " n"], ridge: float):
        (g, u), (s, _) = process.temporal_eigen, process.spatial_eigen
        self.heads, self.ridge = heads, ridge
        self.sigma = sigma(t)[:, None, None, None]
        eigenvalues = alpha(t)[:, None, None] ** 2 * s[:, None] * g + sigma(t)[:, None, None] ** 2  # (n, d, N)
        # C^{1/2} may be replaced by U diag(sqrt(eigenvalue)): Frobenius norms do not see the rotation on the right.
        self.root = u * eigenvalues.sqrt()[..., None, :]  # (n, d, N, N)
        self.error = self.sigma * u / eigenvalues.sqrt()[..., None, :]  # E_0 C^{1/2}
        self.covariance = (u * eigenvalues[..., None, :]) @ u.T
        self.size = self.error.square().sum(dim=(1, 2, 3))
        self.applications = 0

    @property
    def relative_error(self) -> Float[Tensor, " n"]:
        """Root of the expected squared error over the expected squared norm of the score, at each t."""
        return (self.error.square().sum(dim=(1, 2, 3)) / self.size).sqrt()

    def _read(self) -> Float[Tensor, "n d N N"]:
        """What the application reads, times C^{1/2}: y_1, or the scaled residual."""
        return self.root if self.applications == 0 else self.covariance @ self.error / self.sigma**2

    def solve(self, basis: Float[Tensor, "n q"]) -> Float[Tensor, "q d H"]:
        """Coefficients over `basis`, functions on the grid, of the weights of the next application.

        One least-squares problem per channel over all t at once: each t counts by the relative error there, and
        directions of the weights that do not matter at some t are free to be smooth in t.
        """
        read = self._read()
        # y_1 is of order 1 and y_j of order 1/sigma less than it: the ridge is put on weights in common units.
        unit = self.sigma.flatten() if self.applications == 0 else torch.ones(len(read), dtype=torch.float64)
        q, d, count = basis.shape[1], read.shape[1], len(self.heads)
        gram = torch.empty(d, len(read), count, count, dtype=torch.float64)
        right = torch.empty(d, len(read), count, dtype=torch.float64)
        for k in range(len(read)):  # one t at a time keeps memory at d H N^2
            responses = torch.einsum("hij,djk->dhik", self.heads, read[k]).flatten(2)  # (d, H, N^2)
            target = self.error[k].flatten(1)  # (d, N^2)
            norm = target.norm(dim=1)[:, None]
            gram[:, k] = responses @ responses.transpose(1, 2) / norm[..., None] ** 2
            gram[:, k] += (self.ridge * unit[k]) ** 2 * torch.eye(count, dtype=torch.float64)
            right[:, k] = (responses @ target[..., None])[..., 0] / norm**2
        pairs = (basis[:, :, None] * basis[:, None, :]).flatten(1)  # (n, q^2)
        solution = torch.empty(q, d, count, dtype=torch.float64)
        for channel in range(d):
            normal = (pairs.T @ gram[channel].flatten(1)).reshape(q, q, count, count)
            normal = normal.permute(0, 2, 1, 3).reshape(q * count, q * count)
            solved = torch.linalg.solve(normal, (basis.T @ right[channel]).flatten())
            solution[:, channel] = solved.reshape(q, count)
        return solution

    def apply(self, weights: Float[Tensor, "n d H"]) -> None:
        """Move on with the weights that the ramps made of those of `solve`."""
        self.error = self.error - torch.einsum("ndh,hij->ndij", weights, self.heads) @ self._read()
        self.applications += 1


def head_matrices(widths: Float[Tensor, " M"], length: int) -> Float[Tensor, "H N N"]:
    """What the heads of a P block return: sink heads, row-normalised heads, and the identity."""
    gaussian = gaussian_matrices(widths, length)
    c = torch.tensor([normaliser(float(b)) for b in widths], dtype=torch.float64)
    identity = torch.eye(length, dtype=torch.float64)[None]
    return torch.cat([gaussian / c[:, None, None], gaussian / gaussian.sum(dim=-1, keepdim=True), identity])


def expected_errors(process: GaussianProcess, t: float, applications: int, ridge: float) -> Iterator[float]:
    """Expected relative error of the score after each application, of weights solved at one t alone; no model is
    built."""
    heads = head_matrices(dyadic_widths(process.length, 1), process.length)
    solver = WeightSolver(process, heads, torch.tensor([t], dtype=torch.float64), ridge)
    for _ in range(applications):
        solver.apply(solver.solve(torch.ones(1, 1, dtype=torch.float64)))
        yield float(solver.relative_error)


def held_weights(
    process: GaussianProcess, heads: Float[Tensor, "H N N"], fitter: GateFitter, applications: int, ridge: float
) -> Iterator[tuple[Float[Tensor, "features d H"], Float[Tensor, " n"]]]:
    """The weights of each application as coefficients of the ramps, and the expected relative error after it at the
    fitter's times."""
    solver = WeightSolver(process, heads, fitter.t, ridge)
    basis, to_ramps = fitter.basis()
    for _ in range(applications):
        solved = solver.solve(basis)
        solver.apply(torch.einsum("nq,qdh->ndh", basis, solved))
        yield torch.einsum("fq,qdh->fdh", to_ramps, solved), solver.relative_error
