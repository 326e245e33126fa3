"""LayerNorm made linear: any hand-set DiT without normalisation becomes one with it, up to an error that is predicted.

LayerNorm maps y to (y - mean y)/sqrt(var y + e), e = 1e-6. The stream z of the given model (width W) is kept as

    y = (z, -z, B_i, -B_i),   B_i^2 = B^2 - |static part of z in token i|^2,

so that mean y = 0 and var y = (2 B^2 + 2 |z_i|^2)/W', W' = 2 W + 2, where only the data's part of z counts in
|z_i|^2: what the embedding puts there once and for all (position, mean, flags, register) is in B. Hence LayerNorm y =
lambda y (1 - delta_i),

    lambda = sqrt(W'/(2 B^2 + W' e)),   delta_i = |z_i|^2/(2 B^2 + W' e) + O(delta_i^2)   (derived).

Every map that reads the stream takes half its weights on z, half with the other sign on -z, over lambda: linear but
for delta, and what rounding leaves of the mean, of size eps B, cancels between the halves. Every map that writes it
writes both signs; B_i is never written. Scales and gates are those of z on both halves; hand-set models have no shifts.

Static channels above 1, such as p^2, are first divided by a power of two, and what reads them multiplied by it: exactly
the same model, with a |static part| of order 1.

Cost: twice the width and 2; largest weight B/sqrt(2 W') times that of the model.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unrolled.checks import InputError
from unrolled.diffusion import add_noise, relative_error
from unrolled.models.dit import DiT
from unrolled.process import GaussianProcess

__all__ = ["DOMINANCE", "neutralisation_error", "neutralise"]

DOMINANCE = {torch.float64: 1e6, torch.float32: 1e4}
"""B for each dtype: the error falls like 1/B^2 until rounding, eps B, takes over."""
LAYER_NORM_EPS = 1e-6
SAMPLES = 16
"""Sequences behind a predicted error."""


def _readers(model: DiT) -> list[nn.Linear]:
    """The maps whose input is the normalised stream."""
    inner = [layer for block in model.block_list for layer in (block.attention.qkv, block.mlp[0])]
    return [*inner, model.head.out]  # pyright: ignore[reportReturnType]


def _writers(model: DiT) -> list[nn.Linear]:
    """The maps whose output is added to the stream."""
    inner = [layer for block in model.block_list for layer in (block.attention.out, block.mlp[2])]
    return [model.embed, *inner]  # pyright: ignore[reportReturnType]


@torch.no_grad()
def _static(model: DiT) -> Float[Tensor, "tokens W"]:
    """What the embedding puts into channels that nothing else writes, registers first; 0 elsewhere."""
    written = torch.stack([writer.weight.abs().sum(dim=1) + writer.bias.abs() for writer in _writers(model)]).sum(dim=0)
    return torch.cat([model.register, model.position]) * (written == 0)


@torch.no_grad()
def _shrink_static_channels(model: DiT) -> None:
    """Bring static channels to at most 1 by powers of two, in place, without changing what the model computes."""
    largest = _static(model).abs().amax(dim=0).clamp_min(1.0)
    scale = 2.0 ** torch.ceil(torch.log2(largest))
    model.position.div_(scale)
    model.register.div_(scale)
    for reader in _readers(model):
        reader.weight.mul_(scale)


@torch.no_grad()
def neutralise(model: DiT, dominance: float) -> DiT:
    """The DiT with norm="layer" that computes what `model`, with norm="none", does; float64, `model` is changed in
    its units.

    Args:
        model: float64, norm "none".
        dominance: B.

    Raises:
        InputError: B not above the norm of every token's static part.
    """
    _shrink_static_channels(model)
    width = model.config.width
    twice = 2 * width + 2
    energy = _static(model).square().sum(dim=1)  # (tokens,)
    if not dominance**2 > float(energy.max()):
        raise InputError(
            f"dominance: {dominance:g} is not accepted; accepted: a number > {math.sqrt(float(energy.max())):.3g}, the"
            " norm of the position code"
        )
    scale = math.sqrt(twice / (2 * dominance**2 + twice * LAYER_NORM_EPS))
    made = DiT(replace(
        model.config, width=twice, norm="layer", head_dim=model.config.head_dim or width // model.config.heads,
        mlp_width=model.config.mlp_width or 4 * width,
    )).double()  # fmt: skip
    for parameter in made.parameters():
        parameter.zero_()
    made.time.load_state_dict(model.time.state_dict())

    def mirrored(rows: Float[Tensor, "W columns"]) -> Float[Tensor, "twice columns"]:
        return torch.cat([rows, -rows, torch.zeros_like(rows[:1]), torch.zeros_like(rows[:1])])

    constant = torch.sqrt(dominance**2 - energy)[:, None]
    for table, source, b in (
        (made.register, model.register, constant[: model.config.registers]),
        (made.position, model.position, constant[model.config.registers :]),
    ):
        table.copy_(torch.cat([source, -source, b, -b], dim=1))
    for new, old in zip(_writers(made), _writers(model), strict=True):
        new.weight.copy_(mirrored(old.weight))
        new.bias.copy_(mirrored(old.bias[:, None])[:, 0])
    for new, old in zip(_readers(made), _readers(model), strict=True):
        new.weight.copy_(mirrored(old.weight.T).T / (2 * scale))
        new.bias.copy_(old.bias)
    for new, old in zip([*made.block_list, made.head], [*model.block_list, model.head], strict=True):
        slots = len(old.modulation.bias) // width
        table = torch.cat([old.modulation.weight, old.modulation.bias[:, None]], dim=1).unflatten(0, (slots, width))
        table = torch.cat([table, table, torch.zeros_like(table[:, :2])], dim=1).flatten(0, 1)
        new.modulation.weight.copy_(table[:, :-1])
        new.modulation.bias.copy_(table[:, -1])
    return made


@torch.no_grad()
def neutralisation_error(
    model: DiT, process: GaussianProcess, dominance: float, times: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Relative change of the score at each time, on average over the process, when `model` (norm "none") is
    neutralised.

    It is measured on `model` itself, each read of the stream scaled by 1 - delta_i, on 16 sequences of a fixed seed,
    float64.
    """
    generator = torch.Generator().manual_seed(0)
    x0 = process.sample(SAMPLES, generator)
    noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    static = _static(model)
    whole = 2 * dominance**2 + (2 * model.config.width + 2) * LAYER_NORM_EPS

    def shrink(_: nn.Module, __: tuple, z: Tensor) -> Tensor:
        fixed = static[-z.shape[1] :]  # the head does not see the registers
        return z * (1 - (z - fixed).square().sum(dim=-1, keepdim=True) / whole)

    def score(t: float) -> Tensor:
        return model(add_noise(x0, t, noise), t)

    exact = [score(float(t)) for t in times]
    hooks = [each.norm.register_forward_hook(shrink) for each in [*model.block_list, model.head]]
    try:
        return torch.tensor([relative_error(score(float(t)), s) for t, s in zip(times, exact, strict=True)]).double()
    finally:
        for hook in hooks:
            hook.remove()
