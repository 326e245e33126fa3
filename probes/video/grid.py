"""Where the tokens of a video model stand: frames, rows and columns, and which part an attention call sees.

Video tokens are counted frame by frame, row by row, as every patch embedding with flatten does. An attention call sees

    video        all F H W of them                             batch = samples
    text first   text tokens, then all video tokens            batch = samples
    text last    all video tokens, then text tokens            batch = samples
    temporal     the F tokens of one position                  batch = samples H W, sample by sample
    spatial      the H W tokens of one frame                   batch = samples F, sample by sample
    cross        keys that are not the queries (text, image)   left out
    text         no video tokens                               left out

Sizes alone decide most calls, but not where text stands, nor which axis a folded call sees when F = H W. Then the
caller must say. Sizes cannot show that a call with as many keys as the video has tokens is cross attention, or text
alone: such a model needs `layouts` too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from unrolled.checks import InputError, refuse, require_choice, require_integer

__all__ = ["Layout", "TokenGrid", "call_layout"]

Layout = Literal["video", "text first", "text last", "temporal", "spatial", "cross", "text"]


@dataclass(frozen=True)
class TokenGrid:
    """Tokens of a video, counted after patch embedding.

    Raises:
        InputError: a side that is no integer >= 1.
    """

    frames: int
    height: int
    width: int

    def __post_init__(self) -> None:
        for name in ("frames", "height", "width"):
            require_integer(name, getattr(self, name))

    @classmethod
    def parse(cls, text: str) -> "TokenGrid":
        """The grid written as FxHxW, such as 13x30x45; an image has one frame.

        Raises:
            InputError: anything else.
        """
        sides = re.fullmatch(r"\s*([1-9]\d*)\s*[xX]\s*([1-9]\d*)\s*[xX]\s*([1-9]\d*)\s*", text)
        if not sides:
            refuse("grid", text, "FxHxW, frames x rows x columns of tokens, such as 13x30x45")
        return cls(*map(int, sides.groups()))

    @property
    def positions(self) -> int:
        """Tokens of one frame, H W."""
        return self.height * self.width

    @property
    def tokens(self) -> int:
        """All tokens, F H W."""
        return self.frames * self.positions

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"


def call_layout(
    grid: TokenGrid,
    samples: int,
    name: str,
    sizes: tuple[int, int, int],
    layouts: Mapping[str, Layout] | None = None,
    text_first: bool | None = None,
) -> tuple[Layout, int]:
    """Layout of one attention call and its number of text tokens.

    Args:
        grid: the video tokens.
        samples: videos in the pass.
        name: of the module, with which `layouts` decides.
        sizes: (batch, queries, keys) of the call.
        layouts: layout of the modules whose name the regular expression matches (`re.search`), the first match; sizes
            decide where none does.
        text_first: where text tokens stand in calls that hold more than the video.

    Raises:
        InputError: sizes that do not fit the grid, or that fit it in two ways; a layout that the sizes contradict.
    """
    batch, queries, keys = sizes
    call = f"attention in {name!r} (batch {batch}, {queries} queries, {keys} keys)"
    for pattern, layout in (layouts or {}).items():
        require_choice("layouts", layout, get_args(Layout))
        if re.search(pattern, name):
            if layout in ("cross", "text"):
                return layout, 0
            needed = _sizes(grid, samples, layout, queries)
            if sizes != needed:
                raise InputError(
                    f"grid: {grid} with {samples} samples does not fit {call} as {layout!r};"
                    f" that would be batch {needed[0]} and {needed[1]} tokens"
                )
            return layout, queries - grid.tokens if layout.startswith("text") else 0
    if queries != keys:
        return "cross", 0
    if sizes == (samples, grid.tokens, grid.tokens):
        return "video", 0  # with one frame or one position a folded call is the same one
    folds: tuple[Layout, ...] = ("temporal", "spatial")
    folded: list[Layout] = [layout for layout in folds if sizes == _sizes(grid, samples, layout, queries)]
    if len(folded) == 2:
        raise InputError(
            f"grid: {grid} fits {call} as temporal and as spatial, since F = H W; accepted: layouts, or another grid"
        )
    if folded:
        return folded[0], 0
    if batch == samples and queries > grid.tokens:
        if text_first is None:
            raise InputError(
                f"text_first: not given, but {call} has {queries - grid.tokens} tokens besides the {grid.tokens} of"
                f" grid {grid}; accepted: True and False"
            )
        return ("text first" if text_first else "text last"), queries - grid.tokens
    raise InputError(
        f"grid: {grid} is {grid.tokens} tokens in {samples} samples, which does not fit {call}; accepted: the grid of"
        " the model's tokens, or layouts that name what the call sees"
    )


def _sizes(grid: TokenGrid, samples: int, layout: Layout, queries: int) -> tuple[int, int, int]:
    """(batch, queries, keys) that a call of this layout has."""
    if layout == "temporal":
        return samples * grid.positions, grid.frames, grid.frames
    if layout == "spatial":
        return samples * grid.frames, grid.positions, grid.positions
    tokens = grid.tokens if layout == "video" else max(queries, grid.tokens + 1)
    return samples, tokens, tokens
