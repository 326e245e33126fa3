"""Bad input, said in one line: the argument, its value, and what is accepted."""

import itertools
import math
from collections.abc import Collection, Iterable
from typing import NoReturn

__all__ = [
    "InputError",
    "StoppedError",
    "refuse",
    "require_choice",
    "require_integer",
    "require_number",
    "require_t_grid",
    "require_t_range",
]


class InputError(ValueError):
    """An argument that is not accepted; the message is one line that names it, its value and what is accepted.

    Command lines print it as that line and end with status 2. Every other exception is a bug.
    """


class StoppedError(Exception):
    """Ends a command with one line on standard error and a status of its own.

    Args:
        message: the line.
        status: exit status.
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


def refuse(argument: str, value: object, accepted: str) -> NoReturn:
    """Raise the InputError `argument: value is not accepted; accepted: ...`."""
    raise InputError(f"{argument}: {value!r} is not accepted; accepted: {accepted}")


def require_integer(argument: str, value: object, least: int = 1, most: float = math.inf) -> int:
    """`value`, if it is an integer in [least, most].

    Raises:
        InputError: it is not; True and False are none either.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        refuse(argument, value, f"an integer >= {least}" if most == math.inf else f"an integer in [{least}, {most:g}]")
    return value


def require_number(
    argument: str, value: object, above: float = -math.inf, below: float = math.inf, *, closed: str = "", why: str = ""
) -> float:
    """`value`, if it is a finite number between `above` and `below`.

    Args:
        argument: named in the error.
        value: what was given.
        above: lower end.
        below: upper end.
        closed: "low", "high" or "low high" for the ends that are accepted themselves.
        why: what the range is for, said behind it.

    Raises:
        InputError: it is not.
    """
    low, high = "low" in closed, "high" in closed
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    inside = (above < number or (low and number == above)) and (number < below or (high and number == below))
    if inside and math.isfinite(number):
        return number
    if above == -math.inf and below == math.inf:
        refuse(argument, value, "a finite number")
    if below == math.inf:
        refuse(argument, value, f"a finite number {'>=' if low else '>'} {above:g}")
    refuse(argument, value, f"a number in {'[' if low else '('}{above:g}, {below:g}{']' if high else ')'}{why}")


def require_choice(argument: str, value: object, choices: Collection[str]) -> str:
    """`value`, if it is one of `choices`.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, str) or value not in choices:
        refuse(argument, value, ", ".join(map(repr, choices)))
    return value


def require_t_range(value: tuple[float, float] | list[float]) -> tuple[float, float]:
    """Diffusion times (low, high), if 0 < low < high < infinity.

    Raises:
        InputError: they are not.
    """
    low, high = value
    if not 0 < low < high < math.inf:
        refuse("t_range", value, "0 < low < high")
    return float(low), float(high)


def require_t_grid(value: Iterable[float]) -> list[float]:
    """Diffusion times of a sampler, from the largest down, if they are finite, > 0 and fall from each to the next.

    Raises:
        InputError: they do not, or there are none.
    """
    times = [float(t) for t in value]
    falling = all(after < before for before, after in itertools.pairwise(times))
    if not times or not falling or not 0 < times[-1] <= times[0] < math.inf:
        shown = times[:4] if len(times) <= 4 else f"{times[:3]} and {len(times) - 3} more"
        refuse("t_grid", shown, "finite times > 0 that fall from each to the next")
    return times
