# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false
"""(a Gamma + v I)^{-1} y in O(N) for Ornstein-Uhlenbeck and half-integer Matern kernels: a Kalman smoother, by scans.

**The process.** A Matern sequence of smoothness n - 1/2 is what n leaky integrators in a row make of white noise (its
spectrum is proportional to (1 + s^2)^-n in units of 1/rate; published: Rasmussen and Williams, eq. 4.15), n = 1 being
Ornstein-Uhlenbeck. Its state g obeys g_{i+1} = A g_i + noise of covariance Q, and the sequence is g_0. With z = rate
times the distance of two frames, and a = n-1-j, b = n-1-k, m = a + b (derived),

    A_jk = e^-z z^(k-j)/(k-j)!,  k >= j                Q_jk = P_jk Gamma(m+1, 2z),   P_jk = q m!/(a! b! 2^(m+1))

where P is the stationary covariance, q makes P_00 = 1, and Gamma is the regularised lower incomplete gamma function.
Every entry is positive, so none is a difference of larger numbers.

**The solve.** A filter that starts in its steady state has a constant gain. Let R be its covariance, with state noise
a Q and observation noise v, S = R_00 + v, K = A R e_0/S and F = A - K e_0'. It turns y into innovations

    e_i = y_i - x_i0,   x_{i+1} = F x_i + K y_i,   x_0 = 0

that is e = (I - T) y, T lower triangular and Toeplitz. The covariance that has these innovations independent, of
variance S, is M = S (I - T)^{-1} (I - T)^{-1}', and the true one is larger by what is known less about the first state:

    a Gamma + v I = M + O D O',   O_i = e_0' A^i,   D = a P - R          so that            (derived)
    (a Gamma + v I)^{-1} y = (I - T)' (e - W b)/S,   W = (I - T) O, W_i = e_0' F^i,   b = (I + D W'W/S)^{-1} D W'e/S

Here b is the mean of what the steady state did not expect of the first state. The factor (I - T)' is the same scan,
run backwards. Nothing is divided by v and no smoothed sequence is subtracted from y, which is what costs digits where
v is small; this is the disturbance smoother (published: de Jong, Biometrika 75, 1988; Koopman, Biometrika 80, 1993).

**Rounding.** (1) R is the sum of F^i (a Q + v K K') F^i' for the K of the step before: positive terms, and Newton's
method, so an error of K enters squared (published: Kleinman; Hewer, IEEE Trans. Autom. Control 16, 1971). (2) Powers of
F are kept as I - F^i, since F is within 1/lengthscale of I: rounding F itself would be a relative error eps in it, and
N eps in F^N. (3) An error of eps in D or in R adds eps |O|^2, at most eps |Gamma|, to the matrix; a scan has an error
of eps |T| |y|; so the result has one of a small multiple of eps kappa.

**Speed.** The scan works on blocks of 64 frames: a product with a (64, 64) matrix inside, and the states at their
starts by recursive doubling. Nothing is sequential.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor
from torch.nn import functional as F

from unrolled.checks import InputError
from unrolled.kernels import Exponential, Matern, TemporalKernel

__all__ = ["STATE_SPACE_KERNELS", "StateSpace", "has_state_space", "state_space"]

STATE_SPACE_KERNELS = "Exponential of power 1, or Matern of smoothness 0.5, 1.5 or 2.5"
BLOCK = 64
"""Frames in a block, a power of 2."""
CHUNK = 2**24
"""Values that are solved for at once: 128 MB, of which a solve holds about ten."""
EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class StateSpace:
    """A stationary sequence as the first value of a linear system with n states, float64.

    Attributes:
        step: (n, n) I - A, what the states lose from one frame to the next.
        noise: (n, n) Q.
        stationary: (n, n) P.
        head: Gamma of the first frames, at most 64.
        approach: (64, n) covariance of each of the first frames with the states behind them.
    """

    step: Float[Tensor, "n n"]
    noise: Float[Tensor, "n n"]
    stationary: Float[Tensor, "n n"]
    head: Float[Tensor, "head head"]
    approach: Float[Tensor, "64 n"]

    def to(self, device: torch.device) -> "StateSpace":
        """The same on a device."""
        tables = (self.step, self.noise, self.stationary, self.head, self.approach)
        return StateSpace(*(table.to(device) for table in tables))

    def solve(
        self, signal: Float[Tensor, "T d"], noise: Float[Tensor, "T 1"], y: Float[Tensor, "batch N d"]
    ) -> Float[Tensor, "batch N d"]:
        """(signal Gamma + noise I)^{-1} y along the frames, for each of d channels, float64.

        Args:
            signal: a >= 0 of each channel, for all sequences (T = 1) or for each (T = batch).
            noise: v > 0.
            y: right-hand sides.
        """
        space = self.to(y.device)
        rows = max(1, CHUNK // max(1, y[:1].numel()))
        solved = torch.empty_like(y)
        for k in range(0, len(y), rows):
            part = slice(k, k + rows)
            if len(signal) == 1:  # one filter: sequences are rows that it runs over
                right = y[part].permute(2, 0, 1)[None]  # (1, d, batch, N)
                solved[part] = _solve(space, signal, noise, right)[0].permute(1, 2, 0)
            else:
                right = y[part].mT[:, :, None]  # (batch, d, 1, N)
                solved[part] = _solve(space, signal[part], noise[part], right)[:, :, 0].mT
        return solved


def has_state_space(kernel: TemporalKernel | Tensor) -> bool:
    """Whether a temporal covariance is a kernel that `state_space` takes."""
    if isinstance(kernel, Exponential):
        return kernel.power == 1
    return isinstance(kernel, Matern) and kernel.smoothness in (0.5, 1.5, 2.5)


def state_space(kernel: TemporalKernel | Tensor, length: int) -> StateSpace:
    """The system whose first state has this correlation.

    Raises:
        InputError: a kernel that is none of a system with at most three states, or a matrix.
    """
    if not isinstance(kernel, TemporalKernel) or not has_state_space(kernel):
        shown = kernel if isinstance(kernel, TemporalKernel) else "a matrix"
        raise InputError(f"temporal: {shown} has no state space of few states; accepted: {STATE_SPACE_KERNELS}")
    states = round(kernel.smoothness + 0.5) if isinstance(kernel, Matern) else 1
    z = math.sqrt(2 * states - 1) / kernel.lengthscale
    step, noise, stationary = torch.zeros(3, states, states, dtype=torch.float64)
    for j in range(states):
        step[j, j] = -math.expm1(-z)
        for k in range(j + 1, states):
            step[j, k] = -math.exp(-z) * z ** (k - j) / math.factorial(k - j)
        for k in range(states):
            a, b = states - 1 - j, states - 1 - k
            stationary[j, k] = math.comb(a + b, a) / 2.0 ** (a + b + 1)
            noise[j, k] = stationary[j, k] * float(special.gammainc(a + b + 1, 2 * z))
    noise, stationary = noise / stationary[0, 0], stationary / stationary[0, 0]
    powers, _ = _powers(step[None, None], BLOCK + 1)
    approach = (powers[0, 0, 1:] @ stationary[:, 0]).flip(0)
    return StateSpace(step, noise, stationary, kernel.matrix(min(length, BLOCK)), approach)


@dataclass(frozen=True)
class _SteadyState:
    """The filter that has run for ever, for T noise levels and d channels."""

    covariance: Float[Tensor, "T d n n"]
    """R."""
    variance: Float[Tensor, "T d 1 1"]
    """S."""
    gain: Float[Tensor, "T d n 1"]
    """K."""
    drop: Float[Tensor, "T d n n"]
    """I - F."""


def _steady_state(space: StateSpace, a: Float[Tensor, "T d 1 1"], v: Float[Tensor, "T 1 1 1"]) -> _SteadyState:
    """R and what follows from it, by Newton's method from R = a P; its iterates decrease."""
    first = torch.eye(len(space.step)).to(space.step)[:1]  # e_0'
    covariance, settled = a * space.stationary, False
    while True:
        variance = covariance[..., :1, :1] + v
        gain = (covariance[..., :1] - space.step @ covariance[..., :1]) / variance
        drop = space.step + gain @ first
        if settled:
            return _SteadyState(covariance, variance, gain, drop)
        better = _sum_of_powers(drop, a * space.noise + v * gain @ gain.mT)
        before, after = (matrix.diagonal(dim1=-2, dim2=-1) for matrix in (covariance, better))
        settled = bool((after >= before * (1 - EPS**0.5)).all())  # the step after this one changes them by eps
        covariance = better


