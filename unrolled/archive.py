# pyright: strict
"""The files of torch.save, read without trust in them: a zip archive whose entries carry checksums.

Nothing in such a file is run, every checksum is tested before anything is read, and no memory is reserved for what it
declares and does not hold: its tensors are views of the file until their sizes are known.
"""

import contextlib
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["DamagedError", "read_archive", "tensors_in"]

MAGIC = b"PK\x03\x04"
"""First bytes of a zip archive."""
EXPANSION = 1000
"""Largest ratio of the bytes that tensors take in memory and in the file."""
SMALL = 2**26
"""Bytes that tensors may take however small the file is: 64 MB."""


class DamagedError(Exception):
    """What is wrong with a file, as a phrase that follows its name."""


def read_archive(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU: plain values and tensors that own their memory.

    Raises:
        DamagedError: a file that is empty, truncated, damaged or foreign, or that holds anything else.
    """
    _check_entries(path)
    try:
        content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise DamagedError("holds more than plain values and tensors, and code in a file is not run") from None
    except Exception as error:  # torch raises many kinds on foreign files
        raise DamagedError(f"is not a checkpoint ({_words(error)})") from None
    most = max(SMALL, EXPANSION * path.stat().st_size)
    tensors = dict(tensors_in(content))
    if any(value.layout != torch.strided or value.is_quantized for value in tensors.values()):
        raise DamagedError("is damaged (a tensor is sparse or quantised)")
    if (size := sum(value.nbytes for value in tensors.values())) > most:
        raise DamagedError(f"is damaged ({size:.2g} bytes of tensors are declared, and it holds far less)")
    for value in tensors.values():
        value.data = value.data.clone()
    return content


def tensors_in(content: object, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of the tensors in nested dicts, lists and tuples; a name is the keys on the way, joined by dots.

    A part that occurs more than once is visited once.
    """
    todo: list[tuple[str, Any]] = [(name, content)]
    seen: set[int] = set()
    while todo:
        name, part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Tensor):
            yield name, part
        elif isinstance(part, dict | list | tuple):
            pairs = part.items() if isinstance(part, dict) else enumerate(part)  # pyright: ignore
            todo += [(f"{name}.{key}" if name else str(key), value) for key, value in pairs]  # pyright: ignore


def _check_entries(path: Path) -> None:
    """Test the checksum of every entry.

    Raises:
        DamagedError: one is wrong, or the file is no archive.
    """
    with path.open("rb") as file:
        head = file.read(len(MAGIC))
    if not head:
        raise DamagedError("is empty")
    if head != MAGIC:
        raise DamagedError("is not a checkpoint (it does not begin as a file of torch.save)")
    try:
        archive = zipfile.ZipFile(path)
    except Exception:  # damaged archives raise many kinds, OSError among them
        raise DamagedError("is truncated or damaged (its end is not that of an archive)") from None
    with archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED:
                raise DamagedError(f"is not a checkpoint ({entry.filename!r} is compressed)")
            try:
                with archive.open(entry) as part:
                    while part.read(2**20):
                        pass
            except Exception:
                raise DamagedError(f"is damaged ({_name_of(path, entry, entries)} has a wrong checksum)") from None


def _name_of(path: Path, entry: zipfile.ZipInfo, entries: list[zipfile.ZipInfo]) -> str:
    """The tensor that an entry holds, or else the name of the entry."""
    end = min((other.header_offset for other in entries if other.header_offset > entry.header_offset), default=2**63)
    with contextlib.suppress(Exception):  # the entry that holds the names may be the damaged one
        content = torch.load(str(path), map_location="meta", weights_only=True)
        for name, value in tensors_in(content):
            if entry.header_offset < getattr(value.untyped_storage(), "_checkpoint_offset", 0) < end:
                return f"tensor {name!r}"
    return f"part {entry.filename!r}"


def _words(error: Exception) -> str:
    """Kind and first sentence of an exception, on one line."""
    return f"{type(error).__name__}: {str(error).split('.')[0].split(chr(10))[0]}"[:200]
