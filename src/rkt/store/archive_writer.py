"""Writes tar archives: the same entries always give the same bytes.

Plain ustar headers where they can say it, PAX records where they cannot: long names, fractions of a
second, large numbers, extended attributes.  Names that are not UTF-8 are marked ``hdrcharset=BINARY``.
"""

from __future__ import annotations

import os

from rkt.store import pax
from rkt.store.entry import (
    BLOCK,
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    LINK,
    SYMLINK,
    ArchiveError,
    Entry,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from rkt.store.compression import Readable

    class Writable(Protocol):
        """A file opened for writing bytes."""

        def write(self, data: bytes, /) -> int | None: ...


_FLAGS = {
    FILE: b"0",
    LINK: b"1",
    SYMLINK: b"2",
    CHARACTER: b"3",
    BLOCK_DEVICE: b"4",
    DIRECTORY: b"5",
    FIFO: b"6",
}
_CHUNK = 256 * 1024
_OCTAL_8 = 8**7 - 1
_OCTAL_12 = 8**11 - 1
_SECOND = 1_000_000_000


class Writer:
    """Writes entries to ``target`` one after another; ``finish`` ends the archive (``with`` does too)."""

    __slots__ = ("_target", "size")

    def __init__(self, target: Writable) -> None:
        self._target = target
        self.size = 0
        """Bytes written so far."""

    def add(self, entry: Entry, content: bytes | Readable = b"") -> None:
        """Write an entry; ``content`` has exactly ``entry.size`` bytes for a file, else nothing.

        A stream that is shorter is an ArchiveError: the file changed while it was read.  For a file with
        ``segments`` the content is theirs alone, and the archive has its holes too (PAX sparse format 1.0).
        """
        if entry.type == FILE and entry.segments is not None:
            self._add_sparse(entry, entry.segments, content)
            return
        size = entry.size if entry.type == FILE else 0
        name = _name(entry)
        self._add_extended(name, _records(entry, name, size))
        self._write(_entry_header(entry, name, size))
        if size:
            self._write_body(content, size)

    def _add_sparse(self, entry: Entry, segments: list[tuple[int, int]], content: bytes | Readable) -> None:
        numbers = [len(segments), *(number for segment in segments for number in segment)]
        if not segments or sum(segments[-1]) < entry.size:
            # A hole at the end is told by a segment without content, as GNU tar does.
            numbers[0] += 1
            numbers += [entry.size, 0]
        table = "".join(f"{number}\n" for number in numbers).encode()
        table += bytes(-len(table) % BLOCK)
        stored = sum(length for _, length in segments)
        name = _name(entry)
        size = len(table) + stored
        records = [
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", name),
            ("GNU.sparse.realsize", str(entry.size).encode()),
        ]
        self._add_extended(name, [*records, *_records(entry, name, size)])
        self._write(_entry_header(entry, name, size))
        self._write(table)
        self._write_body(content, stored)

    def _add_extended(self, name: bytes, records: list[tuple[str, bytes]]) -> None:
        if records:
            body = pax.build(records)
            short = b"PaxHeaders/" + os.path.basename(name.rstrip(b"/"))[:80]
            self._write(_header(short, b"x", size=len(body), mode=0o644, mtime=0))
            self._write_body(body, len(body))

    def finish(self) -> None:
        """Write the end marker; the target stays open."""
        self._write(bytes(2 * BLOCK))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()

    def _write(self, data: bytes) -> None:
        self._target.write(data)
        self.size += len(data)

    def _write_body(self, content: bytes | Readable, size: int) -> None:
        if isinstance(content, bytes):
            if len(content) != size:
                raise ArchiveError(f"{len(content)} bytes of content for a file of {size}")
            self._write(content)
        else:
            left = size
            while left:
                data = content.read(min(left, _CHUNK))
                if not data:
                    raise ArchiveError(f"a file of {size} bytes became shorter while it was read")
                self._write(data)
                left -= len(data)
        self._write(bytes(-size % BLOCK))


def _name(entry: Entry) -> bytes:
    name = os.fsencode(entry.name)
    if not name or b"\0" in name or b"\0" in os.fsencode(entry.linkname):
        raise ArchiveError(f"{entry.name!r} is no name for an archive")
    return name + b"/" if entry.type == DIRECTORY and not name.endswith(b"/") else name


def _records(entry: Entry, name: bytes, size: int) -> list[tuple[str, bytes]]:
    """What the plain header cannot say."""
    records: list[tuple[str, bytes]] = []
    link = os.fsencode(entry.linkname)
    if _split(name) is None:
        records.append(("path", name))
    if len(link) > 100:
        records.append(("linkpath", link))
    if any(not _is_utf8(value) for _, value in records):
        records.insert(0, ("hdrcharset", b"BINARY"))
    for key, value, most in (
        ("size", size, _OCTAL_12),
        ("uid", entry.uid, _OCTAL_8),
        ("gid", entry.gid, _OCTAL_8),
    ):
        if value > most:
            records.append((key, str(value).encode()))
    if entry.mtime_ns % _SECOND or not 0 <= entry.mtime_ns // _SECOND <= _OCTAL_12:
        records.append(("mtime", _time(entry.mtime_ns)))
    for key in sorted(entry.xattrs):
        if "=" in key or "\0" in key:
            raise ArchiveError(f"the extended attribute {key!r} cannot be archived")
        records.append(("SCHILY.xattr." + key, entry.xattrs[key]))
    return records


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _time(nanoseconds: int) -> bytes:
    whole, fraction = divmod(abs(nanoseconds), _SECOND)
    text = f"{whole}.{fraction:09d}".rstrip("0").rstrip(".")
    return (("-" if nanoseconds < 0 else "") + text).encode()


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Prefix and name of a ustar header, or None when the name does not fit."""
    if len(name) <= 100:
        return b"", name
    cut = name.find(b"/", len(name) - 101, len(name) - 1)
    if cut <= 0 or cut > 155:
        return None
    return name[:cut], name[cut + 1 :]


def _entry_header(entry: Entry, name: bytes, size: int) -> bytes:
    prefix, short = _split(name) or (b"", name[:100])
    seconds = entry.mtime_ns // _SECOND
    return _header(
        short,
        _FLAGS[entry.type],
        size=size if size <= _OCTAL_12 else 0,
        mode=entry.mode & 0o7777,
        mtime=seconds if 0 <= seconds <= _OCTAL_12 else 0,
        prefix=prefix,
        owner=(entry.uid if entry.uid <= _OCTAL_8 else 0, entry.gid if entry.gid <= _OCTAL_8 else 0),
        linkname=os.fsencode(entry.linkname)[:100],
        device=(entry.devmajor, entry.devminor),
    )


def _header(
    name: bytes,
    flag: bytes,
    *,
    size: int,
    mode: int,
    mtime: int,
    prefix: bytes = b"",
    owner: tuple[int, int] = (0, 0),
    linkname: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, *owner, size, mtime)
    fields = (
        (name, 100),
        (numbers, 48),
        (b" " * 8, 8),  # the checksum counts itself as blanks
        (flag, 1),
        (linkname, 100),
        (b"ustar\x0000", 8),
        (b"", 64),  # names of user and group: those of this host mean nothing elsewhere
        (b"%07o\0%07o\0" % device, 16),
        (prefix, 155),
        (b"", 12),
    )
    block = b"".join(text.ljust(width, b"\0") for text, width in fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
