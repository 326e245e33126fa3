"""The kernel that a hand-set model holds, put together again from what its heads show.

A single head of a hand-set model is one Gaussian, or one ReLU of a lag; the covariance is their sum with the value
weights. In a block, head h adds A_h y[source] M_h to the target, with A_h its map and M_h its value weights from the
source to the target: w_h c_h Sigma for a Gaussian head (`handset.gaussian_heads`), c_h Sigma for a lag head
(`handset.lag_heads`). So

    sum_h (<M_h, Sigma>/<Sigma, Sigma>) A_h  =  Gamma    (derived),

and its mean by lag is gamma(lag) up to `.construction.kernel_error` and the rounding of the maps; for a ReluTransformer
whose covariance is truncated, below lag J. Heads that multiply token by token, whose logits read the binary position
code, are left out: they add tau I to the covariance.

The maps of these models do not depend on the data, so a decay fit to the sum has no interval from the bootstrap but a
numerical one (`probes.decay.intervals`), from the kernel error and the rounding of the maps.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.capture.by_lag import AttentionByLag
from probes.capture.lags import fold_lags
from unrolled.checkpoint import Checkpoint
from unrolled.models.dit import Block
from unrolled.models.record import Construction, DiTConstruction, ReluConstruction
from unrolled.models.relu import ReluBlock
from unrolled.process import GaussianProcess

__all__ = ["HeldKernel", "held_kernels", "value_weights"]

PRODUCTS = (("iterate", "scratch"), ("iterate", "product"), ("p", "w"))
"""(source, target) of the covariance product: in a DiT, in a ReluTransformer, in its conjugate gradient."""
CODE = ("bits", "complements")


@dataclass(frozen=True)
class HeldKernel:
    """The sum over the heads of one layer.

    Attributes:
        profile: (lags,) at lags 0 .. J-1 where the covariance is truncated at J, else 0 .. N-1, float64.
        error: bound on its deviation from gamma: `.construction.kernel_error`, and a rounding of 64 eps of each term in
            the dtype of the model.
    """

    profile: np.ndarray
    error: float


def _channels(subspaces: dict[str, list[int]], name: str) -> slice:
    start, size = subspaces[name]
    return slice(start, start + size)


def _value_maps(module: nn.Module, source: slice, target: slice) -> Float[Tensor, "heads d d"]:
    """M_h of each head of a block, from source channels (rows) to target channels, float64."""
    if isinstance(module, ReluBlock):
        return module.value[:, source, target].double()
    if not isinstance(module, Block):
        return torch.zeros(0, 0, 0, dtype=torch.float64)
    heads, size = module.attention.heads, module.attention.head_dim
    values = module.attention.qkv.weight.double().unflatten(0, (3, heads, size))[2][..., source]  # (heads, size, d)
    out = module.attention.out.weight.double()[target].unflatten(1, (heads, size))  # (d, heads, size)
    return torch.einsum("hkd,ehk->hde", values, out)


def _multiplies_tokens(module: nn.Module, subspaces: dict[str, list[int]]) -> Tensor | bool:
    """(heads,) whether the logits of a head read the binary position code."""
    if not isinstance(module, ReluBlock) or CODE[0] not in subspaces:
        return False
    rows = torch.cat([module.query[:, _channels(subspaces, name)] for name in CODE], dim=1)
    return (rows != 0).flatten(1).any(dim=1)


@torch.no_grad()
def value_weights(
    block: nn.Module, process: GaussianProcess, subspaces: dict[str, list[int]]
) -> Float[Tensor, " heads"] | None:
    """<M_h, Sigma>/<Sigma, Sigma> of each head of a block, float64; None where the block holds no covariance product.

    Args:
        block: of a hand-set DiT or ReluTransformer.
        process: what the model was made for.
        subspaces: of its construction.
    """
    in_eigenbasis = isinstance(block, Block)
    spatial = torch.diag(process.spatial_eigen[0]) if in_eigenbasis else process.spatial_covariance
    for source, target in PRODUCTS:
        if source in subspaces and target in subspaces:
            maps = _value_maps(block, _channels(subspaces, source), _channels(subspaces, target))
            weights = (
                torch.einsum("hde,de->h", maps, spatial) / spatial.square().sum() if len(maps) else maps.new_zeros(0)
            )
            weights = torch.where(torch.as_tensor(_multiplies_tokens(block, subspaces)), 0.0, weights)
            if bool(weights.any()):
                return weights
    return None


def held_kernels(checkpoint: Checkpoint, attention: AttentionByLag) -> dict[int, HeldKernel]:
    """The kernel of each layer of a hand-set model that holds the covariance, by index into `attention.layers`.

    Args:
        checkpoint: of a hand-set model without LayerNorm; for others there is nothing to sum, and the result is empty.
        attention: of the same model.
    """
    construction = getattr(checkpoint.model, "construction", None)
    if not isinstance(construction, Construction):
        return {}
    if isinstance(construction, DiTConstruction) and construction.dominance is not None:
        return {}  # LayerNorm rescales what the values read
    lags = construction.truncation if isinstance(construction, ReluConstruction) else None
    kernels = {}
    for layer, name in enumerate(attention.layers):
        block = checkpoint.model.get_submodule(name.removesuffix(".attention"))
        weights = value_weights(block, checkpoint.process, construction.subspaces)
        if weights is not None:
            _, heads, _ = fold_lags(attention.mean_profiles()[layer][: len(weights)])
            terms = weights.numpy()[:, None] * heads[:, :lags]
            rounding = 64 * torch.finfo(checkpoint.dtype).eps * float(np.abs(terms).sum(axis=0).max())
            kernels[layer] = HeldKernel(terms.sum(axis=0), construction.kernel_error + rounding)
    return kernels
