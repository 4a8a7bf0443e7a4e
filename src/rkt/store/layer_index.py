"""The index of an unpacked layer: its entries, one line of JSON each, in the order of its archive.

::

    ["rkt layer", 1]
    [TYPE, NAME, MODE, UID, GID, MTIME, SIZE, LINKNAME, [MAJOR, MINOR], {XATTR: HEX}, SEGMENTS, CRC, SHA]
    ...
    ["end", ENTRIES, BYTES]

MTIME in nanoseconds; SEGMENTS are the [offset, length] pieces of a sparse file or null; CRC is the CRC-32 of
a file's content without holes, which tells a damaged disk, not an attacker, and SHA the SHA-256 of all of it
in hexadecimal digits; for other entries they are 0 and "".  BYTES are those of the archive.
Names are as the archive has them: nothing on disk is called by them.  It is written by a process that reads
what came from outside, so whoever reads it takes nothing but exactly this form.
"""

from __future__ import annotations

import json

from rkt.errors import RktError
from rkt.store.entry import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    LINK,
    SYMLINK,
    Entry,
)
from rkt.store.extract import is_kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, BinaryIO

    # CRC-32 of what is stored of a file, SHA-256 of all of it.
    Sums = tuple[int, bytes]

NAME = "index"
_FIRST = b'["rkt layer", 1]\n'
_TYPES = {one: one for one in (BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, FILE, LINK, SYMLINK)}
_MOST = (1 << 63) - 1
_DIGEST_SIZE = 32
_SHAPE = [str, str, int, int, int, int, int, str, list, dict]
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Writer:
    """Writes an index to ``file``."""

    __slots__ = ("_count", "_file")

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._count = 0
        file.write(_FIRST)

    def add(self, entry: Entry, sums: Sums = (0, b"")) -> None:
        """The next entry; ``sums`` are those of a file's content."""
        self._count += 1
        row = (
            entry.type,
            entry.name,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.mtime_ns,
            entry.size,
            entry.linkname,
            (entry.devmajor, entry.devminor),
            {name: value.hex() for name, value in entry.xattrs.items() if is_kept(name)},
            entry.segments,
            sums[0],
            sums[1].hex(),
        )
        self._file.write(_encode(row).encode() + b"\n")

    def finish(self, size: int) -> None:
        """The end: ``size`` are the bytes of the archive."""
        self._file.write(_encode(["end", self._count, size]).encode() + b"\n")


class Reader:
    """Iterates over the (entry, sums) of an index; afterwards ``size`` is that of the archive.

    Raises RktError for a line that is not as it should be, and where the end is missing.
    """

    __slots__ = ("_count", "_lines", "size")

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._count = 0
        self.size = -1

    def __iter__(self) -> Iterator[tuple[Entry, Sums]]:
        if next(self._lines, b"") != _FIRST:
            raise RktError("the index of the layer is of an unknown form")
        for line in self._lines:
            try:
                row = json.loads(line.decode("ascii"))
                if type(row) is not list:
                    raise ValueError
                if len(row) == 3:
                    self._finish(row)
                    return
                entry, sums = _entry(row)
            except (ValueError, KeyError, TypeError, RecursionError):
                raise RktError(f"line {self._count + 2} of the layer's index is damaged") from None
            self._count += 1
            yield entry, sums
        raise RktError("the index of the layer is cut off")

    def _finish(self, row: list[Any]) -> None:
        if row[0] != "end" or row[1] != self._count or not _number(row[2]):
            raise ValueError
        if next(self._lines, None) is not None:
            raise ValueError
        self.size = row[2]


def _entry(row: list[Any]) -> tuple[Entry, Sums]:
    """What a line says; ValueError, KeyError or TypeError for any other form."""
    if [type(value) for value in row[:10]] != _SHAPE or len(row) != 13:
        raise ValueError
    kind, name, mode, uid, gid, mtime, size, linkname, device, xattrs, segments, crc, sha = row
    digest = bytes.fromhex(sha)
    if len(digest) != (_DIGEST_SIZE if kind == FILE else 0):
        raise ValueError
    if not (_number(mode) and _number(uid) and _number(gid) and _number(size) and _number(crc)):
        raise ValueError
    if mode > 0o7777 or crc > 0xFFFFFFFF or not -_MOST <= mtime <= _MOST:
        raise ValueError
    if len(device) != 2 or not all(map(_number, device)) or not name or "\0" in name or "\0" in linkname:
        raise ValueError
    entry = Entry(
        name,
        _TYPES[kind],
        mode=mode,
        uid=uid,
        gid=gid,
        size=size,
        mtime_ns=mtime,
        linkname=linkname,
        devmajor=device[0],
        devminor=device[1],
        xattrs={key: bytes.fromhex(value) for key, value in xattrs.items()} if xattrs else None,
    )
    if segments is not None:
        entry.segments, entry.stored = _segments(segments, size)
    return entry, (crc, digest)


def _segments(value: Any, size: int) -> tuple[list[tuple[int, int]], int]:
    if type(value) is not list:
        raise ValueError
    segments = []
    end = stored = 0
    for pair in value:
        if type(pair) is not list or len(pair) != 2 or not all(map(_number, pair)) or pair[0] < end:
            raise ValueError
        segments.append((pair[0], pair[1]))
        end = pair[0] + pair[1]
        stored += pair[1]
    if end > size:
        raise ValueError
    return segments, stored


def _number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MOST
