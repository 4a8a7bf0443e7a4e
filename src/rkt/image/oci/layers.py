"""Gets the layers of an image, several at once: download, digests, inflating and reading headers overlap.

A layer of a registry goes through ``cas/layers`` (``rkt.store.layers``); one that is on disk already, in a
layout or an archive, is read where it lies.  Both digests are checked whenever a layer is read: that of the
bytes that came, from the manifest, and that of the archive in them, from the configuration.
"""

from __future__ import annotations

import hashlib
import os
import threading

from rkt.errors import RktError
from rkt.image.oci import digest as digests
from rkt.image.oci import filesystem
from rkt.image.oci.pipe import CHUNK, read_ahead
from rkt.image.progress import Progress
from rkt.store import archive, compression

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from rkt.image.oci.documents import Descriptor
    from rkt.image.oci.filesystem import Header
    from rkt.image.oci.source import Source, Stream
    from rkt.image.progress import Bar
    from rkt.store.compression import Readable
    from rkt.store.layers import Layers

AT_ONCE = 3
"""Layers on their way at the same time."""

HINT = "larger images are taken with --max-image-size"

KINDS = ("gzip", "zstd", "tar", "unknown")
"""Layers are gzip, zstd or plain archives; an empty or very old one shows no sign of being one."""


class Limits:
    """How much of an image is taken: bytes of all layers as they come, and of what is in them; entries."""

    __slots__ = ("content", "download", "entries")

    def __init__(
        self, *, download: int = 32 << 30, content: int = 64 << 30, entries: int = 1_000_000
    ) -> None:
        self.download = download
        self.content = content
        self.entries = entries


class Layer:
    """One layer: ``descriptor`` of what is downloaded, ``diff_id`` of the archive in it.

    ``headers`` are those of its entries once it was taken, ``size`` the bytes of its archive.
    """

    __slots__ = ("descriptor", "diff_id", "headers", "size")

    def __init__(self, descriptor: Descriptor, diff_id: str) -> None:
        self.descriptor = descriptor
        self.diff_id = diff_id
        self.headers: list[Header] = []
        self.size = 0


class _Budget:
    """What all layers together may still have; shared by the threads."""

    __slots__ = ("_content", "_entries", "_limits", "_lock", "_stopped")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._content = limits.content
        self._entries = limits.entries
        self._stopped = False

    def stop(self) -> None:
        """Nobody wants the layers any more: the threads end with the piece they are at."""
        self._stopped = True

    def take_content(self, size: int) -> None:
        with self._lock:
            if self._stopped:
                raise RktError("another layer failed")
            self._content -= size
            if self._content < 0:
                raise RktError(
                    f"the layers have more than {self._limits.content} bytes of content", hint=HINT
                )

    def take_entry(self) -> None:
        self._entries -= 1
        if self._entries < 0:
            raise RktError(f"the layers have more than {self._limits.entries} entries")


class Content:
    """The archive in a layer, with both digests checked at the end; a context manager."""

    __slots__ = ("_ahead", "_budget", "_hash", "_layer", "_plain", "_stream", "size")

    def __init__(
        self, layer: Layer, stream: Stream, budget: _Budget | None, copy: tuple[int, Bar] | None = None
    ) -> None:
        """``stream`` gives the layer as it came, and becomes ours.  ``copy``: an fd that gets it, too."""
        self._layer = layer
        self._budget = budget
        self._stream = stream
        self._ahead = None
        self.size = 0
        descriptor = layer.descriptor
        checked = digests.CheckedReader(
            stream, descriptor.digest, descriptor.size, f"layer {descriptor.digest}"
        )
        source: Readable = checked if copy is None else _Tee(checked, *copy)
        try:
            if descriptor.size > CHUNK:
                source = self._ahead = read_ahead(source)
            self._plain = compression.open_reader(source)
            if self._plain.kind not in KINDS:
                raise RktError(f"layer {descriptor.digest} is {self._plain.kind} data")
        except BaseException:
            self.close()
            raise
        self._hash = hashlib.new(layer.diff_id.partition(":")[0])

    def read(self, size: int, /) -> bytes:
        data = self._plain.read(size)
        if data:
            self.size += len(data)
            if self._budget is not None:
                self._budget.take_content(len(data))
            self._hash.update(data)
        return data

    def finish(self) -> None:
        """Read what is left and compare the digest of the archive.  Raises RktError."""
        while self.read(CHUNK):
            pass
        expected = self._layer.diff_id
        found = f"{expected.partition(':')[0]}:{self._hash.hexdigest()}"
        if found != expected:
            name = self._layer.descriptor.digest
            raise RktError(f"the content of layer {name} has the digest {found} instead of {expected}")

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
        self._stream.__exit__(None, None, None)

    def __enter__(self) -> Content:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()


