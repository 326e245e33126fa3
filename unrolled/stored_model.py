# pyright: strict
"""A model as a checkpoint stores it, and back: small on the way out, and compared with itself on the way in.

Equal weights are stored once, and of a weight that is mostly zeros the other entries: blocks of a hand-set model repeat
each other. A stored model says several times what it is: in its sizes, the shapes and dtypes of its weights, the knots
of its time features, its record, and the options of its run. Where two of these contradict each other it is refused,
before memory is reserved for it.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from itertools import chain
from typing import Any, cast, get_type_hints

import torch
from torch import Tensor, nn

from unrolled.archive import DamagedError
from unrolled.models.dit import DiT, DiTConfig, TimeRamps
from unrolled.models.empirical import EmpiricalScore, EmpiricalScoreConfig
from unrolled.models.gaussian import GaussianScore, GaussianScoreConfig
from unrolled.models.record import Construction, DiTConstruction, ReluConstruction
from unrolled.models.relu import ReluTransformer, ReluTransformerConfig
from unrolled.models.unet import UNet, UNetConfig
from unrolled.options import config_from_dict, fits, train_config

__all__ = ["dtype_of", "model_from", "stored"]

MODELS: dict[str, tuple[type[nn.Module], type[Any], type[Construction]]] = {
    "DiT": (DiT, DiTConfig, DiTConstruction),
    "ReluTransformer": (ReluTransformer, ReluTransformerConfig, ReluConstruction),
    "UNet": (UNet, UNetConfig, Construction),
    "GaussianScore": (GaussianScore, GaussianScoreConfig, Construction),
    "EmpiricalScore": (EmpiricalScore, EmpiricalScoreConfig, Construction),
}
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
EXPANSION = 2**12
"""Largest ratio of the numbers in all weights of a model and of those that are stored."""
SMALL = 2**24
"""Numbers that the weights may have however few are stored: 128 MB in float64."""
KNOT_ROUNDING = 8
"""Rounding of the knots of the time features, in eps of their largest: a few operations, here or on another machine."""


def dtype_of(model: nn.Module) -> torch.dtype:
    """Dtype of the model's parameters; of its buffers where it has none."""
    return next(chain(model.parameters(), model.buffers())).dtype


def stored(model: nn.Module) -> dict[str, Any]:
    """Plain values and tensors from which `model_from` makes an equal model."""
    record = getattr(model, "construction", None)
    return {
        "class": type(model).__name__,
        "config": asdict(cast(Any, model.config)),
        "dtype": str(dtype_of(model)).removeprefix("torch."),
        "state": _packed(model.state_dict()),
        "construction": record.state() if isinstance(record, Construction) else None,
    }


def model_from(content: dict[str, Any], version: int, options: dict[str, Any]) -> nn.Module:
    """The model that a file of this version stored, with its weights and its record.

    Args:
        content: from `stored`.
        version: of the format.
        options: of the run that made it.

    Raises:
        DamagedError: it contradicts itself or its options, or a weight is not finite.
        Exception: anything that a damaged `content` can raise.
    """
    model_class, config_class, record_class = MODELS[content["class"]]
    config = config_from_dict(config_class, content["config"])
    state: dict[str, Any] = content["state"]
    blocks = config.depth if model_class is DiT else len(getattr(config, "heads", getattr(config, "channels", ())))
    if blocks > len(state):
        raise DamagedError(f"is damaged (its model has {blocks} blocks, and its file {len(state)} weights)")
    with torch.device("meta"):
        model = model_class(config).to(DTYPES[content["dtype"]])
    weights = _matched(model.state_dict(), state)
    model.load_state_dict({name: _dense(value) for name, value in weights.items()}, strict=True, assign=True)
    for name, value in model.state_dict().items():
        if not bool(value.isfinite().all()):
            raise DamagedError(f"is damaged (weight {name!r} has NaN or infinite entries)")
    if record := content.get("construction"):
        record = _record_of_format_1(record_class, record, content["config"]) if version == 1 else record
        hints = get_type_hints(record_class)
        for name, value in record.items():
            if not fits(value, hints[name]):
                raise DamagedError(f"is damaged (its record has {name} {str(value)[:40]!r})")
        cast(Any, model).construction = record_class(**record)
    for what, ours, theirs in _contradictions(model, options):
        if ours != theirs:
            raise DamagedError(f"contradicts itself (its model has {what} {theirs!r}, and elsewhere it says {ours!r})")
    return model


