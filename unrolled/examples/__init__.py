"""Trained checkpoints that ship with the package, so that a probe can be tried before anything is trained."""

from pathlib import Path

from unrolled.checks import require_choice

__all__ = ["EXAMPLES", "PREFIX", "example_file"]

PREFIX = "example:"
"""What stands before the name of an example where the path of a checkpoint is accepted, as in example:ou."""
EXAMPLES: dict[str, tuple[str, ...]] = {
    "ou": (),
    "polynomial": ("--temporal", "polynomial"),
    "weather": ("--preset", "weather"),
    "unet": ("--model", "unet", "--learning-rate", "0.004"),
}
"""Name -> the options of `python -m unrolled.train` that it was trained with."""


def example_file(name: str) -> Path:
    """The file of an example.

    Raises:
        InputError: an unknown name.
    """
    require_choice("example", name, EXAMPLES)
    return Path(__file__).with_name(f"{name}.pt")
