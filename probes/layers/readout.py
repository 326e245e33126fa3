"""What each layer knows of the score: linear readouts of its stream, matched against the same readout of a solver's
state.

The stream of a layer is what stands in the residual stream after the embedding (layer 0) and after each block. A
readout maps the stream vector of a token to u = sigma_t score at that token: one matrix and a constant, the same for
all tokens, by ridge least squares on the first half of the sequences, judged on the second.

A stream that holds x and an iterate s_k gives such a readout A x_i + B s_k,i + const: the best combination of the two
and no iterate. So it is compared with the same readout of the solver's state (x_i, s_k,i, mu_i, 1) on the same
sequences, for each solver and step. Both are judged on the held-out half by

    distance   |readout of the layer - readout of the state|_F / |u|_F,
    cosine     between the errors of the two against the exact u (published: arXiv 2310.17086, similarity of errors).

A state of conjugate gradient also holds a residual and a direction, one of the preconditioned iteration a residual;
only (x, s_k) is compared, so a layer that holds more than that is somewhat away from its own step.

**Ridge.** Features are centred and scaled to variance 1 over the tokens of the first half; the ridge is the machine
epsilon of the stream's dtype, in units of that variance: directions below the rounding of the stream are noise,
whatever they are scaled to. A feature whose deviation is below NOISE epsilons of the stream's root mean square is
rounding itself and left out.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unrolled.checks import InputError

__all__ = ["fewest_sequences", "held_out", "readout", "streams"]

NOISE = 16.0
"""Epsilons of the stream's root mean square below which a feature is rounding."""
STREAM_ENTRIES = 2**25
"""Entries of the streams that are held at a time; more layers take more forward passes."""


def fewest_sequences(width: int, length: int) -> int:
    """Sequences of which half hold twice as many tokens as a readout of `width` features has coefficients, at least
    8."""
    return max(8, 2 * -(-2 * (width + 1) // length))


def held_out(samples: int) -> slice:
    """The second half of the sequences."""
    return slice(samples // 2, samples)


def streams(
    model: nn.Module, x: Float[Tensor, "n N d"], t: float, registers: int = 0, batch: int = 64
) -> Iterator[tuple[int, Float[Tensor, "n N width"]]]:
    """(layer, stream) for layer 0, the embedding, and the layer after each block; register tokens are dropped.

    Args:
        model: a score model with an `nn.ModuleList` called `blocks`.
        x: noisy sequences, in the dtype and on the device of the model.
        t: diffusion time.
        registers: tokens before those of the sequence.
        batch: sequences per forward pass.

    Raises:
        InputError: a model without blocks.
    """
    blocks = list(getattr(model, "blocks", []))
    if not blocks:
        raise InputError(f"model: {type(model).__name__} is not accepted; accepted: one with at least one block")
    kept: dict[int, list[Tensor]] = {}

    def keep(layer: int, stream: Tensor) -> None:
        kept[layer].append(stream[:, registers:].cpu())

    def run(layers: list[int], part: Tensor) -> None:
        after = {k: lambda _, __, stream, k=k: keep(k, stream) for k in layers if k > 0}
        handles = [blocks[k - 1].register_forward_hook(hook) for k, hook in after.items()]
        if 0 in layers:
            handles.append(blocks[0].register_forward_pre_hook(lambda _, inputs: keep(0, inputs[0])))
        try:
            with torch.no_grad():  # as a decorator of this generator it would end at the first yield
                model(part, t)
        finally:
            for handle in handles:
                handle.remove()

    kept[0] = []
    run([0], x[:1])
    together = max(1, STREAM_ENTRIES // max(1, kept[0][0].numel() * len(x)))
    for first in range(0, len(blocks) + 1, together):
        layers = list(range(first, min(first + together, len(blocks) + 1)))
        kept = {layer: [] for layer in layers}
        for part in x.split(batch):
            run(layers, part)
        for layer in layers:
            yield layer, torch.cat(kept.pop(layer))


def readout(
    features: Float[Tensor, "n N features"], target: Float[Tensor, "n N d"], epsilon: float
) -> Float[Tensor, "held N d"]:
    """What the readout fitted on the first half of the sequences gives on the second, float64.

    Args:
        features: of each token.
        target: u, float64.
        epsilon: machine epsilon of the features: the ridge, and with NOISE the smallest deviation of a feature.

    Raises:
        InputError: fewer sequences than `fewest_sequences`.
    """
    z = features.double()
    if len(z) < (least := fewest_sequences(z.shape[2], z.shape[1])):
        raise InputError(f"samples: {len(z)} is not accepted; accepted: at least {least}, to fit {z.shape[2]} features")
    rest = held_out(len(z))
    fitted, judged = z[: rest.start].flatten(0, 1), z[rest].flatten(0, 1)
    tokens = len(fitted)
    centre, deviation = fitted.mean(dim=0), fitted.std(dim=0)
    kept = deviation > NOISE * epsilon * float(fitted.square().mean().sqrt())
    fitted, judged = ((half[:, kept] - centre[kept]) / deviation[kept] for half in (fitted, judged))
    wanted = target[: rest.start].flatten(0, 1)
    level = wanted.mean(dim=0)
    # The ridge as further rows: the normal equations would square the condition number.
    rows = torch.cat([fitted, (epsilon * tokens) ** 0.5 * torch.eye(fitted.shape[1], dtype=torch.float64)])
    right = torch.cat([wanted - level, torch.zeros(fitted.shape[1], wanted.shape[1], dtype=torch.float64)])
    q, triangle = torch.linalg.qr(rows)
    weights = torch.linalg.solve_triangular(triangle, q.T @ right, upper=True)
    return (judged @ weights + level).reshape(len(z) - rest.start, *target.shape[1:])
