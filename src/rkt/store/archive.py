"""Tar archives as a stream: ustar, GNU long names and sparse files, PAX, base-256 numbers.

The reader takes what GNU tar, Go's archive/tar and Python's tarfile write, and refuses what has more
than one reading: damaged numbers, names with NUL, unknown types.  It never looks at the file system;
``rkt.store.extract`` does.  Names are file system strings (``os.fsdecode``), as in the archive: not
cleaned, not checked for ``..``.  Sizes, numbers and lengths of headers are limited (``Limits``), so that
a small archive cannot take much memory; its content is never held as a whole.

Sources: POSIX.1-2017 pax, "Basic Tar Format" and "Sparse Formats" of the GNU tar manual.
"""

from __future__ import annotations

import struct
from zlib import adler32

from rkt.store import pax
from rkt.store.archive_writer import Writer
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
    Limits,
)
from rkt.store.headers import ENCODING, HEADER, number, parse_long_name, parse_text, sparse_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rkt.store.compression import Readable

__all__ = [
    "BLOCK_DEVICE",
    "CHARACTER",
    "DIRECTORY",
    "FIFO",
    "FILE",
    "LINK",
    "SYMLINK",
    "ArchiveError",
    "Entry",
    "Limits",
    "Reader",
    "Writer",
]

_TYPES = {
    b"0": FILE,
    b"\0": FILE,
    b"1": LINK,
    b"2": SYMLINK,
    b"3": CHARACTER,
    b"4": BLOCK_DEVICE,
    b"5": DIRECTORY,
    b"6": FIFO,
    b"7": FILE,  # "contiguous": a plain file everywhere
    b"S": FILE,  # GNU sparse
}
_ADLER = 65521
_CHUNK = 256 * 1024
_ZEROS = bytes(BLOCK)
# Extended headers before one entry, and records of global ones: what nobody needs is an attack on memory.
_EXTENDED = 64


