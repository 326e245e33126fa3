"""A softmax DiT whose attention is an approximate inverse: depth that does not grow with the condition number.

One application of P_j takes one block, and each after the first takes one more before it, for the residual. The heads
H_m are Gaussian of fixed widths, each once with a sink (H = exp(-b (i-j)^2)/c) and once row-normalised, and the
identity. In the eigenbasis of Sigma, channel k, with u = sigma_t s:

    first block:  u = -Q_1 y_1,            y_1 = x - alpha_t mu,                    Q_j = sum_m w_{j,m,k}(t) H_m
    C block:      y_j = (C_t u + sigma_t (x - alpha_t mu)) / sigma_t^2
    P block:      u <- u - Q_j y_j

so that P_1 = Q_1/sigma_t and P_j = Q_j/sigma_t^2 in s <- s - P_j (C_t s + x - alpha_t mu): the dictionary is the same
for every covariance, and what is learned of it sits in the weights, which are attention gates g1(t) on scratch
channels, one for each head and channel of x.

**Weights.** The error u - u* is E_j y_1 with E_0 = sigma_t C^{-1}, E_1 = E_0 - Q_1, E_j = E_{j-1} - Q_j C
E_{j-1}/sigma_t^2 (derived), and y_1 has covariance C_t, so the expected squared error is |E_j C^{1/2}|_F^2. Each Q_j in
turn minimises it plus ridge^2 |w|^2 times |E_{j-1} C^{1/2}|_F^2, summed over a grid of t in units of the latter, over
all weights that the ramps can hold with moderate coefficients: the problem is solved for the coefficients themselves,
since weights found at each t alone are not smooth in t where the heads are nearly dependent. Q_j = 0 is allowed, so the
summed objective cannot grow.

Proof that the blocks compute this: heads return H_m y (gaussian_heads) into their scratch channels with gate w, the
MLP, exactly linear (linear_mlp), adds minus their sum and minus the identity's part, an input scale, to u and clears
them.

Cost: width 5 d + 4 + M + M' + 2 M' d for M' widths, max(M, 2 M') heads, 2 d (1 + 2 M') hidden units, 2 j - 1 blocks.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.diffusion import alpha, sigma
from unrolled.handset.dit_parts import (
    GATE1,
    GATE2,
    SCALE1,
    SCALE2,
    common_sizes,
    constant,
    empty_dit,
    gate_block,
    head_dim_for,
    set_covariance_product,
)
from unrolled.handset.gates import GateFitter
from unrolled.handset.gaussian_heads import (
    GaussianDictionary,
    dyadic_widths,
    gaussian_matrices,
    normaliser,
    set_gaussian_head,
)
from unrolled.handset.linear_mlp import LinearMLP, Reads
from unrolled.handset.stream import Stream, Subspace, connect
from unrolled.models.dit import Block, DiT, DiTConfig
from unrolled.process import GaussianProcess

__all__ = ["WeightSolver", "expected_errors", "head_matrices", "held_weights", "preconditioned_dit"]


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


def preconditioned_dit(
    process: GaussianProcess,
    dictionary: GaussianDictionary,
    applications: int,
    t_range: tuple[float, float],
    ramps: int,
    ridge: float,
    per_octave: int = 1,
) -> tuple[DiT, Stream, GateFitter, list[Float[Tensor, " n"]]]:
    """A float64 DiT of 2 applications - 1 blocks; its stream, the fitter of its gates, and the expected relative error
    of the score after each application at the fitter's times."""
    d = process.dim
    widths = dyadic_widths(process.length, per_octave)
    responses = 2 * len(widths)
    # The P heads' sink logits follow those of the kernel's dictionary.
    sinks = torch.cat([dictionary.widths, widths])
    stream = Stream({**common_sizes(d, len(sinks)), "scratch": d, "residual": d, "responses": responses * d})
    config = DiTConfig(
        length=process.length, dim=d, width=stream.width, depth=2 * applications - 1,
        heads=max(len(dictionary.widths), responses), head_dim=head_dim_for(d), mlp_width=2 * d * (1 + responses),
        registers=1, norm="none", ramps=ramps, t_range=t_range,
    )  # fmt: skip
    model = empty_dit(config, stream, process, sinks)
    fitter = GateFitter(model.time, t_range)
    held = held_weights(process, head_matrices(widths, process.length), fitter, applications, ridge)
    errors: list[Tensor] = []
    for j, (coefficients, error) in enumerate(held):
        if j > 0:
            _set_residual_block(model.block_list[2 * j - 1], process, dictionary, stream, fitter)
        errors.append(error)
        block = model.block_list[2 * j]
        _set_application_block(block, j, len(dictionary.widths), widths, stream, fitter, coefficients)
    return model, stream, fitter, errors


