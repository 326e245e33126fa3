"""Training in relative steps: every weight w is held as w0 exp(theta), and theta is trained.

Hand-set weights span many orders of magnitude: logits of size b p^2 beside gates of 1e-3, and many exact zeros. One
learning rate for all destroys them. Here a step of Adam at rate eta changes every weight by about eta |w|, and zeros
stay zero, so that the wiring of the model is kept while its numbers move (derived: dw = w dtheta, and Adam's steps in
theta are of size eta).
"""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["Multiplicative", "bake", "multiplicative"]

Model = TypeVar("Model", bound=nn.Module)


class Multiplicative(nn.Module):
    """theta -> w0 exp(theta), with w0 the value the parameter had."""

    start: Tensor

    def __init__(self, start: Tensor):
        super().__init__()
        self.register_buffer("start", start.detach().clone())

    def forward(self, theta: Tensor) -> Tensor:
        return self.start * torch.exp(theta)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return torch.zeros_like(weight)


def multiplicative(model: Model) -> Model:
    """Let the parameters of `model`, in place, be theta, all 0 at first; the model computes what it did."""
    owners = [(module, name) for module in model.modules() for name, _ in module.named_parameters(recurse=False)]
    for module, name in owners:
        parametrize.register_parametrization(module, name, Multiplicative(getattr(module, name)))
    return model


def bake(model: Model) -> Model:
    """Turn theta back into ordinary weights, in place."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # pyright: ignore[reportArgumentType, reportCallIssue]
                parametrize.remove_parametrizations(module, name)
    return model