def _sum_of_powers(drop: Float[Tensor, "T d n n"], term: Float[Tensor, "T d n n"]) -> Float[Tensor, "T d n n"]:
    """sum_i F^i term F^i', i >= 0, by doubling the number of terms; F = I - drop is stable."""
    total, grown = term, True
    while grown:
        more = total - drop @ total
        more = more - more @ drop.mT
        total = total + more
        drop = 2 * drop - drop @ drop
        more, all_ = (matrix.diagonal(dim1=-2, dim2=-1) for matrix in (more, total))
        grown = bool((more > EPS * all_).any())
    return total


def _solve(
    space: StateSpace, signal: Float[Tensor, "T d"], noise: Float[Tensor, "T 1"], y: Float[Tensor, "T d rows N"]
) -> Float[Tensor, "T d rows N"]:
    """(a Gamma + v I)^{-1} y: the head densely, the tail by two scans."""
    a, v = signal[..., None, None], noise[..., None, None]
    approach = space.approach
    y1, y2 = y[..., :BLOCK], y[..., BLOCK:]
    # Noise below the rounding of Gamma is raised to it, which keeps the factor real.
    root = torch.linalg.cholesky(a * space.head + torch.maximum(v, 2 * BLOCK * EPS * a) * torch.eye(y1.shape[-1]).to(y))

    def head(right: Float[Tensor, "T d rows head"]) -> Float[Tensor, "T d rows head"]:
        return torch.cholesky_solve(right.mT, root).mT

    if y2.shape[-1] == 0:
        return head(y1)
    state = _steady_state(space, a, v)
    scan = _Scan(state)
    w = scan.response(y2.shape[-1])  # (T, d, N2, n)
    gain = head(a * approach.mT)  # X C_1^{-1}, (T, d, n, 64)
    excess = a * (space.stationary - gain @ approach) - state.covariance
    e = scan(y2) - y1 @ gain.mT @ w.mT
    information = torch.eye(w.shape[-1]).to(w) + excess @ (w.mT @ w) / state.variance
    e = e - torch.linalg.solve(information, excess @ (e @ w).mT / state.variance).mT @ w.mT
    seen = e @ w / state.variance  # O' u_2
    return torch.cat([head(y1 - a * seen @ approach.mT), scan(e.flip(-1)).flip(-1) / state.variance], dim=-1)


