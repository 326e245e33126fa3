# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""A folded model: constant maps computed once, and where the score is affine in x, one matrix for each t that is asked
for often."""

import copy
from collections import OrderedDict
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unrolled.checks import InputError
from unrolled.diffusion import check_sequences, check_time, per_sequence, relative_error, sigma
from unrolled.folding.constant_maps import fix_attention
from unrolled.folding.linear_part import linear_part
from unrolled.models.dit import DiT

__all__ = ["Folded", "fold"]

CHECK = 1e-6
"""Relative difference from the plain forward pass in float64 beyond which a fold is wrong: hand-set models round to
less, and a map, a sign or a channel too few leaves far more."""
CACHE = 2**28
"""Bytes of the matrices that are kept."""


@dataclass
class _AtTime:
    """What is known of f(x, t) = f(0, t) + L_t x at one t."""

    offset: Float[Tensor, "1 N d"]
    """f(0, t)."""
    matrix: Float[Tensor, "Nd Nd"] | None = None
    """L_t, transposed."""
    sequences: int = 0
    """How many have been asked for."""


class Folded(nn.Module):
    """model(x, t) -> score, the function of a DiT with constant maps; see `fold`.

    Attributes:
        config: of the DiT.
        network: the DiT with its maps fixed.
        linear: L_t as a network on few channels, None where the score is not affine in x.
    """

    def __init__(self, model: DiT):
        super().__init__()
        self.config = model.config
        self.network = fix_attention(model)
        self.linear = linear_part(self.network)
        self._known: OrderedDict[tuple[float, torch.device, torch.dtype], _AtTime] = OrderedDict()

    def forward(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        if self.linear is None:
            return self.network(x, t)
        config = self.config
        check_sequences(x, config.length, config.dim)
        time = check_time(t, len(x), config.t_range, x.device)
        z = x.to(self.network.position.dtype)
        if time.ndim:
            return (self._offset(time) + self._product(z, time)).to(x.dtype)
        known = self._at(time)
        known.sequences += len(x)
        if known.matrix is None and known.sequences >= config.length * config.dim:
            identity = torch.eye(config.length * config.dim).to(z)
            known.matrix = self._product(identity.unflatten(1, (config.length, config.dim)), time).flatten(1)
        product = self._product(z, time) if known.matrix is None else (z.flatten(1) @ known.matrix).view_as(z)
        return (known.offset + product).to(x.dtype)

    def _product(self, z: Float[Tensor, "batch N d"], time: Float[Tensor, "..."]) -> Float[Tensor, "batch N d"]:
        """L_t z."""
        assert self.linear is not None
        return self.linear(z, self.network.time(time.reshape(-1))) / per_sequence(sigma(time), z)

    def _offset(self, time: Float[Tensor, "..."]) -> Float[Tensor, "one_or_batch N d"]:
        """f(0, t)."""
        zero = torch.zeros(time.numel(), self.config.length, self.config.dim).to(self.network.position)
        return self.network(zero, time)

    def _at(self, time: Float[Tensor, ""]) -> _AtTime:
        """What is known at `time`, which becomes the time that was asked for last."""
        position = self.network.position
        key = (float(time), position.device, position.dtype)
        if key not in self._known:
            self._known[key] = _AtTime(self._offset(time))
            bytes_each = (self.config.length * self.config.dim) ** 2 * position.element_size()
            if len(self._known) > max(1, CACHE // bytes_each):
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]


@torch.no_grad()
def fold(model: nn.Module) -> Folded:
    """The function of `model`, a DiT, with its constant maps computed once and summed, and where it is affine in x, as
    a product with one matrix.

    Maps are constant where queries and keys read position alone (`unrolled.folding.constant_maps`), as in every
    hand-set DiT without LayerNorm, or where they are given (`freeze`). The score is affine where the MLPs are too
    (`unrolled.folding.linear_part`): the matrix of a t is made once N d sequences have been asked for at that t, when
    it has cost no more than they did, and 256 MB of matrices are kept.

    The result is a copy that does not follow later changes of `model`. It is made and compared with the plain forward
    pass in float64, then rounded to the dtype of the model.

    Raises:
        InputError: a model that is no DiT, or whose maps depend on x or t; the message names what they read.
    """
    if not isinstance(model, DiT):
        raise InputError(f"model: {type(model).__name__} is not accepted; accepted: a DiT, whose maps may be constant")
    exact = copy.deepcopy(model).double().eval().requires_grad_(False)
    folded = Folded(copy.deepcopy(exact))
    config, device = model.config, model.position.device
    low, high = config.t_range
    times = torch.tensor([low, (low * high) ** 0.5, high], dtype=torch.float64, device=device)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, config.length, config.dim, generator=generator, dtype=torch.float64).to(device)
    difference = relative_error(folded(x, times), exact(x, times))
    if not difference <= CHECK:
        raise RuntimeError(f"the folded model differs from the plain forward pass by {difference:.2g}")
    return folded.to(model.position.dtype)
