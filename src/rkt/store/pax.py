"""Extended headers of POSIX tar archives: records ``LENGTH KEY=VALUE\\n``.

Values stay bytes until they are asked for: names need not be UTF-8 (``hdrcharset=BINARY``), extended
attributes are binary.  Unknown keys are ignored, as POSIX says.
"""

from __future__ import annotations

import os

from rkt.errors import RktError

_CHARSETS = (b"", b"BINARY", b"ISO-IR 10646 2000 UTF-8")
_XATTR = "SCHILY.xattr."
_SPARSE = "GNU.sparse."
_MAX_NUMBER = (1 << 63) - 1


def parse(data: bytes) -> list[tuple[str, bytes]]:
    """The records of an extended header in their order; RktError when they do not add up."""
    records = []
    position = 0
    while position < len(data):
        blank = data.find(b" ", position, position + 20)
        digits = data[position:blank] if blank > 0 else b""
        if not digits.isdigit():
            raise RktError("an extended header of the archive is damaged")
        end = position + int(digits)
        record = data[blank + 1 : end]
        if end > len(data) or end <= blank + 1 or not record.endswith(b"\n") or b"=" not in record:
            raise RktError("an extended header of the archive is damaged")
        key, _, value = record[:-1].partition(b"=")
        records.append((key.decode("utf-8", "surrogateescape"), value))
        position = end
    return records


def build(records: list[tuple[str, bytes]]) -> bytes:
    """Records as an extended header; the length counts itself."""
    parts = []
    for key, value in records:
        rest = b" " + key.encode("utf-8", "surrogateescape") + b"=" + value + b"\n"
        length = len(rest) + len(str(len(rest)))
        if len(str(length)) + len(rest) != length:
            length += 1
        parts.append(str(length).encode() + rest)
    return b"".join(parts)


def decimal(text: bytes, what: str) -> int:
    """A number of digits only, below 2**63."""
    if not text.isdigit() or len(text) > 19 or int(text) > _MAX_NUMBER:
        raise RktError(f"no number in an extended header of the archive: {what} {text[:32]!r}")
    return int(text)


def nanoseconds(text: bytes, what: str) -> int:
    """Seconds with an optional sign and fraction, exactly; digits beyond nanoseconds are cut."""
    digits = text[1:] if text.startswith(b"-") else text
    whole, point, fraction = digits.partition(b".")
    if not whole.isdigit() or len(whole) > 18 or (point and fraction and not fraction.isdigit()):
        raise RktError(f"no time in an extended header of the archive: {what} {text[:32]!r}")
    value = int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    return -value if digits is not text else value


def _path(value: bytes, what: str) -> str:
    if b"\0" in value:
        raise RktError(f"a NUL in an extended header of the archive: {what} {value[:64]!r}")
    return os.fsdecode(value)


class Attributes:
    """What the extended headers of one entry say; None or empty where they say nothing.

    An empty value takes back what a global header said (POSIX).
    """

    __slots__ = (
        "gid",
        "linkpath",
        "mtime_ns",
        "path",
        "size",
        "sparse",
        "sparse_size",
        "sparse_version",
        "uid",
        "xattrs",
    )

    def __init__(self, records: dict[str, bytes]) -> None:
        if records.get("hdrcharset", b"") not in _CHARSETS:
            raise RktError(f"the archive's names are in the unknown charset {records['hdrcharset']!r}")
        self.path = _path(records.get("path", b""), "path")
        self.linkpath = _path(records.get("linkpath", b""), "linkpath")
        self.size = _number(records, "size")
        self.uid = _number(records, "uid")
        self.gid = _number(records, "gid")
        mtime = records.get("mtime")
        self.mtime_ns = nanoseconds(mtime, "mtime") if mtime else None
        self.xattrs: dict[str, bytes] = {}
        self.sparse = False
        for key, value in records.items():
            if key.startswith(_XATTR):
                if "\0" in key:
                    raise RktError(f"a NUL in the name of an extended attribute: {key!r}")
                self.xattrs[key[len(_XATTR) :]] = value
            elif key.startswith(_SPARSE):
                self.sparse = True
        self.sparse_version = ""
        self.sparse_size: int | None = None
        if self.sparse:
            self._sparse(records)

    def _sparse(self, records: dict[str, bytes]) -> None:
        if "GNU.sparse.major" in records:
            major, minor = (records.get("GNU.sparse." + key, b"0") for key in ("major", "minor"))
            self.sparse_version = f"{decimal(major, 'major')}.{decimal(minor, 'minor')}"
            if self.sparse_version not in ("0.0", "0.1", "1.0"):
                raise RktError(f"the archive has a sparse file of the unknown format {self.sparse_version}")
        realsize = _number(records, "GNU.sparse.realsize")
        self.sparse_size = _number(records, "GNU.sparse.size") if realsize is None else realsize
        self.path = _path(records.get("GNU.sparse.name", b""), "path") or self.path

    def sparse_map(self, records: list[tuple[str, bytes]]) -> list[tuple[int, int]]:
        """The pieces of formats 0.0 and 0.1."""
        numbers: list[int] = []
        for key, value in records:
            if key == "GNU.sparse.map":
                numbers = [decimal(word, key) for word in value.split(b",")] if value else []
            elif key in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
                if (key == "GNU.sparse.offset") != (len(numbers) % 2 == 0):
                    raise RktError("the map of a sparse file in the archive is damaged")
                numbers.append(decimal(value, key))
        if len(numbers) % 2:
            raise RktError("the map of a sparse file in the archive is damaged")
        return list(zip(numbers[::2], numbers[1::2], strict=True))


def _number(records: dict[str, bytes], key: str) -> int | None:
    value = records.get(key)
    return decimal(value, key) if value else None
