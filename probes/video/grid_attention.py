"""Attention of a video model by frame lag and by displacement within the frame, of every head and sample.

With A the map over video tokens, a token being (frame f, row y, column x), a head has two profiles:

    temporal(df)     mean of A over all pairs of video tokens with f_key - f_query = df
    spatial(dy, dx)  mean of A over all pairs with y_key - y_query = dy and x_key - x_query = dx

each over the pairs that exist. Calls that see one axis alone (temporal or spatial layers) have one profile, averaged
over the positions or frames they were folded over. Text tokens are left out of both as queries and as keys, without
renormalising; the attention that video tokens pay to them is kept as `text_share`. Reduced block by block as the model
runs; sums within a block are taken in the dtype of the map, those over blocks in float64.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.capture.hooks import AttentionCapture, MapBlock, require_attention
from probes.capture.lags import pairs_per_lag
from probes.video.grid import Layout, TokenGrid, call_layout
from unrolled.checks import InputError

__all__ = ["GridAttention", "GridLayer", "attention_on_grid", "probe_module"]


@dataclass(frozen=True)
class GridLayer:
    """The attention of one module over the video tokens.

    Attributes:
        name: of the module.
        layout: which tokens its calls see, see `probes.video.grid`.
        text_tokens: how many of them are text.
        temporal: (heads, samples, 2F-1) mean attention at frame lags -(F-1)..F-1, float64; None for a spatial layer.
        spatial: (heads, samples, 2H-1, 2W-1) mean attention at displacements (dy, dx), float64; None for a temporal
            layer.
        own: (heads, samples) mean attention of a video token to itself.
        text_share: (heads, samples) mean attention of a video token to all text tokens together.
    """

    name: str
    layout: Layout
    text_tokens: int
    temporal: np.ndarray | None
    spatial: np.ndarray | None
    own: np.ndarray
    text_share: np.ndarray


@dataclass(frozen=True)
class GridAttention:
    """Attention of a video model, reduced while it ran.

    Attributes:
        grid: the video tokens.
        samples: videos.
        layers: modules whose attention sees video tokens alone or with text, in the order they ran.
        left_out: calls in one pass, by module, that are cross attention or see text alone.
        unseen: modules named after attention in which no map was seen.
        deviation: largest relative deviation of map times values from the fused output, first pass.
    """

    grid: TokenGrid
    samples: int
    layers: list[GridLayer]
    left_out: dict[str, str]
    unseen: list[str]
    deviation: float


@dataclass
class _Layer:
    """What is kept of one module: of each head, the sums it belongs to in each pass."""

    layout: Layout
    text: int
    heads: dict[int, list[tuple["_Sums", int]]] = field(default_factory=dict)  # and the place of the head in the sums


class _Sums:
    """Sums of attention over pairs of video tokens, of some heads of one call; profiles once all rows were added."""

    def __init__(self, grid: TokenGrid, layout: Layout, samples: int, heads: int):
        self.grid, self.layout, self.samples = grid, layout, samples
        lead = (samples, heads)
        self.frames = torch.zeros(*lead, grid.frames, grid.frames, dtype=torch.float64)
        # By query row, key row and column displacement: rows of keys are aligned when all queries are in.
        height, width = (1, 1) if layout == "temporal" else (grid.height, grid.width)
        self.space = torch.zeros(*lead, height, height, 2 * width - 1, dtype=torch.float64)
        self.own, self.text = (torch.zeros(*lead, dtype=torch.float64) for _ in range(2))

    def add(self, block: Float[Tensor, "batch heads rows keys"], row: int) -> None:
        """Add rows whose first query is video token `row` (or frame, or position, in a folded call), keys video
        alone."""
        own = block.diagonal(offset=row, dim1=-2, dim2=-1).sum(dim=-1, dtype=torch.float64)
        self.own += own.unflatten(0, (self.samples, -1)).sum(dim=1).cpu()
        folded = block.unflatten(0, (self.samples, -1))  # (samples, folds, heads, rows, keys)
        index = torch.arange(row, row + block.shape[-2])
        if self.layout == "temporal":
            self.frames.index_add_(2, index, folded.sum(dim=1).double().cpu())
        elif self.layout == "spatial":
            self._add_space(folded.sum(dim=1), row)
        else:
            by_frame = block.unflatten(-1, (self.grid.frames, self.grid.positions))
            self.frames.index_add_(2, index // self.grid.positions, by_frame.sum(dim=-1).double().cpu())
            self._add_space(by_frame.sum(dim=-2), row)

    def _add_space(self, block: Float[Tensor, "samples heads rows positions"], row: int) -> None:
        height, width = self.grid.height, self.grid.width
        keys = block.double().cpu().unflatten(-1, (height, width))
        for column in range(width):  # queries of one column see the keys at the same displacements
            first = (column - row) % width
            if first >= block.shape[2]:
                continue
            queries = torch.arange(row + first, row + block.shape[2], width) // width % height
            into = self.space[..., width - 1 - column : 2 * width - 1 - column]
            into.index_add_(2, queries, keys[:, :, first::width])

    def finish(self) -> None:
        """Turn sums into means over the pairs that exist, and drop them."""
        frames, positions, tokens = self.grid.frames, self.grid.positions, self.grid.tokens
        folded = self.layout in ("temporal", "spatial")
        if self.layout != "spatial":
            pairs = torch.from_numpy(pairs_per_lag(frames))
            self.temporal = _aligned(self.frames) / (pairs * positions ** (1 if folded else 2))
        if self.layout != "temporal":
            pairs = torch.from_numpy(np.outer(pairs_per_lag(self.grid.height), pairs_per_lag(self.grid.width)))
            self.spatial = _aligned(self.space) / (pairs * frames ** (1 if folded else 2))
        self.own, self.text = self.own / tokens, self.text / tokens
        del self.frames, self.space


def _aligned(sums: Float[Tensor, "samples heads n n *rest"]) -> Float[Tensor, "samples heads lags *rest"]:
    """Sums by (query, key) added up by lag -(n-1)..n-1."""
    n = sums.shape[2]
    by_lag = sums.new_zeros(*sums.shape[:2], 2 * n - 1, *sums.shape[4:])
    for query in range(n):
        by_lag[:, :, n - 1 - query : 2 * n - 1 - query] += sums[:, :, query]
    return by_lag


class _Reducer:
    """Consumer of `AttentionCapture` for passes of a known number of samples."""

    def __init__(self, grid: TokenGrid, layouts: Mapping[str, Layout] | None, text_first: bool | None):
        self.grid, self.layouts, self.text_first = grid, layouts, text_first
        self.samples = 0
        self.layers: dict[str, _Layer] = {}
        self.left_out: dict[str, str] = {}
        self.current: _Sums | None = None

    def __call__(self, seen: MapBlock) -> None:
        attention = seen.attention
        batch, heads, rows, keys = attention.shape
        if seen.row == 0:
            sizes = (batch, seen.queries, keys)
            layout, text = call_layout(self.grid, self.samples, seen.name, sizes, self.layouts, self.text_first)
            if layout in ("cross", "text"):
                self.left_out[seen.name] = f"{layout}, {seen.queries} queries, {keys} keys"
                self.current = None
                return
            layer = self.layers.setdefault(seen.name, _Layer(layout, text))
            if (layer.layout, layer.text) != (layout, text):
                raise InputError(f"model: attention in {seen.name!r} changes its layout between passes")
            self.current = _Sums(self.grid, layout, self.samples, heads)
            for k in range(heads):
                layer.heads.setdefault(seen.head + k, []).append((self.current, k))
        if self.current is None:
            return
        layer, sums = self.layers[seen.name], self.current
        first = layer.text if layer.layout == "text first" else 0
        last = seen.queries - layer.text + first
        queries = attention[:, :, max(0, first - seen.row) : max(0, last - seen.row)]
        if queries.shape[2]:
            video = queries[..., first:last]
            sums.add(video, max(first, seen.row) - first)
            if layer.text:
                text = queries[..., :first] if first else queries[..., last:]
                sums.text += text.sum(dim=(-2, -1), dtype=torch.float64).cpu()
        if seen.row + rows == seen.queries:
            sums.finish()

    def result(self, name: str) -> GridLayer:
        """The profiles of one module, over all passes."""
        layer = self.layers[name]

        def stack(read: Callable[[_Sums], Tensor]) -> np.ndarray:
            passes = (layer.heads[head] for head in sorted(layer.heads))
            return torch.stack([torch.cat([read(sums)[:, k] for sums, k in parts]) for parts in passes]).numpy()

        return GridLayer(
            name=name,
            layout=layer.layout,
            text_tokens=layer.text,
            temporal=None if layer.layout == "spatial" else stack(lambda sums: sums.temporal),
            spatial=None if layer.layout == "temporal" else stack(lambda sums: sums.spatial),
            own=stack(lambda sums: sums.own),
            text_share=stack(lambda sums: sums.text),
        )


@torch.no_grad()
def attention_on_grid(
    module: nn.Module,
    passes: Iterable[tuple[int, Callable[[], Any]]],
    grid: TokenGrid,
    layouts: Mapping[str, Layout] | None = None,
    text_first: bool | None = None,
) -> GridAttention:
    """Reduce the attention of `module` while it runs on videos.

    Args:
        module: the model; attention outside its modules is ignored.
        passes: (samples, function that runs `module` once on as many videos), each video counted once: with guidance
            that doubles the batch, count it twice.
        grid: its video tokens.
        layouts: layouts by module name, see `probes.video.grid.call_layout`.
        text_first: where text tokens stand beside the video, likewise.

    Raises:
        InputError: no passes; a pass without attention; sizes that do not fit the grid; maps that cannot be verified
            (see `AttentionCapture`).
    """
    reducer = _Reducer(grid, layouts, text_first)
    capture = AttentionCapture(module, reducer)
    total = 0
    for samples, forward in passes:
        reducer.samples = samples
        with capture:
            forward()
        total += samples
        require_attention(bool(reducer.layers or reducer.left_out), capture)
    if total == 0:
        raise InputError("passes: there are none; accepted: at least one")
    if not reducer.layers:
        others = "; ".join(f"{name}: {what}" for name, what in list(reducer.left_out.items())[:3])
        raise InputError(f"model: none of its attention is among video tokens ({others}); accepted: a model with some")
    layers = [reducer.result(name) for name in reducer.layers]
    if any(layer.own.shape[1] != total for layer in layers):
        raise InputError(
            "model: some of its attention ran in some passes alone; accepted: a model that runs alike in each"
        )
    return GridAttention(grid, total, layers, reducer.left_out, capture.unseen, capture.largest_deviation)


def probe_module(
    module: nn.Module,
    forward: Callable[[], Any] | Iterable[Callable[[], Any]],
    grid: TokenGrid,
    samples: int = 1,
    layouts: Mapping[str, Layout] | None = None,
    text_first: bool | None = None,
) -> GridAttention:
    """Attention by frame lag and displacement of any module, run by a function of the caller.

    Args:
        module: the model, in evaluation mode.
        forward: function without arguments that runs `module` once on `samples` videos; or several of them.
        grid: its video tokens.
        samples: videos in each run.
        layouts, text_first: see `attention_on_grid`.

    Raises:
        InputError: see `attention_on_grid`.
    """
    runs = [forward] if callable(forward) else forward
    return attention_on_grid(module, ((samples, run) for run in runs), grid, layouts, text_first)
