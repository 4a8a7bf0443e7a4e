"""The task that reads an image and unpacks it meanwhile.

The tree is of the bytes that are handed back, which rkt hashes and keeps, unless the worker lies: then about
the image that made it lie, whose files were never anybody else's.
"""

from __future__ import annotations

import os
import threading
from _queue import SimpleQueue
from hashlib import sha256

from rkt.errors import RktError
from rkt.store import archive, checksum, layout
from rkt.store.confined import reading
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

prepare = reading.prepare


def unpack_image(arguments: dict[str, Any], fds: list[int]) -> dict[str, object]:
    """As ``read_image``, and unpack into the directory ``fds[2]`` meanwhile.

    ``known`` are hex SHA-256 digests of manifests whose images need not be unpacked.  Returns also
    ``checksum`` and ``size`` of the tree, unless it was not unpacked: because of its manifest, or because
    it cannot be, which does not keep it from being read.
    """
    tree = Tree(fds[2], arguments["known"])
    try:
        manifest = reading.read(arguments, fds, tree)
        return {"manifest": manifest.decode("latin-1"), **tree.finish()}
    finally:
        tree.close()


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


class Tree:
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

    def ahead(self, source: Readable) -> Readable:
        """What the image is read from, while files are written."""
        return ReaderAhead(source)

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
