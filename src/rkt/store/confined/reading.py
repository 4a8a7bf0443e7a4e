"""The task that reads an image: decompresses it, checks its layout, hands the plain archive back.

What is handed back is what rkt hashes and keeps.
"""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.linux import files
from rkt.store import archive, compression, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.store.confined.importing import Tree
    from rkt.store.hashing import Readable

_CHUNK = 1 << 20


def prepare(arguments: dict[str, Any]) -> None:
    """Import the decoder of the file's kind (``kind`` as ``compression.detect`` has it)."""
    compression.load(arguments["kind"])


class FdReader:
    """The bytes of an fd; ``size`` is where they end, where that is not the end of the file."""

    __slots__ = ("_fd", "_left")

    def __init__(self, fd: int, size: int | None = None) -> None:
        self._fd = fd
        self._left = size

    def read(self, size: int = _CHUNK, /) -> bytes:
        if self._left is None:
            return os.read(self._fd, size)
        data = os.read(self._fd, min(size, self._left))
        self._left -= len(data)
        return data


class Copier:
    """A readable whose bytes are also written to an fd."""

    __slots__ = ("_output", "_source")

    def __init__(self, source: Readable, output: int) -> None:
        self._source = source
        self._output = output

    def read(self, size: int = _CHUNK, /) -> bytes:
        chunk = self._source.read(size)
        if chunk:
            files.write_all(self._output, chunk)
        return chunk


class ChunkReader:
    """A readable in pieces of a source's chunks; ``drain`` reads what the consumer left.

    ``read`` may return less than asked for, and b"" only at the end.  Once the source has failed it fails
    for good, which ``check`` tells from other failures: what comes after a gap is not looked at.
    """

    __slots__ = ("_at", "_chunk", "_failure", "_source")

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._failure: BaseException | None = None
        self._chunk = b""
        self._at = 0

    def check(self) -> None:
        """Raise what the source has failed with, if it has."""
        if self._failure is not None:
            raise self._failure

    def read(self, size: int = _CHUNK, /) -> bytes:
        if self._at >= len(self._chunk):
            self._chunk = self._next()
            self._at = 0
        if self._at == 0 and len(self._chunk) <= size:
            self._at = len(self._chunk)
            return self._chunk
        piece = self._chunk[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def drain(self) -> None:
        """Read to the end."""
        while self._next():
            pass

    def _next(self) -> bytes:
        self.check()
        try:
            return self._source.read(_CHUNK)
        except BaseException as error:
            self._failure = error
            raise


def read_image(arguments: dict[str, Any], fds: list[int]) -> dict[str, object]:
    """Read the image file ``fds[0]`` to its end and write the plain archive to ``fds[1]``.

    ``limit``: the most bytes of that.  Returns its ``manifest``, each character a byte.
    """
    return {"manifest": read(arguments, fds, None).decode("latin-1")}


def read(arguments: dict[str, Any], fds: list[int], tree: Tree | None) -> bytes:
    """``read_image``, with the tree that is unpacked meanwhile; the manifest."""
    content = compression.open_reader(FdReader(fds[0]), limit=arguments["limit"])
    if content.kind in ("text", "unknown"):
        raise RktError("the file is no archive")
    copier = Copier(content, fds[1])
    source = ChunkReader(copier if tree is None else tree.ahead(copier))
    reader = archive.Reader(source)
    image = layout.ImageLayout()
    for entry in reader:
        image.check_entry(entry, reader)
        if tree is not None and tree.is_wanted:
            tree.add(entry, reader, image.manifest)
            source.check()
    manifest = image.finish()
    source.drain()
    return manifest
