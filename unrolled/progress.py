"""Progress of long work: a bar on a terminal, and a line now and then in a log."""

import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

from tqdm import tqdm

__all__ = ["Progress", "track"]

Item = TypeVar("Item")

LOG_SECONDS = 30.0
"""Between two lines in a file or a pipe."""
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} gone, {remaining} left{postfix}"


class _Lines:
    """Standard error that gets whole lines of what tqdm writes, for output that is no terminal."""

    def write(self, text: str) -> None:
        if line := text.strip():
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


class Progress:
    """A progress bar on standard error, as a context manager.

    Args:
        total: units of work; None where it is not known yet, see `reach`.
        title: what is being done.
        unit: of the work.
        start: units that are done already.
        on: whether to show anything; False in processes that are not the first.
        delay: seconds before anything is shown.
    """

    def __init__(
        self, total: int | None, title: str, unit: str = "it", start: int = 0, on: bool = True, delay: float = 0.0
    ) -> None:
        options: dict[str, Any] = {"total": total, "initial": start, "desc": title, "unit": unit, "delay": delay}
        if not sys.stderr.isatty():
            options |= {"file": _Lines(), "mininterval": LOG_SECONDS, "maxinterval": LOG_SECONDS, "bar_format": LINE}
        self._bar: Any = tqdm(**options, disable=not on)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, units: int = 1) -> None:
        """So many more units are done."""
        self._bar.update(units)

    def reach(self, done: int, total: int) -> None:
        """So many units are done of so many, for work whose size is known only when it has begun."""
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def say(self, figures: Mapping[str, str] | str) -> None:
        """What matters now, shown behind the bar when it is drawn next."""
        if isinstance(figures, str):
            self._bar.set_postfix_str(figures, refresh=False)
        else:
            self._bar.set_postfix(figures, refresh=False)


def track(items: Collection[Item], title: str, unit: str = "it") -> Iterator[Item]:
    """The items, one after the other, under a bar."""
    with Progress(total=len(items), title=title, unit=unit) as bar:
        for item in items:
            yield item
            bar.update()
