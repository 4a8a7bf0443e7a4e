"""A stream between two threads, so that one core inflates while the other hashes and writes.

Reading files and sockets, inflating and hashing let other threads run, and at most a few megabytes are
under way: a slow reader makes the writer wait.
"""

from __future__ import annotations

import threading
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.store.compression import Readable

CHUNK = 1 << 20
_DEPTH = 4


class _Closed(Exception):
    """The reader has gone away."""


class Pipe:
    """What ``produce`` writes in a thread of its own, to be read here; a context manager.

    An exception of the producer is raised by ``read``, after everything written before it.  Leaving the
    context ends the producer at its next write and waits for it.
    """

    __slots__ = (
        "_at",
        "_buffer",
        "_buffered",
        "_chunks",
        "_condition",
        "_done",
        "_error",
        "_reading",
        "_rest",
        "_thread",
    )

    def __init__(self, produce: Callable[[Pipe], object]) -> None:
        self._condition = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._rest = b""
        self._at = 0
        self._done = False
        self._reading = True
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(produce,), daemon=True)
        self._thread.start()

    def write(self, data: bytes, /) -> None:
        """For the producer: small pieces are put together."""
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= CHUNK:
            self._flush()

    def read(self, size: int = CHUNK, /) -> bytes:
        """For the reader: up to ``size`` bytes, nothing only at the end."""
        if self._at >= len(self._rest):
            with self._condition:
                while not self._chunks and not self._done:
                    self._condition.wait()
                if not self._chunks:
                    if self._error is not None:
                        raise self._error
                    return b""
                self._rest, self._at = self._chunks.popleft(), 0
                self._condition.notify_all()
        at = self._at
        self._at = at + size
        if not at and size >= len(self._rest):
            return self._rest
        return self._rest[at : at + size]

    def close(self) -> None:
        with self._condition:
            self._reading = False
            self._condition.notify_all()
        self._thread.join()

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _flush(self) -> None:
        chunk = b"".join(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        with self._condition:
            while len(self._chunks) >= _DEPTH and self._reading:
                self._condition.wait()
            if not self._reading:
                raise _Closed
            if chunk:
                self._chunks.append(chunk)
                self._condition.notify_all()

    def _run(self, produce: Callable[[Pipe], object]) -> None:
        try:
            produce(self)
            self._flush()
        except _Closed:
            pass
        except BaseException as error:
            self._error = error
        with self._condition:
            self._done = True
            self._condition.notify_all()


def read_ahead(source: Readable) -> Pipe:
    """A pipe that gives what ``source`` gives, read by a thread of its own."""

    def produce(pipe: Pipe) -> None:
        while data := source.read(CHUNK):
            pipe.write(data)

    return Pipe(produce)
