"""Hashes a stream beside the thread that reads it: SHA-512 lets other threads run, so both cores work."""

from __future__ import annotations

import hashlib
import queue
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Readable(Protocol):
        def read(self, size: int, /) -> bytes: ...


CHUNK = 1 << 20
_QUEUE_LENGTH = 8
PREFIX = "sha512-"
KEY_LENGTH = 64
"""Hex digits of a store key: half of the digest, as rkt has them everywhere."""


class Hasher:
    """SHA-512 in a thread of its own; ``update`` all chunks, then ``digest``.  ``close`` in any case."""

    __slots__ = ("_hash", "_queue", "_thread")

    def __init__(self) -> None:
        self._hash = hashlib.sha512()
        self._queue: queue.Queue[bytes | None] = queue.Queue(_QUEUE_LENGTH)
        self._thread: threading.Thread | None = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def update(self, chunk: bytes) -> None:
        self._queue.put(chunk)

    def digest(self) -> str:
        """The hex digest (128 digits) of everything given to ``update``."""
        self.close()
        return self._hash.hexdigest()

    def key(self) -> str:
        """The store key of everything given to ``update``."""
        return PREFIX + self.digest()[:KEY_LENGTH]

    def close(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (chunk := self._queue.get()) is not None:
            self._hash.update(chunk)


class HashingReader:
    """A readable whose bytes are hashed on the way; ``drain`` reads what the consumer left.

    ``read`` may return less than asked for, and b"" only at the end.
    """

    __slots__ = ("_at", "_chunk", "_hasher", "_sink", "_source", "size")

    def __init__(self, source: Readable, sink: int = -1) -> None:
        """``sink`` is an fd that gets a copy of all bytes, or -1."""
        self._source = source
        self._sink = sink
        self._hasher = Hasher()
        self._chunk = b""
        self._at = 0
        self.size = 0

    def read(self, size: int = CHUNK, /) -> bytes:
        if self._at >= len(self._chunk):
            self._chunk = self._next()
            self._at = 0
        if self._at == 0 and 0 <= len(self._chunk) <= size:
            self._at = len(self._chunk)
            return self._chunk
        piece = self._chunk[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def drain(self) -> None:
        """Read to the end."""
        while self._next():
            pass
        self._chunk, self._at = b"", 0

    def key(self) -> str:
        """The store key of the whole stream; drains it."""
        self.drain()
        return self._hasher.key()

    def close(self) -> None:
        self._hasher.close()

    def _next(self) -> bytes:
        chunk = self._source.read(CHUNK)
        if chunk:
            self._hasher.update(chunk)
            self.size += len(chunk)
            if self._sink >= 0:
                from rkt.linux import files

                files.write_all(self._sink, chunk)
        return chunk