def _set_residual_block(
    block: Block, process: GaussianProcess, dictionary: GaussianDictionary, stream: Stream, fitter: GateFitter
) -> None:
    """y = (C u + sigma (x - alpha mu))/sigma^2 into `residual`, whatever it held before, and the scratch back to 0."""
    scratch, residual = stream["scratch"], stream["residual"]
    reads = set_covariance_product(block, process, dictionary, stream, fitter)
    square = fitter.relative("sigma^2", lambda t: sigma(t) ** 2, offset=1.0)
    gate_block(block, SCALE2, stream.width, {residual: square})
    inverse = fitter.relative("1/sigma^2", lambda t: 1 / sigma(t) ** 2)
    gate_block(block, GATE2, stream.width, {residual: inverse, scratch: constant(1.0, len(inverse))})
    mlp = LinearMLP()
    mlp.add([*reads, (residual, -1.0)], [(residual, 1.0)], residual.size)
    mlp.add([(scratch, 1.0)], [(scratch, -1.0)], scratch.size)
    mlp.set(block.mlp)


def _set_application_block(
    block: Block,
    application: int,
    first_sink: int,
    widths: Float[Tensor, " M"],
    stream: Stream,
    fitter: GateFitter,
    table: Float[Tensor, "features d H"],
) -> None:
    """u -= Q y, y read from x - alpha mu in the first application and from `residual` in those after it."""
    features, d, count = table.shape  # the identity is the last head
    x, mean, iterate, residual, responses = (stream[name] for name in ("x", "mean", "iterate", "residual", "responses"))
    values: dict[str, Tensor | float] = {"x": 1.0, "mean": -1.0} if application == 0 else {"residual": 1.0}
    heads = [(float(b), stream["sinks"][first_sink + m]) for m, b in enumerate(widths)]
    heads += [(float(b), None) for b in widths]
    gates: dict[Subspace, Tensor] = {}
    for m, (width, sink) in enumerate(heads):
        output = set_gaussian_head(block.attention, m, stream, width, sink, values)
        channels = responses.part(m, d)
        connect(block.attention.out, output, channels, torch.eye(d, output.size, dtype=torch.float64))
        gates[channels] = table[:, :, m]
    gate_block(block, GATE1, stream.width, gates)
    one = constant(1.0, features)
    identity = table[:, :, -1] - one[:, None]  # as an input scale 1 + s(c)
    if application == 0:
        gate_block(block, SCALE1, stream.width, {mean: fitter.relative("alpha", alpha, offset=1.0)})
        weights = fitter.values(table[:, :, -1]) * alpha(fitter.t)[:, None]
        shrunk = fitter.absolute("identity weight of the mean", weights) - one[:, None]
        gate_block(block, SCALE2, stream.width, {x: identity, mean: shrunk})
        reads: Reads = [(x, 1.0), (mean, -1.0)]
    else:
        gate_block(block, SCALE2, stream.width, {residual: identity})
        reads = [(residual, 1.0)]
    total = torch.eye(d, dtype=torch.float64).repeat(1, count - 1)  # the sum over heads, channel by channel
    mlp = LinearMLP()
    mlp.add([*reads, (responses, total)], [(iterate, -1.0)], d)
    mlp.add([(responses, 1.0)], [(responses, -1.0)], responses.size)
    mlp.set(block.mlp)
    gate_block(block, GATE2, stream.width, {iterate: one, responses: one})
