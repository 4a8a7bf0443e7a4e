"""rkt's side of the workers that read images: feeds them, and hashes and keeps what they hand back.

::

    file ---------------------------- fd -->  worker: decompress, check, unpack --> tree
    anything else -- read here --- pipe -->
                     blob <-- SHA-512 <-- pipe -- the plain archive

A digest is always of bytes that went through here, whatever a worker says.
"""

from __future__ import annotations

import os
import threading
from hashlib import sha512
from io import FileIO

from rkt.errors import RktError
from rkt.linux import files
from rkt.store import compression
from rkt.store.confined import Worker
from rkt.store.hashing import CHUNK, KEY_LENGTH, PREFIX, Hasher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from rkt.store.hashing import Readable
    from rkt.store.trees import NewTree

_F_SETPIPE_SZ = 1031


class ReadImage:
    """An image that was read to its end: key, size and manifest, and of its tree, if there is one, the
    checksum ("" for none) and the size in bytes.
    """

    __slots__ = ("checksum", "key", "manifest", "size", "tree_size")

    def __init__(self, key: str, size: int, answer: dict[str, Any]) -> None:
        self.key = key
        self.size = size
        try:
            self.manifest: bytes = answer["manifest"].encode("latin-1")
            self.checksum = str(answer.get("checksum", ""))
            self.tree_size = int(answer.get("size", 0))
        except (LookupError, AttributeError, TypeError, ValueError) as error:
            raise RktError(f"the answer of the worker for an image cannot be understood: {error}") from None


def read_image(
    source: Readable, target: int, *, limit: int, tree: NewTree | None = None, known: Iterable[str] = ()
) -> ReadImage:
    """Have the image file ``source`` read to its end, and its plain archive written to an fd.

    ``target``: that fd, -1 for none; ``limit``: the most bytes it may get.  ``tree``: the directory to unpack
    the image into, unless its manifest has one of the hex SHA-256 digests in ``known``.  Raises RktError for
    anything that is no complete image, and what ``source`` raises.
    """
    with Intake(source) as intake:
        arguments: dict[str, object] = {"kind": intake.kind, "limit": limit}
        task = "confined.reading:read_image"
        fds = []
        if tree is not None:
            arguments["known"] = list(known)
            task = "confined.importing:unpack_image"
            fds = [tree.fd, tree.lock]
        keeper = Keeper(target, limit)
        try:
            with Worker(task, arguments, [intake.fd, keeper.writer, *fds]) as worker:
                keeper.start()
                intake.feed()
                try:
                    answer = worker.wait()
                except BaseException:
                    keeper.join()
                    raise
        finally:
            keeper.join()
        return ReadImage(keeper.key(), keeper.size, answer)


class Intake:
    """What a worker reads: the file itself where ``source`` is one, else a pipe; a context manager.

    ``fd`` is the worker's end, ``kind`` what the first bytes say of the file.
    """

    __slots__ = ("_first", "_source", "_writer", "fd", "kind")

    def __init__(self, source: Readable) -> None:
        self._source: Readable | None = None
        self._writer = -1
        if isinstance(source, FileIO):
            self.fd = os.dup(source.fileno())
            position = os.lseek(self.fd, 0, os.SEEK_CUR)
            self._first = os.pread(self.fd, compression.SNIFFED, position)
        else:
            self._source = source
            self._first = b""
            while len(self._first) < compression.SNIFFED:
                data = source.read(CHUNK)
                self._first += data
                if not data:
                    break
            self.fd, self._writer = pipe()
        self.kind = compression.detect(self._first[: compression.SNIFFED])

    def feed(self) -> None:
        """Give the worker all of the source; returns early when it does not want any more."""
        if self._source is None:
            return
        os.close(self.fd)
        self.fd = -1
        data = self._first
        try:
            while data:
                if not write(self._writer, data):
                    return
                data = self._source.read(CHUNK)
        finally:
            os.close(self._writer)
            self._writer = -1

    def __enter__(self) -> Intake:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self.fd, self._writer):
            if fd >= 0:
                os.close(fd)
        self.fd = self._writer = -1


class Keeper:
    """Hashes, in a thread, what comes through a pipe and writes it to a file.

    ``writer`` is the worker's end.  ``join`` in any case; then ``size`` and ``key`` say what came.
    """

    __slots__ = ("_error", "_hash", "_limit", "_reader", "_target", "_thread", "size", "writer")

    def __init__(self, target: int, limit: int) -> None:
        self._reader, self.writer = pipe()
        self._target = target
        self._limit = limit
        self._hash = sha512()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self.size = 0

    def start(self) -> None:
        """Begin; the worker has its end."""
        self._close_writer()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the pipe; raises what went wrong here, which is why the worker failed too."""
        self._close_writer()
        if self._thread is not None:
            self._thread.join()
        elif self._reader >= 0:
            os.close(self._reader)
            self._reader = -1
        if self._error is not None:
            raise self._error

    def key(self) -> str:
        """The store key of everything that came."""
        return PREFIX + self._hash.hexdigest()[:KEY_LENGTH]

    def _close_writer(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def _work(self) -> None:
        buffer = bytearray(CHUNK)
        view = memoryview(buffer)
        try:
            while count := os.readv(self._reader, [buffer]):
                self.size += count
                if self.size > self._limit:
                    raise compression.too_large(self._limit)
                self._hash.update(view[:count])
                if self._target >= 0:
                    _keep(self._target, view[:count])
        except BaseException as error:
            self._error = error
        finally:
            os.close(self._reader)
            self._reader = -1


def _keep(fd: int, data: memoryview) -> None:
    files.write_all(fd, data)


class Feeder:
    """Writes files into a pipe, hashed on the way: what a worker that unpacks images reads.

    ``reader`` is the worker's end.
    """

    __slots__ = ("_writer", "reader")

    def __init__(self) -> None:
        self.reader, self._writer = pipe()

    def started(self) -> None:
        """The worker has its end."""
        os.close(self.reader)
        self.reader = -1

    def feed(self, file: FileIO, size: int, key: str) -> bool:
        """Write the image ``key``, of ``size`` bytes; False when the worker does not want any more.

        Raises RktError when the file is not that image.
        """
        hasher = Hasher()
        try:
            left = size
            while left and (chunk := file.read(min(left, CHUNK))):
                left -= len(chunk)
                hasher.update(chunk)
                if not write(self._writer, chunk):
                    return False
            found = hasher.key()
        finally:
            hasher.close()
        if found != key:
            raise RktError(f'image "{key}" in the store is damaged: its content has another digest')
        return True

    def close(self) -> None:
        for fd in (self.reader, self._writer):
            if fd >= 0:
                os.close(fd)
        self.reader = self._writer = -1

    def __enter__(self) -> Feeder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pipe() -> tuple[int, int]:
    """A pipe that holds a chunk, where the user may have as much."""
    from fcntl import fcntl

    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        fcntl(writer, _F_SETPIPE_SZ, CHUNK)
    except OSError:
        # The limit of the user's pipes: 64 KiB do, too.
        pass
    return reader, writer


def write(fd: int, data: bytes) -> bool:
    """Write all of it to a pipe; False when nobody reads it."""
    try:
        files.write_all(fd, data)
    except BrokenPipeError:
        return False
    return True
