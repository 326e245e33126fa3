"""See the attention of a model while it runs, one block of rows at a time, without changing the model.

Fused attention never forms its map. While `AttentionCapture` is active, every call of
`torch.nn.functional.scaled_dot_product_attention` is answered by the fused kernel as always, and the map is computed
beside it from the same queries and keys, in blocks of one head and some of its rows, or of several whole heads. In the
first pass the product of map and values is compared with the fused output: a map that is not the one the model used is
an error, never a figure. Later passes run the same code on other data and are not compared again.

Maps that the model forms itself are handed on as they are, in blocks: softmax maps by `probes.capture.softmax`, and
those of a `ReluTransformer`, whose rows have no sum of 1.

Not seen: kernels that are no torch functions (flash_attn, xformers, flex_attention) and compiled or scripted modules.
Modules named after attention in which nothing was seen are listed in `unseen`.
"""

import re
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from probes.capture.fused import accepted_deviation, fused_blocks, map_blocks
from probes.capture.softmax import SoftmaxMaps
from unrolled.checks import InputError
from unrolled.models.relu import ReluBlock

__all__ = ["AttentionCapture", "MapBlock", "require_attention"]


@dataclass(frozen=True)
class MapBlock:
    """Some rows of the attention map of one head, or all rows of several heads.

    The rows of a head come in order, and all rows of one head or group of heads before the next.

    Attributes:
        name: of the innermost module that runs; the second and later maps of a module in one pass have "#2", "#3" ...
            after it.
        queries: rows of the whole map.
        head: the first head in the block.
        row: the first row in the block.
        attention: (batch, heads, rows, keys); overwritten once the consumer has returned.
    """

    name: str
    queries: int
    head: int
    row: int
    attention: Float[Tensor, "batch heads rows keys"]


Consumer = Callable[[MapBlock], None]

_FUSED = F.scaled_dot_product_attention
_MULTI_HEAD = F.multi_head_attention_forward
# The same code without its check for modes, which would hide the calls inside it from this one.
_MULTI_HEAD_OPEN = types.FunctionType(
    _MULTI_HEAD.__code__,
    {**_MULTI_HEAD.__globals__, "has_torch_function": lambda _: False},
    _MULTI_HEAD.__name__,
    _MULTI_HEAD.__defaults__,
    _MULTI_HEAD.__closure__,
)
_MULTI_HEAD_OPEN.__kwdefaults__ = _MULTI_HEAD.__kwdefaults__


