"""Inflates one layer of a container image from one pipe into another: a task of a worker."""

from __future__ import annotations

from rkt.linux import files
from rkt.store import compression
from rkt.store.pipe import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

KINDS = ("gzip", "zstd")
"""Layers are compressed by one of these, or not at all."""

_LIBRARIES = {"gzip": "isal.igzip_lib", "zstd": "zstandard"}


def prepare(arguments: dict[str, Any]) -> None:
    """Import what ``inflate`` needs."""
    try:
        __import__(_LIBRARIES[arguments["kind"]])
    except ImportError:
        # ``inflate`` goes on without it, or says that it cannot.
        pass


def inflate(arguments: dict[str, Any], fds: Sequence[int]) -> dict[str, object]:
    """Inflate what is read from the first fd into the second.

    ``arguments`` has the ``kind`` of its compression.  Raises RktError for damaged data, BrokenPipeError when
    nobody wants more.
    """
    source, sink = fds
    with open(source, "rb", buffering=0, closefd=False) as stream:
        plain = compression.open_reader(stream)
        while data := plain.read(CHUNK):
            files.write_all(sink, data)
    return {}