class Reader:
    """Iterates over the entries of an archive; between two, ``read`` or ``pieces`` give the body.

    ``source`` is read forward only, unless ``seek`` is set: then bodies nobody asks for are skipped by
    seeking, and listing an archive costs its headers.  The end of the archive is marked by two empty
    blocks, without which it counts as cut off (``end_marker=False`` for archives of writers that
    forget them); what follows is read to the end and ignored, as by every tar.
    """

    __slots__ = (
        "_base",
        "_buffer",
        "_count",
        "_end_marker",
        "_entry",
        "_finished",
        "_globals",
        "_limits",
        "_position",
        "_seek",
        "_source",
        "_total",
        "_unread",
    )

    def __init__(
        self,
        source: Readable,
        *,
        limits: Limits | None = None,
        end_marker: bool = True,
        seek: bool = False,
    ) -> None:
        self._source = source
        self._limits = limits or Limits()
        self._end_marker = end_marker
        self._seek = seek
        self._buffer = b""
        self._position = 0
        self._base = 0  # of the buffer in the archive
        self._unread = 0  # of the body of the current entry, with its padding
        self._count = 0
        self._total = 0
        self._finished = False
        self._globals: dict[str, bytes] = {}
        self._entry: Entry | None = None

    @property
    def offset(self) -> int:
        """How far the archive has been read, in bytes."""
        return self._base + self._position

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> Entry:
        """The next entry; ArchiveError for anything but a well-formed archive within its limits."""
        if self._finished:
            raise StopIteration
        if self._unread:
            self._skip(self._unread)
            self._unread = 0
        self._entry = None
        header = self._header()
        if header is None:
            self._finish()
            raise StopIteration
        if header[7] in b"xgLKV":
            entry = self._extended(header)
            if entry is None:
                self._finish()
                raise StopIteration
        elif self._globals:
            entry = self._extend(header, [], (None, None))
        else:
            entry = self._plain(header)
        limits = self._limits
        self._count += 1
        self._total += entry.size
        if self._count > limits.entries:
            raise ArchiveError(f"the archive has more than {limits.entries} entries")
        if self._total > limits.total:
            raise ArchiveError(f"the files of the archive are larger than {limits.total} bytes")
        # A character has at most four bytes: only long names need counting.
        if max(len(entry.name), len(entry.linkname)) * 4 > limits.name:
            self._check_length(entry)
        if not entry.name:
            raise ArchiveError("an entry of the archive has no name")
        if entry.name.count("/") > limits.depth:
            raise ArchiveError(f"a name in the archive is deeper than {limits.depth} directories")
        self._entry = entry
        return entry

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes of the current body as stored (all without ``size``), nothing at its end.

        For a file without holes that is its content; sparse files are read by ``pieces``.
        """
        entry = self._entry
        left = self._unread - (-entry.stored % BLOCK) if entry is not None else 0
        if size < 0 or size > left:
            size = left
        if size <= 0:
            return b""
        position = self._position
        if position + size <= len(self._buffer):
            self._unread -= size
            self._position = position + size
            return self._buffer[position : position + size]
        parts = []
        self._unread -= size
        while size:
            available = len(self._buffer) - self._position
            if not available:
                self._refill()
                continue
            take = min(available, size)
            parts.append(self._buffer[self._position : self._position + take])
            self._position += take
            size -= take
        return b"".join(parts)

    def pieces(self) -> Iterator[tuple[int, memoryview]]:
        """The content of the current file as (offset in the file, bytes); what is left out are holes."""
        entry = self._entry
        if entry is None:
            return
        segments = [(0, entry.stored)] if entry.segments is None else entry.segments
        for start, size in segments:
            offset, length = start, size
            while length:
                available = len(self._buffer) - self._position
                if not available:
                    self._refill()
                    continue
                take = min(available, length)
                piece = memoryview(self._buffer)[self._position : self._position + take]
                self._position += take
                self._unread -= take
                length -= take
                yield offset, piece
                offset += take

    # Headers

    def _header(self) -> tuple[bytes, ...] | None:
        """The fields of the next header with a right checksum, or None at the end marker."""
        block = self._block()
        if block is None:
            if self._end_marker:
                raise ArchiveError(f"the archive is cut off at offset {self.offset}")
            return None
        if block == _ZEROS:
            second = self._block()
            if second != _ZEROS and self._end_marker:
                what = "is cut off" if second is None else "has an empty block in the middle"
                raise ArchiveError(f"the archive {what} at offset {self.offset}")
            return None
        fields: tuple[bytes, ...] = HEADER.unpack(block)
        stored = fields[6]
        # The checksum counts its own field as blanks.  Adler-32's lower half is a sum too, in C.
        if (number(stored) + sum(stored) - 256) % _ADLER != adler32(block, 0) & 0xFFFF:
            self._check_signed(block, number(stored))
        return fields

    def _check_signed(self, block: bytes, stored: int) -> None:
        """Some old tars added up signed bytes."""
        if sum(struct.unpack("148b8x356b", block)) + 256 != stored:
            offset = self.offset - BLOCK
            raise ArchiveError(f"no header of a tar archive at offset {offset} (wrong checksum)")

    def _plain(self, header: tuple[bytes, ...]) -> Entry:
        """The entry of a header alone."""
        name, mode, uid, gid, size, mtime, _, kind, linkname, magic, _, _, _, major, minor, prefix = header
        type = _TYPES.get(kind)
        text = parse_text(name)
        if type is None:
            if kind == b"D":  # GNU incremental: a directory whose body lists names
                type = DIRECTORY
            else:
                raise ArchiveError(f"{text!r} is of the unknown type {kind!r}")
        if magic == b"ustar\0" and prefix[0]:
            text = parse_text(prefix) + "/" + text
        entry = Entry.__new__(Entry)
        entry.name = text
        entry.type = type
        entry.mode = number(mode) & 0o7777
        entry.uid = number(uid)
        entry.gid = number(gid)
        entry.mtime_ns = number(mtime) * 1_000_000_000
        entry.linkname = parse_text(linkname) if type is LINK or type is SYMLINK else ""
        entry.devmajor = entry.devminor = 0
        entry.xattrs = {}
        entry.segments = None
        # Only files have bodies, whatever the size field of other types says (so do Go and tarfile).
        entry.size = entry.stored = number(size) if type is FILE or kind == b"D" else 0
        if type is FILE:
            if kind == b"S":
                self._old_sparse(entry)
            elif kind == b"\0" and text.endswith("/"):  # version 7 had no type for directories
                entry.type = DIRECTORY
        elif type in (CHARACTER, BLOCK_DEVICE):
            entry.devmajor, entry.devminor = number(major), number(minor)
        self._start_body(entry)
        if entry.type is DIRECTORY:
            entry.size = 0
        return entry

    def _start_body(self, entry: Entry) -> None:
        if entry.stored < 0 or entry.uid < 0 or entry.gid < 0:
            raise ArchiveError(f"{entry.name!r} has a negative size or owner")
        entry.offset = self._base + self._position
        self._unread = (entry.stored + 511) & ~511

    def _extended(self, header: tuple[bytes, ...]) -> Entry | None:
        """The entry that follows extended headers, with what they say of it; None at the end marker."""
        records: list[tuple[str, bytes]] = []
        long_name = long_link = None
        for _ in range(_EXTENDED):
            if header[7] not in b"xgLKV":
                return self._extend(header, records, (long_name, long_link))
            kind = header[7]
            size = number(header[4])
            if kind == b"V":  # a volume's label
                size = 0
            body = self._header_body(size)
            if kind == b"x":
                records += pax.parse(body)
            elif kind == b"g":
                self._globals.update(pax.parse(body))
                if len(self._globals) > _EXTENDED:
                    raise ArchiveError("the archive has too many global headers")
            elif kind == b"L":
                long_name = parse_long_name(body)
            elif kind == b"K":
                long_link = parse_long_name(body)
            following = self._header()
            if following is None:
                if records or long_name or long_link:
                    raise ArchiveError("the archive ends after an extended header")
                return None
            header = following
        raise ArchiveError(f"too many extended headers before offset {self.offset}")

    def _extend(
        self,
        header: tuple[bytes, ...],
        records: list[tuple[str, bytes]],
        long_names: tuple[str | None, str | None],
    ) -> Entry:
        merged = dict(self._globals)
        merged.update(records)
        attributes = pax.Attributes(merged)
        size = header[4]
        if attributes.size is not None:
            # The size decides where the next header is, so it has to be known before the body starts.
            size = b"\x80" + attributes.size.to_bytes(11, "big")
        entry = self._plain((*header[:4], size, *header[5:]))
        entry.name = attributes.path or long_names[0] or entry.name
        if entry.linkname or entry.type in (LINK, SYMLINK):
            entry.linkname = attributes.linkpath or long_names[1] or entry.linkname
        entry.uid = entry.uid if attributes.uid is None else attributes.uid
        entry.gid = entry.gid if attributes.gid is None else attributes.gid
        entry.mtime_ns = entry.mtime_ns if attributes.mtime_ns is None else attributes.mtime_ns
        entry.xattrs = attributes.xattrs
        if attributes.sparse and entry.type is FILE:
            self._pax_sparse(entry, attributes, records)
        return entry

    def _header_body(self, size: int) -> bytes:
        if not 0 <= size <= self._limits.header:
            raise ArchiveError(f"an extended header of {size} bytes at offset {self.offset}")
        parts = []
        left = (size + 511) & ~511
        while left:
            block = self._block()
            if block is None:
                raise ArchiveError(f"the archive is cut off at offset {self.offset}")
            parts.append(block)
            left -= BLOCK
        return b"".join(parts)[:size]

    def _check_length(self, entry: Entry) -> None:
        for text in (entry.name, entry.linkname):
            if len(text.encode(ENCODING, "surrogateescape")) > self._limits.name:
                raise ArchiveError(f"a name in the archive is longer than {self._limits.name} bytes")

    # Sparse files

    def _old_sparse(self, entry: Entry) -> None:
        """The GNU format of before PAX: the map is in the header and in blocks that follow it."""
        header = self._buffer[self._position - BLOCK : self._position]
        segments = sparse_fields(header, 386, 4)
        more = header[482]
        entry.size = number(header[483:495])
        while more:
            block = self._block()
            if block is None:
                raise ArchiveError(f"the archive is cut off at offset {self.offset}")
            segments += sparse_fields(block, 0, 21)
            more = block[504]
            if len(segments) > self._limits.segments:
                break
        self._set_segments(entry, segments)

    def _pax_sparse(self, entry: Entry, attributes: pax.Attributes, records: list[tuple[str, bytes]]) -> None:
        """The three PAX formats: 0.0 (records repeat), 0.1 (one record), 1.0 (map before the content)."""
        if attributes.sparse_version == "1.0":
            segments = self._sparse_body(entry)
        else:
            segments = attributes.sparse_map(records)
        if attributes.sparse_size is None:
            raise ArchiveError(f"the sparse file {entry.name!r} has no size")
        entry.size = attributes.sparse_size
        self._set_segments(entry, segments)

    def _sparse_body(self, entry: Entry) -> list[tuple[int, int]]:
        """The map of format 1.0: decimal lines, their number first, filled up to a block."""
        numbers: list[int] = []
        rest = b""
        wanted = 1
        while len(numbers) < wanted:
            if self._unread < BLOCK:
                raise ArchiveError(f"the map of the sparse file {entry.name!r} is damaged")
            block = self._block()
            if block is None:
                raise ArchiveError(f"the archive is cut off at offset {self.offset}")
            self._unread -= BLOCK
            entry.stored -= BLOCK
            *lines, rest = (rest + block).split(b"\n")
            if len(rest) > BLOCK:
                raise ArchiveError(f"the map of the sparse file {entry.name!r} is damaged")
            for line in lines:
                numbers.append(pax.decimal(line, "sparse map"))
                if len(numbers) == 1:
                    wanted = 1 + 2 * numbers[0]
                    if numbers[0] > self._limits.segments:
                        raise ArchiveError(f"the sparse file {entry.name!r} has too many pieces")
                if len(numbers) == wanted:
                    break
        if entry.stored < 0:
            raise ArchiveError(f"the map of the sparse file {entry.name!r} is damaged")
        entry.offset = self.offset
        return list(zip(numbers[1::2], numbers[2::2], strict=True))

    def _set_segments(self, entry: Entry, segments: list[tuple[int, int]]) -> None:
        if len(segments) > self._limits.segments:
            raise ArchiveError(f"the sparse file {entry.name!r} has too many pieces")
        end = 0
        for offset, length in segments:
            if offset < end or length < 0:
                raise ArchiveError(f"the pieces of the sparse file {entry.name!r} overlap")
            end = offset + length
        stored = sum(length for _, length in segments)
        if end > entry.size or stored != entry.stored:
            raise ArchiveError(f"the map of the sparse file {entry.name!r} does not fit its size")
        entry.segments = [(offset, length) for offset, length in segments if length]

    # The stream

    def _block(self) -> bytes | None:
        """The next 512 bytes, None at the end; a rest of a block is a cut."""
        position = self._position
        block = self._buffer[position : position + BLOCK]
        if len(block) < BLOCK:
            return self._slow_block(block)
        self._position = position + BLOCK
        return block

    def _slow_block(self, block: bytes) -> bytes | None:
        self._base += self._position
        while len(block) < BLOCK and (data := self._source.read(_CHUNK)):
            block += data
        if len(block) < BLOCK:
            self._base += len(block)
            self._buffer = b""
            self._position = 0
            if block:
                raise ArchiveError(f"the archive is cut off at offset {self._base}")
            return None
        self._buffer = block
        self._position = BLOCK
        return block[:BLOCK]

    def _refill(self) -> None:
        """Replace a buffer that has been used up in the middle of a body."""
        self._base += len(self._buffer)
        self._position = 0
        self._buffer = self._source.read(_CHUNK)
        if not self._buffer:
            raise ArchiveError(f"the archive is cut off at offset {self._base}")

    def _skip(self, size: int) -> None:
        available = len(self._buffer) - self._position
        if size <= available:
            self._position += size
            return
        size -= available
        self._base += len(self._buffer)
        self._buffer, self._position = b"", 0
        if self._seek:
            self._seek_forward(size)
            return
        while size:
            data = self._source.read(_CHUNK)
            if not data:
                raise ArchiveError(f"the archive is cut off at offset {self._base}")
            if len(data) > size:
                self._buffer, self._position = data, size
                return
            size -= len(data)
            self._base += len(data)

    def _seek_forward(self, size: int) -> None:
        """Seek to the last byte to be skipped and read it: behind the end a seek would succeed too."""
        self._base += size
        try:
            self._source.seek(size - 1, 1)  # type: ignore[attr-defined]
            last = self._source.read(1)
        except OverflowError:
            # Headers can hold sizes that no file has.
            last = b""
        if not last:
            raise ArchiveError(f"the archive is cut off before offset {self._base}")

    def _finish(self) -> None:
        """Read what follows the end marker: a decompressor checks its sums at the very end."""
        self._finished = True
        self._unread = 0
        if not self._seek:
            while self._source.read(_CHUNK):
                pass