class _Tee:
    """A readable that also writes to an fd, and tells how far it is."""

    __slots__ = ("_bar", "_fd", "_source")

    def __init__(self, source: Readable, fd: int, bar: Bar) -> None:
        self._source = source
        self._fd = fd
        self._bar = bar

    def read(self, size: int, /) -> bytes:
        from rkt.linux import files

        data = self._source.read(size)
        if data:
            files.write_all(self._fd, data)
            self._bar.advance(len(data))
        return data


class Taker:
    """Takes the layers of one image from a source.  ``cache`` is None where nothing is to be kept."""

    __slots__ = ("_budget", "_cache", "_limits", "_notify", "_progress", "_source")

    def __init__(
        self,
        source: Source,
        cache: Layers | None,
        *,
        limits: Limits,
        notify: Callable[[str], object] = lambda _: None,
        progress: Progress | None = None,
    ) -> None:
        self._source = source
        self._progress = progress or Progress()
        self._cache = cache if source.remote else None
        self._limits = limits
        self._budget = _Budget(limits)
        self._notify = notify

    def take(self, layers: Sequence[Layer]) -> None:
        """Get all layers and read their headers.  Raises the first error in the order of the layers."""
        total = sum(layer.descriptor.size for layer in layers)
        if total > self._limits.download:
            raise RktError(f"the layers have {total} bytes, more than {self._limits.download}", hint=HINT)
        if len(layers) == 1:
            self._take(layers[0])
            return
        from concurrent.futures import ThreadPoolExecutor

        # The same layer may be there twice; it is taken once.
        different = {(layer.descriptor.digest, layer.diff_id): layer for layer in layers}
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            futures = [pool.submit(self._take, layer) for layer in different.values()]
            for future in futures:
                future.result()
        except BaseException:
            # One that is refused, or Ctrl-C.
            self._budget.stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        for layer in layers:
            first = different[(layer.descriptor.digest, layer.diff_id)]
            layer.headers, layer.size = first.headers, first.size

    def open(self, layer: Layer) -> Content:
        """The archive of a layer that was taken, once more."""
        return Content(layer, self._open(layer), None)

    def _open(self, layer: Layer) -> Stream:
        if self._cache is not None:
            fd = self._cache.open(layer.descriptor.digest)
            if fd is not None:
                return open(fd, "rb", buffering=0)
        return self._source.open(layer.descriptor)

    def _take(self, layer: Layer) -> None:
        digest = layer.descriptor.digest
        if self._cache is None:
            self._read(layer, self._source.open(layer.descriptor))
            return
        with self._cache.lock(digest):
            fd = self._cache.open(digest)
            if fd is not None:
                try:
                    self._read(layer, open(fd, "rb", buffering=0))
                    self._notify(f"layer {digest} is there already")
                    return
                except RktError:
                    if _matches(self._cache.open(digest), digest):
                        raise
                    # The disk lost something: the copy is of no use, the original is.
                    self._cache.forget(digest)
            bar = self._progress.start(f"layer {digest.partition(':')[2][:12]}", total=layer.descriptor.size)
            try:
                with self._cache.create() as file:
                    self._read(layer, self._source.open(layer.descriptor), (file.fd, bar))
                    self._cache.keep(digest, file)
            finally:
                bar.finish()

    def _read(self, layer: Layer, stream: Stream, copy: tuple[int, Bar] | None = None) -> None:
        with Content(layer, stream, self._budget, copy) as content:
            layer.headers = list(filesystem.headers(self._entries(content)))
            content.finish()
            layer.size = content.size

    def _entries(self, content: Content) -> Iterator[archive.Entry]:
        for entry in archive.Reader(content, limits=self._archive_limits(), end_marker=False):
            self._budget.take_entry()
            yield entry

    def _archive_limits(self) -> archive.Limits:
        return archive.Limits(entries=self._limits.entries, total=self._limits.content)


def _matches(fd: int | None, digest: str) -> bool:
    """Whether a kept layer still has its digest."""
    if fd is None:
        return False
    hash = hashlib.new(digest.partition(":")[0])
    with open(fd, "rb", buffering=0) as file:
        while data := file.read(CHUNK):
            hash.update(data)
    return f"{digest.partition(':')[0]}:{hash.hexdigest()}" == digest


def check_space(directory: str, size: int) -> None:
    """Raises RktError when a file system has less than ``size`` bytes left."""
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    if size > free:
        raise RktError(f"the image needs {size} bytes, and {directory} has {free} left")
