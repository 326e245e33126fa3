"""Progress of long work: a bar on a terminal, and a line now and then in a log."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from tqdm import tqdm

__all__ = ["Progress"]

LOG_SECONDS = 30.0
"""Between two lines in a file or a pipe."""
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} gone, {remaining} left{postfix}"


class _LineBar(tqdm):  # pyright: ignore[reportMissingTypeArgument]
    """tqdm that writes whole lines, for output that is no terminal."""

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        def write(line: str) -> None:
            if line.strip():
                file.write(line.rstrip() + "\n")
                file.flush()

        return write


class Progress:
    """A progress bar on standard error, as a context manager.

    Args:
        total: units of work.
        title: what is being done.
        unit: of the work.
        start: units that are done already.
        on: whether to show anything; False in processes that are not the first.
        delay: seconds before anything is shown.
    """

    def __init__(
        self, total: int, title: str, unit: str = "it", start: int = 0, on: bool = True, delay: float = 0.0
    ) -> None:
        options: dict[str, Any] = {"total": total, "initial": start, "desc": title, "unit": unit, "delay": delay}
        if sys.stderr.isatty():
            self._bar: Any = tqdm(**options, disable=not on)
        else:
            self._bar = _LineBar(
                **options, disable=not on, mininterval=LOG_SECONDS, maxinterval=LOG_SECONDS, bar_format=LINE
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, units: int = 1) -> None:
        """So many more units are done."""
        self._bar.update(units)

    def say(self, figures: Mapping[str, str] | str) -> None:
        """What matters now, shown behind the bar when it is drawn next."""
        if isinstance(figures, str):
            self._bar.set_postfix_str(figures, refresh=False)
        else:
            self._bar.set_postfix(figures, refresh=False)
