"""Paths of the network made linear: through how many attention layers, and through which heads, influence comes.

With mean maps and mean slopes (`probes.replacement.means`) the score is W x + w, and every block is a product of linear
maps of the stream. If every attention output is multiplied by z, W becomes a polynomial in z whose degree is the number
of layers:

    W(z) = W_0 + W_1 z + .. + W_K z^K,      W = W(1)

W_k is the sum over the paths that pass k attention layers. Its coefficients are carried through the blocks, so that
nothing is interpolated. A head's part is W minus the W of the same network whose map of that head is 0; parts of heads
do not add up to W, since a path passes several.

Norms are those of L2(p_t) relative to the exact score: |W_k C_t^{1/2}| / |C_t^{-1/2}|. The influence at a lag is the
mean over the pairs of frames (i, i + lag) of the trace of the (d, d) block of W, divided by that of C_t^{-1} at lag 0:
minus 1 at lag 0 for the exact score.

Parts cancel. The cancellation of a split is the sum of the sizes of its parts over the size of the whole: 1 where all
parts agree in sign. Where it is large, shares say nothing.
"""

import math
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.capture.lags import lag_means
from probes.replacement.means import Means
from unrolled.diffusion import sigma
from unrolled.models.dit import DiT
from unrolled.process import GaussianProcess

__all__ = ["operator_without", "path_operators", "path_tables"]


@torch.no_grad()
def _carried(
    model: DiT, means: Means, t: float, maps: Float[Tensor, "layers heads tokens tokens"], split: bool
) -> Float[Tensor, "orders n n"]:
    """W_0 .. W_K, or their sum alone: unit sequences carried through the linear network."""
    config = model.config
    n = config.length * config.dim
    c = model.time(torch.full((1, 1), t, dtype=torch.float64, device=model.position.device))
    unit = torch.eye(n, dtype=model.position.dtype, device=model.position.device).reshape(n, config.length, config.dim)
    embedded = unit @ model.embed.weight.T
    registers = embedded.new_zeros(n, config.registers, config.width)
    orders = torch.cat([registers, embedded], dim=1)[None]  # (orders, n, tokens, width)
    for layer, block in enumerate(model.block_list):
        _, scale1, gate1, _, scale2, gate2 = block.modulation(c).chunk(6, dim=-1)
        attention, sizes = block.attention, (3, block.attention.heads, block.attention.head_dim)
        read = (1 + scale1) * _normed(means, 2 * layer, orders)
        v = torch.einsum("hcw,onjw->onhjc", attention.qkv.weight.unflatten(0, sizes)[2], read)
        mixed = (maps[layer] @ v).transpose(2, 3).flatten(-2)
        wrote = gate1 * (mixed @ attention.out.weight.T)
        if split:  # a path that passes this layer has one more order
            nothing = torch.zeros_like(orders[:1])
            orders, wrote = torch.cat([orders, nothing]), torch.cat([nothing, wrote])
        orders = orders + wrote
        read = (1 + scale2) * _normed(means, 2 * layer + 1, orders)
        up, down = (cast(nn.Linear, block.mlp[k]).weight for k in (0, 2))
        orders = orders + gate2 * (means.activations[layer].linear(read @ up.T) @ down.T)
    scale = model.head.modulation(c).chunk(2, dim=-1)[1]
    out = ((1 + scale) * _normed(means, 2 * config.depth, orders))[:, :, config.registers :] @ model.head.out.weight.T
    return out.flatten(2).mT / sigma(t)


def _normed(
    means: Means, place: int, stream: Float[Tensor, "orders n tokens width"]
) -> Float[Tensor, "orders n tokens width"]:
    return means.norms[place].linear(stream) if means.norms else stream


def path_operators(model: DiT, means: Means, t: float) -> Float[Tensor, "orders n n"]:
    """W_0 .. W_K of the network made linear, row-major, in the dtype of the model.

    Args:
        model: a DiT of K blocks.
        means: of it at t.
        t: diffusion time.
    """
    return _carried(model, means, t, means.maps, split=True)


def operator_without(model: DiT, means: Means, t: float, layer: int, head: int) -> Float[Tensor, "n n"]:
    """W of the network made linear with the map of one head set to 0; other arguments as of `path_operators`."""
    maps = means.maps.clone()
    maps[layer, head] = 0
    return _carried(model, means, t, maps, split=False)[0]


def path_tables(
    model: DiT, process: GaussianProcess, means: Means, t: float, by_head: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The split of W by number of attention layers, and by head.

    Args:
        model: in float64.
        process: whose exact score is the truth.
        means: of the model at t, float64.
        t: diffusion time.
        by_head: whether to split W by head, which takes a pass for each.

    Returns:
        A row for each order (layer and head -1) and, with `by_head`, for each head (order -1), columns t, part ("order"
        or "head"), order, layer, head, norm, error_up_to (relative error of the sum of the orders so far; for a head of
        the network without it), cancellation (of that split); and a row for each of these and lag, columns t, part,
        order, layer, head, lag, influence, total (of W), inverse (of -C_t^{-1}), cancellation (of that split there).
    """
    covariance = process.noisy_covariance(t)
    root = torch.linalg.cholesky(covariance)
    exact = torch.cholesky_inverse(root)
    operators = path_operators(model, means, t).cpu()
    whole = operators.sum(dim=0)
    heads = list(np.ndindex(*means.maps.shape[:2])) if by_head else []
    ablated = [operator_without(model, means, t, *head).cpu() for head in heads]
    without = torch.stack(ablated) if ablated else operators[:0]
    size = math.sqrt(float(exact.trace()))

    def norm(matrices: Tensor) -> Tensor:
        return torch.linalg.matrix_norm(matrices @ root) / size

    level = _by_lag(exact[None], process)[0, process.length - 1]
    total, inverse = (_by_lag(matrix[None], process)[0] / level for matrix in (whole, -exact))
    splits = {
        "order": (operators, operators.cumsum(dim=0), [(k, -1, -1) for k in range(len(operators))]),
        "head": (whole - without, without, [(-1, *head) for head in heads]),
    }
    rows, by_lag = [], []
    for part, (parts, errors, places) in splits.items():
        norms, missed = norm(parts), norm(errors + exact)
        influence = _by_lag(parts, process) / level
        cancelled = influence.abs().sum(dim=0) / total.abs()
        for k, (order, layer, head) in enumerate(places):
            place = {"t": t, "part": part, "order": order, "layer": layer, "head": head}
            rows.append({
                **place, "norm": float(norms[k]), "error_up_to": float(missed[k]),
                "cancellation": float(norms.sum() / norm(whole)),
            })  # fmt: skip
            by_lag.append(pd.DataFrame({
                **place, "lag": np.arange(1 - process.length, process.length), "influence": influence[k].numpy(),
                "total": total.numpy(), "inverse": inverse.numpy(), "cancellation": cancelled.numpy(),
            }))  # fmt: skip
    return pd.DataFrame(rows), pd.concat(by_lag, ignore_index=True)


def _by_lag(operators: Float[Tensor, "batch n n"], process: GaussianProcess) -> Float[Tensor, "batch lags"]:
    """Mean over pairs of frames at each signed lag of the trace of their block."""
    blocks = operators.reshape(len(operators), process.length, process.dim, process.length, process.dim)
    return lag_means(blocks.diagonal(dim1=2, dim2=4).sum(dim=-1).contiguous())
