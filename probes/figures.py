"""What every figure of the project shares: its look, its panels, and how it is written.

Nothing here changes matplotlib for anybody else: the look holds inside `theme()` alone, and figures are made without
pyplot, which would keep them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unrolled.files import atomic_path

__all__ = ["panels", "save_figure", "show_matrix", "theme"]


@contextmanager
def theme() -> Iterator[None]:
    """The look of every figure of the project, in a block `with theme():` or a function under `@theme()`."""
    with matplotlib.rc_context():
        # Colour codes would change what "b" and "r" mean in matplotlib for good.
        sns.set_theme(
            style="ticks", palette="colorblind", font_scale=0.9, color_codes=False, rc={"axes.titlesize": "medium"}
        )
        yield


def panels(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure of `size` inches and its axes (rows, columns); `options` as in `Figure.subplots`."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


@theme()
def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all, and release the figure where pyplot holds it."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    plt.close(figure)


def show_matrix(ax: Axes, matrix: np.ndarray, title: str, largest: float | None = None) -> None:
    """A matrix as colours from 0, or from below where it has negative entries, to `largest` or its own largest
    entry."""
    ax.imshow(matrix, vmin=min(0.0, float(matrix.min())), vmax=largest, cmap="rocket", interpolation="nearest")
    ax.set_title(title, fontsize="small")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
