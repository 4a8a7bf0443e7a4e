"""Tasks that read an image: decompress it, check its layout, hand the plain archive back, unpack it.

What is handed back is what rkt hashes and keeps.  A tree that was unpacked beside it is of the same bytes
unless the worker lies: then about the image that made it lie, whose files were never anybody else's.
"""

from __future__ import annotations

import os
import threading
from hashlib import sha256
from queue import SimpleQueue

from rkt.errors import RktError
from rkt.linux import files
from rkt.store import archive, checksum, compression, layout
from rkt.store.entry import Entry
from rkt.store.extract import Bytes, Extractor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rkt.store.hashing import Readable

_CHUNK = 1 << 20
_AHEAD = 4
"""Chunks that wait to be taken."""
_MOST_FILES = 100_000
"""With more entries an image is not unpacked before its end is known: it may be refused there, and removing a
million files takes minutes."""
# Members of a manifest by which a tree depends on more than this image.
_MEMBERS = (b'"dependencies"', b'"pathWhitelist"')


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


class ReaderAhead:
    """A readable that is read by a thread, some chunks ahead of who takes them.

    Decompressing lets the interpreter go on meanwhile, so both cores work.
    """

    __slots__ = ("_ended", "_queue", "_room", "_source")

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._ended = False
        self._queue: SimpleQueue[bytes | BaseException] = SimpleQueue()
        self._room = threading.Semaphore(_AHEAD)
        threading.Thread(target=self._work, daemon=True).start()

    def read(self, _: int = _CHUNK, /) -> bytes:
        if self._ended:
            return b""
        item = self._queue.get()
        self._room.release()
        if isinstance(item, bytes):
            self._ended = not item
            return item
        self._ended = True
        raise item

    def _work(self) -> None:
        try:
            while True:
                self._room.acquire()
                chunk = self._source.read(_CHUNK)
                self._queue.put(chunk)
                if not chunk:
                    return
        except BaseException as error:
            self._queue.put(error)


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
    return {"manifest": _read(arguments, fds, None).decode("latin-1")}


def unpack_image(arguments: dict[str, Any], fds: list[int]) -> dict[str, object]:
    """As ``read_image``, and unpack into the directory ``fds[2]`` meanwhile.

    ``known`` are hex SHA-256 digests of manifests whose images need not be unpacked.  Returns also
    ``checksum`` and ``size`` of the tree, unless it was not unpacked: because of its manifest, or because
    it cannot be, which does not keep it from being read.
    """
    tree = _Tree(fds[2], arguments["known"])
    try:
        manifest = _read(arguments, fds, tree)
        return {"manifest": manifest.decode("latin-1"), **tree.finish()}
    finally:
        tree.close()


def _read(arguments: dict[str, Any], fds: list[int], tree: _Tree | None) -> bytes:
    content = compression.open_reader(FdReader(fds[0]), limit=arguments["limit"])
    if content.kind in ("text", "unknown"):
        raise RktError("the file is no archive")
    copier = Copier(content, fds[1])
    source = ChunkReader(copier if tree is None else ReaderAhead(copier))
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


class _Tree:
    """What is unpacked while the image is read."""

    __slots__ = ("_contents", "_count", "_directory", "_extractor", "_known", "is_wanted")

    def __init__(self, directory: int, known: list[str]) -> None:
        self.is_wanted = True
        self._count = 0
        self._directory = directory
        self._known = known
        self._contents = checksum.Contents()
        owner = os.geteuid() == 0
        self._extractor = Extractor(directory, strip="", owner=owner, contents=self._contents)

    def add(self, entry: Entry, reader: archive.Reader, manifest: bytes | None) -> None:
        self._count += 1
        if self._count > _MOST_FILES:
            self.is_wanted = False
            return
        try:
            if layout.clean(entry.name) != layout.MANIFEST:
                self._extractor.add(entry, reader)
            elif manifest is not None:
                self._extractor.add(entry, Bytes(manifest))
                self.is_wanted = self._needs_tree(manifest)
        except (RktError, OSError):
            # Whoever renders the image is told why.
            self.is_wanted = False

    def finish(self) -> dict[str, object]:
        if not self.is_wanted:
            return {}
        try:
            self._extractor.finish()
        except RktError:
            return {}
        found, size = checksum.summary(self._directory, self._contents)
        return {"checksum": found, "size": size}

    def close(self) -> None:
        self._extractor.close()

    def _needs_tree(self, manifest: bytes) -> bool:
        if any(member in manifest for member in _MEMBERS):
            return False
        return sha256(manifest).hexdigest() not in self._known
