"""The archive in a layer of a container image: inflated, counted and hashed while it is read."""

from __future__ import annotations

import hashlib

from rkt.errors import RktError
from rkt.store import compression
from rkt.store.pipe import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rkt.store.compression import Readable

KINDS = ("gzip", "zstd", "tar", "unknown")
"""Layers are gzip, zstd or plain archives; an empty or very old one shows no sign of being one."""

HINT = "larger images are taken with --max-image-size"


class Content:
    """The archive in the layer ``digest``, which has to have the digest ``diff_id``.

    ``source`` gives the layer as it came, ``count`` is told how many bytes were inflated.
    """

    __slots__ = ("_count", "_diff_id", "_digest", "_hash", "_plain", "size")

    def __init__(
        self, source: Readable, digest: str, diff_id: str, count: Callable[[int], object] = lambda _: None
    ) -> None:
        self._digest = digest
        self._diff_id = diff_id
        self._count = count
        self.size = 0
        self._plain = compression.open_reader(source)
        if self._plain.kind not in KINDS:
            raise RktError(f"layer {digest} is {self._plain.kind} data")
        self._hash = hashlib.new(diff_id.partition(":")[0])

    def read(self, size: int, /) -> bytes:
        data = self._plain.read(size)
        if data:
            self.size += len(data)
            self._count(len(data))
            self._hash.update(data)
        return data

    def finish(self) -> None:
        """Read what is left and compare the digest of the archive.  Raises RktError."""
        while self.read(CHUNK):
            pass
        found = f"{self._diff_id.partition(':')[0]}:{self._hash.hexdigest()}"
        if found != self._diff_id:
            raise RktError(
                f"the content of layer {self._digest} has the digest {found} instead of {self._diff_id}"
            )


def too_much(limit: int) -> RktError:
    """The layers of an image have more than ``limit`` bytes."""
    return RktError(f"the layers have more than {limit} bytes of content", hint=HINT)


def too_many(limit: int) -> RktError:
    """The layers of an image have more than ``limit`` entries."""
    return RktError(f"the layers have more than {limit} entries")
