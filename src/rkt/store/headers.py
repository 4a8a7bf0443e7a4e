"""The fields of a tar header: text, numbers in octal or binary, the map of old sparse files."""

from __future__ import annotations

import struct
import sys

from rkt.store.entry import ArchiveError

# name mode uid gid size mtime checksum type linkname magic version uname gname major minor prefix
HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
ENCODING = sys.getfilesystemencoding()


def parse_text(field: bytes) -> str:
    """A field as text up to its first NUL."""
    end = field.find(b"\0")
    return (field if end < 0 else field[:end]).decode(ENCODING, "surrogateescape")


def parse_long_name(body: bytes) -> str:
    """The body of GNU's header for a long name; tars differ about an empty one, so that is none."""
    text = parse_text(body)
    if not text:
        raise ArchiveError("a header of the archive for a long name holds none")
    return text


def number(field: bytes) -> int:
    """A number of a header: octal, or binary when the first bit is set (GNU's base-256)."""
    text = field.strip(b" \0")
    if text.isdigit():
        try:
            return int(text, 8)
        except ValueError:
            raise ArchiveError(f"no octal number in a header: {field!r}") from None
    first = field[0] if field else 0
    if first & 0x80:
        # Two's complement without its uppermost bit.
        value = int.from_bytes(field, "big")
        return value - (1 << 8 * len(field)) if first & 0x40 else value & ~(0x80 << 8 * (len(field) - 1))
    text = field.split(b"\0", 1)[0].strip(b" ")
    if not text:
        return 0
    if not text.isdigit():
        raise ArchiveError(f"no octal number in a header: {field!r}")
    return number(text)


def sparse_fields(block: bytes, start: int, count: int) -> list[tuple[int, int]]:
    """Pairs of offset and length, 12 bytes each, up to the first empty one."""
    pairs = []
    for position in range(start, start + 24 * count, 24):
        offset, length = block[position : position + 12], block[position + 12 : position + 24]
        if not offset.strip(b"\0 "):
            break
        pairs.append((number(offset), number(length)))
    return pairs
