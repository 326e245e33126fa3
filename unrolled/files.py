"""Writing without half-written files: everything goes under a temporary name first and is renamed when complete."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled.checks import InputError

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["atomic_path", "require_output_file", "require_writable_folder", "write_csv", "write_json"]


def require_writable_folder(argument: str, folder: Path) -> Path:
    """Make `folder`; call it before long work that ends in writing.

    Raises:
        InputError: it cannot be made or written; the message starts with `argument`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{argument}: {str(folder)!r} cannot be written ({error.strerror}); accepted: a writable folder"
        ) from None
    return folder


def require_output_file(argument: str, path: Path, overwrite: bool, instead: str = "") -> Path:
    """`path`, if a command may write it when it is done; its folder is made.

    Args:
        argument: named in the error.
        path: the file.
        overwrite: whether it may exist.
        instead: what else is accepted where it exists.

    Raises:
        InputError: a folder, a file that exists, or a folder that cannot be written.
    """
    if path.is_dir():
        raise InputError(f"{argument}: {str(path)!r} is a folder; accepted: a file")
    if path.exists() and not overwrite:
        raise InputError(f"{argument}: {str(path)!r} exists; accepted: a new file, or --overwrite{instead}")
    require_writable_folder(argument, path.parent)
    return path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not."""
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_csv(table: DataFrame, path: Path) -> None:
    """Write a table without its index, whole or not at all."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)


def write_json(content: Any, path: Path) -> None:
    """Write plain values as indented JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1))