class _Scan:
    """y -> (I - T) y along the last dimension."""

    def __init__(self, state: _SteadyState):
        powers, self.drop = _powers(state.drop, BLOCK)  # F^0..F^63, and I - F^64
        gained = (powers @ state.gain[:, :, None])[..., 0]  # F^j K, (T, d, 64, n)
        expected = F.pad(gained[..., :-1, 0], (1, 0))  # what a frame expects of the one j before it; nothing of itself
        frame = torch.arange(BLOCK, device=expected.device)
        self.inside = torch.eye(BLOCK).to(expected) - expected[..., (frame[:, None] - frame).clamp(min=0)]
        self.enter = gained.flip(-2)  # what the state behind a block gets of each of its frames, (T, d, 64, n)
        self.show = powers[..., 0, :]  # what each frame of a block expects of the state before it, (T, d, 64, n)

    def __call__(self, y: Float[Tensor, "T d rows N"]) -> Float[Tensor, "T d rows N"]:
        length = y.shape[-1]
        blocks = F.pad(y, (0, -length % BLOCK)).unflatten(-1, (-1, BLOCK))  # (T, d, rows, B, 64)
        flat = blocks.flatten(2, 3)
        states = self._states((flat @ self.enter).unflatten(2, blocks.shape[2:4])).flatten(2, 3)
        return (flat @ self.inside.mT - states @ self.show.mT).view_as(blocks).flatten(-2)[..., :length]

    def _states(self, entered: Float[Tensor, "T d rows B n"]) -> Float[Tensor, "T d rows B n"]:
        """The state before each block, 0 before the first: x_{k+1} = F^64 x_k + entered_k, by recursive doubling."""
        states = F.pad(entered[..., :-1, :], (0, 0, 1, 0))
        drop, shift = self.drop, 1
        while shift < states.shape[-2]:
            move = (torch.eye(drop.shape[-1]).to(drop) - drop).mT[:, :, None]
            states = states + F.pad(states[..., :-shift, :] @ move, (0, 0, shift, 0))
            drop, shift = 2 * drop - drop @ drop, 2 * shift
        return states

    def response(self, length: int) -> Float[Tensor, "T d N n"]:
        """W: what each frame expects of the state before the first."""
        powers, _ = _powers(self.drop, -(-length // BLOCK))  # of F^64
        return (self.show[:, :, None] @ powers).flatten(2, 3)[:, :, :length]


def _powers(
    drop: Float[Tensor, "T d n n"], count: int
) -> tuple[Float[Tensor, "T d count n n"], Float[Tensor, "T d n n"]]:
    """F^0, .., F^(count-1), and I - F^m for the first power of two m >= count; F = I - drop."""
    eye = torch.eye(drop.shape[-1]).to(drop)
    table = eye.expand(*drop.shape[:2], 1, -1, -1)
    while table.shape[2] < count:
        table = torch.cat([table, table @ (eye - drop)[:, :, None]], dim=2)
        drop = 2 * drop - drop @ drop
    return table[:, :, :count], drop
