"""A longer sequence for a hand-set DiT: only its position table knows N.

The heads exp(-b (i-j)^2)/c and their weights know the kernel and no length, since c is above the row sum at every N
(gaussian_heads); so do the MLP and all gates but the step sizes, which are those of the spectrum at the length the
model was built for. The row sums Z_i, in log(c - Z_i), are those of the longer sequence, in its position table. So a
model whose dictionary was fitted on enough lags computes, at any length up to that, richardson's iteration with the
step sizes it was built with (derived). The spectrum of a longer sequence reaches a little further out on both sides,
where those step sizes still converge or nearly so; build anew for the best ones.
"""

from dataclasses import replace

import torch

from unrolled.checks import InputError
from unrolled.handset.dit_parts import position_table
from unrolled.handset.gaussian_heads import sink_logits
from unrolled.handset.stream import Stream
from unrolled.models.dit import DiT
from unrolled.process import GaussianProcess

__all__ = ["extend"]

EXTENSIBLE = ("gradient_descent", "chebyshev")
"""Weights of the others know N."""


@torch.no_grad()
def extend(model: DiT, process: GaussianProcess) -> DiT:
    """The same weights, gradient descent or Chebyshev, with the position table of `process`, which differs from the
    model's in length and mean alone; a plain model without a record, whose predictions would not be these.

    Raises:
        InputError: a model that is not such; a process longer than the `fit_length` it was built with.
    """
    record = model.construction
    if record is None or record.algorithm not in EXTENSIBLE or model.config.norm != "none":
        raise InputError(
            "model: is not accepted; accepted: a hand-set DiT of gradient descent or Chebyshev, norm 'none'"
        )
    if process.length > record.fit_length:
        raise InputError(
            f"process: length {process.length} is not accepted; accepted: at most {record.fit_length}, the model's"
            " fit_length"
        )
    stream = Stream({name: size for name, (_, size) in record.subspaces.items()})
    dtype = model.position.dtype
    longer = DiT(replace(model.config, length=process.length)).to(dtype)
    widths = torch.tensor(record.widths, dtype=torch.float64)
    table = position_table(stream, process, sink_logits(widths, process.length))
    longer.load_state_dict({**model.state_dict(), "position": table.to(dtype)}, strict=True)
    return longer.eval()
