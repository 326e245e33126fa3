# pyright: strict
"""The exact score as a scan over the sequence: what a state-space model computes, in O(N d^2), with no weights to
learn."""

from jaxtyping import Float
from torch import Tensor, nn

from unrolled.process import GaussianProcess

__all__ = ["Scan"]


class Scan(nn.Module):
    """model(x, t) -> score of a process whose temporal kernel is a linear system, exact at every length.

    In the eigenbasis of Sigma each channel is a sequence of its own: two scans solve for it (`unrolled.state_space`).
    x (batch, N, d) in any floating dtype, any t > 0; computed in float64, returned in the dtype of x.

    Raises:
        InputError: a process with another kernel, or with a matrix.
    """

    def __init__(self, process: GaussianProcess):
        super().__init__()
        self.process = process
        _ = process.state_space  # refuses what has none

    def forward(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        return self.process.scan_score(x, t)