def _matched(needed: Mapping[str, Tensor], state: Mapping[str, Any]) -> dict[str, Any]:
    """`state`, if its names, shapes and dtypes are those that are needed and it takes no unlikely room.

    Raises:
        DamagedError: it is not.
    """
    for names, what in ((needed.keys() - state.keys(), "lacks"), (state.keys() - needed.keys(), "has no place for")):
        if names:
            raise DamagedError(f"is damaged (it {what} weight {min(names)!r})")
    entries = 0
    for name, tensor in needed.items():
        value: Any = state[name]
        if isinstance(value, Tensor):
            shape, kept, index = value.shape, value, None
        else:
            shape, kept, index = value["shape"], value["values"], value["index"]
        entries += kept.numel()
        if index is not None and index.shape != kept.shape:
            raise DamagedError(f"is damaged (weight {name!r} has {kept.numel()} entries in other places)")
        if tuple(shape) != tuple(tensor.shape) or kept.dtype != tensor.dtype:
            raise DamagedError(
                f"contradicts itself (weight {name!r} is {kept.dtype} of shape {tuple(shape)}, and its model has"
                f" {tensor.dtype} of shape {tuple(tensor.shape)})"
            )
    if (total := sum(tensor.numel() for tensor in needed.values())) > max(SMALL, EXPANSION * entries):
        raise DamagedError(f"is damaged (its model has {total:.2g} weights, of which it stores {entries})")
    return dict(state)


def _contradictions(model: nn.Module, options: dict[str, Any]) -> Iterator[tuple[str, object, object]]:
    """(what, value elsewhere in the checkpoint, value of the model), of everything that is said twice."""
    config = cast(Any, model.config)
    if isinstance(model, DiT):
        knots, expected = model.time.knot.double(), TimeRamps(config.ramps, config.t_range).knot.double()
        rounding = KNOT_ROUNDING * max(torch.finfo(kind).eps for kind in (torch.float32, model.time.knot.dtype))
        if not bool((knots - expected).abs().max() <= rounding * expected.abs().max()):
            yield "t_range", f"knots from {knots[0]:g} to {knots[-1]:g}", config.t_range
    if "dit" in options or isinstance(options.get("model"), dict):
        run = train_config(options)
        yield "class", {"dit": "DiT", "unet": "UNet"}[run.model], type(model).__name__
        asked = {**asdict(run.dit if run.model == "dit" else run.unet), "t_range": run.t_range}
        for name, value in asked.items():
            yield name, _plain(value), _plain(getattr(config, name))
    record = getattr(model, "construction", None)
    if record is not None:
        yield "t_range", list(record.t_range), list(config.t_range)
        yield "dtype", record.dtype, str(dtype_of(model)).removeprefix("torch.")
        yield "width", record.sizes["D"], config.width
    if isinstance(record, DiTConstruction):
        yield "blocks", record.sizes["L"], config.depth
        yield "heads", record.sizes["M"], config.heads
        yield "ramps", record.ramps, config.ramps
        yield "norm", "none" if record.dominance is None else "layer", config.norm
    elif isinstance(record, ReluConstruction):
        yield "blocks", record.sizes["L"], len(config.heads)
        yield "heads", record.sizes["M"], max(config.heads, default=0)
        yield "radius", record.sizes["R"], config.radius


def _plain(value: object) -> object:
    return list(cast(tuple[Any, ...], value)) if isinstance(value, tuple) else value


def _packed(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The weights as they are stored: equal ones as one tensor, which torch writes once, and sparse ones by entries."""
    packed: dict[bytes, Any] = {}
    return {name: packed.setdefault(_digest(value), _sparse(value.detach().cpu())) for name, value in state.items()}


def _digest(value: Tensor) -> bytes:
    """A name for the content of a tensor: bits, dtype and shape."""
    bits = value.detach().cpu().contiguous().flatten().view(torch.uint8)
    digest = hashlib.sha256(bits.numpy().tobytes())
    digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
    return digest.digest()


def _sparse(value: Tensor) -> Tensor | dict[str, Any]:
    """A tensor, or its shape, indices and entries if fewer than a quarter of them are not 0."""
    flat = value.flatten()
    index = flat.nonzero()[:, 0]
    if 4 * len(index) >= len(flat):
        return value
    return {"shape": list(value.shape), "index": index, "values": flat[index]}


def _dense(packed: Tensor | dict[str, Any]) -> Tensor:
    """The tensor that `_sparse` was given, with memory of its own; an index outside its shape raises."""
    if isinstance(packed, Tensor):
        return packed.detach().clone()
    flat = packed["values"].new_zeros(math.prod(packed["shape"]))
    flat.index_put_((packed["index"],), packed["values"])
    return flat.reshape(packed["shape"])


def _record_of_format_1(
    record_class: type[Construction], record: dict[str, Any], config: dict[str, Any]
) -> dict[str, Any]:
    """The fields of `record_class` from a record of format 1, whose ramps stood in the model's configuration alone."""
    absent = {name: None for name in ("ridge", "dominance", "neutralisation_error") if not record.get(name)}
    known: dict[str, Any] = {"widths": [], "fit_length": 0, "ramps": config.get("ramps"), **record, **absent}
    return {field.name: known[field.name] for field in fields(record_class)}
