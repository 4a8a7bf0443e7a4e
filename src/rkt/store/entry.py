"""One member of a tar archive, as ``rkt.store.archive`` reads and writes it, and the bounds of reading."""

from __future__ import annotations

from rkt.errors import RktError

BLOCK = 512

FILE = "file"
LINK = "link"
SYMLINK = "symlink"
CHARACTER = "character"
BLOCK_DEVICE = "block"
DIRECTORY = "directory"
FIFO = "fifo"


class ArchiveError(RktError):
    """What is read is not the archive it should be."""


class Limits:
    """Bounds of what a reader takes.

    ``entries``: their number; ``total``: the sum of file sizes in bytes, holes included; ``name``: bytes of
    a name or link target (a longer one than 4095 bytes is no path of Linux); ``header``: bytes of one
    extended header; ``segments``: pieces of one sparse file; ``depth``: slashes of a name, because
    whatever walks the tree later has to go that deep.
    """

    __slots__ = ("depth", "entries", "header", "name", "segments", "total")

    def __init__(
        self,
        *,
        entries: int = 1_000_000,
        total: int = 256 << 30,
        name: int = 4095,
        header: int = 1 << 20,
        segments: int = 100_000,
        depth: int = 256,
    ) -> None:
        self.depth = depth
        self.entries = entries
        self.total = total
        self.name = name
        self.header = header
        self.segments = segments


class Entry:
    """One member.  ``size`` is that of the file (with holes), ``stored`` of its body in the archive.

    ``offset`` is where the body starts in the archive, ``segments`` the (offset, length) pieces of a
    sparse file or None, ``mtime_ns`` nanoseconds since 1970, ``linkname`` the target of both kinds of links.
    """

    __slots__ = (
        "devmajor",
        "devminor",
        "gid",
        "linkname",
        "mode",
        "mtime_ns",
        "name",
        "offset",
        "segments",
        "size",
        "stored",
        "type",
        "uid",
        "xattrs",
    )

    def __init__(
        self,
        name: str,
        type: str = FILE,
        *,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        mtime_ns: int = 0,
        linkname: str = "",
        devmajor: int = 0,
        devminor: int = 0,
        xattrs: dict[str, bytes] | None = None,
    ) -> None:
        self.name = name
        self.type = type
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.stored = size
        self.mtime_ns = mtime_ns
        self.linkname = linkname
        self.devmajor = devmajor
        self.devminor = devminor
        self.xattrs: dict[str, bytes] = {} if xattrs is None else xattrs
        self.offset = 0
        self.segments: list[tuple[int, int]] | None = None

    def __repr__(self) -> str:
        return f"Entry({self.name!r}, {self.type!r}, size={self.size})"
