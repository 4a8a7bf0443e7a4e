"""Writes gzip on all cores: blocks are deflated side by side, each with the end of the one before as its
dictionary.

The result is one ordinary member (RFC 1952), as small as gzip(1) makes it, and the same bytes however many
cores there are.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future

    from rkt.store.archive_writer import Writable

_LEVEL = 6
_BLOCK = 1 << 20
_WINDOW = 1 << 15
_MOST_THREADS = 8
# magic, deflate, no flags, no time, no extra flags, Unix
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\x03"


class GzipWriter:
    """Writes what it is given to ``target``, compressed; ``finish``, and ``close`` in any case."""

    __slots__ = ("_buffer", "_crc", "_pending", "_pool", "_size", "_target", "_threads", "_window")

    def __init__(self, target: Writable) -> None:
        self._target = target
        self._threads = min(len(os.sched_getaffinity(0)), _MOST_THREADS)
        self._pool = ThreadPoolExecutor(self._threads)
        self._pending: deque[Future[bytes]] = deque()
        self._buffer = bytearray()
        self._window = b""
        self._crc = 0
        self._size = 0
        target.write(_HEADER)

    def write(self, data: bytes, /) -> int:
        self._buffer += data
        while len(self._buffer) >= _BLOCK:
            block = bytes(self._buffer[:_BLOCK])
            del self._buffer[:_BLOCK]
            self._submit(block, last=False)
        return len(data)

    def finish(self) -> None:
        """Write what is left, and the end of the member."""
        self._submit(bytes(self._buffer), last=True)
        while self._pending:
            self._target.write(self._pending.popleft().result())
        self._target.write(self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little"))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, block: bytes, *, last: bool) -> None:
        self._pending.append(self._pool.submit(_deflate, block, self._window, last=last))
        self._crc = zlib.crc32(block, self._crc)
        self._size += len(block)
        self._window = block[-_WINDOW:]
        # A few blocks for each thread are enough to keep it busy, and to bound memory.
        while len(self._pending) > 3 * self._threads:
            self._target.write(self._pending.popleft().result())


def _deflate(block: bytes, window: bytes, *, last: bool) -> bytes:
    """A block that ends at a byte's end, so that the next can follow."""
    if window:
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, window)
    else:
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
    made = compressor.compress(block)
    return made + compressor.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
