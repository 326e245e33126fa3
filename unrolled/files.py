"""Writing without half-written files: everything goes under a temporary name first and is renamed when complete."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled.checks import InputError

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "atomic_path",
    "remove_leftovers",
    "require_output_file",
    "require_writable_folder",
    "write_csv",
    "write_json",
]

LONGEST_NAME = 200
"""Bytes of a file name: file systems take 255, and a lock and a folder of snapshots are named after the file."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""What a disk answers that is full, over its quota, or broken."""


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
        InputError: a folder, anything else that is no file, a file that exists, a name of more than 200 bytes, or a
            folder that cannot be written.
    """
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise InputError(f"{argument}: {path.name[:20]!r}... is too long a name; accepted: up to {LONGEST_NAME} bytes")
    if os.path.isdir(path):
        raise InputError(f"{argument}: {str(path)!r} is a folder; accepted: a file")
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{argument}: {str(path)!r} is no regular file; accepted: a file")
    if os.path.exists(path) and not overwrite:
        raise InputError(f"{argument}: {str(path)!r} exists; accepted: a new file, or --overwrite{instead}")
    require_writable_folder(argument, path.parent)
    return path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not.

    A file that is replaced keeps its mode.

    Raises:
        InputError: the disk is full.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{_label(path)}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(_mode(path))
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch turns the former into the latter
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError) or cause.errno not in FULL:
            raise
        raise InputError(
            f"out: {str(path)!r} cannot be written ({cause.strerror}); accepted: a folder on a disk with room"
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` that a killed process left; nobody else may be writing `path`."""
    pattern = re.compile(rf"\.{re.escape(_label(path))}-[a-z0-9_]{{8}}{re.escape(path.suffix)}")
    for other in path.parent.iterdir():
        if pattern.fullmatch(other.name):
            other.unlink(missing_ok=True)


def _label(path: Path) -> str:
    """What temporary files of `path` are called: its stem, or a digest of one that is too long."""
    stem = os.fsencode(path.stem)
    return path.stem if len(stem) <= LONGEST_NAME else hashlib.sha256(stem).hexdigest()


def _mode(path: Path) -> int:
    """The mode of `path`, or of a new file; mkstemp makes files that only their owner can read."""
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def write_csv(table: DataFrame, path: Path) -> None:
    """Write a table without its index, whole or not at all."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)


def write_json(content: Any, path: Path) -> None:
    """Write plain values as indented JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1))
