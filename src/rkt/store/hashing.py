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