class AttentionCapture(TorchFunctionMode):
    """Context manager that hands the attention maps of `model` to `consume`, block by block; enter it once per pass.

    Args:
        model: the module whose forward pass is watched; names given to `consume` are its module names. Attention
            outside its modules is ignored.
        consume: called with each `MapBlock`.
        verified_passes: in how many passes every fused map is compared with the output of the fused kernel.

    Attributes:
        largest_deviation: the largest max-abs difference so far between map times values and the fused output, relative
            to the largest entry of the output.
        unseen: names of modules called after attention that ran without any map being seen inside them.

    Raises:
        InputError: while active, where map times values deviates by more than `accepted_deviation`; where a call has
            dropout; or where a softmax map is changed before the model uses it.
    """

    def __init__(self, model: nn.Module, consume: Consumer, verified_passes: int = 1):
        super().__init__()
        self.consume = consume
        self.verified_passes = verified_passes
        self.largest_deviation = 0.0
        self.unseen: list[str] = []
        self._names = {module: name for name, module in model.named_modules()}
        self._inside: list[nn.Module] = []
        self._maps_inside: list[int] = []  # maps seen so far when each module of the stack was entered
        self._maps = self._passes = 0
        self._calls: dict[str, int] = {}
        self._relu: tuple[str, int] = ("", 0)  # name and heads so far of the ReLU attention that runs now
        self._softmax = SoftmaxMaps(self._formed, self._refuse)
        self._hooks = ExitStack()

    def __enter__(self) -> "AttentionCapture":
        self._passes += 1
        self._inside.clear()
        self._maps_inside.clear()
        self._calls.clear()
        for module in self._names:
            self._hooks.callback(module.register_forward_pre_hook(self._enter_module).remove)
            self._hooks.callback(module.register_forward_hook(self._leave_module, always_call=True).remove)
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        self._hooks.close()
        self._softmax.forget()
        super().__exit__(*exception)

    def _enter_module(self, module: nn.Module, _: Any) -> None:
        self._inside.append(module)
        self._maps_inside.append(self._maps)
        self._relu = ("", 0)

    def _leave_module(self, module: nn.Module, *_: Any) -> None:
        if not self._inside or self._inside[-1] is not module:  # it failed before it was entered here
            return
        self._inside.pop()
        if self._maps == self._maps_inside.pop() and re.search("attn|attention", type(module).__name__.lower()):
            name = self._names[module]
            if name not in self.unseen:
                self.unseen.append(name)

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func is _MULTI_HEAD:
            with _again(self):
                return _MULTI_HEAD_OPEN(*args, **kwargs)
        result = func(*args, **kwargs)
        if not self._inside:
            return result
        with torch.no_grad():
            if func is _FUSED:
                self._observe(result, *args, **kwargs)
            elif func is F.relu:
                if result.ndim == 4 and isinstance(self._inside[-1], ReluBlock):
                    self._observe_relu(result)
            else:
                self._softmax.watch(func, result, args, kwargs)
        return result

    @property
    def _module(self) -> str:
        """Name of the module that runs now."""
        return self._names[self._inside[-1]]

    def _call(self) -> str:
        """Name of a map that begins now."""
        name = self._module
        self._maps += 1
        self._calls[name] = self._calls.get(name, 0) + 1
        return name if self._calls[name] == 1 else f"{name}#{self._calls[name]}"

    def _refuse(self, reason: str) -> None:
        raise InputError(
            f"model: the attention map in {self._module!r} {reason}, so what the model uses cannot be verified;"
            " accepted: softmax maps that are used as they are"
        )

    def _observe_relu(self, maps: Float[Tensor, "batch heads queries keys"]) -> None:
        name, first = self._relu
        if first == 0:
            name = self._call()
        self._hand_on(name, first, maps.detach())
        self._relu = (name, first + maps.shape[1])

    def _formed(self, maps: Float[Tensor, "... queries keys"]) -> None:
        """A softmax map that the model multiplies with values now."""
        self._hand_on(self._call(), 0, self._by_head(maps.detach()))

    def _hand_on(self, name: str, first: int, maps: Float[Tensor, "batch heads queries keys"]) -> None:
        for heads, rows in map_blocks(*maps.shape):
            self.consume(MapBlock(name, maps.shape[2], first + heads.start, rows.start, maps[:, heads, rows]))

    def _by_head(self, tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, "batch heads tokens width"]:
        """(batch, heads, ...) of a tensor whose batch and heads may be one axis, by the heads of the innermost
        module."""
        if tensor.ndim == 4:
            return tensor
        if tensor.ndim != 3:
            return tensor.flatten(0, -4) if tensor.ndim > 4 else tensor[None, None]
        for module in reversed(self._inside):
            for attribute in ("heads", "num_heads"):
                heads = getattr(module, attribute, None)
                if type(heads) is int:
                    if len(tensor) % heads:
                        self._refuse(f"has a batch of {len(tensor)} that its {heads} heads do not divide")
                    return tensor.unflatten(0, (-1, heads))
        return tensor[:, None]

    def _observe(
        self,
        fused: Float[Tensor, "... queries width"],
        query: Float[Tensor, "... queries head_dim"],
        key: Float[Tensor, "... keys head_dim"],
        value: Float[Tensor, "... keys width"],
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        if dropout_p > 0:
            raise InputError(
                f"model: attention in {self._module!r} drops out entries; accepted: a model in evaluation mode"
            )
        name = self._call()
        queries, keys = query.shape[-2], key.shape[-2]
        mask = None if attn_mask is None else self._by_head(attn_mask.expand(*query.shape[:-1], keys))
        accepted = accepted_deviation(fused.dtype, keys)
        fused, query, key, value = (self._by_head(tensor) for tensor in (fused, query, key, value))
        with torch.autocast(query.device.type, enabled=False):
            verify = self._passes <= self.verified_passes
            blocks = fused_blocks(fused, query, key, value, mask, is_causal, scale, verify)
            for heads, rows, attention, deviation in blocks:
                self.largest_deviation = max(self.largest_deviation, deviation)
                if not deviation <= accepted:
                    raise InputError(
                        f"model: the map computed for {name!r} times its values deviates from the fused output by"
                        f" {deviation:.2g} (accepted: {accepted:.2g}), so it is not the map that was used"
                    )
                self.consume(MapBlock(name, queries, heads.start, rows.start, attention))


@contextmanager
def _again(mode: TorchFunctionMode) -> Iterator[None]:
    """A mode entered once more, for the time of a call made on its behalf."""
    TorchFunctionMode.__enter__(mode)
    try:
        yield
    finally:
        TorchFunctionMode.__exit__(mode, None, None, None)


def require_attention(seen: bool, capture: AttentionCapture) -> None:
    """Raise an InputError where a pass has shown no attention at all, naming the modules that should have."""
    if seen:
        return
    hint = f" (nothing was seen inside {', '.join(map(repr, capture.unseen[:3]))})" if capture.unseen else ""
    raise InputError(
        "model: no call of scaled_dot_product_attention was seen, and no softmax that multiplies values"
        f"{hint}; accepted: an uncompiled model that uses them"
    )
