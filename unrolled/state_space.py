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

**The solve.** A filter in its steady state has a constant gain. Let R be its covariance, with state noise a Q and
observation noise v, S = R_00 + v, K = A R e_0/S and F = A - K e_0'. It turns y into innovations

    e_i = y_i - x_i0,   x_{i+1} = F x_i + K y_i,   x_0 = 0

that is e = (I - T) y, T lower triangular and Toeplitz. The covariance for which these innovations are independent, of
variance S, is M = S (I - T)^{-1} (I - T)'^{-1}. The frames y_2 after the first 64, y_1, see y_1 through the states
alone: with O_i = e_0' A^i, X the covariance of the states behind the head with y_1, and C_1 that of y_1,

    a Gamma + v I = [[C_1, X'O'], [O X, M + O (a P - R) O']],   M + O D O' after y_1,   D = a P - X C_1^{-1} X' - R

so that (derived), with W = (I - T) O, W_i = e_0' F^i, G = W'W/S and x = X C_1^{-1} y_1,

    e = (I - T) y_2 - W x,   b = (I + D G)^{-1} D W'e/S,   u_2 = (I - T)' (e - W b)/S,   u_1 = C_1^{-1} (y_1 - X'O'u_2)

are the two parts of the solution, O'u_2 = W'(e - W b)/S. Here b is what y_2 teaches of the states behind the head, and
(I - T)' is a scan too, backwards. No smoothed sequence is subtracted from y and divided by v, which is what costs
digits where v is small; this is the disturbance smoother (published: de Jong, Biometrika 75, 1988; Koopman, Biometrika
80, 1993).

**Rounding.** (1) The steady state is that of a filter that knows the whole past, so S can be far below the smallest
eigenvalue of a short a Gamma + v I, and e - W b would lose the ratio; the dense head sees to that. (2) R is the sum of
F^i (a Q + v K K') F^i' for the K of the step before: positive terms, and Newton's method, so that an error of K enters
squared (published: Hewer, IEEE Trans. Autom. Control 16, 1971). (3) Squares of F are taken of I - F, since F is within
1/lengthscale of I: rounding F itself would be a relative error eps in it, and N eps in F^N. (4) An error eps in D adds
eps |O|^2, at most eps |Gamma|, to the matrix; a scan has an error of eps |T| |y|; so the solution has one of a small
multiple of eps kappa (measured: at most 6 of them up to 512 frames, lengthscales 0.1 to 1e4, v 1e-4 to 1).

**Speed.** A scan works on blocks of 32 frames: a product with a (32, 32) matrix inside, and the states before them by
recursive doubling. Nothing is sequential.
"""

import math
from dataclasses import dataclass

import scipy
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unrolled.checks import InputError
from unrolled.kernels import Exponential, Matern, TemporalKernel

__all__ = ["CHUNK", "STATE_SPACE_KERNELS", "Smoother", "StateSpace", "has_state_space", "state_space"]

STATE_SPACE_KERNELS = "Exponential of power 1, or Matern of smoothness 0.5, 1.5 or 2.5"
HEAD = 64
"""Frames that are solved for densely."""
BLOCK = 32
"""Frames in a block of a scan, a power of 2: measured, larger products cost more, and smaller ones no less."""
CHUNK = 2**20
"""Values that are solved for at once: larger arrays come fresh from the operating system, which takes longer than to
fill them (measured, 64 sequences of 10^6 frames: four times as long)."""
EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class StateSpace:
    """A stationary sequence as the first value of a linear system with n states, float64.

    Attributes:
        step: (n, n) I - A, what the states lose from one frame to the next.
        noise: (n, n) Q.
        stationary: (n, n) P.
        head: Gamma of the first frames, at most `HEAD`.
        approach: (head, n) covariance of each of the first frames with the states behind them.
    """

    step: Float[Tensor, "n n"]
    noise: Float[Tensor, "n n"]
    stationary: Float[Tensor, "n n"]
    head: Float[Tensor, "head head"]
    approach: Float[Tensor, "64 n"]

    @property
    def tables(self) -> tuple[Tensor, ...]:
        """All of them, in this order."""
        return self.step, self.noise, self.stationary, self.head, self.approach


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
            noise[j, k] = stationary[j, k] * float(scipy.special.gammainc(a + b + 1, 2 * z))
    noise, stationary = noise / stationary[0, 0], stationary / stationary[0, 0]
    powers, _ = _powers(step[None, None], HEAD + 1)
    approach = (powers[0, 0, 1:] @ stationary[:, 0]).flip(0)
    return StateSpace(step, noise, stationary, kernel.matrix(min(length, HEAD)), approach)


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


def _steady_state(
    step: Float[Tensor, "n n"],
    state_noise: Float[Tensor, "T d n n"],
    stationary: Float[Tensor, "T d n n"],
    v: Float[Tensor, "T 1 1 1"],
) -> _SteadyState:
    """R and what follows from it, by Newton's method from a P; its iterates decrease."""
    first = torch.eye(len(step)).to(step)[:1]  # e_0'
    covariance, settled = stationary, False
    while True:
        variance = covariance[..., :1, :1] + v
        gain = (covariance[..., :1] - step @ covariance[..., :1]) / variance
        drop = step + gain @ first
        if settled:
            return _SteadyState(covariance, variance, gain, drop)
        better = _sum_of_powers(drop, state_noise + v * gain @ gain.mT)
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


class Smoother:
    """y -> (a Gamma + v I)^{-1} y along the frames, for each of d channels, float64.

    All that does not depend on y is computed once.

    Args:
        space: of a sequence of `length` frames.
        signal: a >= 0 of each channel, for all sequences (T = 1) or for each (T = batch).
        noise: v > 0.
        length: N.
    """

    def __init__(self, space: StateSpace, signal: Float[Tensor, "T d"], noise: Float[Tensor, "T 1"], length: int):
        a, v = signal[..., None, None], noise[..., None, None]
        step, state_noise, stationary, gamma, approach = (table.to(a.device) for table in space.tables)
        # Noise below the rounding of Gamma is raised to it, which keeps the factor real.
        level = torch.maximum(v, 2 * HEAD * EPS * a)
        self.root = torch.linalg.cholesky(a * gamma + level * torch.eye(len(gamma)).to(a))
        self.tail = length - HEAD
        if self.tail <= 0:
            return
        steady = _steady_state(step, a * state_noise, a * stationary, v)
        self.variance = steady.variance
        self.scan = _Scan(steady)
        self.w = self.scan.response(self.tail)  # (T, d, fading, n)
        self.covariance = a * approach.mT  # X, (T, d, n, head)
        self.gain = self._head(self.covariance)  # X C_1^{-1}
        self.excess = a * stationary - self.gain @ self.covariance.mT - steady.covariance  # D
        self.seen = self.w.mT @ self.w / self.variance  # G
        self.information = torch.eye(len(step)).to(a) + self.excess @ self.seen  # I + D G

    def _head(self, right: Float[Tensor, "T d rows head"]) -> Float[Tensor, "T d rows head"]:
        return torch.cholesky_solve(right.mT, self.root).mT

    def __call__(self, y: Float[Tensor, "batch N d"]) -> Float[Tensor, "batch N d"]:
        """The solution for right-hand sides y."""
        if len(self.root) == 1:  # sequences are the rows that one filter runs over
            return self._solve(y.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
        return self._solve(y.mT[:, :, None])[:, :, 0].mT

    def _solve(self, y: Float[Tensor, "T d rows N"]) -> Float[Tensor, "T d rows N"]:
        y1, y2 = y[..., :HEAD], y[..., HEAD:]
        if self.tail <= 0:
            return self._head(y1)
        e = self.scan.forwards(F.pad(y2, (0, -self.tail % BLOCK)))
        e[..., self.tail :] = 0  # frames that do not exist
        start = e[..., : self.w.shape[-2]]  # where the states behind the head still count
        known = y1 @ self.gain.mT  # x, (T, d, rows, n)
        data = start @ self.w / self.variance - known @ self.seen  # W'e/S
        learnt = torch.linalg.solve(self.information, self.excess @ data.mT).mT  # b
        start -= (known + learnt) @ self.w.mT
        u1 = self._head(y1 - (data - learnt @ self.seen) @ self.covariance)
        u2 = self.scan.backwards(e)[..., : self.tail]
        return torch.cat([u1, u2], dim=-1)


class _Scan:
    """y -> (I - T) y and e -> (I - T)' e/S along the last dimension, for whole blocks of frames."""

    def __init__(self, steady: _SteadyState):
        self.variance = steady.variance
        powers, self.drop = _powers(steady.drop, BLOCK)  # F^0, F^1, .. in a block, and I - F^block
        gained = (powers @ steady.gain[:, :, None])[..., 0]  # F^j K, (T, d, block, n)
        expected = F.pad(gained[..., :-1, 0], (1, 0))  # what a frame expects of the one j before it; nothing of itself
        frame = torch.arange(BLOCK, device=expected.device)
        self.inside = torch.eye(BLOCK).to(expected) - expected[..., (frame[:, None] - frame).clamp(min=0)]
        self.enter = gained.flip(-2)  # what the states behind a block get of each of its frames, (T, d, block, n)
        self.show = powers[..., 0, :]  # what each frame of a block expects of the states before it, (T, d, block, n)

    def forwards(self, y: Float[Tensor, "T d rows frames"]) -> Float[Tensor, "T d rows frames"]:
        """(I - T) y."""
        blocks = y.unflatten(-1, (-1, BLOCK))  # (T, d, rows, B, block)
        states = _states(self.drop, blocks @ self.enter[:, :, None])
        return _outputs(blocks, self.inside.mT, states, self.show.mT)

    def backwards(self, e: Float[Tensor, "T d rows frames"]) -> Float[Tensor, "T d rows frames"]:
        """(I - T)' e/S: the same with time reversed, and with what is read and what is written exchanged."""
        blocks = e.unflatten(-1, (-1, BLOCK))
        states = _states(self.drop.mT, (blocks @ self.show[:, :, None]).flip(-2)).flip(-2)
        return _outputs(blocks, self.inside / self.variance, states, self.enter.mT / self.variance)

    def response(self, length: int) -> Float[Tensor, "T d fading n"]:
        """W: what each frame expects of the states before the first, up to where that is 0 in floating point."""
        powers, _ = _powers(self.drop, -(-length // BLOCK))  # of F^block
        fading = int((powers != 0).any(dim=-1).any(dim=-1).sum(dim=-1).max())
        return (self.show[:, :, None] @ powers[:, :, :fading]).flatten(2, 3)[:, :, :length]


def _outputs(
    blocks: Float[Tensor, "T d rows B block"],
    inside: Float[Tensor, "T d block block"],
    states: Float[Tensor, "T d rows B n"],
    outside: Float[Tensor, "T d n block"],
) -> Float[Tensor, "T d rows frames"]:
    """blocks inside - states outside."""
    shape = blocks.shape
    theirs, outside = states.flatten(2, 3).flatten(0, 1), outside.flatten(0, 1)
    outputs = blocks.flatten(2, 3).flatten(0, 1) @ inside.flatten(0, 1)
    return outputs.baddbmm_(theirs, outside, alpha=-1).view(shape).flatten(-2)  # in place: half the time of a copy


def _states(drop: Float[Tensor, "T d n n"], entered: Float[Tensor, "T d rows B n"]) -> Float[Tensor, "T d rows B n"]:
    """The states before each block, 0 before the first: x_{k+1} = F^block x_k + entered_k, by recursive doubling."""
    states, shift, eye = F.pad(entered[..., :-1, :], (0, 0, 1, 0)), 1, torch.eye(drop.shape[-1]).to(drop)
    while shift < states.shape[-2] and bool((drop != eye).any()):
        states = states + F.pad(states[..., :-shift, :] @ (eye - drop).mT[:, :, None], (0, 0, shift, 0))
        drop, shift = 2 * drop - drop @ drop, 2 * shift
    return states


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
