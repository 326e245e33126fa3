"""Attention whose map the model forms itself: softmax results, followed until they multiply values.

A softmax over the last axis is a candidate map (..., queries, keys). It is the attention of the model if the model
multiplies values with that very tensor, unchanged, as the left operand. Then nothing has to be compared: what is handed
on is the operand, so the product is the model's own output by identity. A softmax that multiplies nothing is not
attention and is dropped. A map that was changed on the way (masked, renormalised, cut, transposed, dropped out) is
refused: the entries that were used are then not a softmax that this module has seen.

Limits: products are matmul, @, bmm, baddbmm and einsum. Sums of elementwise products, linear layers and tensordot are
not followed. Attention that is softmax of queries times a context (linear attention) is a softmax times a matrix like
any other: its "keys" are features.
"""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["SoftmaxMaps"]

PRODUCTS = {"matmul", "__matmul__", "bmm", "baddbmm", "einsum"}
KEEPING = {
    "to", "type_as", "type", "float", "double", "half", "bfloat16", "contiguous", "clone", "detach", "view", "reshape",
    "unflatten", "flatten", "squeeze", "unsqueeze", "view_as", "reshape_as", "alias", "cpu", "cuda", "requires_grad_",
}  # fmt: skip
"""Functions that leave every row of a map as it is, if the last two axes of their result are those of the map."""
CUTTING = {
    "__getitem__", "narrow", "split", "chunk", "index_select", "gather", "select", "unbind", "transpose", "swapaxes",
    "swapdims", "permute", "movedim", "t", "adjoint", "__get__", "cat", "concat", "pad", "expand", "repeat",
    "repeat_interleave", "masked_select",
}  # fmt: skip
"""Functions that hand on entries of a map in another arrangement; `__get__` is the attribute `.T`, `.mT` or `.H`."""


class _Followed:
    """One softmax result, or what came of it: whether it is still the softmax, and whether it was handed on already."""

    def __init__(self, tensor: Tensor, intact: bool, used: list[bool], forget: Callable[[weakref.ref], None]):
        self.reference = weakref.ref(tensor, forget)
        self.intact, self.used = intact, used  # `used` is shared with the casts and views of the same map
        self.stamp = _stamp(tensor)


def _stamp(tensor: Tensor) -> float:
    """Changes when entries are written in place: the version counter, or the norm of a tensor that has none."""
    if not tensor.is_inference():
        return float(tensor._version)
    entries = tensor.detach() if tensor.is_floating_point() else tensor.double()
    return float(torch.linalg.vector_norm(entries))


class SoftmaxMaps:
    """The softmax results that are alive in a forward pass.

    Args:
        hand_on: called with each map, as it is used, on its first product with values.
        refuse: called with a reason where values are multiplied with a map that was changed; raises.
    """

    def __init__(self, hand_on: Callable[[Tensor], None], refuse: Callable[[str], None]):
        self.hand_on, self.refuse = hand_on, refuse
        self.followed: dict[int, _Followed] = {}

    def watch(self, function: Any, result: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        """Look at a call of a torch function that has just returned; cheap where no softmax result takes part."""
        name = getattr(function, "__name__", "")
        if name == "softmax":
            self._start(result, args, kwargs)
        elif self.followed:
            sources = [source for tensor in _tensors((args, kwargs)) if (source := self._find(tensor)) is not None]
            if not sources:
                return
            if name in PRODUCTS:
                self._product(name, args, kwargs)
            else:
                self._pass_on(name, sources, result, args, kwargs)

    def forget(self) -> None:
        """Drop what was followed; between forward passes."""
        self.followed.clear()

    def _find(self, tensor: Tensor) -> _Followed | None:
        source = self.followed.get(id(tensor))
        return source if source is not None and source.reference() is tensor else None

    def _follow(self, tensor: Tensor, intact: bool, used: list[bool]) -> None:
        number = id(tensor)

        def forget(reference: weakref.ref) -> None:
            # The number of a tensor that died may belong to another one by now.
            if number in self.followed and self.followed[number].reference is reference:
                del self.followed[number]

        self.followed[number] = _Followed(tensor, intact, used, forget)

    def _start(self, result: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if isinstance(result, Tensor) and result.ndim >= 3 and axis in (-1, result.ndim - 1):
            self._follow(result, True, [False])

    def _pass_on(self, name: str, sources: list[_Followed], result: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        """Follow what came of a map: the same map in another layout or dtype, or a changed one."""
        harmless = name in KEEPING or (name == "dropout" and not _drops(args, kwargs))
        for source in sources:
            map_ = source.reference()
            if map_ is None:
                continue
            if name == "__setitem__":
                source.intact = False
            for tensor in _tensors(result):
                kept = harmless and tensor.ndim >= 3 and tensor.shape[-2:] == map_.shape[-2:]
                if tensor is map_:
                    source.intact = source.intact and kept
                elif kept or tensor.shape == map_.shape or name in CUTTING:
                    self._follow(tensor, source.intact and kept and source.stamp == _stamp(map_), source.used)

    def _product(self, name: str, args: tuple, kwargs: dict[str, Any]) -> None:
        for operand, over_keys in _operands(name, args, kwargs):
            source = self._find(operand)
            if source is None:
                continue
            if not source.intact or source.stamp != _stamp(operand):
                self.refuse("is changed between its softmax and its product with the values")
            if over_keys and not source.used[0]:
                source.used[0] = True
                self.hand_on(operand)


def _drops(args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a call of dropout drops entries: (input, p=0.5, training=True, ...)."""
    p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
    return bool(kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else True))) and p > 0


def _operands(name: str, args: tuple, kwargs: dict[str, Any]) -> Iterator[tuple[Tensor, bool]]:
    """The factors of a product, and of each whether the sum runs over its last axis, where softmax rows sum to 1."""
    if name == "einsum":
        equation, *operands = args
        operands = operands[0] if operands and isinstance(operands[0], list | tuple) else operands
        inputs, _, output = equation.replace(" ", "").partition("->")
        for letters, operand in zip(inputs.split(","), operands, strict=True):
            yield operand, letters[-1] not in output and letters[-2] in output
        return
    named = (kwargs[key] for key in ("input", "batch1", "other", "mat2", "batch2") if key in kwargs)
    given = [*args, *named]
    left, right = given[1:3] if name == "baddbmm" else given[:2]
    yield left, True
    yield right, False


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
