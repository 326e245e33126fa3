"""See the attention of a model while it runs, one chunk of heads at a time, without changing the model.

Fused attention never forms its map. While `AttentionCapture` is active, every call of
`torch.nn.functional.scaled_dot_product_attention` is answered by the fused kernel as always, and the map is computed
beside it from the same queries and keys. The product of map and values is compared with the fused output: a map
that is not the one the model used is an error, never a figure. The maps of a `ReluTransformer` are formed by the model, and
are handed on as they are; their rows have no sum of 1.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from unrolled.relu_transformer import ReluBlock

__all__ = ["AttentionCapture"]

Consumer = Callable[[str, int, Tensor], None]
"""Called as consumer(module name, first head of the chunk, map (batch, heads in chunk, queries, keys))."""

CHUNK_ELEMENTS = 2**22
"""Entries of the largest map that is held: 16 MB in float32."""


class AttentionCapture(TorchFunctionMode):
    """Context manager that hands the attention maps of `model` to `consume`, chunk by chunk.

    Args:
        model: the module whose forward pass is watched; names given to `consume` are its module names.
        consume: see `Consumer`.

    Attributes:
        largest_deviation: the largest max-abs difference so far between map times values and the fused output, relative
            to the largest entry of the output.

    Raises:
        ValueError: while active, where map times values deviates by more than 64 eps of the dtype times
            sqrt(keys), the rounding of a sum of that many terms with a margin; or where the call has dropout.
    """

    def __init__(self, model: nn.Module, consume: Consumer):
        super().__init__()
        self.consume = consume
        self.largest_deviation = 0.0
        self._names = {module: name for name, module in model.named_modules()}
        self._inside: list[nn.Module] = []
        self._seen = 0  # heads of the ReLU attention that runs now
        self._hooks = ExitStack()

    def __enter__(self) -> "AttentionCapture":
        for module in self._names:
            self._hooks.callback(module.register_forward_pre_hook(self._enter_module).remove)
            self._hooks.callback(module.register_forward_hook(self._leave_module, always_call=True).remove)
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        self._hooks.close()
        super().__exit__(*exception)

    def _enter_module(self, module: nn.Module, _: Any) -> None:
        self._inside.append(module)
        self._seen = 0

    def _leave_module(self, *_: Any) -> None:
        if self._inside:
            self._inside.pop()

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            with torch.no_grad():
                self._observe(result, *args, **kwargs)
        elif func is F.relu and result.ndim == 4 and self._inside and isinstance(self._inside[-1], ReluBlock):
            self.consume(self._name, self._seen, result.detach())
            self._seen += result.shape[1]
        return result

    @property
    def _name(self) -> str:
        """Of the module that runs now."""
        return self._names[self._inside[-1]] if self._inside else ""

    def _observe(
        self,
        fused: Float[Tensor, "batch heads queries width"],
        query: Float[Tensor, "batch heads queries head_dim"],
        key: Float[Tensor, "batch kv_heads keys head_dim"],
        value: Float[Tensor, "batch kv_heads keys width"],
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        name = self._name
        if dropout_p > 0:
            raise ValueError(f"model: attention in {name!r} drops out entries; accepted is a model in evaluation mode")
        scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        if enable_gqa:
            group = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
        batch, heads, queries, keys = *query.shape[:3], key.shape[2]
        if is_causal:
            attn_mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril()
        chunk = max(1, CHUNK_ELEMENTS // (batch * queries * keys))
        for first in range(0, heads, chunk):
            part = slice(first, first + chunk)
            logits = (query[:, part] * scale) @ key[:, part].transpose(-1, -2)
            if attn_mask is not None:
                mask = attn_mask[:, part] if attn_mask.ndim == 4 and attn_mask.shape[1] > 1 else attn_mask
                logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
            attention = torch.softmax(logits, dim=-1)  # (batch, heads in chunk, queries, keys)
            self._verify(name, attention @ value[:, part], fused[:, part], keys)
            self.consume(name, first, attention)

    def _verify(self, name: str, product: Tensor, fused: Tensor, keys: int) -> None:
        size = float(fused.abs().max())
        deviation = float((product - fused).abs().max()) / size if size > 0 else float(product.abs().max())
        self.largest_deviation = max(self.largest_deviation, deviation)
        accepted = 64 * torch.finfo(fused.dtype).eps * math.sqrt(keys)
        if not deviation <= accepted:
            raise ValueError(
                f"model: the map computed for {name!r} times its values deviates from the fused output by"
                f" {deviation:.2g} (accepted is {accepted:.2g}), so it is not the map that was used"
            )
